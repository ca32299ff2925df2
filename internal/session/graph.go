package session

import (
	"iter"
	"slices"
)

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
	s.freeze()
	defer s.thaw()
	loose = append(loose, s.loose...)
	s.loose = nil
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
			switch {
			case b.seen() && b.held == 0 && b.inSent == 0:
				loose = s.unsend(b, loose)
			case b.seen() && b.held == 0 && b.refers(true):
				for _, u := range s.unreachable(b, true) {
					loose = s.unsend(u, loose)
				}
			}
			if b.state != subDisposed && b.state != subSent && b.state != subDeleted && !b.root() && b.in == b.inSent {
				if b.state != subFailed || b.work.stale != nil {
					loose = s.retire(b, loose)
				}
			}
		}
	}
}

// seen reports whether the client has some copy of b.
func (b *Sub) seen() bool {
	return b.state == subSent || b.state == subDeleted ||
		b.state != subDisposed && b.work != nil && b.work.stale != nil
}

// root reports whether b is alive whatever refers to it.
func (b *Sub) root() bool { return b.held > 0 || b.pins > 0 }

// edges calls f for each set of references that b's edges come from: those
// that the client has (sent), or all.
func (b *Sub) edges(sent bool, f func(rids iter.Seq[string])) {
	if !sent || b.state == subSent || b.state == subDeleted {
		if snap := b.snapshot(); snap != nil && snap.HasRefs() {
			f(snap.Refs())
		}
	}
	if w := b.work; w != nil {
		if w.stale != nil && w.stale.HasRefs() {
			f(w.stale.Refs())
		}
		if !sent && w.current != nil {
			f(slices.Values(w.current.AddedRefs))
		}
	}
}

// refers reports whether b has edges.
func (b *Sub) refers(sent bool) bool {
	found := false
	b.edges(sent, func(iter.Seq[string]) { found = true })
	return found
}

// targets calls f for the subscription at the end of each edge of b.
func (b *Sub) targets(sent bool, f func(*Sub)) {
	b.edges(sent, func(rids iter.Seq[string]) {
		for rid := range rids {
			if c := b.s.subs.get(rid); c != nil {
				f(c)
			}
		}
	})
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
	switch b.state {
	case subDisposed:
		return loose
	case subDeleted:
		s.reload(b, nil, nil)
		return s.dropStale(b, loose)
	case subLoading, subReady, subFailed:
		return s.dropStale(b, loose)
	}
	loose = s.dropCurrent(b, loose)
	old := b.snapshot()
	w := b.busy()
	w.script, w.queue, w.latest, w.conflated = nil, nil, nil, false
	b.hold = 0
	b.lapse()
	b.SetReady(false)
	if !b.Topic().Alive() { // its end is among the events just dropped
		b.leave()
		s.reload(b, nil, nil)
		return s.unlink(old, true, loose)
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
