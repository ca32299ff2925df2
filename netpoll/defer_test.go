package netpoll

import (
	"testing"

	"sluice/wsproto"
)

func TestDefer(t *testing.T) {
	send := func(c *Conn, text string) {
		a := c.Loop().Arena()
		c.Send(a.Commit(wsproto.AppendFrame(a.Begin(), wsproto.OpText, []byte(text))))
	}
	s := serve(t, func(o *Options, h *testHandler) {
		o.Limits.PingInterval = -1
		h.message = func(c *Conn, b []byte) {
			send(c, string(b))
			c.Defer()
		}
	})
	queued := func(c *Conn) (n int) {
		s.on(0, func(*Loop) { n = c.Queued() })
		return n
	}

	t.Run("what comes next takes it along", func(t *testing.T) {
		peer, c := s.connect()
		peer.text("first")
		s.until("the first answer is queued", func() bool { return queued(c) > 0 })
		before := s.m.Writes.Load()
		s.on(0, func(*Loop) { send(c, "second") })
		peer.wantText("first")
		peer.wantText("second")
		s.sync()
		if n := s.m.Writes.Load() - before; n != 1 {
			t.Errorf("%d writes for two frames, want 1", n)
		}
		s.advance(2 * tick)
		if n := s.m.Writes.Load() - before; n != 1 {
			t.Errorf("%d writes when the time is over, want 1", n)
		}
	})
	t.Run("it does not wait for long", func(t *testing.T) {
		peer, c := s.connect()
		other, d := s.connect()
		peer.text("a")
		other.text("b")
		s.until("both are queued", func() bool { return queued(c) > 0 && queued(d) > 0 })
		s.advance(2 * tick)
		peer.wantText("a")
		other.wantText("b")
		// And again: the list of those who wait starts anew.
		peer.text("c")
		s.until("it is queued", func() bool { return queued(c) > 0 })
		s.advance(2 * tick)
		peer.wantText("c")
	})
	t.Run("sent in the same iteration", func(t *testing.T) {
		peer, c := s.connect()
		s.on(0, func(*Loop) {
			send(c, "a")
			c.Defer()
			send(c, "b")
		})
		peer.wantText("a")
		peer.wantText("b")
	})
	t.Run("nothing queued", func(t *testing.T) {
		peer, c := s.connect()
		s.on(0, func(*Loop) { c.Defer() })
		s.on(0, func(*Loop) { send(c, "a") })
		peer.wantText("a")
	})
	t.Run("closed", func(t *testing.T) {
		peer, c := s.connect()
		peer.text("last")
		s.until("it is queued", func() bool { return queued(c) > 0 })
		s.on(0, func(*Loop) { c.Close(wsproto.CloseNormal, "") })
		peer.wantText("last")
		peer.wantClose(wsproto.CloseNormal)
		s.advance(2 * tick)
	})
	t.Run("gone", func(t *testing.T) {
		peer, c := s.connect()
		peer.text("last")
		s.until("it is queued", func() bool { return queued(c) > 0 })
		_ = peer.Close()
		s.wantClosed(CloseAbnormal, CauseClient)
		s.advance(2 * tick)
		if n := queued(c); n != 0 {
			t.Errorf("%d bytes are queued for a connection that is gone", n)
		}
	})
}
