package cache

import (
	"sync"
	"sync/atomic"
)

// maxLost bounds how many names a lossLog holds. With more, all resources count as having lost events.
const maxLost = 1024

// lossLog remembers which resources' events did not fit into the mailbox. Later events of these are dropped as well until
// the shard has taken note, since they no longer apply to what the shard has. The dispatcher writes it and the shard
// reads it, so there is a lock, but while nothing is lost it is not touched.
type lossLog struct {
	some  atomic.Bool
	mu    sync.Mutex
	names map[string]struct{} // guarded by mu
	all   bool                // guarded by mu
}

// drop tells whether an event of name is to be dropped, and if so makes a note of it. full says that there is no room.
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

// recoverLoss makes good for events that were dropped, once the mailbox has room again. What is left in it of the same
// resources' events was put before the loss, is not applied while the resource is fetched, and so does no harm.
func (s *Shard) recoverLoss() {
	if !s.lost.some.Load() || s.mail.Len() > s.opt.MailboxLimit/2 || s.queued.Load() > int64(s.opt.MailboxBytes)/2 {
		return
	}
	names, all := s.lost.take()
	found := make(map[*resource]struct{})
	for name := range names {
		if r := s.resources[name]; r != nil {
			found[r] = struct{}{}
		}
	}
	if all {
		for _, r := range s.resources {
			found[r] = struct{}{}
		}
	}
	s.log.Warn("events were dropped for want of room, their resources are fetched anew", "resources", len(found))
	s.doubt.sweep = true
	for _, r := range byName(found) {
		s.missed(r)
	}
	s.doubt.sweep = false
}

// missed makes good for events of a resource that were dropped: among them may have been one that took access away.
func (s *Shard) missed(r *resource) {
	s.outdated(r)
	for _, e := range r.sorted() {
		s.reaccess(e)
	}
}
