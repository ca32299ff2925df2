package cache

import (
	"hash/maphash"
	"time"
)

// A resource without subs keeps its NATS subscription for Options.EvictAfter. One that is evicted
// and comes back soon afterwards has cost NATS an UNSUB and a SUB, and its service a get. So such a
// return makes the resource stay for longer, the next time its last sub leaves: for twice the time
// that it was without subs, and no longer than Options.EvictMost. Returns that would have found it
// with a shorter stay shorten it again, by half at most. Thus a resource that clients leave and
// come back to within EvictMost is evicted once, and resources that are used once go after
// EvictAfter as before. Options.UnusedBytes bounds all of them.

// maxReturns bounds how many evicted names a shard remembers, in each of two generations.
const maxReturns = 8 << 10

// returns remembers when the last sub of evicted names left. It belongs to the shard's goroutine
// and knows no Shard.
type returns struct {
	seed  maphash.Seed
	young map[uint64]time.Duration // by the name's hash: a collision only makes a stay longer
	old   map[uint64]time.Duration
	since time.Duration // when young began
}

func newReturns() returns { return returns{seed: maphash.MakeSeed()} }

// note remembers an evicted name, for most to twice that.
func (r *returns) note(name string, left, now, most time.Duration) {
	if r.young == nil || len(r.young) >= maxReturns || now-r.since > most {
		r.young, r.old, r.since = make(map[uint64]time.Duration), r.young, now
	}
	r.young[maphash.String(r.seed, name)] = left
}

// take forgets an evicted name and returns when its last sub had left.
func (r *returns) take(name string) (left time.Duration, ok bool) {
	if len(r.young)+len(r.old) == 0 {
		return 0, false
	}
	hash := maphash.String(r.seed, name)
	for _, generation := range []map[uint64]time.Duration{r.young, r.old} {
		if left, ok = generation[hash]; ok {
			delete(generation, hash)
			return left, true
		}
	}
	return 0, false
}

// stay is how long a resource is cached after its last sub.
type stay struct {
	used    int32         // entries with subs
	empty   bool          // there were subs, and there are none
	evicted bool          // the resource was evicted since then
	left    time.Duration // when the last sub left, if empty is set
	length  time.Duration // 0: EvictAfter
}

// came notes that one of the resource's entries has subs now.
func (r *resource) came() {
	y, s := &r.stay, r.s
	if y.empty {
		most, gap := s.opt.EvictMost, s.now-y.left
		switch {
		case !y.evicted:
			s.metrics.Returns.Add(1)
			y.length = min(y.length, max(2*gap, y.length/2))
		case gap <= most:
			s.metrics.LateReturns.Add(1)
			y.length = min(2*gap, most)
		}
		y.empty, y.evicted = false, false
	}
	y.used++
}

// went notes that one of the resource's entries has no subs any more.
func (r *resource) went() {
	if r.stay.used--; r.stay.used == 0 {
		r.stay.left, r.stay.empty = r.s.now, true
	}
}

// remains returns for how long the resource is kept from now on.
func (r *resource) remains() time.Duration {
	after := r.s.opt.EvictAfter
	if after <= 0 || r.stay.used > 0 {
		return after
	}
	return max(after, min(r.stay.length, r.s.opt.EvictMost))
}

// remembered returns the stay of a name that may have been evicted before.
func (s *Shard) remembered(name string) (y stay) {
	y.left, y.empty = s.returns.take(name)
	y.evicted = y.empty
	return y
}

// remember notes that a resource is evicted.
func (r *resource) remember() {
	if s := r.s; r.stay.empty && s.opt.EvictAfter > 0 && s.opt.EvictMost > s.opt.EvictAfter {
		s.returns.note(r.name, r.stay.left, s.now, s.opt.EvictMost)
	}
}
