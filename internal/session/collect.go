package session

// collect checks subscriptions that have lost an edge or a root. It disposes of
// those that nothing keeps alive, and marks those that the client cannot reach
// any more as not sent.
//
// Counts of incoming edges decide most cases. A count above zero proves nothing
// where references run in cycles. Then the subgraph reachable from the
// subscription is searched for an edge or a root from outside (trial deletion).
// The cost is that of the subgraph, and only subscriptions with references pay it.
func (s *Session) collect(loose ...*Sub) {
	s.freeze()
	defer s.thaw()
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
			case b.seen() && b.direct == 0 && b.inSent == 0:
				loose = s.unsend(b, loose)
			case b.seen() && b.direct == 0 && b.refers(true):
				for _, u := range s.unreachable(b, true) {
					loose = s.unsend(u, loose)
				}
			}
			if b.state != subDisposed && b.state != subSent && b.state != subDeleted && !b.root() && b.in == b.inSent {
				if b.state != subFailed || b.work.staleCopy != nil {
					loose = s.cancelReload(b, loose)
				}
			}
		}
	}
}

// unsend records that the client has dropped b, while a request or reference in
// progress still needs it. Its queued events are dropped: when b is sent again,
// it is sent in its newest state.
func (s *Session) unsend(b *Sub, loose []*Sub) []*Sub {
	switch b.state {
	case subDisposed:
		return loose
	case subDeleted:
		s.reload(b, nil, nil)
		return s.unlinkStale(b, loose)
	case subLoading, subReady, subFailed:
		return s.unlinkStale(b, loose)
	}
	loose = s.unlinkBlocked(b, loose)
	old := b.snapshot()
	w := b.ensureWork()
	w.dropEvents(s.env.Metrics)
	newcomer{b}.dropStateAhead()
	b.holds = 0
	b.cancelReaccess()
	b.SetReady(false)
	if !b.Topic().Alive() { // its end is among the events just dropped
		b.leave()
		s.reload(b, nil, nil)
		return s.unlink(old, true, loose)
	}
	w.snap = b.Topic().Snapshot()
	b.to(subReady)
	if w.snap.HasRefs() {
		loads := s.newThrottle()
		for rid := range w.snap.Refs() {
			s.need(rid, loads).in++
		}
	}
	return s.unlink(old, true, loose)
}

// dispose removes b from the session. It appends the subscriptions that b
// referred to to loose: they may have lost what kept them alive.
func (s *Session) dispose(b *Sub, loose []*Sub) []*Sub {
	if b.state == subDisposed {
		return loose
	}
	sent := b.state == subSent || b.state == subDeleted
	snap := b.snapshot()
	b.to(subDisposed)
	loose = s.unlink(snap, sent, loose)
	if w := b.work; w != nil {
		loose = s.unlinkBlocked(b, loose)
		loose = s.unlinkStale(b, loose)
		w.slot.free()
		w.dropEvents(s.env.Metrics)
	}
	newcomer{b}.dropStateAhead()
	s.env.Hub.Leave(&b.Member)
	s.subs.Remove(b)
	b.s.env.endWork(b)
	s.env.Metrics.Subscriptions.Add(-1)
	return loose
}
