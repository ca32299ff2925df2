package netpoll

import (
	"crypto/tls"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/wsproto"
)

// slowKinds runs a test with each kind of connection that can be slow for long. connect returns a
// client and its server side.
func slowKinds(t *testing.T, test func(t *testing.T, change func(o *Options, h *testHandler), connect func(s *server) (*client, *Conn))) {
	t.Run("WebSocket", func(t *testing.T) {
		test(t, func(*Options, *testHandler) {}, (*server).connect)
	})
	t.Run("TLS", func(t *testing.T) {
		test(t, withTLS(nil), func(s *server) (*client, *Conn) {
			c, _, sc := s.connectTLS(clientTLS(tls.VersionTLS13))
			return c, sc
		})
	})
	t.Run("stream", func(t *testing.T) {
		begun := make(chan *Conn, 16)
		test(t, func(_ *Options, h *testHandler) { h.stream = keepEvents(begun) }, func(s *server) (*client, *Conn) {
			c := dial(t, s.Addr())
			c.send([]byte(streamRequest))
			c.status()
			return c, await(t, begun, "Stream")
		})
	})
}

// serveSlow starts a server on which only the bounds of slow clients end a connection.
func serveSlow(t *testing.T, change func(o *Options, h *testHandler)) *server {
	return serve(t, func(o *Options, h *testHandler) {
		l := &o.Limits
		l.OutboxBytes, l.PingInterval, l.SlowTimeout, l.CloseTimeout = 64<<20, -1, 30*time.Second, time.Second
		change(o, h)
	})
}

// fill sends to a connection until at least queued bytes wait in its outbox and the kernel takes no
// more of them.
func (s *server) fill(c *Conn, queued int) {
	s.t.Helper()
	s.until("it lags", func() (is bool) {
		s.on(c.loop.index, func(l *Loop) {
			if c.Closing() {
				s.t.Errorf("it is closed before it has %d bytes of backlog", queued)
				is = true
			}
			for !c.Closing() && c.Queued() < queued {
				c.Send(wsproto.AppendFrame(nil, wsproto.OpText, make([]byte, 30000)))
			}
		})
		if !is {
			s.stall(c)
			s.on(c.loop.index, func(l *Loop) { is = c.Lagging() && c.Queued() >= queued })
		}
		return is
	})
}

// stall waits until a connection's socket and the peer's are full.
func (s *server) stall(c *Conn) {
	s.t.Helper()
	left, same := -1, 0
	s.until("the kernel takes no more", func() bool {
		s.advance(2 * lagMax)
		s.on(c.loop.index, func(*Loop) {
			if n := unread(int(c.fd)) + c.Queued(); n != left {
				left, same = n, 0
			}
		})
		same++
		return same == 5
	})
}

// wantStalled waits until a lagging connection is closed because it took nothing for the 30 s of
// SlowTimeout. When its kernel takes something last is up to that.
func (s *server) wantStalled(c *Conn) {
	s.t.Helper()
	since := s.clock.Now()
	s.until("it is closed", func() bool {
		s.on(c.loop.index, func(*Loop) {
			if c.more != nil && c.more.slow.listed {
				since = c.more.slow.since
			}
		})
		if s.m.SlowClosed.Load() > 0 {
			return true
		}
		s.advance(time.Second)
		return false
	})
	if after := s.clock.Now() - since; after < 30*time.Second || after > 32*time.Second {
		s.t.Errorf("it was closed after %v", after)
	}
	if n := s.m.SlowClosed.Load(); n != 1 {
		s.t.Errorf("%d were closed", n)
	}
	if n := s.m.BacklogBytes.Load(); n != 0 {
		s.t.Errorf("%d bytes of backlog are left", n)
	}
}

// TestStalledClientGoes: a client that takes nothing for SlowTimeout, with something queued for it,
// is closed, and its backlog is free before it is gone.
func TestStalledClientGoes(t *testing.T) {
	slowKinds(t, func(t *testing.T, change func(*Options, *testHandler), connect func(s *server) (*client, *Conn)) {
		s := serveSlow(t, change)
		_, sc := connect(s)
		_, idle := connect(s)
		s.fill(sc, 8<<20)
		if n := s.m.BacklogBytes.Load(); n < 4<<20 {
			t.Errorf("%d bytes of backlog are counted", n)
		}
		s.wantStalled(sc)
		s.advance(5 * time.Second)
		if c := await(t, s.h.closed, "Closed"); c != sc {
			t.Error("another connection was closed")
		}
		if cause, _ := s.h.causes.Load(sc); cause != CauseSlow {
			t.Errorf("ended because of %v", cause)
		}
		s.advance(time.Hour)
		s.on(0, func(*Loop) {
			if idle.Closing() {
				t.Error("a client for which nothing waits was closed")
			}
		})
	})
}

