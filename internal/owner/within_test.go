package owner

import (
	"context"
	"testing"
	"time"
)

// pausedClock is a clock whose alarms the test fires.
type pausedClock struct {
	now    time.Duration
	alarms []func()
}

func (c *pausedClock) Now() time.Duration { return c.now }

func (c *pausedClock) Wall() time.Time { return time.Time{}.Add(c.now) }

func (c *pausedClock) AfterFunc(_ time.Duration, f func()) Alarm {
	c.alarms = append(c.alarms, f)
	return pausedAlarm{}
}

type pausedAlarm struct{}

func (pausedAlarm) Reset(time.Duration) {}
func (pausedAlarm) Stop()               {}

// TestDeadlineAfterAPause: if the process did not run at the deadline, peers get Grace more.
func TestDeadlineAfterAPause(t *testing.T) {
	for _, pause := range []time.Duration{0, time.Minute} {
		clock := new(pausedClock)
		ctx, end := Within(context.Background(), clock, time.Second)
		clock.now = time.Second + pause
		clock.alarms[0]()
		if over := ctx.Err() != nil; over != (pause == 0) {
			t.Errorf("pause %v: over %v", pause, over)
		}
		if pause > 0 {
			clock.alarms[1]()
		}
		if ctx.Err() == nil {
			t.Errorf("pause %v: not over in the end", pause)
		}
		end()
	}
}
