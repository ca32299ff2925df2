package netpoll

// resumption holds the connections of a loop with buffered input that may be handled now: upgrades
// that were accepted, responses that have left the outbox, pauses that have ended. Owned by the
// loop.
type resumption struct {
	loop  *Loop // fixed
	ready []*Conn

	yielded       []*Conn // have used up their frames of this iteration, see frameQuota
	yieldedBefore []*Conn // the same of the iteration before
}

// nextIteration lets the connections go on that yielded in the iteration that has ended.
func (r *resumption) nextIteration() { r.yieldedBefore, r.yielded = r.yielded, r.yieldedBefore }

// unpauseYielded ends the pauses of the connections that yielded in the iteration before.
func (r *resumption) unpauseYielded() {
	for i, c := range r.yieldedBefore {
		r.yieldedBefore[i] = nil
		c.ws().unpause(pauseQuota)
	}
	r.yieldedBefore = r.yieldedBefore[:0]
}

// add has a connection's buffered input handled in this iteration, or in the next one.
func (r *resumption) add(c *Conn) {
	r.ready = append(r.ready, c)
	r.loop.Wake()
}

// resume handles the buffered input of the connections that are ready.
func (r *resumption) resume() {
	l := r.loop
	for i := 0; i < len(r.ready); i++ { // messages may have further connections accepted
		c := r.ready[i]
		r.ready[i] = nil
		if c == nil { // a panic interrupted it
			continue
		}
		if c.in.empty() {
			c.ws().readAgain()
			continue
		}
		l.iter.conn = c
		if t := c.link(); t != nil {
			l.tls.src, l.tls.rest = nil, t.in.bytes() // they may be another connection's
		}
		c.take(nil)
		c.ws().readAgain()
		if c.flags&flagEnded != 0 {
			c.ending().afterInputEnd()
		}
	}
	r.ready = r.ready[:0]
}
