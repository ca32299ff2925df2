package grace

import (
	"log/slog"
	"testing"
	"time"

	"sluice/internal/owner"
)

// start returns a period of a minute on a manual clock, and how often it has expired.
func start(length time.Duration) (p *Period, clock *owner.ManualClock, expired *int) {
	clock, expired = owner.NewManualClock(), new(int)
	p = New(Options{Length: length, Clock: clock, Log: slog.New(slog.DiscardHandler), Expired: func() { *expired++ }})
	return p, clock, expired
}

// The period runs from the first loss until all connections are back.
func TestPeriod(t *testing.T) {
	p, clock, expired := start(time.Minute)
	p.Lost(0)
	clock.Advance(40 * time.Second)
	p.Lost(1) // does not start it again
	p.Restored(0)
	p.Restored(0) // restored already
	if clock.Advance(19 * time.Second); p.Over() || *expired != 0 {
		t.Fatal("expired early")
	}
	if clock.Advance(time.Second); !p.Over() || *expired != 1 {
		t.Fatalf("not expired after a minute: %v, %d", p.Over(), *expired)
	}
	if p.Restored(1); p.Over() {
		t.Error("clients are rejected although NATS is back")
	}
	p.Lost(1)
	p.Restored(1)
	if clock.Advance(time.Hour); p.Over() || *expired != 1 {
		t.Error("expired although NATS was back in time")
	}
}

// A new length holds for the period that runs, and for later ones.
func TestSetLength(t *testing.T) {
	p, clock, expired := start(time.Minute)
	p.Lost(0)
	clock.Advance(50 * time.Second)
	p.SetLength(2 * time.Minute)
	if clock.Advance(69 * time.Second); p.Over() {
		t.Fatal("a longer period expired early")
	}
	if clock.Advance(time.Second); !p.Over() || *expired != 1 {
		t.Fatal("a longer period did not expire")
	}
	p.Restored(0)
	p.Lost(0)
	clock.Advance(time.Minute)
	p.SetLength(30 * time.Second) // it has passed already
	if clock.Advance(0); !p.Over() || *expired != 2 {
		t.Error("a shorter period did not expire")
	}
	p.Restored(0)
	p.Lost(0)
	if clock.Advance(30 * time.Second); *expired != 3 {
		t.Error("the next period has another length")
	}
}

// A period of no length expires with the loss.
func TestNoGrace(t *testing.T) {
	p, clock, expired := start(0)
	p.Lost(0)
	if clock.Advance(0); !p.Over() || *expired != 1 {
		t.Errorf("over %v, expired %d times", p.Over(), *expired)
	}
}

// Nothing expires after Stop, not even a period that a later loss would start.
func TestStop(t *testing.T) {
	p, clock, expired := start(time.Minute)
	p.Lost(0)
	p.Stop()
	p.Lost(1)
	if clock.Advance(time.Hour); p.Over() || *expired != 0 {
		t.Errorf("over %v, expired %d times", p.Over(), *expired)
	}
}

// lateClock is a clock whose alarms come late by some time, as after a pause of the process.
type lateClock struct {
	*owner.ManualClock
	late time.Duration
}

func (c *lateClock) Now() time.Duration { return c.ManualClock.Now() + c.late }

// A process that did not run at the end of the period gets time to reconnect, once.
func TestExpiryAfterAPauseIsDeferredOnce(t *testing.T) {
	manual, expired := owner.NewManualClock(), 0
	clock := &lateClock{ManualClock: manual}
	p := New(Options{Length: time.Minute, Clock: clock, Log: slog.New(slog.DiscardHandler), Expired: func() { expired++ }})
	p.Lost(0)
	clock.late = time.Hour
	if manual.Advance(time.Minute); expired != 0 {
		t.Fatal("expired right after the pause")
	}
	if manual.Advance(owner.Grace); expired != 1 || !p.Over() {
		t.Errorf("expired %d times after the pause and its grace", expired)
	}
}
