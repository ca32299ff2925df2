package netpoll

import (
	"testing"

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
