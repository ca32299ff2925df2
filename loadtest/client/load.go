//go:build linux

package client

import (
	"fmt"
	"math/rand/v2"
)

// load makes requests on the thread's connections: at due times, or as fast as
// answers come. A connection is granted a turn for each request that it may
// have under way; turns are taken in the order in which they were granted.
//
// A request whose time has come while no turn is free keeps its due time, so
// that its latency counts the wait (no coordinated omission).
type load struct {
	t      *Thread
	kind   Kind // Call, Get, or Subscribe for churn
	gap    float64
	start  int64
	until  int64
	issued int64
	window int32

	turns []int32 // slots of connections; a ring
	head  int
	size  int
}

func (t *Thread) startLoad(l Load) error {
	kind, ok := map[string]Kind{"call": Call, "get": Get, "churn": Subscribe}[l.Kind]
	if !ok {
		return fmt.Errorf("unknown kind of load %q: use call, get or churn", l.Kind)
	}
	window := max(l.Window, 1)
	if kind != Call {
		window = 1
	}
	now := Now()
	n := &load{t: t, kind: kind, start: now, until: l.Until, window: int32(window)}
	if l.Rate > 0 {
		n.gap = 1e9 * float64(t.cfg.Threads) / l.Rate
	}
	n.turns = make([]int32, len(t.conns)*window)
	t.load = n
	for w := range window { // one turn for each before a second one for any
		for i := range t.conns {
			if c := &t.conns[i]; c.state == stateReady && !c.slow && int(c.waiting) <= w {
				n.push(c.slot)
			}
		}
	}
	n.run(now)
	return nil
}

func (l *load) push(slot int32) {
	if l.size < len(l.turns) {
		l.turns[(l.head+l.size)%len(l.turns)] = slot
		l.size++
	}
}

// grant gives the connection another turn.
func (l *load) grant(c *Conn) {
	if c.state == stateReady && c.waiting < l.window {
		l.push(c.slot)
	}
}

// next is when the next request is due, and whether there is one.
func (l *load) next() (int64, bool) {
	if l.gap == 0 {
		return 0, l.size > 0
	}
	due := l.start + int64(float64(l.issued)*l.gap)
	return due, due < l.until && l.size > 0
}

// run makes the requests that are due.
func (l *load) run(now int64) {
	for budget := l.size; budget > 0 && now < l.until; budget-- {
		due, ok := l.next()
		if !ok || due > now {
			return
		}
		if l.gap == 0 {
			due = now
		}
		c := &l.t.conns[l.turns[l.head]]
		l.head, l.size = (l.head+1)%len(l.turns), l.size-1
		if c.state != stateReady {
			continue
		}
		l.request(c, due)
	}
}

// finish counts the requests that were due and could not be made.
func (l *load) finish() {
	if l.gap > 0 {
		due := int64(float64(l.until-l.start) / l.gap)
		l.t.count.Unsent += max(due-l.issued, 0)
	}
}

func (l *load) request(c *Conn, due int64) {
	t := l.t
	l.issued++
	t.count.Issued++
	t.count.Waiting++
	c.waiting++
	if l.kind == Get {
		c.due = due
		c.write(t.get)
		return
	}
	kind, topic := Call, 0
	if l.kind == Call {
		if t.cfg.Topics > 0 {
			topic = (int(c.index) * t.cfg.PerClient) % t.cfg.Topics
		}
	} else {
		kind = [...]Kind{Subscribe, Call, Unsubscribe}[c.step]
		if c.step == 0 {
			c.model = int32(rand.IntN(max(t.cfg.Models, 1)))
		}
		topic = int(c.model)
		if kind == Call {
			topic = 0
		}
		c.step = (c.step + 1) % 3
	}
	if !t.driver.Request(c, kind, topic, t.requestID(kind, due)) {
		t.count.Errors++
		t.count.Waiting--
		c.waiting--
	}
}
