package session

// A resource with a topic on the loop loads as soon as it is needed, and a
// loaded resource may cause responses, events, or the end of other
// subscriptions. So code that changes the graph freezes it, and the agenda
// collects what loads until the last thaw.

// thaw ends a freeze. Afterwards a subscription without a root may be in any state.
func (s *Session) thaw() {
	s.frozen--
	s.proceed()
}

// proceed settles loaded subscriptions, runs due requests and starts queued
// loads, in this order of preference, until the agenda is empty.
func (s *Session) proceed() {
	if s.proceeding || s.frozen > 0 {
		return
	}
	s.proceeding = true
	for !s.closed && s.due() {
		switch {
		case len(s.loaded) > 0:
			b := s.nextLoaded()
			// It may have ended since, and be loading again.
			if t := b.Topic(); b.state == subLoading && t != nil && t.Settled() {
				b.settle()
			}
		case s.requestDue():
			s.runQueued(s.nextDue())
		default:
			t := s.freed[0]
			s.freed = s.freed[1:]
			t.listed = false
			t.start()
		}
	}
	s.clearItems(!s.closed, &s.env.spare)
	s.proceeding = false
}

// runQueued runs the queued requests about rid until one has to wait.
func (s *Session) runQueued(rid string) {
	o := s.order
	for !s.closed {
		run := o.dequeue(rid, s.fetching(rid))
		if run == nil {
			break
		}
		run()
	}
	if len(o.byRID[rid]) > 0 && !s.closed {
		return
	}
	delete(o.byRID, rid)
	if len(o.byRID) == 0 && s.items != nil && s.order == o {
		s.order = nil
	}
}

// mustQueue reports whether a request about rid has to wait for its turn.
func (s *Session) mustQueue(rid string, alone bool) bool {
	return s.queued(rid) || alone && s.fetching(rid)
}
