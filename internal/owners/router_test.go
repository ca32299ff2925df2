package owners

import (
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

	"sluice/cache"
	"sluice/fanout"
	"sluice/internal/config"
	"sluice/internal/limit"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/servicelog"
	"sluice/internal/state"
)

// silent is a network on which nothing arrives.
type silent struct{}

func (silent) Publish(int, string, string, []byte) bool { return true }
func (silent) Subscribe(int, string)                    {}
func (silent) Unsubscribe(int, string)                  {}

// TestRepliesFollowEvents: what a service sends after an event reaches a loop after it, a reply as
// well as a reset of access, although the event has to pass a shard before, and the shard is slow.
// It waits for all shards that are, and for none else.
func TestRepliesFollowEvents(t *testing.T) {
	c, log, clock := config.Config{Shards: 4}.WithDefaults(), slog.New(slog.DiscardHandler), owner.NewManualClock()
	s := New(Options{
		Config: &c, Clock: clock, Log: log, Faults: owner.NewFaults(clock, log), Services: servicelog.New(log, clock),
		Cache: new(cache.Metrics),
	})
	s.loops = make([]atomic.Pointer[Loop], 1)
	bus := natsbus.NewDriven(natsbus.Options{
		Clock: clock, Log: log, Receiver: router{s}, Signal: func(int, natsbus.Signal) {}, Metrics: new(natsbus.Metrics),
		Services: limit.NewTable(limit.Options{Max: 1, Min: 1, Parts: 1}),
	}, silent{})
	defer bus.Close()
	for i := range c.ShardCount() {
		shard := newShard(s, i)
		shard.Connect(bus.Bus, uint32(i))
		s.shards = append(s.shards, shard)
	}
	l := &Loop{set: s, mailbox: owner.NewMailbox[loopMessage](func() {})}
	l.Env.Hub = fanout.NewHub(nil, fanout.Framers{}, nil, new(fanout.Metrics))
	s.loops[0].Store(l)
	// event has a shard get an event that the loop gets as an update.
	event := func(shard int, ref uint64) {
		s.shards[shard].Cache.Run(func() { mailboxes{s}.Post(0, state.Update{Ref: ref}) })
	}
	// arrived returns what has arrived: updates by their refs, a reply as 100, all else as 0.
	arrived := func() (all []uint64) {
		l.mailbox.Drain(0, func(m loopMessage) {
			switch {
			case m.f != nil:
				all = append(all, 0)
			case m.reply.Owner != 0:
				all = append(all, 100)
			default:
				all = append(all, m.update.Ref)
			}
		})
		return all
	}
	r := router{s}
	reply := func() { r.Reply(natsbus.Reply{Owner: s.callerOfLoop(0)}) }
	want := func(what string, refs ...uint64) {
		t.Helper()
		if got := arrived(); !slices.Equal(got, refs) {
			t.Errorf("%s: the loop gets %v, want %v", what, got, refs)
		}
	}

	reply()
	want("no shard has anything to do", 100)

	event(1, 1)
	reply()
	want("a shard has yet to handle an event")
	s.shards[1].Cache.Turn()
	want("the shard has handled it", 1, 100)

	event(0, 1)
	event(2, 2)
	reply()
	event(0, 3)
	s.shards[0].Cache.Turn()
	want("one of two shards is done", 1, 3)
	s.shards[2].Cache.Turn()
	want("both are done", 2, 100)

	event(3, 1)
	r.System("reset", []byte(`{"access":["a.>"]}`))
	reply()
	want("an access reset waits, too")
	s.shards[3].Cache.Turn()
	want("all in order", 1, 0, 100)
}
