package limit

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Service is the limit of one service. Any goroutine may call its methods, unless they say
// otherwise. A request holds a place from TryAcquire to Release.
type Service struct {
	name string // fixed; empty: the services for which the table has no room

	users atomic.Int64 // requests that refer to the service, queued ones included; -1: evicted

	// Requests in flight, and those of them that their client or their service has set aside.
	inFlight atomic.Int64
	extended atomic.Int64 // their service has asked for more time
	lost     atomic.Int64 // timed out or given up, and perhaps queued at the service

	limit   atomic.Int64
	bounds  *atomic.Pointer[Options] // fixed: the table's
	heeded  atomic.Pointer[Options]  // the bounds that control goes by
	newest  atomic.Int64             // when the newest of the replied requests was sent
	waiting atomic.Uint64            // publishers with requests queued, a bit for each

	window  window
	busy    atomic.Bool // taken by the goroutine that closes a window
	control control     // guarded by busy

	// For metrics.
	queued  [Priorities]atomic.Int64
	waited  atomic.Uint64 // requests that were queued
	expired atomic.Uint64 // requests that timed out in the queue
	unheard atomic.Uint64 // requests that timed out at the service
}

// window collects what happens until the limit is next adapted.
type window struct {
	least    atomic.Int64 // time before which it does not end
	ends     atomic.Int64 // time at which it ends with few replies
	need     atomic.Int64 // replies with which it ends
	kinds    [Kinds]lowest
	timeouts atomic.Int64
	limited  atomic.Bool
	high     atomic.Int64
}

// lowest is the number of latencies of a kind, and the lowest of them; 0: none.
type lowest struct{ n, at atomic.Int64 }

func newService(name string, bounds *atomic.Pointer[Options]) *Service {
	o := bounds.Load()
	s := &Service{name: name, bounds: bounds, control: newControl(o.Min, o.Max)}
	s.heeded.Store(o)
	s.publish()
	return s
}

// heed has the limit keep to the present bounds. They are those of before for a moment if another
// goroutine is adapting the limit.
func (s *Service) heed(o *Options) {
	if !s.busy.CompareAndSwap(false, true) {
		return
	}
	defer s.busy.Store(false)
	s.control.bound(o.Min, o.Max)
	s.heeded.Store(o)
	s.publish()
}

// Name returns the leading parts of resource names that the service is known by. It is empty for
// the services for which the table has no room.
func (s *Service) Name() string { return s.name }

// Drop ends Table.Get.
func (s *Service) Drop() { s.users.Add(-1) }

