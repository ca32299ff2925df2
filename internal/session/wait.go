package session

// waiter calls fire once all subscriptions that are reachable from roots, and
// not held by the client, are loaded or failed.
type waiter struct {
	s     *Session
	roots []*Sub
	one   [1]*Sub // memory for roots, of which there is usually one
	left  int     // subscriptions that have yet to call step
	fire  func()  // nil after it was called or cancelled
}

// newWaiter returns a waiter for roots. It calls fire before it returns if all
// are loaded already. When a subscription has loaded, the waiter adds its
// references. Only when none is left it searches again from the roots, for
// loads behind references that were loaded for another request. A search per
// load would cost the square of a chain's length.
func newWaiter(s *Session, roots []*Sub, fire func()) *waiter {
	w := &waiter{s: s, fire: fire}
	w.roots = append(w.one[:0], roots...)
	w.search()
	return w
}

func (w *waiter) search() {
	w.left++ // nothing fires during the search
	w.s.unsent(w.roots, w.add)
	w.left--
	if w.left == 0 && w.fire != nil {
		fire := w.fire
		w.fire = nil
		fire()
	}
}

// add makes w wait for b if it is loading.
func (w *waiter) add(b *Sub) {
	if b.state != subLoading {
		return
	}
	work := b.ensureWork()
	if n := len(work.waiters); n > 0 && work.waiters[n-1] == w {
		return // one of several references to it
	}
	work.waiters = append(work.waiters, w)
	w.left++
}

// step handles the end of b's load.
func (w *waiter) step(b *Sub) {
	if w.fire != nil && b.state == subReady && b.snapshot().HasRefs() {
		for rid := range b.snapshot().Refs() {
			if c := w.s.subs.Get(rid); c != nil {
				w.add(c)
			}
		}
	}
	w.left--
	if w.left == 0 && w.fire != nil {
		w.search()
	}
}

// cancel keeps the waiter from calling fire.
func (w *waiter) cancel() {
	if w != nil {
		w.fire = nil
	}
}
