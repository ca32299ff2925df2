package owner

import "sync"

// Throttle limits how much work of one kind is in progress across owners. It is used where NATS
// requests are made, never on the path of an event, so it may lock. Any goroutine may use it.
type Throttle struct {
	mu      sync.Mutex
	limit   int // 0: none
	running int
	waiting []func() // in order of arrival, from first
	first   int
}

// NewThrottle returns a throttle that lets limit pieces of work be in progress; limit < 1: any
// number.
func NewThrottle(limit int) *Throttle { return &Throttle{limit: max(limit, 0)} }

// Acquire requests a slot. grant is called once: immediately in this goroutine if a slot is free,
// else later in the goroutine of the Release that frees one. So grant must only post to its owner.
// Each grant is followed by one Release.
func (t *Throttle) Acquire(grant func()) {
	t.mu.Lock()
	if t.limit > 0 && t.running >= t.limit {
		t.waiting = append(t.waiting, grant)
		t.mu.Unlock()
		return
	}
	t.running++
	t.mu.Unlock()
	grant()
}

// SetLimit changes the limit for the slots that are taken from now on. If it rises, the oldest
// waiting grants get the new slots.
func (t *Throttle) SetLimit(limit int) {
	t.mu.Lock()
	t.limit = max(limit, 0)
	var granted []func()
	for t.first < len(t.waiting) && (t.limit == 0 || t.running < t.limit) {
		t.running++
		granted = append(granted, t.next())
	}
	t.mu.Unlock()
	for _, grant := range granted {
		grant()
	}
}

// Release frees a slot; the oldest waiting grant gets it.
func (t *Throttle) Release() {
	t.mu.Lock()
	if t.first == len(t.waiting) || t.limit > 0 && t.running > t.limit {
		t.running--
		t.mu.Unlock()
		return
	}
	grant := t.next()
	t.mu.Unlock()
	grant()
}

// next takes the oldest waiting grant from the queue. It requires mu.
func (t *Throttle) next() func() {
	grant := t.waiting[t.first]
	t.waiting[t.first] = nil
	t.first++
	if t.first == len(t.waiting) {
		t.waiting, t.first = t.waiting[:0], 0
	} else if t.first > 64 && t.first > len(t.waiting)/2 {
		n := copy(t.waiting, t.waiting[t.first:])
		clear(t.waiting[n:])
		t.waiting, t.first = t.waiting[:n], 0
	}
	return grant
}

// Waiting returns how many grants are queued.
func (t *Throttle) Waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) - t.first
}