// hold takes a reference, and reports false if the service has been evicted.
func (s *Service) hold() bool {
	for {
		n := s.users.Load()
		if n < 0 {
			return false
		}
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// TryAcquire takes a place for a request that is about to be sent, and reports false if there is
// none.
func (s *Service) TryAcquire(now time.Duration) bool {
	o := s.bounds.Load()
	if o.Max == 0 {
		s.inFlight.Add(1)
		return true
	}
	if o != s.heeded.Load() {
		s.heed(o)
	}
	s.adapt(now)
	for {
		n := s.inFlight.Load()
		counted := n - s.extended.Load()
		if n >= int64(o.Max) || counted >= s.limit.Load() && counted > s.lost.Load() {
			s.window.limited.Store(true)
			return false
		}
		if s.inFlight.CompareAndSwap(n, n+1) {
			if n+1 > s.window.high.Load() {
				s.window.high.Store(n + 1)
			}
			return true
		}
	}
}

// Release frees a place.
func (s *Service) Release() { s.inFlight.Add(-1) }

// Extend records that the service has asked for more time for a request, or by -1 that this request
// has ended.
func (s *Service) Extend(by int64) { s.extended.Add(by) }

// Lose records that a request in flight is lost, or by -1 that its place is free.
func (s *Service) Lose(by int64) { s.lost.Add(by) }

// Replied records a reply to a request that was sent at the given time.
func (s *Service) Replied(sent time.Duration) {
	for {
		newest := s.newest.Load()
		if int64(sent) <= newest || s.newest.CompareAndSwap(newest, int64(sent)) {
			return
		}
	}
}

// Passed reports whether a request that was sent after the given time has been replied to.
func (s *Service) Passed(sent time.Duration) bool { return s.newest.Load() > int64(sent) }

// Observe records the latency of a request.
func (s *Service) Observe(k Kind, latency time.Duration) {
	l := &s.window.kinds[k]
	v := int64(max(latency, 1))
	for {
		at := l.at.Load()
		if at != 0 && at <= v || l.at.CompareAndSwap(at, v) {
			break
		}
	}
	l.n.Add(1)
}

// TimedOut records that a request got no reply in time.
func (s *Service) TimedOut() {
	s.window.timeouts.Add(1)
	s.unheard.Add(1)
}

// Expired records that a request was queued for too long.
func (s *Service) Expired() { s.expired.Add(1) }

// Queue records that publisher number i has queued a request; that is its first one if there was
// none. The publisher calls TryAcquire after it, so that no free place is missed.
func (s *Service) Queue(i int, p Priority) {
	s.queued[p].Add(1)
	s.waited.Add(1)
	if !s.Waits(i) {
		s.waiting.Or(1 << i)
	}
}

// Dequeue records that a request has left the queue of a publisher.
func (s *Service) Dequeue(p Priority) { s.queued[p].Add(-1) }

// Emptied records that publisher number i has no request queued.
func (s *Service) Emptied(i int) { s.waiting.And(^(uint64(1) << i)) }

// Waits reports whether publisher number i has requests queued.
func (s *Service) Waits(i int) bool { return s.waiting.Load()&(1<<i) != 0 }

// Waiting returns the publishers that have requests queued, a bit for each. After a place is freed,
// they are to be told.
func (s *Service) Waiting() uint64 { return s.waiting.Load() }

// adapt ends the window if it is complete, and sets the limit.
func (s *Service) adapt(now time.Duration) {
	w := &s.window
	n := w.timeouts.Load()
	for k := range w.kinds {
		n += w.kinds[k].n.Load()
	}
	draining := w.need.Load() == 0
	open := n < w.need.Load() && (n == 0 || int64(now) < w.ends.Load()) || int64(now) < w.least.Load()
	if open && !draining || !s.busy.CompareAndSwap(false, true) {
		return
	}
	defer s.busy.Store(false)
	c := &s.control
	if draining && c.drained(int(s.inFlight.Load()-s.extended.Load()-s.lost.Load())) {
		w.take()
	} else if draining && now-c.began < probeMax {
		return
	} else {
		t := w.take()
		c.close(now, &t)
	}
	w.ends.Store(int64(now + windowMax))
	w.least.Store(int64(now + c.least()))
	s.publish()
}

// publish makes what the algorithm has decided visible. The window's need is 0 while a probe waits
// for the requests in flight: then every call of adapt checks.
func (s *Service) publish() {
	need := s.control.need()
	if s.control.probe == draining {
		need = 0
	}
	s.window.need.Store(int64(need))
	s.limit.Store(int64(s.control.limit()))
}

// take empties the window. What is recorded meanwhile is in one window or the next.
func (w *window) take() (t totals) {
	for k := range w.kinds {
		t.n[k] = int(w.kinds[k].n.Swap(0))
		t.lowest[k] = time.Duration(w.kinds[k].at.Swap(0))
		if t.lowest[k] == 0 {
			t.n[k] = 0
		}
	}
	t.timeouts = int(w.timeouts.Swap(0))
	t.limited = w.limited.Swap(false)
	t.high = int(w.high.Swap(0))
	return t
}

// State is a service's state for metrics.
type State struct {
	Limit, InFlight         int64
	Queued                  [Priorities]int64
	Waited, Expired, Silent uint64 // requests that were queued, timed out there, timed out at the service
}

// State returns the present state.
func (s *Service) State() State {
	st := State{
		Limit: s.limit.Load(), InFlight: s.inFlight.Load(),
		Waited: s.waited.Load(), Expired: s.expired.Load(), Silent: s.unheard.Load(),
	}
	for p := range st.Queued {
		st.Queued[p] = s.queued[p].Load()
	}
	return st
}

// Each calls f with each publisher of a set that Waiting has returned.
func Each(publishers uint64, f func(i int)) {
	for ; publishers != 0; publishers &= publishers - 1 {
		f(bits.TrailingZeros64(publishers))
	}
}
