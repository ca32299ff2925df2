package cache

import "slices"

// lock keeps a name's events in order around a query event. From the query event until the last of
// its replies is handled, or has failed to arrive, everything else for the name is deferred. That
// is: all events, and the replies to re-gets, whose place among the events determines which of them
// they include. Subscribe, unsubscribe and reset need not wait. A new sub starts from the present
// state. A reset only sends a get, whose reply is newer than all deferred events.
//
// The reply to an entry's first get does not wait either (RES.md 3.2). It includes all events
// deferred at that moment, so these are not applied to the entry later: see covers.
type lock struct {
	replies int // outstanding
	waiting []deferred
	bytes   int  // payloads of the deferred events
	lossy   bool // events were dropped

	queued  uint64            // number of events and replies deferred over the lock's life
	handled uint64            // how many of these are handled, the present one included
	since   map[*entry]uint64 // entries loaded while the lock was held: queued at that moment
}

// deferred is an event or the result of a re-get.
type deferred struct {
	event   string
	payload []byte
	reply   *fetched
}

func (l *lock) held() bool { return l != nil && l.replies > 0 }

// take holds the lock until so many replies have been handled; there is at least one.
func (r *resource) take(replies int) {
	if r.lock == nil {
		r.lock = new(lock)
	}
	r.lock.replies = replies
}

// release counts a handled reply and reports whether it was the last.
func (l *lock) release() bool {
	l.replies--
	return l.replies == 0
}

// room reports whether one more event fits. Replies always fit: there is at most one for each
// entry.
func (l *lock) room(bytes int, opt *Options) bool {
	return !l.lossy && len(l.waiting) < opt.LockedLimit && l.bytes+bytes <= opt.LockedBytes
}

// loaded records the reply to an entry's first get.
func (l *lock) loaded(e *entry) {
	if l == nil || len(l.waiting) == 0 {
		return
	}
	if l.since == nil {
		l.since = make(map[*entry]uint64)
	}
	l.since[e] = l.queued
}

// covers reports whether the state that e was loaded with includes the event being handled.
func (l *lock) covers(e *entry) bool {
	if l == nil {
		return false
	}
	n, ok := l.since[e]
	return ok && n >= l.handled
}

func (l *lock) queue(d deferred) {
	l.queued++
	l.waiting = append(l.waiting, d)
	l.bytes += len(d.payload)
}

// Defers reports whether events of a name wait for the replies to a query event that subscribers
// are to get even if they have its newest state: custom events, and rechecks of access, which also
// follow when events were dropped. It is for the shard's goroutine (Run).
func (s *Shard) Defers(name string) bool {
	r := s.resources.Get(name)
	return r != nil && r.lock != nil && (r.lock.lossy || slices.ContainsFunc(r.lock.waiting, deferred.beyondState))
}

// beyondState reports whether it is an event that no get brings.
func (d deferred) beyondState() bool {
	switch d.event {
	case "", "query", "change", "add", "remove", "delete": // a reply has no name
		return false
	}
	return true
}

// unlocked handles what was deferred, until one of the deferred query events takes the lock again.
func (r *resource) unlocked() {
	l := r.lock
	done := 0
	for done < len(l.waiting) && !l.held() {
		d := l.waiting[done]
		l.waiting[done] = deferred{}
		done++
		l.handled++
		l.bytes -= len(d.payload)
		if d.reply != nil {
			d.reply.settle()
		} else {
			r.event(d.event, d.payload)
		}
	}
	l.waiting = l.waiting[done:]
	if l.held() {
		return
	}
	r.lock = nil
	if l.lossy {
		r.missed()
	}
}
