package cache

import "sluice/internal/owner"

// unusedOverhead is the memory of an entry without subscribers beside its snapshot: the entry, its
// timer, its place in maps and in the index, and its subscription on NATS.
const unusedOverhead = 512

// unused is the list of a shard's entries without subs, from the one that has been unused longest.
// Options.UnusedBytes bounds their memory. It belongs to the shard's goroutine and knows no Shard.
type unused struct {
	limit   int // Options.UnusedBytes; 0 while memory is short
	metrics *Metrics
	bytes   int
	first   *entry
	last    *entry
}

// idleList is the place in unused of an entry without subs.
type idleList struct {
	prev, next *entry
	weight     int         // bytes counted
	idle       owner.Timer // armed: its end evicts the entry
}

// add lists an entry as the most recently used. One that is larger than the limit alone becomes the
// first to go: the others are worth more.
func (u *unused) add(e *entry) {
	at := e.unused
	u.metrics.Unused.Add(1)
	u.weigh(e)
	if at.weight > u.limit {
		u.insertFirst(e)
		return
	}
	at.prev = u.last
	if u.last != nil {
		u.last.unused.next = e
	} else {
		u.first = e
	}
	u.last = e
}

func (u *unused) insertFirst(e *entry) {
	e.unused.next = u.first
	if u.first != nil {
		u.first.unused.prev = e
	} else {
		u.last = e
	}
	u.first = e
}

// remove takes an entry off the list.
func (u *unused) remove(e *entry) {
	u.unlink(e)
	u.count(-e.unused.weight)
	u.metrics.Unused.Add(-1)
}

func (u *unused) unlink(e *entry) {
	at := e.unused
	if at.prev != nil {
		at.prev.unused.next = at.next
	} else {
		u.first = at.next
	}
	if at.next != nil {
		at.next.unused.prev = at.prev
	} else {
		u.last = at.prev
	}
	at.prev, at.next = nil, nil
}

// weigh counts the memory of a listed entry, whose snapshot may have changed.
func (u *unused) weigh(e *entry) {
	weight := unusedOverhead
	if e.snap != nil {
		weight += e.snap.Footprint()
	}
	u.count(weight - e.unused.weight)
	e.unused.weight = weight
}

func (u *unused) count(bytes int) {
	u.bytes += bytes
	u.metrics.UnusedBytes.Add(int64(bytes))
}

// rest begins the time without subs: at its end, or when others need the memory, e is evicted.
func (e *entry) rest() {
	s := e.r.s
	e.unused = new(idleList)
	s.wheel.Schedule(&e.unused.idle, s.now+e.r.remains(), e)
	s.unused.add(e)
}

// use ends what rest began.
func (e *entry) use() {
	if e.unused == nil {
		return
	}
	s := e.r.s
	s.wheel.Cancel(&e.unused.idle)
	s.unused.remove(e)
	e.unused = nil
}

// trim evicts entries without subs if they hold too much memory, the least recently used first. It
// goes on until an eighth is free, so that not every release of a resource evicts another one.
func (s *Shard) trim() {
	if s.unused.bytes <= s.unused.limit {
		return
	}
	for s.unused.first != nil && s.unused.bytes > s.unused.limit-s.unused.limit/8 {
		e := s.unused.first
		s.doubt.r = e.r
		s.metrics.Evictions.Add(1)
		s.metrics.EvictedEarly.Add(1)
		e.drop(true)
	}
}

// Shed makes the shard keep no resource without subscribers while memory is short.
func (s *Shard) Shed(short bool) {
	s.Run(func() {
		s.unused.limit = s.opt.UnusedBytes
		if short {
			s.unused.limit = 0
		}
	})
}
