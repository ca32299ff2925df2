package netpoll

import (
	"math"
	"time"

	"sluice/internal/owner"
	"sluice/internal/ratelimit"
)

// A client that sends faster than Limits.MessageRate or Limits.ByteRate allow is not read until
// tokens have come in: it waits, and nothing is lost or refused. Its buckets are two numbers in its
// Conn, filled when they are used. One timer per loop serves all that wait, and is armed only while
// there are any.

const (
	// meterUnit is the unit of meter: 32 bits have 68 s, more than a bucket takes to fill.
	meterUnit = 16 * time.Nanosecond
	// resumeEvery is how often clients that wait are checked. They go on with as many tokens as
	// come in meanwhile, so that a client is not paused for each message.
	resumeEvery = 100 * time.Millisecond
)

// meter has a connection's buckets (ratelimit.Rate): for each, how long after Conn.activeAt it is
// full again, in units of meterUnit.
type meter struct{ messages, bytes bucket }

type bucket uint32

// age lets time pass.
func (b *bucket) age(d time.Duration) {
	*b -= min(*b, bucket(min(d/meterUnit, math.MaxUint32)))
}

// spend takes n tokens out, whether they are there or not.
func (b *bucket) spend(r ratelimit.Rate, n int) {
	if r > 0 {
		*b = bucket(min(r.Spend(b.full(), 0, n)/meterUnit, math.MaxUint32))
	}
}

// has reports whether the bucket has n tokens.
func (b bucket) has(r ratelimit.Rate, n int) bool { return r <= 0 || r.Wait(b.full(), 0, n) == 0 }

func (b bucket) full() time.Duration { return time.Duration(b) * meterUnit }

// active notes that the peer is alive.
func (c wsConn) active(now time.Duration) {
	if c.meter != (meter{}) {
		c.messages.age(now - c.activeAt)
		c.bytes.age(now - c.activeAt)
	}
	c.activeAt = now
}

// spend counts messages of n bytes against the client's rates, and has it wait if one of them is
// used up.
func (c wsConn) spend(messages, n int) {
	l := c.loop
	limits := &l.opts.Limits
	if limits.MessageRate == 0 && limits.ByteRate == 0 || c.standing&exempt != 0 || c.state != stateOpen {
		return
	}
	c.active(l.now)
	c.messages.spend(limits.MessageRate, messages)
	c.bytes.spend(limits.ByteRate, n)
	m := l.engine.metrics
	switch {
	case c.paused&pauseRate != 0:
	case !c.messages.has(limits.MessageRate, 1):
		m.MessagesThrottled.Add(1)
		l.throttle.add(c.Conn)
	case !c.bytes.has(limits.ByteRate, 1):
		m.BytesThrottled.Add(1)
		l.throttle.add(c.Conn)
	}
}

// throttle holds the connections of a loop that wait for tokens. Owned by the loop.
type throttle struct {
	loop  *Loop   // fixed
	conns []*Conn // some may have begun to close
	timer owner.Timer
}

// add has a connection wait.
func (t *throttle) add(c *Conn) {
	l := t.loop
	c.paused |= pauseRate
	l.engine.metrics.Throttled.Add(1)
	t.conns = append(t.conns, c)
	if !t.timer.Armed() {
		l.wheel.Schedule(&t.timer, l.now+resumeEvery, t)
	}
	if c.flags&flagStream != 0 && !c.readPaused { // whose input is not buffered
		c.readPaused = l.wait.watch(c, false)
	}
}

// Expire is called by the wheel. The connections with enough tokens go on.
func (t *throttle) Expire(now time.Duration) {
	l := t.loop
	l.wheel.Schedule(&t.timer, now+resumeEvery, t) // first: a panic must not keep the others waiting
	waiting := t.conns[:0]
	for _, c := range t.conns {
		l.iter.conn = c
		switch {
		case c.paused&pauseRate == 0: // it has begun to close
		case c.ws().mayResume(now):
			c.ws().unpause(pauseRate)
		default:
			waiting = append(waiting, c)
		}
	}
	l.iter.conn = nil
	clear(t.conns[len(waiting):])
	if t.conns = waiting; len(waiting) == 0 {
		t.conns = nil
		l.wheel.Cancel(&t.timer)
	}
}

// mayResume reports whether a connection that waits has as many tokens as come in until the next
// check.
func (c wsConn) mayResume(now time.Duration) bool {
	limits := &c.loop.opts.Limits
	enough := func(r ratelimit.Rate) int { return int(max(r/ratelimit.Rate(time.Second/resumeEvery), 1)) }
	c.active(now)
	return c.messages.has(limits.MessageRate, enough(limits.MessageRate)) && c.bytes.has(limits.ByteRate, enough(limits.ByteRate))
}
