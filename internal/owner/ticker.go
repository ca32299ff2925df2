package owner

import (
	"sync/atomic"
	"time"
)

// Ticker connects a wheel to a clock, so that the next deadline wakes a sleeping owner. The owner
// calls Turn at the start of a turn, Judge after its input, and Rearm at the end.
//
// When deadlines only move later, as timeouts usually do, the clock's alarm stays as it is. It then
// causes one spurious wake-up, which is cheaper than resetting the alarm in every turn.
type Ticker struct {
	// Fixed after construction.
	clock Clock
	wheel *Wheel
	wake  func()
	watch watcher // nil unless the clock wants to know

	// Owned by the owner of the wheel.
	alarm Alarm         // nil until the first deadline
	armed bool          // the alarm is pending, for the time at
	at    time.Duration // valid if armed
	turns bool          // between Turn and Rearm; set only for watch

	rang atomic.Bool // set by the alarm, cleared by the owner
}

// watcher is a Clock that counts what its owners have yet to do about the time: 1 for an alarm that
// has rung and led to no turn yet, 1 for a turn that has not reached Rearm.
type watcher interface{ count(delta int64) }

// NewTicker returns a ticker without an alarm. wake is called on any goroutine when a deadline
// comes; it must not block, and must lead to a turn of the owner.
func NewTicker(c Clock, w *Wheel, wake func()) *Ticker {
	watch, _ := c.(watcher)
	return &Ticker{clock: c, wheel: w, wake: wake, watch: watch}
}

// Turn reads the clock into now, the owner's time, and then fires the timers that are due. Since
// now is set first, what a timer schedules relative to it is in the future. Owner only.
func (t *Ticker) Turn(now *time.Duration) {
	if t.watch != nil && !t.turns {
		t.turns = true
		t.watch.count(1)
	}
	if t.rang.Load() && t.rang.Swap(false) {
		t.armed = false
		if t.watch != nil {
			t.watch.count(-1)
		}
	}
	*now = t.clock.Now()
	t.wheel.Advance(*now)
}

// Judge fires the passed deadlines of Wheel.Expect, after the turn's input (see Wheel.Judge). Owner
// only.
func (t *Ticker) Judge(now time.Duration, behind bool) (fired bool) {
	return t.wheel.Overdue() && t.wheel.Judge(now, behind)
}

// Rearm ensures that wake is called at the wheel's next deadline. Owner only.
func (t *Ticker) Rearm() {
	if t.turns {
		t.turns = false
		defer t.watch.count(-1)
	}
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
	if !t.rang.Swap(true) && t.watch != nil {
		t.watch.count(1)
	}
	t.wake()
}

// Stop cancels the alarm. Owner only. A call of wake may still run.
func (t *Ticker) Stop() {
	if t.alarm != nil {
		t.alarm.Stop()
	}
	if t.watch != nil && t.rang.Swap(false) {
		t.watch.count(-1)
	}
	if t.turns {
		t.turns = false
		t.watch.count(-1)
	}
	t.armed = false
}
