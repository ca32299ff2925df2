package restest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"sluice/gateway"
	"sluice/internal/natstest"
	"sluice/internal/owner"
	"sluice/internal/relay"
	"sluice/internal/secret"
	"sluice/internal/testkit"
)

// relayed is a relay between two NATS servers. Its time stands still, but for what its lease needs.
type relayed struct {
	t     *testing.T
	home  *natstest.Server
	edge  *natstest.Server
	relay *relay.Relay
	clock *owner.ManualClock
	log   *testkit.Log
	m     *relay.Metrics
}

const relayLease = 5 * time.Second

func newRelayed(t *testing.T) *relayed {
	r := &relayed{t: t, home: natstest.Start(t), edge: natstest.Start(t), log: &testkit.Log{}}
	r.start(func(*relay.Options) {})
	t.Cleanup(r.stop)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.log)
		}
	})
	return r
}

// start starts a relay, and returns when it serves edges.
func (r *relayed) start(change func(*relay.Options)) {
	r.t.Helper()
	r.m = new(relay.Metrics)
	r.relay, r.clock = newRelay(r.t, r.home.URL(), r.edge.URL(), r.log, func(o *relay.Options) {
		o.Metrics = r.m
		change(o)
	})
	if err := r.relay.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	activate(r.t, r.relay, r.clock)
}

// newRelay returns a relay in a time of its own.
func newRelay(t *testing.T, home, edge string, log *testkit.Log, change func(*relay.Options)) (*relay.Relay, *owner.ManualClock) {
	t.Helper()
	clock := owner.NewManualClock()
	o := relay.Options{
		Home: relay.Side{URL: secret.URLs(home)}, Edge: relay.Side{URL: secret.URLs(edge)},
		CacheBytes: 64 << 20, MaxResource: 16 << 20, Rest: relay.DefaultRest, RequestTimeout: 3 * time.Second, QueueTimeout: time.Minute,
		Grace: time.Minute, Lease: relayLease, ConnectTimeout: testkit.Patience, Ping: time.Minute, Beat: -1,
		Clock: clock, Log: slog.New(slog.NewTextHandler(log, nil)),
	}
	change(&o)
	r, err := relay.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r, clock
}

// activate lets a relay's time pass until it serves edges.
func activate(t *testing.T, r *relay.Relay, clock *owner.ManualClock) {
	t.Helper()
	testkit.Until(t, "the relay is active", func() bool {
		if r.Active() {
			return true
		}
		clock.Advance(relayLease / 20)
		return false
	})
}

// renew lets a tenth of the lease pass, and waits until the relay has renewed it. It never lapses.
func (r *relayed) renew() {
	r.t.Helper()
	before := r.m.Renewals.Load()
	testkit.Advance(r.t, r.clock, relayLease/10)
	testkit.Until(r.t, "the lease is renewed", func() bool { return r.m.Renewals.Load() > before })
}

// pass lets time pass while the relay keeps its lease.
func (r *relayed) pass(d time.Duration) {
	r.t.Helper()
	for end := r.clock.Now() + d; r.clock.Now() < end; {
		r.renew()
	}
}

// behind puts a gateway behind the relay. The service answers when the test lets it, so its latency
// says nothing, and there is no limit that follows it.
func (r *relayed) behind(c *gateway.Config) {
	c.NATSURL = gateway.NATSURL(r.edge.URL())
	c.MaxServiceRequests = -1
}

func (r *relayed) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := r.relay.Stop(ctx); err != nil {
		r.t.Errorf("the relay does not stop: %v", err)
	}
}

// relayRounds is how many rounds the chaos test makes with a relay, where each message has a longer
// way.
func relayRounds() int { return max(*rounds/2, 1) }

// TestRelayChaos is the chaos test with a relay between the service and the gateway.
func TestRelayChaos(t *testing.T) {
	for _, l := range []layout{
		{"one", func(c *gateway.Config) { c.Loops, c.Shards = 1, 1 }},
		{"many", func(c *gateway.Config) { c.Loops, c.Shards, c.NATSConnections = 4, 8, 2 }},
	} {
		t.Run(l.name, func(t *testing.T) {
			r := newRelayed(t)
			w := newChaos(t, chaosSeed(t), r.home.URL(), func(c *gateway.Config) {
				l.change(c)
				r.behind(c)
			})
			w.run(relayRounds(), func() {})
		})
	}
}

// TestRelayRestarts is the same, and after each round the relay is another one. What the service
// changes between them arrives, too.
func TestRelayRestarts(t *testing.T) {
	r := newRelayed(t)
	w := newChaos(t, chaosSeed(t), r.home.URL(), r.behind)
	w.run(relayRounds(), func() {
		r.stop()
		for range 30 {
			w.mutate(pick(w, w.store.RIDs()))
		}
		w.revoke()
		r.start(func(*relay.Options) {})
		w.rest()
		w.compare()
	})
}
