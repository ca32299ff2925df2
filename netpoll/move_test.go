package netpoll

import (
	"crypto/tls"
	"io"
	"runtime"
	"testing"
	"time"

	"sluice/internal/testkit"
	"sluice/wsproto"
)

// A WebSocket goes on at another engine in the middle of a fragmented message and of a frame, and
// with output that was not written.
func TestWebSocketMoves(t *testing.T) {
	from := serve(t, nil)
	to := serve(t, func(o *Options, _ *testHandler) { o.Loops = 2 })
	c := dial(t, from.Addr())
	c.send([]byte(upgradeHead("/ws", "")))
	c.upgraded()
	old := testkit.Await(t, from.h.opened, "the opened connection")
	first := masked(wsproto.OpText, "hé")
	first[0] &^= 0x80 // FIN
	last := masked(wsproto.OpContinuation, "llo")
	c.send(append(first, last[:7]...))
	var fd int
	var s WebSocket
	from.until("the input is there", func() bool {
		there := false
		from.on(0, func(l *Loop) {
			if there = Movable(old) && !old.in.empty() && len(old.parser.AppendOpen(nil)) > 0; !there {
				return
			}
			old.Send(l.Arena().Commit(wsproto.AppendFrame(l.Arena().Begin(), wsproto.OpText, []byte("queued"))))
			var err error
			if fd, s, err = Move(old); err != nil {
				t.Error(err)
			}
			if Movable(old) {
				t.Error("it moves twice")
			}
		})
		return there
	})
	testkit.Await(t, from.h.closed, "the end of the connection here")
	opened := make(chan *Conn, 1)
	if err := Join(to.Engine, 1, fd, &s, func(c *Conn) {
		c.Session = "moved"
		opened <- c
	}); err != nil {
		t.Fatal(err)
	}
	if c := testkit.Await(t, opened, "its arrival"); c.Loop().Index() != 1 {
		t.Error("it is on loop", c.Loop().Index())
	}
	c.wantText("queued")
	c.send(last[7:])
	c.wantText("héllo")
	if a, b := from.m.Open.Load(), to.m.Open.Load(); a != 0 || b != 1 || from.m.ClosedWith(CloseAbnormal).Load() != 0 || from.m.Departed.Load() != 1 || to.m.Arrived.Load() != 1 {
		t.Errorf("%d and %d are open", a, b)
	}
	to.on(1, func(l *Loop) { l.CloseAll(CauseNATS, wsproto.CloseGoingAway, "") })
	c.wantClose(wsproto.CloseGoingAway)
	_ = c.Close()
	testkit.Await(t, to.h.closed, "its end")
}

// A stream goes on at another engine, with output that was not written, with TLS and without.
func TestStreamMoves(t *testing.T) {
	for name, secure := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			begun := make(chan *Conn, 1)
			options := func(o *Options, h *testHandler) { h.stream = keepEvents(begun) }
			if secure {
				options = withTLS(options)
			}
			from, to := serve(t, options), serve(t, options)
			c := dial(t, from.Addr())
			if secure {
				c, _ = overTLS(t, c.Conn, clientTLS(tls.VersionTLS13))
			}
			c.send([]byte(streamRequest))
			c.status()
			moved := from.move(testkit.Await(t, begun, "Stream"), to, nil, func(l *Loop) {
				for i := range l.table.slots {
					if c := l.table.slots[i].conn; c != nil {
						c.Send([]byte("data: here\n\n"))
					}
				}
			})
			to.on(0, func(*Loop) { moved.Send([]byte("data: there\n\n")) })
			c.wantBytes("data: here\n\ndata: there\n\n")
			if a, b := from.m.OpenStreams.Load(), to.m.OpenStreams.Load(); a != 0 || b != 1 || to.m.Open.Load() != 0 {
				t.Errorf("%d and %d streams are open", a, b)
			}
			to.on(0, func(*Loop) { moved.Finish() })
			c.wantEOF()
			_ = c.Close()
			testkit.Await(t, to.h.closed, "its end")
			if n := to.m.OpenStreams.Load(); n != 0 {
				t.Errorf("%d streams are open", n)
			}
		})
	}
}

// No WebSocket goes to an engine that demands TLS, or to a loop that does not exist.
func TestWebSocketsAreRefused(t *testing.T) {
	for _, s := range []*server{serveTLS(t, nil), serve(t, nil)} {
		fd, err := socket(2)
		if err != nil {
			t.Fatal(err)
		}
		if err := Join(s.Engine, 5, fd, new(WebSocket), func(*Conn) { t.Error("it arrives") }); err == nil {
			t.Error("no error")
		}
	}
}

// The end of a connection that has come back from another process is its end for the client, too,
// though that process still has a descriptor.
func TestSharedSocketsEnd(t *testing.T) {
	s := serve(t, nil)
	c := dial(t, s.Addr())
	c.send([]byte(upgradeHead("/ws", "")))
	c.upgraded()
	old := testkit.Await(t, s.h.opened, "the opened connection")
	type result struct {
		fd int
		s  WebSocket
	}
	out := make(chan result, 1)
	s.on(0, func(*Loop) {
		fd, socket, err := Move(old)
		if err != nil {
			t.Error(err)
		}
		out <- result{fd, socket}
	})
	r := testkit.Await(t, out, "its departure")
	testkit.Await(t, s.h.closed, "the end of the connection")
	theirs, err := dup(r.fd)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseFD(theirs)
	before := ProgressOf(theirs)
	if !before.known && runtime.GOOS == "linux" {
		t.Error("nobody knows how far it has got")
	}
	c.send(masked(wsproto.OpText, "one"))
	if !before.Untouched(theirs) && before.known {
		t.Error("input that nobody has read touches the socket")
	}
	r.s.Shared = true
	opened := make(chan *Conn, 1)
	if err := Join(s.Engine, 0, r.fd, &r.s, func(c *Conn) { opened <- c }); err != nil {
		t.Fatal(err)
	}
	conn := testkit.Await(t, opened, "its return")
	c.wantText("one")
	if before.Untouched(theirs) {
		t.Error("the echo does not touch the socket")
	}
	s.on(0, func(*Loop) { conn.scheduleClose() })
	_ = c.SetReadDeadline(time.Now().Add(testkit.Patience))
	if n, err := c.r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Error(n, err)
	}
}
