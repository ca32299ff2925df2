package restest

import (
	"context"
	"strings"
	"testing"
	"time"

	"sluice/internal/natstest"
	"sluice/internal/owner"
	"sluice/internal/relay"
	"sluice/internal/testkit"
)

// TestRelayLoop: a relay whose sides are the same NATS server, or two that face each other, do not
// start, and say why.
func TestRelayLoop(t *testing.T) {
	a, b := natstest.Start(t), natstest.Start(t)
	log := &testkit.Log{}
	start := func(home, edge string) (*relay.Relay, error) {
		r, _ := newRelay(t, home, edge, log, func(*relay.Options) {})
		err := r.Start(t.Context())
		if err == nil {
			t.Cleanup(func() { _ = r.Stop(context.Background()) })
		}
		return r, err
	}
	if _, err := start(a.URL(), a.URL()); err == nil || !strings.Contains(err.Error(), "loop of relays") {
		t.Errorf("the same server on both sides: %v", err)
	}
	if _, err := start(a.URL(), b.URL()); err != nil {
		t.Fatal(err)
	}
	if _, err := start(b.URL(), a.URL()); err == nil || !strings.Contains(err.Error(), "loop of relays") {
		t.Errorf("two relays that face each other: %v", err)
	}
	// In a row they are fine.
	c := natstest.Start(t)
	if _, err := start(b.URL(), c.URL()); err != nil {
		t.Error(err)
	}
}

// TestRelayLoopLater: a loop that the start does not find ends a relay with a later check. The
// servers of a cluster may be apart when the relay starts, and relays that face each other may
// start at the same time. Time passes from the start on: a start waits for replies, with a timeout.
func TestRelayLoopLater(t *testing.T) {
	type side struct {
		*relay.Relay
		clock   *owner.ManualClock
		started chan error
	}
	start := func(home, edge *natstest.Server) side {
		t.Helper()
		r, clock := newRelay(t, home.URL(), edge.URL(), &testkit.Log{}, func(o *relay.Options) { o.RequestTimeout = 20 * time.Second })
		s := side{r, clock, make(chan error, 1)}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
			defer cancel()
			_ = r.Stop(ctx)
		})
		go func() { s.started <- r.Start(t.Context()) }()
		return s
	}
	// ends waits until a relay has ended, and has time pass meanwhile.
	ends := func(what string, all ...side) {
		t.Helper()
		var err error
		testkit.Until(t, what+": a relay ends", func() bool {
			for _, s := range all {
				select {
				case err = <-s.started:
				case err = <-s.Done():
				default:
					s.clock.Advance(50 * time.Millisecond)
				}
				if err != nil {
					return true
				}
			}
			return false
		})
		if text := err.Error(); !strings.Contains(text, "a loop of relays") || !strings.Contains(text, "home and edge must be different NATS servers") {
			t.Errorf("%s: %v", what, err)
		}
	}

	cluster := natstest.StartCluster(t, 2)
	cluster.Partition(t)
	r := start(cluster.Nodes[0], cluster.Nodes[1])
	testkit.Until(t, "the relay has started", func() bool {
		select {
		case err := <-r.started:
			if err != nil {
				t.Fatal(err)
			}
			return true
		default:
			r.clock.Advance(50 * time.Millisecond)
			return false
		}
	})
	cluster.Heal(t)
	ends("one cluster on both sides", r)

	a, b := natstest.Start(t), natstest.Start(t)
	ends("two that face each other", start(a, b), start(b, a))
}
