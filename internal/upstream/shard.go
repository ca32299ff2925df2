package upstream

import (
	"errors"

	"sluice/cache"
	"sluice/internal/limit"
	"sluice/internal/natsbus"
	"sluice/internal/res"
	"sluice/internal/tracing"
)

// Shard is a cache shard with its requests and subscriptions. It implements cache.Bus for the
// shard. All but Cache belongs to the shard's goroutine once Start has been called.
type Shard struct {
	Cache  *cache.Shard
	Caller *natsbus.Caller // from Start on

	// Traced is called for each request that is of no client, and returns what is called with the
	// reply in place of done; nil: no trace is on. It must not keep the payloads.
	Traced func(name, subject string, payload []byte, done func([]byte, *res.Error)) func([]byte, *res.Error)

	// EndTurn is called at the end of each of the shard's turns, before the turn's requests are
	// sent. It may make requests. Set it before Start; nil: nothing is called.
	EndTurn func()

	// The client that a first get is for, so that it follows the access request before it, and so
	// that clients take turns with their gets; 0: none.
	client uint64
	trace  *tracing.Context // the client's request that the get is part of; nil: it is not traced
}

// NewShard returns a shard that posts updates to loops.
func NewShard(o cache.Options, loops cache.Loops) *Shard {
	s := &Shard{}
	s.Cache = cache.NewShard(o, s, loops)
	return s
}

// Start connects the shard to NATS and starts it. number identifies it among the bus's callers.
func (s *Shard) Start(bus *natsbus.Bus, number uint32) {
	s.Connect(bus, number)
	s.Cache.Start()
}

// Connect is Start for a shard whose turns are run by its creator (cache.Shard.Turn).
func (s *Shard) Connect(bus *natsbus.Bus, number uint32) {
	s.Caller = bus.NewCaller(number, s.Cache.Wheel(), s.Cache.Now)
}

// Subscribe implements cache.Bus, as Unsubscribe, Flush and Request do. The shard has checked the
// name, so it fails only if the bus is closed.
func (s *Shard) Subscribe(name string) { _ = s.Caller.Subscribe(name) }

// Unsubscribe ends Subscribe.
func (s *Shard) Unsubscribe(name string) { _ = s.Caller.Unsubscribe(name) }

// Flush sends what the shard has asked for in its turn.
func (s *Shard) Flush() {
	if s.EndTurn != nil {
		s.EndTurn()
	}
	s.Caller.Flush()
}

// Within makes the shard's next first get part of a trace; nil: of none. It is for the function
// that cache.Shard.Subscribe calls before the get.
func (s *Shard) Within(trace *tracing.Context) { s.trace = trace }

// maxCuts is how many times a shard's request is sent again after a lost connection.
const maxCuts = 3

// Request sends a request. A shard's requests are idempotent, so one that was in flight when its
// connection was lost is sent again: it is queued for the next connection.
func (s *Shard) Request(p limit.Priority, name, subject string, payload []byte, done func([]byte, *res.Error)) {
	if s.Traced != nil {
		done = s.Traced(name, subject, payload, done)
	}
	client, trace := s.client, s.trace
	s.client, s.trace = 0, nil
	if p != limit.Load {
		trace = nil // a refetch is not part of the request that came last
	}
	if client == 0 {
		client = natsbus.HashName(name)
	}
	s.request(natsbus.Request{Name: name, Subject: subject, Payload: payload, Priority: p, Client: client, Trace: trace}, maxCuts, done)
}

func (s *Shard) request(r natsbus.Request, left int, done func([]byte, *res.Error)) {
	s.Caller.Request(r, func(data []byte, err error) {
		if left > 0 && errors.Is(err, natsbus.ErrCut) {
			s.request(r, left-1, done)
			return
		}
		done(data, Error(err))
	})
}
