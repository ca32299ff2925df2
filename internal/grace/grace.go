// Package grace decides how long clients are kept while NATS is unreachable. They stay for a grace
// period, in which most outages end. After it they are closed, and new ones are rejected until all
// connections to NATS are back, so that they try another gateway.
//
// It knows connections to NATS by their number only, and never closes a client itself.
package grace

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
)

// Options configure a Period. All are required.
type Options struct {
	Length  time.Duration // of the grace period, until SetLength; 0: it ends with the first loss
	Clock   owner.Clock
	Log     *slog.Logger
	Expired func() // closes all clients; called on the clock's goroutine, must not block
}

// Period is the grace period of a gateway, which starts when a connection to NATS is lost. Its
// methods may be called from any goroutine.
type Period struct {
	o    Options
	over atomic.Bool

	mu     sync.Mutex
	length time.Duration
	lost   map[int]bool  // connections that are lost
	alarm  owner.Alarm   // ends the period; nil while it does not run
	end    time.Duration // of the running period
	putOff bool          // end was deferred once, because the process had not run
	ended  bool          // by Stop
}

// New returns a period that does not run.
func New(o Options) *Period { return &Period{o: o, length: o.Length, lost: make(map[int]bool)} }

// SetLength changes the length, also of a period that runs.
func (p *Period) SetLength(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.alarm != nil && !p.putOff && d != p.length {
		now := p.o.Clock.Now()
		p.end = max(p.end+d-p.length, now)
		p.alarm.Reset(p.end - now)
	}
	p.length = d
}

// Over reports whether the period has expired and NATS is not back: clients are to be rejected.
func (p *Period) Over() bool { return p.over.Load() }

// Lost starts the period, unless it runs already.
func (p *Period) Lost(conn int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost[conn] = true
	if p.ended || p.alarm != nil {
		return
	}
	p.end, p.putOff = p.o.Clock.Now()+p.length, false
	p.alarm = p.o.Clock.AfterFunc(p.length, p.expire)
	p.o.Log.Error("connection to NATS lost; clients are kept while it is restored", "grace", p.length)
}

// Restored ends the period when no connection is lost any more.
func (p *Period) Restored(conn int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.lost[conn] {
		return
	}
	delete(p.lost, conn)
	if len(p.lost) > 0 {
		return
	}
	p.disarm()
	p.over.Store(false)
	p.o.Log.Info("connection to NATS restored")
}

// expire is the alarm's function.
func (p *Period) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.alarm == nil || len(p.lost) == 0 {
		return
	}
	if late := p.o.Clock.Now() - p.end; late > owner.Slack && !p.putOff {
		// The process did not run at the end of the period, so it could not reconnect before.
		p.putOff = true
		p.alarm.Reset(owner.Grace)
		return
	}
	p.alarm = nil
	p.over.Store(true)
	p.o.Log.Error("NATS did not come back within the grace period; clients are closed", "grace", p.length)
	p.o.Expired()
}

// Stop ends the period for good: no client is closed any more.
func (p *Period) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.disarm()
}

// disarm requires mu.
func (p *Period) disarm() {
	if p.alarm != nil {
		p.alarm.Stop()
		p.alarm = nil
	}
}
