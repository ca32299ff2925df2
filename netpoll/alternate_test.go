package netpoll

import (
	"context"
	"strings"
	"testing"

	"sluice/internal/alternate"
	"sluice/internal/testkit"
)

// to returns an option: clients are sent to urls.
func to(urls ...string) func(o *Options, _ *testHandler) {
	return func(o *Options, _ *testHandler) {
		o.Alternates = new(alternate.Rotation)
		o.Alternates.Set(urls)
		o.Elsewhere = func(c *Conn, url string) { c.Send([]byte("go to " + url)) }
	}
}

// wantReason reads a close frame with a reason.
func (c *client) wantReason(code uint16, reason string) {
	c.t.Helper()
	if _, payload := c.frame(); len(payload) < 2 || uint16(payload[0])<<8|uint16(payload[1]) != code || string(payload[2:]) != reason {
		c.t.Errorf("close frame %q, want %d %q", payload, code, reason)
	}
}

// TestCloseAllSendsAway: each client learns the URL of another gateway, in the close frame or on
// its stream.
func TestCloseAllSendsAway(t *testing.T) {
	s, begun := serveStreams(t, to("wss://eu2.example.com/"))
	c, _ := follow(t, s, begun)
	ws := dial(t, s.Addr())
	ws.send([]byte(upgradeHead("/ws", "")))
	ws.upgraded()
	s.on(0, func(l *Loop) { l.CloseAll(CauseNATS, 1012, "again") })
	ws.wantReason(1012, "try wss://eu2.example.com/")
	c.wantBytes("go to wss://eu2.example.com/")
	c.wantEOF()
}

// TestAlternatesInTurn: equal shares of the clients go to each of the other gateways.
func TestAlternatesInTurn(t *testing.T) {
	s := serve(t, to("ws://a/", "ws://b/"))
	var all []*client
	for range 6 {
		c, _ := s.connect()
		all = append(all, c)
	}
	s.on(0, func(l *Loop) { l.CloseAll(CauseNATS, 1012, "again") })
	got := map[string]int{}
	for _, c := range all {
		_, payload := c.frame()
		got[string(payload[2:])]++
	}
	if len(got) != 2 || got["try ws://a/"] != 3 || got["try ws://b/"] != 3 {
		t.Error(got)
	}
}

// TestStopSendsAway: WebSockets are closed with a hint, and upgrades that come later get it with
// their 503.
func TestStopSendsAway(t *testing.T) {
	s := serve(t, to("wss://eu2.example.com/"))
	c, _ := s.connect()
	late := dial(t, s.Addr())
	late.send([]byte(upgradeHead("/ws", "")[:20]))
	s.until("half of a head has come", func() (come bool) {
		s.on(0, func(l *Loop) { come = l.drain.midRequest() })
		return come
	})
	stopped := s.stopping()
	c.wantReason(1001, "try wss://eu2.example.com/")
	_ = c.Close()
	late.send([]byte(upgradeHead("/ws", "")[20:]))
	if code, head := late.status(); code != 503 || !strings.Contains(head, "\r\nSluice-Alternate: wss://eu2.example.com/\r\n") {
		t.Errorf("an upgrade while draining: %q", head)
	}
	_ = late.Close()
	if err := await(t, stopped, "Stop"); err != nil {
		t.Error(err)
	}
}

// TestRefusalsSendAway: a client over a limit learns another gateway beside when to come
// back. Other responses have no hint.
func TestRefusalsSendAway(t *testing.T) {
	s := serve(t, func(o *Options, h *testHandler) {
		to("wss://eu2.example.com/")(o, h)
		o.Limits.MaxConns = 1
	})
	first, _ := s.connect()
	c := dial(t, s.Addr())
	c.send([]byte(upgradeHead("/ws", "")))
	code, head := c.status()
	if code != 503 || !strings.Contains(head, "\r\nSluice-Alternate: wss://eu2.example.com/\r\n") || !strings.Contains(head, "\r\nRetry-After: ") {
		t.Errorf("over the limit: %q", head)
	}
	_ = first.Close()
	_ = c.Close()
	s.until("there is room", func() bool { return s.m.OpenAll.Load() == 0 })
	c = dial(t, s.Addr())
	c.send([]byte("GET /nothing HTTP/1.1\r\nHost: test\r\n\r\n"))
	if code, head := c.status(); code != 404 || strings.Contains(head, "Alternate") {
		t.Errorf("another response: %q", head)
	}
}

// TestStayForASuccessor: another process serves on the same sockets, so clients are to
// connect there again.
func TestStayForASuccessor(t *testing.T) {
	s := serve(t, to("wss://eu2.example.com/"))
	c, _ := s.connect()
	Leave(s.Engine, false, func([]Departed) {})
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	c.wantReason(1001, "the gateway is being stopped")
	_ = c.Close()
	if err := testkit.Await(t, stopped, "the end"); err != nil {
		t.Error(err)
	}
}
