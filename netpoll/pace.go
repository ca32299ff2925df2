package netpoll

import (
	"time"

	"sluice/internal/owner"
)

// paceEvery is how long the listeners of a loop are left alone, at least, when they are.
const paceEvery = 2 * tick

// pace spreads over time what newcomers cost, for the sake of the clients that are there: a loop
// that opens WebSockets as fast as it can makes these wait. After as many as Limits.AcceptPace
// allows, the loop does not accept for a moment. New connections wait in the kernel's queue then
// (listen(2)), and none is refused. Plain requests do not count. Owned by the loop.
type pace struct {
	loop    *Loop // fixed
	opened  refill
	waiting bool // the listeners are not watched
	timer   owner.Timer
}

// open counts a WebSocket that opens. Those of connections that were accepted already are a debt.
func (p *pace) open() {
	l := p.loop
	rate := float64(l.opts.Limits.AcceptPace)
	if rate <= 0 {
		return
	}
	p.fill(rate, l.now)
	if p.opened.tokens--; p.opened.tokens >= 0 || p.waiting {
		return
	}
	if p.waiting = l.wait.accept(false); p.waiting {
		l.engine.metrics.AcceptPauses.Add(1)
		l.wheel.Schedule(&p.timer, l.now+paceEvery, p)
	}
}

// fill adds the tokens that are due, and returns how many there are.
func (p *pace) fill(rate float64, now time.Duration) float64 {
	return p.opened.fill(rate, max(rate*paceEvery.Seconds(), 1), now)
}

// Expire is called by the wheel when the listeners may be watched again.
func (p *pace) Expire(now time.Duration) {
	if rate := float64(p.loop.opts.Limits.AcceptPace); rate > 0 && p.fill(rate, now) < 0 {
		p.loop.wheel.Schedule(&p.timer, now+paceEvery, p)
		return
	}
	p.waiting = false
	p.loop.wait.accept(true)
}
