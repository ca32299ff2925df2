package cache

import (
	"sync"
	"sync/atomic"
)

// maxLost bounds the names in a lossLog. Beyond it, all resources count as having lost events.
const maxLost = 1024

// lossLog records the names whose events did not fit into the mailbox. Their later events are
// dropped as well until the shard takes the log, since they do not apply to the shard's snapshot.
// The dispatcher writes it and the shard reads it under a lock, which is not taken while nothing is
// lost.
type lossLog struct {
	some  atomic.Bool
	mu    sync.Mutex
	names map[string]struct{} // guarded by mu
	all   bool                // guarded by mu
}

// drop reports whether to drop an event of name, and records the name then. full means a full
// mailbox.
func (l *lossLog) drop(name string, full bool) bool {
	if !full && !l.some.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.names[name]; known || l.all {
		return true
	}
	if !full {
		return false
	}
	if len(l.names) == maxLost {
		l.all, l.names = true, nil
	} else {
		if l.names == nil {
			l.names = make(map[string]struct{})
		}
		l.names[name] = struct{}{}
	}
	l.some.Store(true)
	return true
}

// take empties the log.
func (l *lossLog) take() (names map[string]struct{}, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names, all = l.names, l.all
	l.names, l.all = nil, false
	l.some.Store(false)
	return names, all
}

// recoverLoss refetches the resources whose events were dropped, once the mailbox has room again.
// Events of theirs that are left in it are older than the loss; they are not applied during the
// refetch.
func (s *Shard) recoverLoss() {
	if !s.lost.some.Load() || !s.relieved() {
		return
	}
	names, all := s.lost.take()
	found := make(map[*resource]struct{})
	for name := range names {
		if r := s.resources.Get(name); r != nil {
			found[r] = struct{}{}
		}
	}
	if all {
		for _, r := range s.resources.List() {
			found[r] = struct{}{}
		}
	}
	s.logs.warn(&s.logs.loss, "mailbox full: events were dropped; their resources are refetched", "resources", len(found))
	s.doubt.sweep = true
	for _, r := range byName(found) {
		r.missed()
	}
	s.doubt.sweep = false
}

// missed recovers from lost events of a resource. One of them may have revoked access.
func (r *resource) missed() {
	r.outdated()
	for _, e := range r.sorted() {
		r.s.deliverReaccess(e)
	}
}
