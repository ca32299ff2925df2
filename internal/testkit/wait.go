// Package testkit is what the tests of several packages share: waits, logs and programs.
//
// What it makes lives as long as one test, programs as long as all of a package's. It knows nothing
// of the gateway, and no program contains it.
package testkit

import (
	"testing"
	"time"
)

// Patience bounds every wait of a test. Only a broken test reaches it: a busy machine, with the
// race detector, must not.
const Patience = 30 * time.Second

// pace is the interval at which Until checks a condition.
const pace = time.Millisecond

// Await returns the next value from c, or fails the test: what names it.
func Await[T any](tb testing.TB, c <-chan T, what string) (v T) {
	tb.Helper()
	select {
	case v = <-c:
	case <-time.After(Patience):
		tb.Fatalf("timed out after %v waiting for %s", Patience, what)
	}
	return v
}

// Until returns when cond holds, or fails the test: what describes the condition. It calls cond in
// the test's goroutine.
func Until(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	if cond() {
		return
	}
	check := time.NewTicker(pace)
	defer check.Stop()
	for end := time.Now().Add(Patience); time.Now().Before(end); {
		<-check.C
		if cond() {
			return
		}
	}
	tb.Fatalf("timed out after %v waiting until %s", Patience, what)
}

// Time is a clock that stands still: an owner.ManualClock.
type Time interface {
	Advance(d time.Duration)
	Handled() bool
}

// Advance moves the clock by d once every owner has handled the present time. An owner in the
// middle of a turn has not set its alarm yet, and would set it too late.
func Advance(tb testing.TB, c Time, d time.Duration) {
	tb.Helper()
	Until(tb, "the owners have handled the present time", c.Handled)
	c.Advance(d)
}
