//go:build linux

package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/internal/owner"
	"sluice/internal/testkit"
)

// An order to a process to which clients of the one before still come waits for them: all of them
// go on to the next one.
func TestUpgradeWaitsForArrivals(t *testing.T) {
	w := newWorld(t, "loops: 2\nrequestTimeout: 600s\n")
	f := w.client("test.m0")
	w.mu.Lock()
	hold := make(chan struct{})
	w.hold = hold
	w.mu.Unlock()
	f.ask(t, "call.test.m0.set", "")
	testkit.Until(t, "the call is made", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.calls) == 1
	})
	type result struct {
		code int
		text string
	}
	order := func(out *testkit.Log) chan result {
		done := make(chan result, 1)
		go func() {
			p := process{stdout: out, stderr: out}
			code := p.run([]string{"upgrade", "-c", w.l.file})
			done <- result{code, out.String()}
		}()
		return done
	}
	var first, second testkit.Log
	one := order(&first)
	testkit.Until(t, "the second process serves", func() bool { return first.Count("serves new clients") == 1 })
	// The first one takes no order meanwhile: it carries one out, and cannot move the client.
	two := order(&second)
	testkit.Until(t, "the second order waits, or does not", func() bool { return second.Count("still arrive") == 1 || len(two) == 1 })
	w.mu.Lock()
	w.hold = nil
	w.mu.Unlock()
	close(hold)
	for i, done := range []chan result{one, two} {
		if r := testkit.Await(t, done, "an upgrade"); r.code != 0 || !strings.Contains(r.text, "1 WebSockets have moved") {
			t.Errorf("upgrade %d: exit code %d\n%s", i+1, r.code, r.text)
		}
	}
	w.l.until("msg=stopped", 2)
	w.until(f, "the call is answered", func() bool { return f.view.Pending() == 0 })
	f.ask(t, "call.test.m0.set", "")
	w.until(f, "the third process serves it", func() bool { return f.view.Pending() == 0 })
}

// The wait ends when all have arrived, when this process ends, and after a time.
func TestArrivalWait(t *testing.T) {
	const within = time.Minute
	for _, tt := range []struct {
		name  string
		then  func(a *arrival, clock *owner.ManualClock, stop func())
		wants error
	}{
		{"all have arrived", func(a *arrival, _ *owner.ManualClock, _ func()) { a.end() }, nil},
		{"this process ends", func(_ *arrival, _ *owner.ManualClock, stop func()) { stop() }, context.Canceled},
		{"it takes too long", func(_ *arrival, clock *owner.ManualClock, _ func()) { testkit.Advance(t, clock, within) }, errArriving},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := owner.NewManualClock()
			a := newArrival(clock)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			said := make(chan string, 1)
			done := make(chan error, 1)
			go func() { done <- a.wait(ctx, within, func(s string) { said <- s }) }()
			if text := testkit.Await(t, said, "the notice"); !strings.Contains(text, "still arrive") {
				t.Error(text)
			}
			tt.then(a, clock, stop)
			if err := testkit.Await(t, done, "the end of the wait"); !errors.Is(err, tt.wants) {
				t.Errorf("%v, want %v", err, tt.wants)
			}
		})
	}
	a := newArrival(owner.NewManualClock())
	a.end()
	if err := a.wait(t.Context(), within, func(s string) { t.Error(s) }); err != nil {
		t.Error(err)
	}
}
