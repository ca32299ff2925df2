package netpoll

import (
	"net/netip"
	"time"

	"sluice/internal/ratelimit"
)

// Adjustable is the part of Options that can change while the loops run. For a message, a frame or
// a connection that is being handled, what was read before still counts.
type Adjustable struct {
	MaxConns       int            // Limits.MaxConns
	MaxMessage     int            // Limits.MaxMessage
	OutboxBytes    int            // Limits.OutboxBytes
	DrainWindow    time.Duration  // Limits.DrainWindow
	MessageRate    ratelimit.Rate // Limits.MessageRate
	ByteRate       ratelimit.Rate // Limits.ByteRate
	ResponseHeader string
	ProxyFrom      []netip.Prefix
}

// Adjust gives the loop new options. It is called on the loop, for every loop of an Engine. Values
// have the meaning and the bounds that they have in Options, zero included.
func (l *Loop) Adjust(a Adjustable) {
	o := *l.opts
	o.Limits.MaxConns = a.MaxConns
	o.Limits.MaxMessage = a.MaxMessage
	o.Limits.OutboxBytes = a.OutboxBytes
	o.Limits.DrainWindow = a.DrainWindow
	o.Limits.MessageRate, o.Limits.ByteRate = a.MessageRate, a.ByteRate
	o.ResponseHeader, o.ProxyFrom = a.ResponseHeader, a.ProxyFrom
	if o, err := o.withDefaults(); err == nil {
		l.opts = &o
	}
}
