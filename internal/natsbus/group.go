package natsbus

// Group is the requests in flight that a Caller makes for one client, so that they can be given up
// together. It is owned by the caller's owner. The zero value is empty.
type Group struct{ first *slot }

// Empty reports whether no request of the group is in flight.
func (g *Group) Empty() bool { return g.first == nil }

func (g *Group) add(s *slot) {
	if g == nil {
		return
	}
	if s.group, s.after = g, g.first; s.after != nil {
		s.after.before = s
	}
	g.first = s
}

func (g *Group) remove(s *slot) {
	if g == nil {
		return
	}
	if s.after != nil {
		s.after.before = s.before
	}
	if s.before != nil {
		s.before.after = s.after
	} else {
		g.first = s.after
	}
	s.group, s.before, s.after = nil, nil, nil
}

// orphan is a call that was given up before it was sent.
type orphan struct {
	slot *slot
	gen  uint32
}

// Abandon ends the requests of a group with ErrAbandoned: their slots are free for others, and
// replies to them are dropped as late ones. A call or auth request is sent all the same, since the
// client has made it: one that the publisher still has keeps its slot until it is sent.
func (c *Caller) Abandon(g *Group) {
	for g.first != nil {
		s := g.first
		c.bus.opts.Metrics.Abandoned.Inc()
		gen := s.gen()
		if !s.once || s.epoch(gen) != 0 {
			c.finish(s, nil, ErrAbandoned)
			continue
		}
		g.remove(s)
		done := s.done
		s.done = func([]byte, error) {}
		c.orphans = append(c.orphans, orphan{s, gen})
		done(nil, ErrAbandoned)
	}
	c.wake() // the turn may have been flushed
}

// orphanChecks bounds how many orphans endOrphans checks.
const orphanChecks = 64

// endOrphans frees the slots of orphans that have been sent since, or are over. Those of a service
// that has too many requests may wait for long, and must not keep others: it goes on with the next
// ones when it is called again.
func (c *Caller) endOrphans() {
	n := min(len(c.orphans), orphanChecks)
	for _, o := range c.orphans[:n] {
		switch {
		case o.slot.gen() != o.gen:
		case o.slot.epoch(o.gen) != 0:
			if o.slot.done != nil {
				c.finish(o.slot, nil, ErrAbandoned)
			}
		default:
			c.orphans = append(c.orphans, o)
		}
	}
	c.orphans = append(c.orphans[:0], c.orphans[n:]...)
}
