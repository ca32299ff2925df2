package cache

// lock keeps a name's events in order around a query event. From the query event until each of its answers has been
// handled, or has failed to come, all else that arrives for the name waits: events of every kind, further query events,
// and the answers to re-gets, whose place among the events says which of these they contain. Subscribing, unsubscribing
// and resets need not wait: a sub starts from the present state, and a reset only leads to a request whose answer is
// newer than everything that waits.
//
// Nor does the answer to an entry's first get wait (RES.md 3.2). It contains all events that wait at that moment, so these
// are not applied to the entry when their turn comes: see covers.
type lock struct {
	answers int // yet to come
	waiting []held
	bytes   int  // payloads of the waiting events
	lossy   bool // events had to be dropped

	queued  uint64            // held so far, over the lock's life
	handled uint64            // of these; the one being handled included
	since   map[*entry]uint64 // loaded while the lock was held: queued at that moment
}

// held is an event or the answer to a get.
type held struct {
	event   string
	payload []byte
	answer  *answer
}

func (l *lock) held() bool { return l.answers > 0 }

func (l *lock) take(answers int) { l.answers = answers }

// release notes that an answer has been handled; it tells whether that was the last.
func (l *lock) release() bool {
	l.answers--
	return l.answers == 0
}

// room tells whether one more event may wait. Answers always may: there is one for each entry at most.
func (l *lock) room(bytes int, opt *Options) bool {
	return !l.lossy && len(l.waiting) < opt.LockedLimit && l.bytes+bytes <= opt.LockedBytes
}

// loaded notes that the first answer for an entry has come, perhaps while the lock is held.
func (l *lock) loaded(e *entry) {
	if len(l.waiting) == 0 {
		return
	}
	if l.since == nil {
		l.since = make(map[*entry]uint64)
	}
	l.since[e] = l.queued
}

// covers reports whether the state that e was loaded with contains the event being handled.
func (l *lock) covers(e *entry) bool {
	n, ok := l.since[e]
	return ok && n >= l.handled
}

func (l *lock) queue(h held) {
	l.queued++
	l.waiting = append(l.waiting, h)
	l.bytes += len(h.payload)
}

// unlocked handles what has waited, until a query event among it takes the lock again.
func (s *Shard) unlocked(r *resource) {
	l := &r.lock
	done := 0
	for done < len(l.waiting) && !l.held() {
		h := l.waiting[done]
		l.waiting[done] = held{}
		done++
		l.handled++
		l.bytes -= len(h.payload)
		if h.answer != nil {
			s.settle(*h.answer)
		} else {
			s.event(r, h.event, h.payload)
		}
	}
	l.waiting = l.waiting[done:]
	if l.held() {
		return
	}
	l.waiting, l.since = nil, nil
	if l.lossy {
		l.lossy = false
		s.missed(r)
	}
}
