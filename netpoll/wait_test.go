package netpoll

import (
	"bufio"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/wsproto"
)

// inGnetEnv set has loops wait in gnet in all tests.
const inGnetEnv = "SLUICE_NETPOLL_IN_GNET"

// hold keeps a loop busy until the function returned is called.
func (s *server) hold(loop int) (release func()) {
	s.t.Helper()
	entered, held := make(chan struct{}), make(chan struct{})
	s.h.mailbox[loop].Put(func(*Loop) { close(entered); <-held })
	await(s.t, entered, "an iteration of the loop")
	return sync.OnceFunc(func() { close(held) })
}

// TestHandedOverAtOnce: a connection that leaves for net/http leaves before anything else is read,
// though other sockets are ready: what its client sends next is net/http's.
func TestHandedOverAtOnce(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n"
	var plain *client
	s := serve(t, func(o *Options, h *testHandler) {
		o.HTTP = func(c net.Conn) {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}
		h.request = func(*Conn, *wsproto.Head, []byte) bool {
			plain.send([]byte("more"))
			return false
		}
	})
	for range 5 {
		ws, _ := s.connect()
		plain = dial(t, s.Addr())
		s.sync() // it is accepted
		release := s.hold(0)
		plain.send([]byte(request))
		ws.text("x") // ready when the callback for the request ends
		release()
		ws.wantText("x")
		got := make([]byte, len(request+"more"))
		if _, err := io.ReadFull(plain.r, got); err != nil || string(got) != request+"more" {
			t.Fatalf("net/http got %q: %v", got, err)
		}
		_ = plain.Close()
	}
}

// TestWakeOnTheWayToGnet: a loop that was woken while at work has its iteration though it must not
// rest.
func TestWakeOnTheWayToGnet(t *testing.T) {
	s := serve(t, nil)
	s.registering.Add(1)
	defer s.registering.Add(-1)
	for range 20 {
		next := make(chan struct{})
		s.on(0, func(*Loop) { s.h.mailbox[0].Put(func(*Loop) { close(next) }) }) // too late for this iteration
		await(t, next, "the next iteration")
	}
}

// TestNoWakeIsLost: while sockets are busy, connections come and go, and others are handed back by
// net/http, every wake-up leads to an iteration, with any number of processors.
func TestNoWakeIsLost(t *testing.T) {
	for _, procs := range []int{1, 2, 4} {
		t.Run(strconv.Itoa(procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			s := serve(t, func(o *Options, _ *testHandler) { o.Loops = 2 })
			var stop atomic.Bool
			var busy sync.WaitGroup
			for range 3 {
				c, _ := s.connect()
				busy.Go(func() {
					for !stop.Load() {
						c.text("x")
						c.wantText("x")
					}
				})
			}
			busy.Go(func() {
				for !stop.Load() {
					c := dial(t, s.Addr())
					c.send([]byte(upgradeHead("/ws", "")))
					c.upgraded()
					await(t, s.h.opened, "Open")
					_ = c.Close()
					await(t, s.h.closed, "Closed")
				}
			})
			busy.Go(func() {
				for !stop.Load() {
					near, far := tcpPair(t)
					if err := s.Adopt(far, []byte(upgradeHead("/ws", ""))); err != nil {
						t.Error(err)
						return
					}
					c := &client{near, t, bufio.NewReader(near)}
					c.upgraded()
					await(t, s.h.opened, "Open")
					_ = c.Close()
					await(t, s.h.closed, "Closed")
				}
			})
			var wakers sync.WaitGroup
			for loop := range 2 {
				for range 2 {
					wakers.Go(func() {
						for range 2000 {
							s.on(loop, func(*Loop) {})
						}
					})
				}
			}
			wakers.Wait()
			stop.Store(true)
			busy.Wait()
		})
	}
}

// tcpPair returns both ends of a TCP connection.
func tcpPair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near = dial(t, ln.Addr()).Conn
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}
