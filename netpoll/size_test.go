package netpoll

import (
	"net"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestConnSize: most connections are idle, so their size is the price of a client.
func TestConnSize(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n > 192 {
		t.Errorf("a Conn takes %d bytes, more than 192", n)
	}
}

// TestConnLines: what an event touches lies in the first cache line of a connection, and
// connections begin with one.
func TestConnLines(t *testing.T) {
	var c Conn
	if end := unsafe.Offsetof(c.state) + unsafe.Sizeof(c.state); end > 64 || unsafe.Sizeof(c)%64 != 0 {
		t.Errorf("it ends at byte %d, a connection at %d", end, unsafe.Sizeof(c))
	}
}

// TestIdleMemory measures the heap that an idle client costs, gnet's part included. The clients are
// bare descriptors, so that all the heap is the server's.
func TestIdleMemory(t *testing.T) {
	const n = 2000
	s := serve(t, nil)
	addr := s.Addr().(*net.TCPAddr)
	sa := &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}
	head := []byte(upgradeHead("/ws", ""))
	connect := func() {
		fd, err := socket(unix.AF_INET)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if err := unix.Connect(fd, sa); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, head); err != nil {
			t.Fatal(err)
		}
		await(t, s.h.opened, "Open")
	}
	for range 100 { // so that tables and pools have their first size
		connect()
	}
	before := s.heap()
	for range n {
		connect()
	}
	perConn := (s.heap() - before) / n
	t.Logf("%d bytes of heap per idle connection", perConn)
	if perConn > 1300 && !raceEnabled {
		t.Error("more than 1300")
	}
	runtime.KeepAlive(s)
}

// heap returns the bytes of live objects once the iterations that have begun have ended.
func (s *server) heap() uint64 {
	s.sync()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
