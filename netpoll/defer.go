package netpoll

import (
	"time"

	"sluice/internal/owner"
)

// deferred are the connections of a loop whose output waits for more. Owned by the loop.
type deferred struct {
	conns []*Conn
	timer owner.Timer // armed while there are any
}

// Defer lets what was queued in this iteration wait for what is sent next, at most for some
// milliseconds, so that one write does for both. It is for a Handler that knows of an answer under
// way. Where nothing is queued, or the connection lags, it does nothing.
func (c *Conn) Defer() {
	if c.state == stateOpen && c.flags&flagDirty != 0 {
		c.flags |= flagDeferred
	}
}

// splitDeferred takes the connections that are to be deferred out of a batch, and returns the
// others in its place.
func (l *Loop) splitDeferred(batch []*Conn) []*Conn {
	kept := batch[:0]
	for _, c := range batch {
		c.flags &^= flagDirty
		if c.flags&flagDeferred == 0 {
			kept = append(kept, c)
			continue
		}
		if len(l.deferred.conns) == 0 {
			l.wheel.Schedule(&l.deferred.timer, l.now+tick, l)
		}
		l.deferred.conns = append(l.deferred.conns, c)
	}
	return kept
}

// Expire is called by the wheel when deferred output has waited long enough.
func (l *Loop) Expire(time.Duration) {
	for i, c := range l.deferred.conns {
		l.deferred.conns[i] = nil
		if c != nil && c.flags&flagDeferred != 0 { // else more was sent, and all of it written
			c.markDirty()
		}
	}
	l.deferred.conns = l.deferred.conns[:0]
}
