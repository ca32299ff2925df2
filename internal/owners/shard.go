package owners

import (
	"sluice/cache"
	"sluice/internal/state"
	"sluice/internal/upstream"
)

func newShard(s *Set, index int) *upstream.Shard {
	c := s.o.Config
	return upstream.NewShard(cache.Options{
		Index:         index,
		Loops:         len(s.loops),
		EvictAfter:    c.CacheEviction,
		EvictMost:     c.CacheEvictionMost,
		UnusedBytes:   s.unusedBytes(s.o.UnusedBytes),
		MaxResource:   c.MaxResourceBytes,
		ResetThrottle: s.o.Resets,
		Clock:         s.o.Clock,
		Log:           s.o.Log,
		Metrics:       s.o.Cache,
		Invalid:       s.o.Services.InvalidReply,
		Faults:        s.o.Faults,
	}, mailboxes{s})
}

// unusedBytes returns a shard's part of what all may keep of resources without subscribers.
func (s *Set) unusedBytes(all int) int { return max(all/s.o.Config.ShardCount(), 1) }

// mailboxes posts the shards' updates to the loops (cache.Loops).
type mailboxes struct{ *Set }

// Post drops an update for a loop that has not started: it has no subscriptions.
func (m mailboxes) Post(i int, u state.Update) {
	if l := m.loop(i); l != nil {
		l.mailbox.Put(loopMessage{update: u})
	}
}

func (m mailboxes) Backlog(i int) int {
	if l := m.loop(i); l != nil {
		return l.mailbox.Len()
	}
	return 0
}
