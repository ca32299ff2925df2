package owner

import (
	"sync/atomic"
	"time"
)

// Ticker binds a wheel to a clock, so that an owner that sleeps is woken for its next deadline and for
// nothing else. The owner calls Turn when a turn begins, Judge when its input has been handled, and Rearm when it ends.
//
// The clock's alarm is left alone when deadlines only move away (the usual fate of a timeout): it then
// wakes the owner once for nothing, which is cheaper than an alarm reset in every turn.
type Ticker struct {
	// Fixed after construction.
	clock Clock
	wheel *Wheel
	wake  func()

	// Owned by the owner of the wheel.
	alarm Alarm         // nil until the first deadline
	armed bool          // an alarm is under way, at the time below
	at    time.Duration // valid if armed

	rang atomic.Bool // set by the alarm, cleared by the owner
}

// NewTicker returns a ticker without an alarm. wake is called on any goroutine when a deadline comes;
// it must not block, and must lead to a turn of the owner.
func NewTicker(c Clock, w *Wheel, wake func()) *Ticker {
	return &Ticker{clock: c, wheel: w, wake: wake}
}

// Turn reads the clock into now, which is the owner's, and then fires what is due: whoever is fired finds the present
// time there, and what it schedules from then is not due at once. Owner only.
func (t *Ticker) Turn(now *time.Duration) {
	if t.rang.Load() && t.rang.Swap(false) {
		t.armed = false
	}
	*now = t.clock.Now()
	t.wheel.Advance(*now)
}

// Judge fires the deadlines of Wheel.Expect that the present turn has found passed (see Wheel.Judge), behind its input.
// Owner only.
func (t *Ticker) Judge(now time.Duration, behind bool) (fired bool) {
	return t.wheel.Overdue() && t.wheel.Judge(now, behind)
}

// Rearm makes sure that wake is called when the wheel's next deadline comes. Owner only.
func (t *Ticker) Rearm() {
	at, ok := t.wheel.Next()
	if !ok || t.armed && t.at <= at {
		return
	}
	d := max(at-t.clock.Now(), 0)
	t.armed, t.at = true, at
	if t.alarm == nil {
		t.alarm = t.clock.AfterFunc(d, t.ring)
		return
	}
	t.alarm.Reset(d)
}

func (t *Ticker) ring() {
	t.rang.Store(true)
	t.wake()
}

// Stop takes the alarm back. Owner only. A call of wake may still be under way.
func (t *Ticker) Stop() {
	if t.alarm != nil {
		t.alarm.Stop()
	}
	t.armed = false
}
