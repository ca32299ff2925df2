package session

import (
	"sluice/fanout"
	"sluice/internal/res"
)

// waiter lets something happen once all that can be reached from some
// subscriptions, and is not held by the client already, is loaded or failed.
type waiter struct {
	s     *Session
	roots []*Sub
	one   [1]*Sub // memory for roots: mostly there is a single one
	left  int     // subscriptions that step is still to be called for
	fire  func()  // nil: done or cancelled
}

// wait calls fire when roots and what they refer to are settled; at once if
// they are. What a subscription turns out to refer to when it has loaded is
// waited for in turn. The search from the roots is made again only when nothing
// is left to wait for: it finds what lies behind references that somebody else
// had loaded before. A search for each load would cost the square of a chain's
// length.
func (s *Session) wait(roots []*Sub, fire func()) *waiter {
	w := &waiter{s: s, fire: fire}
	w.roots = append(w.one[:0], roots...)
	w.search()
	return w
}

func (w *waiter) search() {
	w.left++ // so that nothing fires while the search is on
	w.s.unsent(w.roots, w.add)
	w.left--
	if w.left == 0 && w.fire != nil {
		fire := w.fire
		w.fire = nil
		fire()
	}
}

// add has w wait for b if it loads.
func (w *waiter) add(b *Sub) {
	if b.state != subLoading {
		return
	}
	work := b.busy()
	if n := len(work.waiters); n > 0 && work.waiters[n-1] == w {
		return // one of several references to it
	}
	work.waiters = append(work.waiters, w)
	w.left++
}

// step notes that b, one of the subscriptions waited for, has settled.
func (w *waiter) step(b *Sub) {
	if w.fire != nil && b.state == subReady && b.snapshot().HasRefs() {
		for rid := range b.snapshot().Refs() {
			if c := w.s.subs.get(rid); c != nil {
				w.add(c)
			}
		}
	}
	w.left--
	if w.left == 0 && w.fire != nil {
		w.search()
	}
}

// cancel keeps the waiter from firing.
func (w *waiter) cancel() {
	if w != nil {
		w.fire = nil
	}
}

// unsent calls f for all that can be reached from roots, themselves included,
// without passing through what the client holds. f must not search itself.
func (s *Session) unsent(roots []*Sub, f func(*Sub)) {
	s.mark++
	found := s.env.found[:0]
	add := func(b *Sub) {
		if b.visit != s.mark && b.state != subSent && b.state != subDeleted && b.state != subDisposed {
			b.visit = s.mark
			found = append(found, b)
		}
	}
	for _, b := range roots {
		add(b)
	}
	for i := 0; i < len(found); i++ {
		if b := found[i]; b.state == subReady && b.snapshot().HasRefs() {
			for rid := range b.snapshot().Refs() {
				if c := s.subs.get(rid); c != nil {
					add(c)
				}
			}
		}
	}
	for _, b := range found {
		f(b)
	}
	clear(found)
	if s.env.found = found[:0]; cap(found) > keepFound {
		s.env.found = nil
	}
}

// keepFound is how many subscriptions the memory of a search that is kept for
// the next one has room for.
const keepFound = 1024

// collectSet appends to set what the client must be sent to hold roots.
func (s *Session) collectSet(set []fanout.Resource, roots ...*Sub) []fanout.Resource {
	s.unsent(roots, func(b *Sub) {
		switch b.state {
		case subReady:
			set = append(set, fanout.Resource{RID: b.rid, Snapshot: b.snapshot()})
		case subFailed:
			set = append(set, fanout.Resource{RID: b.rid, Err: b.work.err})
		}
	})
	return set
}

// markSent notes that the client has been sent roots and all that came with
// them. The subscriptions returned may have events waiting: resume them when
// the message is on its way and the edge or root that leads to them counts.
func (s *Session) markSent(roots ...*Sub) []*Sub {
	var sent []*Sub
	s.unsent(roots, func(b *Sub) {
		if b.state == subReady {
			sent = append(sent, b)
		}
	})
	for _, b := range sent {
		b.state = subSent
	}
	for _, b := range sent {
		stale := b.work.stale
		b.work.stale = nil
		b.targets(true, func(c *Sub) { c.inSent++ })
		s.loose = s.unlink(stale, true, s.loose)
	}
	return sent
}

// resume lets the events of subscriptions go that have just been sent.
func (s *Session) resume(sent []*Sub) {
	for _, b := range sent {
		b.resume()
	}
}

// fetch gets a resource for a request: access is asked, the resource and its
// references are loaded, and then answer is called, once, with the
// subscription or the reason why there is none. If keep is true, a direct
// subscription is held from then on.
func (s *Session) fetch(rid string, keep bool, answer func(b *Sub, err *res.Error)) {
	b := s.subs.get(rid)
	if b == nil {
		if max := s.env.Limits.Subscriptions; max > 0 && s.subs.len() >= max {
			s.env.Metrics.Refused.Add(1)
			answer(nil, res.ErrSubscriptionLimit)
			return
		}
	} else if keep && int(b.held)+int(b.pending) >= s.env.Limits.DirectPerRID {
		s.env.Metrics.Refused.Add(1)
		answer(nil, res.ErrSubscriptionLimit)
		return
	}
	b = s.claim(rid, keep)
	b.withAccess(func(a *access) {
		if err := a.canGet(); err != nil {
			answer(b, err)
			s.done(b, keep, false)
			return
		}
		if b.state == subDeleted {
			s.reload(b, nil)
		}
		s.wait([]*Sub{b}, func() {
			if b.state == subFailed {
				answer(b, b.work.err)
				s.done(b, keep, false)
				return
			}
			answer(b, nil)
			s.done(b, keep, true)
		})
	})
}

// claim returns the subscription of rid for a request, which done ends.
func (s *Session) claim(rid string, keep bool) *Sub {
	s.freeze()
	defer s.thaw()
	b := s.need(rid, nil)
	b.pins++
	if keep {
		b.pending++
	}
	return b
}

// done ends a request that needed b; ok says whether it was answered with the
// resource.
func (s *Session) done(b *Sub, keep, ok bool) {
	b.pins--
	if keep {
		b.pending--
	}
	if b.held == 0 && b.pending == 0 && !(ok && keep) {
		b.acc = nil
	}
	if ok && keep {
		b.held++
		sent := s.markSent(b)
		s.collect() // before events follow: the client has dropped what the old copy led to
		s.resume(sent)
		b.resume()
	}
	s.collect(b)
}