// TestStalledRequestGoes is the same for the response to a plain request.
func TestStalledRequestGoes(t *testing.T) {
	bothKinds(t, func(t *testing.T, change func(o *Options, h *testHandler), connect func(s *server) *client) {
		s, asked := serveRequests(t, func(o *Options, h *testHandler) {
			change(o, h)
			o.Limits.ReadTimeout, o.Limits.SlowTimeout = time.Hour, 30*time.Second
		})
		c := connect(s)
		c.send(get("/later"))
		x := await(t, asked, "Request")
		s.on(x.handle.Loop(), func(*Loop) { x.conn.Respond([]byte("HTTP/1.1 200 OK\r\n\r\n"), make([]byte, 16<<20), false) })
		s.wantStalled(x.conn)
		if n := s.m.ResponseBytes.Load(); n != 0 {
			t.Errorf("%d bytes of responses are left", n)
		}
	})
}

// TestSlowReaderStays: a client that reads so little that its socket takes nothing more is not
// closed.
func TestSlowReaderStays(t *testing.T) {
	slowKinds(t, func(t *testing.T, change func(*Options, *testHandler), connect func(s *server) (*client, *Conn)) {
		s := serveSlow(t, change)
		c, sc := connect(s)
		s.fill(sc, 8<<20)
		s.advance(28 * time.Second)
		before := 0
		s.on(0, func(*Loop) { before = unread(int(sc.fd)) })
		// Read until its kernel tells ours, which it does only now and then.
		s.until("the kernel has sent more", func() (done bool) {
			if _, err := io.CopyN(io.Discard, c.r, 64<<10); err != nil {
				t.Fatal(err)
			}
			s.on(0, func(*Loop) { done = unread(int(sc.fd)) < before })
			return done
		})
		s.advance(20 * time.Second)
		if n := s.m.SlowClosed.Load(); n != 0 {
			t.Fatal("it was closed")
		}
		s.wantStalled(sc) // when it reads no more
	})
}

// TestWorstGoFirst: beyond the bound of all slow clients together, those with the largest backlog
// are closed, and no more than need be.
func TestWorstGoFirst(t *testing.T) {
	slowKinds(t, func(t *testing.T, change func(*Options, *testHandler), connect func(s *server) (*client, *Conn)) {
		s := serveSlow(t, func(o *Options, h *testHandler) {
			change(o, h)
			o.Limits.BacklogBytes = 12 << 20
		})
		var conns []*Conn
		for _, queued := range []int{2 << 20, 1 << 20, 6 << 20, 2 << 20} {
			_, sc := connect(s)
			s.fill(sc, queued)
			conns = append(conns, sc)
			s.advance(slowTick)
		}
		if n := s.m.BacklogClosed.Load(); n != 0 {
			t.Fatalf("%d closed below the bound", n)
		}
		s.fill(conns[1], 4<<20)
		s.advance(slowTick)
		if n := s.m.BacklogClosed.Load(); n != 1 {
			t.Errorf("%d closed", n)
		}
		s.on(0, func(*Loop) {
			for i, c := range conns {
				if c.Closing() != (i == 2) {
					t.Errorf("connection %d closing: %v", i, c.Closing())
				}
			}
		})
		if n := s.m.BacklogBytes.Load(); n < 5<<20 || n > 9<<20 {
			t.Errorf("%d bytes of backlog are left", n)
		}
		s.fill(conns[3], 3<<20)
		s.fill(conns[0], 3<<20)
		s.SetBacklogLimit(8 << 20)
		s.advance(slowTick)
		if n := s.m.BacklogClosed.Load(); n != 2 || s.m.BacklogBytes.Load() > 8<<20 {
			t.Errorf("%d closed, %d bytes are left", n, s.m.BacklogBytes.Load())
		}
	})
}

