package owners

import (
	"context"
	"log/slog"
	"sync/atomic"

	"sluice/cache"
	"sluice/fanout"
	"sluice/internal/config"
	"sluice/internal/connid"
	"sluice/internal/framing"
	"sluice/internal/grace"
	"sluice/internal/httpedge"
	"sluice/internal/jwtauth"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/presence"
	"sluice/internal/servicelog"
	"sluice/internal/session"
	"sluice/internal/upstream"
	"sluice/netpoll"
)

// Options configure a Set. All are required but Presence.
type Options struct {
	Config      *config.Config // with its defaults; not changed from now on
	UnusedBytes int            // what all shards may keep of resources without subscribers
	IDs         connid.Maker
	HTTP        *httpedge.Edge
	Tokens      *jwtauth.Auth
	Grace       *grace.Period
	Resets      *owner.Throttle
	Services    *servicelog.Log
	Trace       framing.Trace
	Faults      *owner.Faults
	Clock       owner.Clock
	Log         *slog.Logger
	Presence    *presence.Tracker // nil: off

	// Counters that all owners of a kind share.
	Compressions *metrics.Counter // WebSocket messages compressed
	Fanout       *fanout.Metrics
	Session      *session.Metrics
	Cache        *cache.Metrics
}

// Set is the shards and event loops of a gateway. They are found by numbers that arrive in NATS
// subjects and may be invalid. Any goroutine may use it.
type Set struct {
	o      Options
	system *upstream.SystemEvents

	// Fixed after Connect; the count of shards is a power of two.
	shards    []*upstream.Shard
	bus       *natsbus.Bus
	connected atomic.Bool // bus and shards are set

	guests guests

	// Each is written by its loop, once, when the loop starts.
	loops []atomic.Pointer[Loop]
}

// New returns a set without owners. Connect makes the shards, netpoll's engine starts the loops.
func New(o Options) *Set {
	return &Set{
		o:      o,
		system: &upstream.SystemEvents{Log: o.Log, Clock: o.Clock},
		guests: guests{places: make(map[string]connid.ID)},
		loops:  make([]atomic.Pointer[Loop], o.Config.LoopCount()),
	}
}

// Connect makes the shards and connects them to NATS. It must return before the engine starts.
// Receiver and Signal of the options are the set's own.
func (s *Set) Connect(ctx context.Context, o natsbus.Options) error {
	err := s.Attach(o, func(o natsbus.Options) (*natsbus.Bus, error) { return natsbus.Connect(ctx, o) })
	if err != nil {
		return err
	}
	for _, shard := range s.shards {
		shard.Cache.Start()
	}
	return nil
}

// Attach is Connect with a bus that connect makes, and without starting the shards: their turns are
// run by the caller (cache.Shard.Turn).
func (s *Set) Attach(o natsbus.Options, connect func(natsbus.Options) (*natsbus.Bus, error)) (err error) {
	for i := range s.o.Config.ShardCount() {
		s.shards = append(s.shards, newShard(s, i))
	}
	o.Receiver = router{s}
	o.Signal = signals{s}.handle
	if s.bus, err = connect(o); err != nil {
		return err
	}
	for i, shard := range s.shards {
		shard.Connect(s.bus, uint32(i))
	}
	s.connected.Store(true)
	return nil
}

// Disconnect undoes Connect. The loops have ended.
func (s *Set) Disconnect() {
	s.bus.Close()
	for _, shard := range s.shards {
		shard.Cache.Stop()
	}
}

// Bus returns the connections to NATS; nil before Connect has succeeded.
func (s *Set) Bus() *natsbus.Bus {
	if !s.connected.Load() {
		return nil
	}
	return s.bus
}

// Handler returns what the event loops call.
func (s *Set) Handler() netpoll.Handler { return handler{s} }

// Mend repairs a loop's state after a panic (netpoll.Options.AfterPanic).
func (s *Set) Mend(n *netpoll.Loop) { n.Data.(*Loop).mend() }

// Shards returns the shards; none before Connect.
func (s *Set) Shards() []*upstream.Shard { return s.shards }

// ShardOf returns the shard that owns a resource. It spreads names by the low half of their hash;
// the high half chooses the NATS connection.
func (s *Set) ShardOf(name string) *upstream.Shard {
	return s.shards[int(uint32(natsbus.HashName(name)))&(len(s.shards)-1)]
}

// loop returns the loop with an index; nil if there is none, or if it has not started.
func (s *Set) loop(index int) *Loop {
	if index < 0 || index >= len(s.loops) {
		return nil
	}
	return s.loops[index].Load()
}

