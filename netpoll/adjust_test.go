package netpoll

import (
	"net/netip"
	"testing"
	"time"
)

// Adjust replaces options of one loop, within the bounds, and no others.
func TestAdjust(t *testing.T) {
	s := serve(t, nil)
	s.on(0, func(l *Loop) {
		l.Adjust(Adjustable{MaxConns: 7, MaxMessage: 1000, OutboxBytes: 1000, DrainWindow: time.Second,
			ResponseHeader: "Vary: Origin\r\n", ProxyFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		o := l.opts
		if o.Limits.MaxConns != 7 || o.Limits.MaxMessage != 1000 || o.Limits.OutboxBytes != 1000 || o.Limits.DrainWindow != time.Second || o.ResponseHeader == "" || len(o.ProxyFrom) != 1 {
			t.Errorf("%+v", o)
		}
		if o.Limits.MaxHead != s.opts.Limits.MaxHead || s.opts.Limits.MaxConns != 0 {
			t.Error("other options have changed, or those of the engine")
		}
	})
	s.on(0, func(l *Loop) {
		l.Adjust(Adjustable{OutboxBytes: -1}) // out of bounds
		if l.opts.Limits.OutboxBytes != 1000 {
			t.Error("a wrong value was taken")
		}
		l.Adjust(Adjustable{})
		if l.opts.Limits.OutboxBytes != 4<<20 || l.opts.Limits.MaxConns != 0 {
			t.Errorf("%+v", l.opts.Limits)
		}
	})
}
