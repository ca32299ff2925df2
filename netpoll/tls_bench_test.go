package netpoll

import (
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/owner"
	"sluice/netpoll/tlsrecord"
	"sluice/wsproto"
)

// looseTLSLoop is a loop without gnet that speaks TLS.
func looseTLSLoop(t testing.TB) *Loop {
	t.Helper()
	e, err := New(Options{Addr: "127.0.0.1:0", Loops: 1, Handler: quietHandler{}, Clock: owner.NewManualClock(), TLS: serverTLS()})
	if err != nil {
		t.Fatal(err)
	}
	l := e.loops[0]
	l.output.flusher = newFlusher(t, testFlush)
	l.begin()
	return l
}

// secureAll makes connections of a loose loop TLS ones, and returns what the client of the i-th of
// them has received since the latest call.
func secureAll(t testing.TB, conns []*Conn, peers []int, version uint16) (received func(i int) []byte) {
	t.Helper()
	clients, inputs := make([]*tls.Conn, len(conns)), make([]*source, len(conns))
	for i, c := range conns {
		client, side := looseSecure(t, c, clientTLS(version))
		inputs[i] = &source{Conn: side.Conn}
		clients[i], side.Conn = client, inputs[i]
	}
	buf := make([]byte, 64<<10)
	return func(i int) (got []byte) {
		inputs[i].b = append(inputs[i].b, readAll(t, peers[i])...)
		for {
			n, err := clients[i].Read(buf)
			got = append(got, buf[:n]...)
			if errors.Is(err, errWouldBlock) {
				return got
			}
			if err != nil {
				t.Fatalf("client %d: %v", i, err)
			}
		}
	}
}

// source is a network on which b has come.
type source struct {
	net.Conn
	b []byte
}

func (s *source) Write(p []byte) (int, error) { return len(p), nil } // such as an alert

func (s *source) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, errWouldBlock
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

// looseSecure makes c a connection inside TLS, and returns the client's side of it.
func looseSecure(t testing.TB, c *Conn, config *tls.Config) (*tls.Conn, *swapped) {
	t.Helper()
	a, b := net.Pipe()
	link := &tlsLink{socket: &tlsSocket{Conn: a}}
	link.conn = tls.Server(link, c.loop.engine.handshakes.config)
	done := make(chan error, 1)
	go func() { done <- link.conn.Handshake() }()
	side := &swapped{b}
	client := tls.Client(side, config)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	link.socket, link.loop = nil, c.loop
	dropBuffers(link.conn)
	c.tls().setLink(link)
	c.tls().takeRecords()
	return client, side
}

// swapped is a network that can be replaced by another.
type swapped struct{ net.Conn }

// sink keeps the latest that was written.
type sink struct {
	net.Conn
	b []byte
}

