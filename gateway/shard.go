package gateway

import (
	"errors"

	"sluice/cache"
	"sluice/internal/limit"
	"sluice/internal/natsbus"
	"sluice/internal/res"
	"sluice/internal/state"
)

// shard is a cache shard with its requests to services.
type shard struct {
	cache  *cache.Shard
	caller *natsbus.Caller

	// The client that a first get is for, so that it follows the access request before it, and so
	// that clients take turns with their gets. Owned by the shard's goroutine; 0: none.
	client uint64
}

func newShard(g *Gateway, index int) *shard {
	s := &shard{}
	s.cache = cache.NewShard(cache.Options{
		Index:         index,
		Loops:         len(g.loops),
		EvictAfter:    g.config.CacheEviction,
		UnusedBytes:   max(g.budgets.cache/g.config.ShardCount(), 1),
		MaxResource:   g.config.MaxResourceBytes,
		ResetThrottle: g.resets,
		Clock:         g.clock,
		Log:           g.log,
		Metrics:       &g.cacheMetrics,
		Invalid:       g.services.InvalidReply,
		Faults:        g.faults,
	}, shardBus{s}, mailboxes{&g.owners})
	return s
}

// start connects the shard to NATS and starts it.
func (s *shard) start(bus *natsbus.Bus, index int) {
	s.caller = bus.NewCaller(uint32(index), s.cache.Wheel(), s.cache.Now)
	s.cache.Start()
}

// shardBus sends a shard's requests and subscriptions (cache.Bus).
type shardBus struct{ s *shard }

// The shard has checked the name, so these fail only if the bus is closed.
func (b shardBus) Subscribe(name string)   { _ = b.s.caller.Subscribe(name) }
func (b shardBus) Unsubscribe(name string) { _ = b.s.caller.Unsubscribe(name) }
func (b shardBus) Flush()                  { b.s.caller.Flush() }

// A shard's requests are idempotent, so one that was in flight when its connection was lost is sent
// again: it is queued for the next connection.
func (b shardBus) Request(p limit.Priority, name, subject string, payload []byte, done func([]byte, *res.Error)) {
	client := b.s.client
	b.s.client = 0
	if client == 0 {
		client = natsbus.HashName(name)
	}
	b.request(natsbus.Request{Name: name, Subject: subject, Payload: payload, Priority: p, Client: client}, maxCuts, done)
}

// maxCuts is how many times a shard's request is sent again after a lost connection.
const maxCuts = 3

func (b shardBus) request(r natsbus.Request, left int, done func([]byte, *res.Error)) {
	b.s.caller.Request(r, func(data []byte, err error) {
		if left > 0 && errors.Is(err, natsbus.ErrCut) {
			b.request(r, left-1, done)
			return
		}
		done(data, busError(err))
	})
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

// busError returns the error for clients when a request got no reply (RES.md sections 3.1 and 5).
func busError(err error) *res.Error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, natsbus.ErrCut):
		return res.ErrCut
	case errors.Is(err, natsbus.ErrTimeout), errors.Is(err, natsbus.ErrDisconnected):
		return res.ErrTimeout
	case errors.Is(err, natsbus.ErrNoResponders):
		return res.ErrNotFound
	case errors.Is(err, natsbus.ErrSubjectTooLong):
		return res.ErrSubjectTooLong
	case errors.Is(err, natsbus.ErrBadSubject):
		return res.ErrInvalidRequest
	case errors.Is(err, natsbus.ErrOverloaded):
		return res.ErrOverloaded
	case errors.Is(err, natsbus.ErrClosed):
		return res.ErrStopping
	case errors.Is(err, natsbus.ErrRefused):
		return &res.Error{Code: res.CodeInternalError, Message: err.Error()}
	}
	return res.InternalError(err.Error())
}
