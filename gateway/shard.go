package gateway

import (
	"sluice/cache"
	"sluice/internal/state"
	"sluice/internal/upstream"
)

func newShard(g *Gateway, index int) *upstream.Shard {
	return upstream.NewShard(cache.Options{
		Index:         index,
		Loops:         len(g.loops),
		EvictAfter:    g.config.CacheEviction,
		UnusedBytes:   max(g.budgets.Cache/g.config.ShardCount(), 1),
		MaxResource:   g.config.MaxResourceBytes,
		ResetThrottle: g.resets,
		Clock:         g.clock,
		Log:           g.log,
		Metrics:       &g.cacheMetrics,
		Invalid:       g.services.InvalidReply,
		Faults:        g.faults,
	}, mailboxes{&g.owners})
}

// mailboxes posts the shards' updates to the loops (cache.Loops).
type mailboxes struct{ *owners }

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