func (s *sink) Write(p []byte) (int, error)      { s.b = append(s.b, p...); return len(p), nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

// TestTLSDeliveryDoesNotAllocate: an iteration in which connections inside TLS get frames.
func TestTLSDeliveryDoesNotAllocate(t *testing.T) {
	l := looseTLSLoop(t)
	conns, peers := pairs(t, l, 10)
	for i, c := range conns {
		looseSecure(t, c, clientTLS([]uint16{tls.VersionTLS12, tls.VersionTLS13}[i%2]))
	}
	buf := make([]byte, 64<<10)
	frame := wsproto.AppendFrame(nil, wsproto.OpText, make([]byte, 100))
	large := wsproto.AppendFrame(nil, wsproto.OpText, make([]byte, 20_000))
	for name, frames := range map[string][][]byte{"one": {frame}, "several": {frame, frame, frame}, "large": {frame, large, frame}} {
		run := func() {
			l.begin()
			for _, c := range conns {
				for _, f := range frames {
					c.Send(f)
				}
			}
			l.end()
			drainPeers(t, peers, buf)
		}
		run()
		if n := testing.AllocsPerRun(100, run); n > 0 && !raceEnabled {
			t.Errorf("%s: %v allocations per iteration", name, n)
		}
	}
}

// TestTLSOneRecordPerFlush: slices of an outbox leave in one record while they fit, and in one
// write.
func TestTLSOneRecordPerFlush(t *testing.T) {
	l := looseTLSLoop(t)
	conns, peers := pairs(t, l, 1)
	looseSecure(t, conns[0], clientTLS(0))
	buf := make([]byte, 256<<10)
	for _, tc := range []struct{ frames, size, records, writes int }{
		{1, 10, 1, 1}, {100, 100, 1, 1}, {16, 1 << 10, 1, 1}, {17, 1 << 10, 2, 1}, {1, 40 << 10, 3, 1}, {2, 40 << 10, 5, 2},
	} {
		writes := l.engine.metrics.Writes.Load()
		l.begin()
		for range tc.frames {
			conns[0].Send(make([]byte, tc.size))
		}
		l.end()
		n, err := unix.Read(peers[0], buf)
		if err != nil {
			t.Fatal(err)
		}
		var s tlsrecord.Position
		records := 0
		for rest := buf[:n]; len(rest) > 0; records++ {
			k := s.Whole(rest)
			if k == 0 {
				t.Fatal("part of a record was written")
			}
			s.Pass(rest[:k])
			rest = rest[k:]
		}
		if w := int(l.engine.metrics.Writes.Load() - writes); records != tc.records || w != tc.writes {
			t.Errorf("%d frames of %d bytes: %d records in %d writes, want %d in %d", tc.frames, tc.size, records, w, tc.records, tc.writes)
		}
	}
}

// BenchmarkTLSFlush is BenchmarkFlush inside TLS.
func BenchmarkTLSFlush(b *testing.B) {
	for _, bc := range []struct {
		name        string
		conns, each int
	}{{"1x1", 1, 1}, {"1000x1", 1000, 1}, {"1000x4", 1000, 4}} {
		b.Run(bc.name, func(b *testing.B) {
			l := looseTLSLoop(b)
			conns, peers := pairs(b, l, bc.conns)
			for _, c := range conns {
				looseSecure(b, c, clientTLS(0))
			}
			benchmarkIterations(b, l, conns, peers, bc.each)
		})
	}
}

// BenchmarkTLSReceive is a short message in one record, to compare with BenchmarkReceive.
func BenchmarkTLSReceive(b *testing.B) {
	l := looseTLSLoop(b)
	c := looseConn(l, -1)
	client, side := looseSecure(b, c, clientTLS(0))
	out := new(sink)
	side.Conn = out
	text := masked(wsproto.OpText, "a message from the client")
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		out.b = out.b[:0]
		if _, err := client.Write(text); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		c.receive(out.b)
	}
}

// BenchmarkTLSHandshake is what a client costs that comes anew, its own part included.
func BenchmarkTLSHandshake(b *testing.B) {
	s := serveTLS(b, nil)
	config := clientTLS(0)
	for b.Loop() {
		raw, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		if err := tls.Client(raw, config).Handshake(); err != nil {
			b.Fatal(err)
		}
		_ = raw.Close()
	}
}

// bare is a network on a descriptor, with nothing of Go's around it.
type bare struct {
	net.Conn
	fd int
}

func (b bare) Read(p []byte) (int, error)  { return unix.Read(b.fd, p) }
func (b bare) Write(p []byte) (int, error) { return unix.Write(b.fd, p) }

// secureBare opens a WebSocket and forgets all of the client but its descriptor.
func secureBare(t testing.TB, s *server, config *tls.Config) (fd int) {
	t.Helper()
	addr := s.Addr().(*net.TCPAddr)
	fd, err := socket(unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}); err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	conn := tls.Client(bare{fd: fd}, config)
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(upgradeHead("/ws", ""))); err != nil {
		t.Fatal(err)
	}
	await(t, s.h.opened, "Open")
	return fd
}

// TestTLSIdleMemory measures the heap that an idle client inside TLS costs, to compare with
// TestIdleMemory.
func TestTLSIdleMemory(t *testing.T) {
	const n = 400
	for _, tc := range []struct {
		version uint16
		most    uint64
	}{{tls.VersionTLS12, 4500}, {tls.VersionTLS13, 4500}} {
		s := serveTLS(t, nil)
		config := clientTLS(tc.version)
		fds := make([]int, 0, 50+n)
		t.Cleanup(func() {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		})
		for range 50 { // so that tables and pools have their first size
			fds = append(fds, secureBare(t, s, config))
		}
		before := s.heap()
		for range n {
			fds = append(fds, secureBare(t, s, config))
		}
		perConn := (s.heap() - before) / n
		t.Logf("%s: %d bytes of heap per idle connection", tls.VersionName(tc.version), perConn)
		if perConn > tc.most && !raceEnabled {
			t.Errorf("more than %d", tc.most)
		}
		runtime.KeepAlive(s)
	}
}
