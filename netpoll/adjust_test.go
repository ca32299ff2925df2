package netpoll

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"sluice/wsproto"
)

// Adjust replaces options of one loop, within the bounds, and no others.
func TestAdjust(t *testing.T) {
	s := serve(t, nil)
	s.on(0, func(l *Loop) {
		l.Adjust(Adjustable{Limits: Limits{MaxConns: 7, MaxMessage: 1000, OutboxBytes: 1000, DrainWindow: time.Second, ReserveFDs: 1},
			ResponseHeader: "Vary: Origin\r\n", ProxyFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		o := l.opts
		if o.Limits.MaxConns != 7 || o.Limits.MaxMessage != 1000 || o.Limits.OutboxBytes != 1000 || o.Limits.DrainWindow != time.Second || o.ResponseHeader == "" || len(o.ProxyFrom) != 1 {
			t.Errorf("%+v", o)
		}
		if o.Limits.ReserveFDs != s.opts.Limits.ReserveFDs || s.opts.Limits.MaxConns != 0 {
			t.Error("other options have changed, or those of the engine")
		}
	})
	s.on(0, func(l *Loop) {
		l.Adjust(Adjustable{Limits: Limits{OutboxBytes: -1}}) // out of bounds
		if l.opts.Limits.OutboxBytes != 1000 {
			t.Error("a wrong value was taken")
		}
		l.Adjust(Adjustable{})
		if l.opts.Limits.OutboxBytes != 4<<20 || l.opts.Limits.MaxConns != 0 {
			t.Errorf("%+v", l.opts.Limits)
		}
	})
}

// A new ping interval holds for the WebSockets that are open: also for those without one, and for
// those that have been idle for longer.
func TestAdjustPings(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) { o.Limits.PingInterval = -1 })
	c, _ := s.connect()
	adjust := func(interval time.Duration) {
		s.on(0, func(l *Loop) { l.Adjust(Adjustable{Limits: Limits{PingInterval: interval}}) })
	}
	s.advance(time.Hour)
	adjust(30 * time.Second) // it would be due
	s.advance(time.Second)   // they are spread over the interval
	if op, _ := c.frame(); op != wsproto.OpPing {
		t.Fatalf("got %d, want a ping", op)
	}
	c.send(masked(wsproto.OpPong, ""))
	c.text("a")
	c.wantText("a")
	adjust(10 * time.Second) // sooner than the timer that is armed
	s.advance(11 * time.Second)
	if op, _ := c.frame(); op != wsproto.OpPing {
		t.Fatalf("got %d, want a ping", op)
	}
	c.send(masked(wsproto.OpPong, ""))
	c.text("b")
	c.wantText("b")
	adjust(-1)
	s.advance(time.Hour)
	c.text("c")
	c.wantText("c") // no ping before
}

// A limit of TLS handshakes that rises starts those that are queued.
func TestAdjustHandshakes(t *testing.T) {
	s := serveTLS(t, func(o *Options, _ *testHandler) { o.Limits.MaxHandshakes = 1 })
	p := s.handshakes
	p.mu.Lock()
	p.workers++ // one that never ends
	p.mu.Unlock()
	served := make(chan error, 1)
	client := tls.Client(dial(t, s.Addr()).Conn, &tls.Config{InsecureSkipVerify: true})
	go func() { served <- client.Handshake() }()
	s.until("the handshake is queued", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.queue.Len() == 1
	})
	s.on(0, func(l *Loop) { l.Adjust(Adjustable{Limits: Limits{MaxHandshakes: 2}}) })
	if err := await(t, served, "the handshake"); err != nil {
		t.Error(err)
	}
	p.mu.Lock()
	p.workers--
	p.mu.Unlock()
}
