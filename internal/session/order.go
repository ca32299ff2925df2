package session

// Requests of one client about one resource ID take effect, and are answered,
// in the order in which they were sent (RES.md 2.3). Requests that fetch the
// resource, as subscribe and get do, are worked on together: they share what they
// wait for. An unsubscribe counts what they bring, so it waits until they are
// answered, and what follows it waits behind it. Calls do not take part: what
// they do is the service's business, and a resource that one is answered with is
// fetched when the answer is there.
//
// What waits is bounded by Limits.Requests.

// waiting are a session's requests that wait for their turn.
type waiting struct {
	byRID map[string][]request
	due   []string // their next request may go on
}

// request is one that waits.
type request struct {
	alone bool // not before all that were sent before are answered
	run   func()
}

// mustWait reports whether a request about rid has to wait for its turn.
func (s *Session) mustWait(rid string, alone bool) bool {
	if s.waiting != nil && len(s.waiting.byRID[rid]) > 0 {
		return true
	}
	return alone && s.fetching(rid)
}

// fetching reports whether requests are in progress that fetch rid.
func (s *Session) fetching(rid string) bool {
	b := s.subs.get(rid)
	return b != nil && b.fetches > 0
}

// enqueue has a request wait for its turn.
func (s *Session) enqueue(rid string, r request) {
	if s.waiting == nil {
		s.waiting = &waiting{byRID: make(map[string][]request)}
	}
	s.waiting.byRID[rid] = append(s.waiting.byRID[rid], r)
}

// answered notes that the requests which fetched rid are answered. The next one
// goes on in proceed: until then, much may be in the middle of something.
func (s *Session) answered(rid string) {
	if s.waiting != nil && len(s.waiting.byRID[rid]) > 0 {
		s.waiting.due = append(s.waiting.due, rid)
	}
}

// next runs the requests whose turn has come.
func (s *Session) next() {
	w := s.waiting
	rid := w.due[0]
	w.due = w.due[1:]
	for queue := w.byRID[rid]; len(queue) > 0 && !s.closed; queue = w.byRID[rid] {
		if queue[0].alone && s.fetching(rid) {
			return
		}
		run := queue[0].run
		queue[0] = request{}
		w.byRID[rid] = queue[1:]
		run()
	}
	delete(w.byRID, rid)
	if len(w.byRID) == 0 && s.waiting == w {
		s.waiting = nil
	}
}

// turns reports whether there is a request whose turn has come.
func (s *Session) turns() bool { return s.waiting != nil && len(s.waiting.due) > 0 }
