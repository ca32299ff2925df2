package session

// throttle limits how many references of one request load in parallel (setting
// referenceThrottle). A load takes a place and frees it at its end; it never
// waits for another place, so there is no deadlock. A nil throttle does not limit.
type throttle struct {
	s      *Session
	free   int
	queue  []*Sub
	listed bool // in agenda.freed
}

// slot is a subscription's place in a throttle, or in its queue.
type slot struct {
	t      *throttle
	queued bool
}

func (s *Session) newThrottle() *throttle {
	if s.env.Limits.References <= 0 {
		return nil
	}
	return &throttle{s: s, free: s.env.Limits.References}
}

// enter takes a place for b and reports whether one was free; else it queues b.
func (t *throttle) enter(b *Sub) bool {
	if t.free > 0 {
		t.free--
		b.work.slot = slot{t: t}
		return true
	}
	b.work.slot = slot{t: t, queued: true}
	t.queue = append(t.queue, b)
	return false
}

// free releases the place, if one is taken. Session.proceed starts the next load.
func (sl *slot) free() {
	t := sl.t
	queued := sl.queued
	*sl = slot{}
	if t == nil || queued {
		return
	}
	t.free++
	if !t.listed {
		t.listed = true
		a := t.s.ensureItems(&t.s.env.spare)
		a.freed = append(a.freed, t)
	}
}

// start starts queued loads while there are free places.
func (t *throttle) start() {
	for t.free > 0 && len(t.queue) > 0 {
		b := t.queue[0]
		t.queue = t.queue[1:]
		if b.state != subLoading || b.work.slot != (slot{t: t, queued: true}) {
			continue // it settled or ended without its place
		}
		t.free--
		b.work.slot = slot{t: t}
		t.s.join(b, nil)
	}
}
