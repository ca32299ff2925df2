package netpoll

import (
	"testing"
	"time"

	"sluice/internal/testkit"
	"sluice/wsproto"
)

// arrived waits, on the loop, until the client's bytes are in the socket. The loop does not read
// them before f of server.on has returned.
func arrived(t *testing.T, c *Conn) {
	t.Helper()
	testkit.Until(t, "the input is in the socket", func() bool { return hasInput(int(c.fd)) })
}

// TestPongInTheSocket: a pong that waits in the socket has come in time, however late the loop is:
// also when its deadline has been put off before.
func TestPongInTheSocket(t *testing.T) {
	s := serve(t, nil)
	limits := &s.opts.Limits
	c, conn := s.connect()
	s.advance(limits.PingInterval + limits.PingInterval/64 + tick)
	if op, _ := c.frame(); op != wsproto.OpPing {
		t.Fatalf("got %d, want a ping", op)
	}
	s.on(0, func(l *Loop) {
		c.send(masked(wsproto.OpPong, ""))
		arrived(t, conn)
		l.wheel.Cancel(&conn.timer)
		conn.Expire(l.now)
		if conn.state != stateOpen || !conn.timer.Armed() {
			t.Errorf("state %v with a pong in the socket", conn.state)
		}
	})
	c.text("hi")
	c.wantText("hi")
	if n := s.m.PingLost.Load(); n != 0 {
		t.Errorf("%d pings counted as lost", n)
	}
	s.advance(limits.PingInterval + limits.PingInterval/64 + tick)
	if op, _ := c.frame(); op != wsproto.OpPing {
		t.Fatalf("got %d, want another ping", op)
	}
	s.advance(limits.PongTimeout + tick)
	c.wantEOF()
	s.wantClosed(CloseAbnormal, CausePing)
}

// TestCloseWithInputInTheSocket: the client gets the close frame and the end, no reset, although it
// has sent what nobody reads any more.
func TestCloseWithInputInTheSocket(t *testing.T) {
	s := serve(t, nil)
	c, conn := s.connect()
	s.on(0, func(l *Loop) {
		c.text("too late")
		arrived(t, conn)
		conn.Close(wsproto.CloseGoingAway, "")
		conn.loop.output.flusher.flush(l, []*Conn{conn})
		conn.scheduleClose() // as after Limits.CloseTimeout
	})
	c.wantClose(wsproto.CloseGoingAway)
	c.wantEOF()
	s.wantClosed(wsproto.CloseGoingAway, CauseClient)
}

// TestCutInOrder: when the time of a stop is over before the drain has come to a client, it gets
// what is queued for it, 1001 and the end, and no reset.
func TestCutInOrder(t *testing.T) {
	s := serve(t, func(o *Options, h *testHandler) {
		o.Limits.DrainWindow = time.Hour
		h.message = func(*Conn, []byte) {}
	})
	var clients []*client
	var conns []*Conn
	for range 5 {
		c, conn := s.connect()
		clients, conns = append(clients, c), append(conns, conn)
	}
	closed := make(chan struct{})
	s.on(0, func(*Loop) {
		for i, c := range clients {
			c.text("too late")
			arrived(t, conns[i])
			conns[i].Send(wsproto.AppendFrame(nil, wsproto.OpText, []byte("last")))
		}
		go func() { s.Close(); close(closed) }()
		testkit.Until(t, "the engine is about to end", s.quitting.Load)
	})
	for _, c := range clients {
		c.wantText("last")
		c.wantClose(wsproto.CloseGoingAway)
		c.wantEOF()
	}
	await(t, closed, "the end")
}
