package session

// A resource that is already there on the loop is loaded as soon as it is asked
// for, and what has loaded may lead to anything: answers, events, the end of
// other subscriptions, of that very one even. So whoever changes the graph
// freezes it, and what has loaded meanwhile is gone through when nobody is in
// the middle of something.

// freeze keeps what loads from being settled until thaw. Calls may be nested.
func (s *Session) freeze() { s.frozen++ }

// thaw ends a freeze. Afterwards anything may have happened to a subscription
// that has no root.
func (s *Session) thaw() {
	s.frozen--
	s.proceed()
}

// proceed settles what has loaded, starts loads that a throttle has a place for,
// and goes on with requests whose turn has come, until there is nothing of that.
func (s *Session) proceed() {
	if s.proceeding || s.frozen > 0 {
		return
	}
	s.proceeding = true
	for !s.closed && (len(s.loaded)+len(s.freed) > 0 || s.turns()) {
		switch {
		case len(s.loaded) > 0:
		case s.turns():
			s.next()
			continue
		default:
			t := s.freed[0]
			s.freed = s.freed[1:]
			t.listed = false
			t.start()
			continue
		}
		b := s.loaded[0]
		s.loaded = s.loaded[1:]
		// It may have ended since, and begun anew.
		if t := b.Topic(); b.state == subLoading && t != nil && t.Settled() {
			b.settle()
		}
	}
	s.loaded, s.freed = nil, nil
	s.proceeding = false
}
