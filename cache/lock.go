package cache

// lock keeps a name's events in order around a query event. From the query event until each of its answers has been
// handled, or has failed to come, all else that arrives for the name waits: events of every kind, further query events,
// and the answers to gets, whose place among the events says which of these they contain. Subscribing, unsubscribing
// and resets need not wait: a sub starts from the present state, and a reset only leads to a request whose answer is
// newer than everything that waits.
type lock struct {
	answers int // yet to come
	waiting []held
	bytes   int  // payloads of the waiting events
	lossy   bool // events had to be dropped
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

func (l *lock) queue(h held) {
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
	l.waiting = nil
	if l.lossy {
		l.lossy = false
		s.missed(r)
	}
}