// EachLoop calls f for each loop that has started.
func (s *Set) EachLoop(f func(*Loop)) {
	for i := range s.loops {
		if l := s.loops[i].Load(); l != nil {
			f(l)
		}
	}
}

// Each runs onLoop on every loop and passes every shard once, and returns when all have done so, or
// with ctx's error.
func (s *Set) Each(ctx context.Context, onLoop func(*Loop)) error {
	done := make(chan struct{}, len(s.loops)+len(s.shards))
	posted := len(s.shards)
	for _, shard := range s.shards {
		shard.Cache.Run(func() { done <- struct{}{} })
	}
	s.EachLoop(func(l *Loop) {
		posted++
		l.Post(func() {
			defer func() { done <- struct{}{} }()
			onLoop(l)
		})
	})
	for range posted {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Adjust posts the settings that a reload may change to the loops and shards, and waits until they
// have taken them, or for ctx. It follows Connect. unusedBytes are Options.UnusedBytes.
func (s *Set) Adjust(ctx context.Context, c *config.Config, n netpoll.Adjustable, unusedBytes int) error {
	for _, shard := range s.shards {
		shard.Cache.Adjust(c.CacheEviction, c.CacheEvictionMost, c.MaxResourceBytes, s.unusedBytes(unusedBytes))
	}
	s.bus.Adjust(Timeouts(c), c.ServiceLimits())
	s.eachCaller(func(caller *natsbus.Caller) { caller.Adjust(Timeouts(c)) })
	return s.Each(ctx, func(l *Loop) {
		l.adjust(c)
		l.Net.Adjust(n)
		l.http.Adjust(c.HeartbeatInterval)
	})
}

// Timeouts returns those of requests. c has its defaults.
func Timeouts(c *config.Config) natsbus.Timeouts {
	return natsbus.Timeouts{RequestTimeout: c.RequestTimeout, QueueTimeout: c.QueueTimeout}
}

// eachCaller runs f with every owner's Caller, on the owner's goroutine.
func (s *Set) eachCaller(f func(*natsbus.Caller)) {
	for _, shard := range s.shards {
		shard.Cache.Run(func() { f(shard.Caller) })
	}
	s.EachLoop(func(l *Loop) {
		l.Post(func() { f(l.Upstream.Caller) })
	})
}

// callerOfLoop returns the number by which replies name a loop. The shards have the lower numbers,
// from 0.
func (s *Set) callerOfLoop(index int) uint32 { return uint32(len(s.shards) + index) }

// caller returns the owner that a reply's number names: a shard or a loop, or neither if the number
// was never given to an owner.
func (s *Set) caller(number uint32) (*upstream.Shard, *Loop) {
	if uint64(number) < uint64(len(s.shards)) {
		return s.shards[number], nil
	}
	if index := uint64(number) - uint64(len(s.shards)); index < uint64(len(s.loops)) {
		return nil, s.loops[index].Load()
	}
	return nil, nil
}

// Waiting calls emit with how many messages each owner has yet to handle.
func (s *Set) Waiting(emit func(owner string, index, messages int)) {
	if !s.connected.Load() {
		return
	}
	s.EachLoop(func(l *Loop) { emit("event_loop", l.index, l.Waiting()) })
	for i, shard := range s.shards {
		emit("cache_shard", i, shard.Cache.Pending())
	}
	s.bus.Waiting(func(i, n int) { emit("nats_dispatcher", i, n) })
}

// inOrder calls post after every shard has handled the messages queued in it before. post runs on a
// shard's goroutine, or immediately if no shard has messages queued.
func (s *Set) inOrder(post func()) {
	var busy []*upstream.Shard
	for _, shard := range s.shards {
		if shard.Cache.Pending() > 0 {
			busy = append(busy, shard)
		}
	}
	switch len(busy) {
	case 0:
		post()
	case 1:
		busy[0].Cache.Run(post)
	default:
		left := new(atomic.Int32)
		left.Store(int32(len(busy)))
		for _, shard := range busy {
			shard.Cache.Run(func() {
				if left.Add(-1) == 0 {
					post()
				}
			})
		}
	}
}

// idle reports whether no shard has messages queued: inOrder would post immediately.
func (s *Set) idle() bool {
	for _, shard := range s.shards {
		if shard.Cache.Pending() > 0 {
			return false
		}
	}
	return true
}

// System handles a system event as if a service had sent it.
func (s *Set) System(event string, data []byte) { router{s}.System(event, data) }

// CloseClients closes all WebSocket clients because NATS is unreachable.
func (s *Set) CloseClients() {
	s.EachLoop(func(l *Loop) { l.Post(l.closeClients) })
}
