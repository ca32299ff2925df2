package netpoll

import "time"

// Defer lets output that was queued in this iteration wait for what is sent next, for tick at most,
// so that both leave in one write. A Handler calls it when it expects a reply soon. It does nothing
// if no output is queued, or if the connection lags.
func (c *Conn) Defer() {
	if c.state == stateOpen && c.flags&flagDirty != 0 {
		c.flags |= flagDeferred
	}
}

// splitDeferred moves the deferred connections out of a batch. It returns the others, in the
// batch's memory.
func (o *output) splitDeferred(batch []*Conn) []*Conn {
	kept := batch[:0]
	for _, c := range batch {
		c.flags &^= flagDirty
		if c.flags&flagDeferred == 0 {
			kept = append(kept, c)
			continue
		}
		if len(o.deferred) == 0 {
			o.loop.wheel.Schedule(&o.deferredTimer, o.loop.now+tick, o)
		}
		o.deferred = append(o.deferred, c)
	}
	return kept
}

// Expire is called by the wheel when deferred output has waited long enough.
func (o *output) Expire(time.Duration) {
	for i, c := range o.deferred {
		o.deferred[i] = nil
		if c != nil && c.flags&flagDeferred != 0 { // else more was sent, and all of it written
			c.markDirty()
		}
	}
	o.deferred = o.deferred[:0]
}

// rearmDeferred schedules Expire again if a panic interrupted it.
func (o *output) rearmDeferred() {
	if len(o.deferred) > 0 && !o.deferredTimer.Armed() {
		o.loop.wheel.Schedule(&o.deferredTimer, o.loop.now+tick, o)
	}
}
