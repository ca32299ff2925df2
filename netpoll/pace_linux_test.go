package netpoll

import (
	"context"
	"os"
	"testing"
	"time"
)

// Beyond acceptPace, connections wait in the kernel's queue: none is refused, the clients that are
// there are served meanwhile, and the others follow as time passes.
func TestAcceptPace(t *testing.T) {
	if os.Getenv(inGnetEnv) != "" {
		return // where gnet cannot be told to leave its listeners alone
	}
	s := serve(t, func(o *Options, _ *testHandler) { o.Limits.AcceptPace = 100 })
	first, _ := s.connect()
	s.connect() // the first token of the next 10 ms is a debt
	waiting := dial(t, s.Addr())
	waiting.send([]byte(upgradeHead("/ws", "")))
	first.text("served") // the kernel reports sockets in the order in which they become ready
	first.wantText("served")
	if n := s.m.Accepted.Load(); n != 2 {
		t.Fatalf("%d connections accepted, want 2", n)
	}
	s.advance(paceEvery)
	waiting.upgraded()
	if s.m.AcceptPauses.Load() == 0 || s.m.RefusedRate.Load() != 0 {
		t.Errorf("%d pauses, %d refused", s.m.AcceptPauses.Load(), s.m.RefusedRate.Load())
	}
}

// A new limit counts at once, and plain requests do not.
func TestAcceptPaceEnds(t *testing.T) {
	if os.Getenv(inGnetEnv) != "" {
		return
	}
	s := serve(t, func(o *Options, _ *testHandler) { o.Limits.AcceptPace = 1 })
	for range 10 {
		c := dial(t, s.Addr())
		c.send([]byte("GET /a HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
		if code, _ := c.status(); code != 404 {
			t.Fatalf("status %d", code)
		}
	}
	s.connect()
	s.connect()
	waiting := dial(t, s.Addr())
	waiting.send([]byte(upgradeHead("/ws", "")))
	s.advance(500 * time.Millisecond)
	if n := s.m.Upgraded.Load(); n != 2 {
		t.Fatalf("%d opened, want 2", n)
	}
	s.on(0, func(l *Loop) { l.Adjust(Adjustable{Limits: Limits{}}) })
	s.advance(paceEvery)
	waiting.upgraded()
	for range 10 {
		s.connect()
	}
}

// A gateway that stops accepts what is in the queue, and refuses it.
func TestAcceptPaceAndStop(t *testing.T) {
	if os.Getenv(inGnetEnv) != "" {
		return
	}
	s := serve(t, func(o *Options, _ *testHandler) { o.Limits.AcceptPace = 1 })
	s.connect()
	s.connect()
	waiting := dial(t, s.Addr())
	waiting.send([]byte(upgradeHead("/ws", "")))
	stopped := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { stopped <- s.Stop(ctx) }()
	if code, _ := waiting.status(); code != 503 {
		t.Errorf("status %d, want 503", code)
	}
	cancel() // do not wait for the others
	await(t, stopped, "Stop")
}
