package session

// collect looks at subscriptions that have lost an edge or a root: those that
// nothing keeps alive are disposed of, and those that the client cannot reach
// any more count as not sent.
//
// It works on counts as far as they go. A count above zero proves nothing
// where references run in cycles; then the subgraph behind the subscription is
// searched for an edge or a root from outside (trial deletion). The cost is
// that of the subgraph, and only subscriptions with references of their own
// pay it.
func (s *Session) collect(loose ...*Sub) {
	s.collecting++
	defer func() {
		s.collecting--
		s.resumeThrottles()
	}()
	for len(loose) > 0 {
		var alive []*Sub
		for len(loose) > 0 {
			last := len(loose) - 1
			b := loose[last]
			loose = loose[:last]
			switch {
			case b.state == subDisposed:
			case b.root():
				alive = append(alive, b)
			case b.in == 0:
				loose = s.dispose(b, loose)
			case !b.refers(false):
				alive = append(alive, b)
			default:
				dead := s.unreachable(b, false)
				for _, d := range dead {
					loose = s.dispose(d, loose)
				}
				if b.state != subDisposed {
					alive = append(alive, b)
				}
			}
		}
		for _, b := range alive {
			if b.state != subSent && b.state != subDeleted || b.held > 0 {
				continue
			}
			switch {
			case b.inSent == 0:
				loose = s.unsend(b, loose)
			case b.refers(true):
				for _, u := range s.unreachable(b, true) {
					loose = s.unsend(u, loose)
				}
			}
		}
	}
}

// root reports whether b is alive whatever refers to it.
func (b *Sub) root() bool { return b.held > 0 || b.pins > 0 }

// refers reports whether b has edges in the client's graph (sent) or the
// gateway's.
func (b *Sub) refers(sent bool) bool {
	if sent && b.state != subSent && b.state != subDeleted {
		return false
	}
	if snap := b.snapshot(); snap != nil && snap.HasRefs() {
		return true
	}
	return !sent && b.work != nil && b.work.current != nil
}

// targets calls f for the subscription at the end of each edge of b.
func (b *Sub) targets(sent bool, f func(*Sub)) {
	if !b.refers(sent) {
		return
	}
	for rid := range b.snapshot().Refs() {
		if c := b.s.subs.get(rid); c != nil {
			f(c)
		}
	}
	if !sent && b.work != nil && b.work.current != nil {
		for _, rid := range b.work.current.AddedRefs {
			if c := b.s.subs.get(rid); c != nil {
				f(c)
			}
		}
	}
}

// unreachable returns, of b and all that can be reached from it, what has no
// root or edge from outside: in the client's graph if sent, else in the
// gateway's.
func (s *Session) unreachable(b *Sub, sent bool) []*Sub {
	group := s.reach([]*Sub{b}, sent)
	for _, g := range group {
		g.tally = 0
	}
	for _, g := range group {
		g.targets(sent, func(c *Sub) { c.tally++ })
	}
	var kept []*Sub
	for _, g := range group {
		edges, root := g.in, g.root()
		if sent {
			edges, root = g.inSent, g.held > 0
		}
		if root || edges > g.tally {
			kept = append(kept, g)
		}
	}
	if len(kept) == len(group) {
		return nil
	}
	s.reach(kept, sent) // marks them anew
	var lost []*Sub
	for _, g := range group {
		if g.visit != s.mark {
			lost = append(lost, g)
		}
	}
	return lost
}

// reach returns what can be reached from the subscriptions given, themselves
// included, marked with a new visit.
func (s *Session) reach(from []*Sub, sent bool) []*Sub {
	s.mark++
	var found []*Sub
	add := func(c *Sub) {
		if c.visit != s.mark {
			c.visit = s.mark
			found = append(found, c)
		}
	}
	for _, b := range from {
		add(b)
	}
	for i := 0; i < len(found); i++ {
		found[i].targets(sent, add)
	}
	return found
}

// unsend notes that the client has dropped b, which something in progress
// still needs. Its events are no longer the client's business; when it is sent
// again, it is sent as it is then known.
func (s *Session) unsend(b *Sub, loose []*Sub) []*Sub {
	deleted := b.state == subDeleted
	if !deleted && b.state != subSent {
		return loose
	}
	if deleted {
		s.reload(b, nil)
		return loose
	}
	loose = s.dropCurrent(b, loose)
	old := b.snapshot()
	w := b.busy()
	w.queue, w.latest, w.conflated = nil, nil, false
	b.hold = 0
	b.reaccess = false
	b.SetReady(false)
	if !b.Topic().Alive() {
		// Its end is among the events just dropped.
		b.state = subDeleted
		w.snap = old
		s.reload(b, nil)
		return loose
	}
	w.snap = b.Topic().Snapshot()
	b.state = subReady
	if w.snap.HasRefs() {
		loads := s.newThrottle()
		for rid := range w.snap.Refs() {
			s.need(rid, loads).in++
		}
	}
	return s.unlink(old, true, loose)
}
