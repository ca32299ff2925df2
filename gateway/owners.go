package gateway

import (
	"context"
	"sync/atomic"

	"sluice/internal/natsbus"
	"sluice/internal/upstream"
)

// owners are the shards and event loops of a gateway. They are found by numbers that arrive in NATS
// subjects and may be invalid. Any goroutine may use it.
type owners struct {
	shards []*upstream.Shard // fixed after Start; the count is a power of two

	// Each is written by its loop, once, when the loop starts.
	loops []atomic.Pointer[loop]
}

// shardOf returns the shard that owns a resource. It spreads names by the low half of their hash;
// the high half chooses the NATS connection.
func (o *owners) shardOf(name string) *upstream.Shard {
	return o.shards[int(uint32(natsbus.HashName(name)))&(len(o.shards)-1)]
}

// loop returns the loop with an index; nil if there is none, or if it has not started.
func (o *owners) loop(index int) *loop {
	if index < 0 || index >= len(o.loops) {
		return nil
	}
	return o.loops[index].Load()
}

// eachLoop calls f for each loop that has started.
func (o *owners) eachLoop(f func(*loop)) {
	for i := range o.loops {
		if l := o.loops[i].Load(); l != nil {
			f(l)
		}
	}
}

// eachOwner runs a function on every owner's goroutine, and returns when all have done so, or with
// ctx's error.
func (o *owners) eachOwner(ctx context.Context, onLoop func(*loop), onShard func(*upstream.Shard)) error {
	done := make(chan struct{}, len(o.loops)+len(o.shards))
	posted := len(o.shards)
	for _, s := range o.shards {
		s.Cache.Run(func() {
			defer func() { done <- struct{}{} }()
			onShard(s)
		})
	}
	o.eachLoop(func(l *loop) {
		posted++
		l.post(func() {
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

// eachCaller runs f with every owner's Caller, on the owner's goroutine.
func (o *owners) eachCaller(f func(*natsbus.Caller)) {
	for _, s := range o.shards {
		s.Cache.Run(func() { f(s.Caller) })
	}
	o.eachLoop(func(l *loop) {
		l.post(func() { f(l.upstream.Caller) })
	})
}

// callerOfLoop returns the number by which replies name a loop. The shards have the lower numbers,
// from 0.
func (o *owners) callerOfLoop(index int) uint32 { return uint32(len(o.shards) + index) }

// caller returns the owner that a reply's number names: a shard or a loop, or neither if the number
// was never given to an owner.
func (o *owners) caller(number uint32) (*upstream.Shard, *loop) {
	if uint64(number) < uint64(len(o.shards)) {
		return o.shards[number], nil
	}
	if index := uint64(number) - uint64(len(o.shards)); index < uint64(len(o.loops)) {
		return nil, o.loops[index].Load()
	}
	return nil, nil
}

// waiting calls emit with how many messages each owner has yet to handle. Any goroutine may call
// it.
func (g *Gateway) waiting(emit func(owner string, index, messages int)) {
	if !g.connected.Load() {
		return
	}
	g.eachLoop(func(l *loop) { emit("event_loop", l.index, l.mailbox.Len()) })
	for i, s := range g.shards {
		emit("cache_shard", i, s.Cache.Pending())
	}
	g.bus.Waiting(func(i, n int) { emit("nats_dispatcher", i, n) })
}

// inOrder calls post after every shard has handled the messages queued in it before. post runs on a
// shard's goroutine, or immediately if no shard has messages queued.
func (o *owners) inOrder(post func()) {
	var busy []*upstream.Shard
	for _, s := range o.shards {
		if s.Cache.Pending() > 0 {
			busy = append(busy, s)
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
		for _, s := range busy {
			s.Cache.Run(func() {
				if left.Add(-1) == 0 {
					post()
				}
			})
		}
	}
}
