package restest

import (
	"context"
	"strings"
	"testing"

	"sluice/internal/natstest"
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