// testHolder says what its test sets.
type testHolder struct {
	bytes, shares atomic.Int64
	parts         sync.Map   // *Conn → int64, of shares
	dropped       chan *Conn // calls of Drop
}

func (h *testHolder) Held() int64 { return h.bytes.Load() }

func (h *testHolder) HeldFor(c *Conn) int64 {
	return h.share(c) * h.bytes.Load() / max(h.shares.Load(), 1)
}

func (h *testHolder) share(c *Conn) int64 {
	n, _ := h.parts.Load(c)
	part, _ := n.(int64)
	return part
}

// Drop frees half of c's part: the rest is held for others as well.
func (h *testHolder) Drop(c *Conn) {
	h.bytes.Add(-h.share(c) / 2)
	h.shares.Add(-h.share(c))
	h.parts.Delete(c)
	h.dropped <- c
}

// TestHeldCounts: what is held back for slow clients counts like their output, and is
// dropped at once when one is closed.
func TestHeldCounts(t *testing.T) {
	slowKinds(t, func(t *testing.T, change func(*Options, *testHandler), connect func(s *server) (*client, *Conn)) {
		holder := &testHolder{dropped: make(chan *Conn, 16)}
		s := serveSlow(t, func(o *Options, h *testHandler) {
			change(o, h)
			o.Holder = holder
			o.Limits.BacklogBytes = 16 << 20
		})
		var conns []*Conn
		for range 3 {
			_, sc := connect(s)
			s.fill(sc, 2<<20)
			conns = append(conns, sc)
		}
		s.advance(slowTick)
		if n := s.m.BacklogClosed.Load(); n != 0 {
			t.Fatalf("%d closed below the bound", n)
		}
		holder.parts.Store(conns[0], int64(4<<20))
		holder.parts.Store(conns[1], int64(20<<20))
		holder.bytes.Store(12 << 20)
		holder.shares.Store(24 << 20)
		s.advance(slowTick)
		s.advance(slowTick)
		if n := s.m.BacklogClosed.Load(); n != 1 {
			t.Errorf("%d closed", n)
		}
		if c := await(t, holder.dropped, "Drop"); c != conns[1] {
			t.Error("another connection than that with the most was closed")
		}
		s.on(0, func(*Loop) {
			for i, c := range conns {
				if c.Closing() != (i == 1) {
					t.Errorf("connection %d closing: %v", i, c.Closing())
				}
			}
		})
	})
}

// TestClosedForSlownessInOrder: what a client has been sent in part is completed before the close
// frame.
func TestClosedForSlownessInOrder(t *testing.T) {
	for _, kind := range []string{"WebSocket", "TLS"} {
		t.Run(kind, func(t *testing.T) {
			change := func(*Options, *testHandler) {}
			if kind == "TLS" {
				change = withTLS(nil)
			}
			s := serveSlow(t, func(o *Options, h *testHandler) {
				change(o, h)
				o.Limits.CloseTimeout = 24 * time.Hour
			})
			var c *client
			var sc *Conn
			if kind == "TLS" {
				c, _, sc = s.connectTLS(clientTLS(tls.VersionTLS13))
			} else {
				c, sc = s.connect()
			}
			s.fill(sc, 4<<20)
			s.SetBacklogLimit(1)
			s.advance(slowTick)
			s.passing(func() {
				for {
					op, b := c.frame()
					if op == wsproto.OpClose {
						if len(b) < 2 || int(b[0])<<8|int(b[1]) != 1013 {
							t.Errorf("closed with % x", b)
						}
						return
					}
					if op != wsproto.OpText || len(b) != 30000 {
						t.Errorf("a frame of type %d with %d bytes", op, len(b))
						return
					}
				}
			})
		})
	}
}

// TestRefuse: while memory is short new clients get 503, those that are there are served on.
func TestRefuse(t *testing.T) {
	s := serve(t, nil)
	old, _ := s.connect()
	s.Engine.Refuse(true)
	c := dial(t, s.Addr())
	c.send([]byte(upgradeHead("/ws", "")))
	if code, head := c.status(); code != 503 {
		t.Errorf("answered %q", head)
	}
	old.text("still here")
	old.wantText("still here")
	if n := s.m.RefusedMemory.Load(); n != 1 {
		t.Errorf("%d counted", n)
	}
	s.Engine.Refuse(false)
	s.connect()
}
