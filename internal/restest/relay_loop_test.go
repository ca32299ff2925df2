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

// TestRelayLoopLater: a loop that the start does not find ends a relay with a later check. Two that
// face each other may start at the same time, and the servers of one cluster need a while to learn
// what is subscribed at the others.
func TestRelayLoopLater(t *testing.T) {
	type side struct {
		*relay.Relay
		clock *owner.ManualClock
	}
	// ends starts relays at the same time, and expects that one of them ends.
	ends := func(what string, urls ...[2]string) {
		t.Helper()
		var all []side
		errs := make(chan error, 2*len(urls))
		for _, u := range urls {
			r, clock := newRelay(t, u[0], u[1], &testkit.Log{}, func(*relay.Options) {})
			all = append(all, side{r, clock})
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
				defer cancel()
				_ = r.Stop(ctx)
			})
		}
		started := make(chan bool, len(urls))
		for _, s := range all {
			go func() {
				if err := s.Start(t.Context()); err != nil {
					errs <- err
				}
				started <- true
			}()
		}
		for range all {
			testkit.Await(t, started, what+": a relay has started, or not")
		}
		var err error
		testkit.Until(t, what+": a relay ends", func() bool {
			for _, s := range all {
				select {
				case err = <-errs:
				case err = <-s.Done():
				default:
					s.clock.Advance(100 * time.Millisecond) // a reply comes within the timeout
				}
			}
			return err != nil
		})
		if text := err.Error(); !strings.Contains(text, "a loop of relays") || !strings.Contains(text, "home and edge must be different NATS servers") {
			t.Errorf("%s: %v", what, err)
		}
	}
	cluster := natstest.StartCluster(t, 2)
	ends("one cluster on both sides", [2]string{cluster.Nodes[0].URL(), cluster.Nodes[1].URL()})
	a, b := natstest.Start(t), natstest.Start(t)
	ends("two that face each other", [2]string{a.URL(), b.URL()}, [2]string{b.URL(), a.URL()})
}
