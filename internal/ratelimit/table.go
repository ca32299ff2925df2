package ratelimit

import (
	"hash/maphash"
	"sync"
	"time"
)

// shards is how many parts a table has, each with a lock of its own. It is held for a few map
// operations, once per connection or HTTP request.
const shards = 64

// shrinkFrom is the number of entries from which a map that is nearly empty is replaced: a Go map
// never gives memory back.
const shrinkFrom = 1024

// counts has the number of connections of each address that has any.
type counts struct {
	seed  maphash.Seed
	shard [shards]struct {
		mu   sync.Mutex
		n    map[Key]int32 // guarded by mu
		peak int           // entries since the map was made; guarded by mu
	}
}

// enter counts a connection and returns how many there are with it. At the limit it does nothing
// and returns 0.
func (c *counts) enter(k Key, limit int) int {
	s := &c.shard[shardOf(c.seed, k)]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.n[k]
	if int(n) >= limit {
		return 0
	}
	if s.n == nil {
		s.n = make(map[Key]int32)
	}
	s.n[k] = n + 1
	s.peak = max(s.peak, len(s.n))
	return int(n) + 1
}

// leave takes back what enter has counted, and reports whether that was the last connection.
func (c *counts) leave(k Key) (last bool) {
	s := &c.shard[shardOf(c.seed, k)]
	s.mu.Lock()
	defer s.mu.Unlock()
	n, found := s.n[k]
	if n > 1 {
		s.n[k] = n - 1
		return false
	}
	delete(s.n, k)
	if s.peak >= shrinkFrom && len(s.n) < s.peak/8 {
		smaller := make(map[Key]int32, len(s.n))
		for k, n := range s.n {
			smaller[k] = n
		}
		s.n, s.peak = smaller, len(smaller)
	}
	return found
}

// buckets has a bucket for each address that has taken tokens lately.
//
// Those touched since the last rotation are in young, those touched in the Window before it in old.
// A rotation comes a Window after the one before, or later, with the next token that is asked for,
// and forgets the old. They are full by then, since no bucket takes longer than a Window to fill.
// So nothing is swept, and an address that is idle has no entry.
type buckets struct {
	seed  maphash.Seed
	most  int // entries of young per shard
	shard [shards]struct {
		mu         sync.Mutex
		young, old map[Key]time.Duration // guarded by mu
		rotated    time.Duration         // guarded by mu
	}
}

// take takes a token out of the bucket of k, which fills at a rate. If it is empty, take does
// nothing and returns how long to wait for a token. tracked is false if there was no room for the
// bucket.
func (b *buckets) take(k Key, now time.Duration, rate Rate) (wait time.Duration, tracked bool) {
	s := &b.shard[shardOf(b.seed, k)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := now - s.rotated; age >= Window {
		if s.old, s.young = s.young, nil; age >= 2*Window {
			s.old = nil
		}
		s.rotated = now
	}
	full, found := s.young[k]
	if !found {
		full = s.old[k]
	}
	if wait = rate.Wait(full, now, 1); wait > 0 {
		return wait, true
	}
	if !found && len(s.young) >= b.most {
		return 0, false
	}
	if s.young == nil {
		s.young = make(map[Key]time.Duration)
	}
	s.young[k] = rate.Spend(full, now, 1)
	return 0, true
}

func shardOf(seed maphash.Seed, k Key) uint64 { return maphash.Comparable(seed, k) % shards }
