package netpoll

import (
	"net/netip"
	"time"
)

// Adjustable is the part of Options that can change while the loops run. For a message, a frame or
// a connection that is being handled, what was read before still counts, and a deadline that runs
// keeps its end. Of Limits, ReserveFDs stays as it was.
type Adjustable struct {
	Limits         Limits
	ResponseHeader string
	ProxyFrom      []netip.Prefix
}

// Adjust gives the loop new options. It is called on the loop, for every loop of an Engine. Values
// have the meaning and the bounds that they have in Options, zero included; with a value out of
// bounds, nothing changes.
func (l *Loop) Adjust(a Adjustable) {
	o, e := *l.opts, l.engine
	a.Limits.ReserveFDs = o.Limits.ReserveFDs
	o.Limits, o.ResponseHeader, o.ProxyFrom = a.Limits, a.ResponseHeader, a.ProxyFrom
	o, err := o.withDefaults()
	if err != nil {
		return
	}
	before := l.opts.Limits.PingInterval
	l.opts = &o
	e.limits.Store(&o.Limits) // every loop stores the same
	if e.handshakes != nil {
		e.handshakes.adjust(o.Limits.MaxHandshakes, o.Limits.HandshakeQueue)
	}
	if o.Limits.PingInterval != before {
		l.adjustPings()
	}
}

// adjustPings arms the timers of the WebSockets that are not being pinged for the present interval.
// Those that would be due now are spread over it.
func (l *Loop) adjustPings() {
	interval := l.opts.Limits.PingInterval
	for i := range l.table.slots {
		c := l.table.slots[i].conn
		if c == nil || c.state != stateOpen || c.flags&(flagStream|flagPinged) != 0 {
			continue
		}
		if idle := l.now - c.activeAt; interval > 0 && idle > interval {
			spread := interval / 64 * time.Duration(i%64+1)
			l.wheel.Schedule(&c.timer, l.now+spread, c)
			continue
		}
		c.ws().schedulePing()
	}
}
