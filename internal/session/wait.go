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
// subscription is held from then on. It begins when the turn of the request has
// come. One that may end sooner than those before it waits until they are
// answered: one subscription too many, or one that is denied what was granted.
func (s *Session) fetch(rid string, keep bool, answer func(b *Sub, err *res.Error)) {
	b := s.subs.get(rid)
	alone := b != nil && (b.granted && (b.acc == nil || b.acc.canGet() != nil) ||
		keep && int(b.held)+int(b.pending) >= s.env.Limits.DirectPerRID)
	if s.mustWait(rid, alone) {
		s.enqueue(rid, request{alone: alone, run: func() { s.begin(rid, keep, answer) }})
		return
	}
	s.begin(rid, keep, answer)
}

// begin is fetch for a request whose turn has come.
func (s *Session) begin(rid string, keep bool, answer func(b *Sub, err *res.Error)) {
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
	b = s.claim(rid, keep, (*Sub).ask)
	b.withAccess(func(a *access) {
		if err := a.canGet(); err != nil {
			answer(b, err)
			s.done(b, keep, false)
			return
		}
		finish := func() {
			if b.state == subFailed {
				answer(b, b.work.err)
				s.done(b, keep, false)
				return
			}
			answer(b, nil)
			s.done(b, keep, true)
		}
		if b.granted {
			w := b.busy()
			w.granted = append(w.granted, finish)
			return
		}
		s.finish(b, finish)
	})
}

// finish ends a fetch of b that was granted access when b and what it refers to
// have loaded, and then those that were granted it meanwhile, one by one: what
// one is answered changes what the next one is to get.
func (s *Session) finish(b *Sub, finish func()) {
	for finish != nil {
		b.granted = true
		if b.state == subDeleted {
			s.reload(b, nil, nil)
		}
		if b.state != subSent {
			loading, ready := false, false
			s.wait([]*Sub{b}, func() {
				if loading {
					s.finish(b, b.finished(finish))
				}
				ready = true
			})
			if loading = !ready; loading {
				return
			}
		}
		finish = b.finished(finish)
	}
}

// finished ends a fetch and returns what ends the next one, nil if there is none.
func (b *Sub) finished(finish func()) (next func()) {
	more := b.work != nil && len(b.work.granted) > 0
	b.granted = more
	finish() // if it was the last one, the next request may be granted access already
	if !more || b.s.closed {
		return nil
	}
	w := b.work
	next, w.granted[0] = w.granted[0], nil
	w.granted = w.granted[1:]
	return next
}

// claim returns the subscription of rid for a request, which done ends. ask sends
// the request for access, if there is to be one, or returns what does so ahead of
// the get: services work the requests about a resource in their order, and one to
// get it may take long.
func (s *Session) claim(rid string, keep bool, ask func(b *Sub) (first func())) *Sub {
	s.freeze()
	defer s.thaw()
	b := s.sub(rid)
	b.pins++
	b.fetches++
	if keep {
		b.pending++
	}
	s.want(b, nil, ask(b))
	return b
}

// done ends a request that needed b; ok says whether it was answered with the
// resource.
func (s *Session) done(b *Sub, keep, ok bool) {
	b.pins--
	b.fetches--
	if keep {
		b.pending--
	}
	if ok && keep {
		b.held++
		sent := s.markSent(b)
		s.collect() // before events follow: the client has dropped what the old copy led to
		s.resume(sent)
		b.resume()
	}
	b.lapse()
	s.collect(b)
	if b.fetches == 0 {
		s.answered(b.rid)
		s.proceed()
	}
}
