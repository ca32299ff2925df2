package session

// throttle limits how many of the references that one request leads to are
// being loaded at once (referenceThrottle). A place is taken for as long as
// one load lasts and never while waiting for another, so it cannot deadlock.
// A nil throttle does not limit.
type throttle struct {
	s      *Session
	free   int
	queue  []*Sub
	listed bool // in s.freed
}

// slot is a subscription's place in a throttle.
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

// enter takes a place for b, or queues it and returns false.
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

// free gives the place back, if one is taken. Whoever is next gets it from
// proceed.
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
		t.s.freed = append(t.s.freed, t)
	}
}

// start starts loads for which there is a place now.
func (t *throttle) start() {
	for t.free > 0 && len(t.queue) > 0 {
		b := t.queue[0]
		t.queue = t.queue[1:]
		if b.state != subLoading || b.work.slot != (slot{t: t, queued: true}) {
			continue // settled or gone in another way
		}
		t.free--
		b.work.slot = slot{t: t}
		name, query := b.name()
		t.s.join(b, name, query, nil)
	}
}
