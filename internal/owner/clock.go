package owner

import (
	"sync"
	"sync/atomic"
	"time"
)

// Clock is the source of time. Owners read it once per turn and pass the reading down.
//
// It has two readings. What takes a time, or ends after one, goes by Now. Wall is for dates that
// come from outside or go there: of tokens, certificates, spans, messages. It may jump, by hours
// and backwards, whenever somebody sets the machine's clock.
type Clock interface {
	// Now returns the monotonic time since an arbitrary start. Any goroutine may call it.
	Now() time.Duration
	// AfterFunc runs f once, on any goroutine, when d has passed. f must not block.
	AfterFunc(d time.Duration, f func()) Alarm
	// Wall returns the time of day, without a monotonic reading: such times compare and differ by
	// their dates. Any goroutine may call it.
	Wall() time.Time
}

// Alarm is a pending call of Clock.AfterFunc. Any goroutine may call its methods. They neither wait
// for a running call nor stop it.
type Alarm interface {
	// Reset schedules the call once for d from now, whether or not it has run before.
	Reset(d time.Duration)
	// Stop cancels the call.
	Stop()
}

// SystemClock returns the machine's monotonic clock.
func SystemClock() Clock { return systemClock{time.Now()} }

type systemClock struct{ start time.Time }

func (c systemClock) Now() time.Duration { return time.Since(c.start) }

func (systemClock) Wall() time.Time { return time.Now().Round(0) }

func (c systemClock) AfterFunc(d time.Duration, f func()) Alarm {
	return systemAlarm{time.AfterFunc(d, f)}
}

type systemAlarm struct{ t *time.Timer }

func (a systemAlarm) Reset(d time.Duration) { a.t.Reset(d) }
func (a systemAlarm) Stop()                 { a.t.Stop() }

// ManualClock is a Clock that stands still until Advance moves it: time as an input of a test.
// Any goroutine may use it.
type ManualClock struct {
	advancing sync.Mutex   // one Advance at a time; never taken by an alarm's f
	due       atomic.Int64 // see watcher

	mu     sync.Mutex
	now    time.Duration
	wall   time.Time // when now was 0
	seq    uint64
	alarms map[*manualAlarm]struct{} // the armed ones
}

type manualAlarm struct {
	clock *ManualClock
	f     func()
	at    time.Duration // guarded by clock.mu, as seq is
	seq   uint64        // order of arming, for alarms of the same time
}

// NewManualClock returns a clock that stands at an hour, so that differences backwards stay
// positive.
func NewManualClock() *ManualClock {
	return &ManualClock{now: time.Hour, wall: time.Now().Round(0).Add(-time.Hour), alarms: map[*manualAlarm]struct{}{}}
}

// Now returns the time the clock stands at.
func (c *ManualClock) Now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Wall returns the time of day that the clock stands at: that of its making, Advance and Jump.
func (c *ManualClock) Wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall.Add(c.now)
}

// Jump moves the time of day by d, which may be negative, as if the machine's clock had been set.
// No time passes.
func (c *ManualClock) Jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(d)
}

// AfterFunc arms f for the Advance that reaches d from now.
func (c *ManualClock) AfterFunc(d time.Duration, f func()) Alarm {
	a := &manualAlarm{clock: c, f: f}
	a.Reset(d)
	return a
}

// Advance moves the clock by d and runs the alarms that become due, in order of time and in the
// calling goroutine. The clock shows an alarm's own time while its f runs. An alarm that f arms
// runs too if it is due.
func (c *ManualClock) Advance(d time.Duration) {
	c.advancing.Lock()
	defer c.advancing.Unlock()
	c.mu.Lock()
	end := c.now + d
	for {
		first := c.first()
		if first == nil || first.at > end {
			break
		}
		delete(c.alarms, first)
		c.now = max(c.now, first.at)
		c.mu.Unlock()
		first.f()
		c.mu.Lock()
	}
	c.now = end
	c.mu.Unlock()
}

func (c *ManualClock) first() (first *manualAlarm) {
	for a := range c.alarms {
		if first == nil || a.at < first.at || a.at == first.at && a.seq < first.seq {
			first = a
		}
	}
	return first
}

// Handled reports whether every owner with a Ticker of this clock has handled the present time: no
// alarm waits for its owner's turn, and no owner is within a turn. Then Next knows the deadlines of
// all owners, and Advance to it finds each of them awake in time.
func (c *ManualClock) Handled() bool { return c.due.Load() == 0 }

func (c *ManualClock) count(delta int64) { c.due.Add(delta) }

// Next returns the time of the earliest armed alarm; ok is false if none is armed.
func (c *ManualClock) Next() (at time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.first(); a != nil {
		return a.at, true
	}
	return 0, false
}

// Reset implements Alarm.
func (a *manualAlarm) Reset(d time.Duration) {
	c := a.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	a.at, a.seq = c.now+max(d, 0), c.seq
	c.alarms[a] = struct{}{}
}

// Stop implements Alarm.
func (a *manualAlarm) Stop() {
	a.clock.mu.Lock()
	defer a.clock.mu.Unlock()
	delete(a.clock.alarms, a)
}
