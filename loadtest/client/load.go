//go:build linux

package client

import (
	"fmt"
	"math/rand/v2"
)

// load makes requests on the thread's connections: at due times, or as fast as responses
// arrive. A connection gets one slot in the queue for each request that its window admits.
// Requests take slots in FIFO order.
//
// A request that is due while the queue is empty keeps its due time, so that its latency
// includes the wait (no coordinated omission).
type load struct {
	t      *Thread
	kind   Kind    // Call, Get, Subscribe for churn, or Open for pages
	gap    float64 // ns between requests; 0: as fast as responses arrive
	start  int64
	until  int64
	issued int64
	window int32 // requests in flight per connection

	// The queue of connections that may make a request: a ring.
	queue []int32 // slots of connections
	head  int
	size  int
}

// backlogLimit is for how many nanoseconds after the end of a series those requests are made that
// were due in it, but found all windows full.
const backlogLimit = 1_000_000_000

// startLoad starts a series of requests in place of the current one.
func (t *Thread) startLoad(l Load) error {
	kind, ok := map[string]Kind{"call": Call, "get": Get, "churn": Subscribe, "page": Open}[l.Kind]
	if !ok {
		return fmt.Errorf("unknown kind of load %q: use call, get, churn or page", l.Kind)
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
	n.queue = make([]int32, len(t.conns)*window)
	t.load = n
	for i := range t.conns {
		t.conns[i].slots = 0
	}
	for w := range window { // each connection gets one slot before any gets a second
		for i := range t.conns {
			if c := &t.conns[i]; c.state == stateReady && !c.slow && int(c.waiting) <= w {
				n.push(c)
			}
		}
	}
	n.run(now)
	return nil
}

// push adds a connection to the queue.
func (l *load) push(c *Conn) {
	l.queue[(l.head+l.size)%len(l.queue)] = c.slot
	l.size++
	c.slots++
}

// grant queues the connection for as many requests as its window admits.
func (l *load) grant(c *Conn) {
	for c.state == stateReady && !c.slow && c.waiting+c.slots < l.window {
		l.push(c)
	}
}

// next returns when the next request is due; ok is false if none is, or the queue is empty.
func (l *load) next() (due int64, ok bool) {
	if l.gap == 0 {
		return 0, l.size > 0
	}
	due = l.due()
	return due, due < l.until && l.size > 0
}

// due returns when the next request of a rate is due.
func (l *load) due() int64 { return l.start + int64(float64(l.issued)*l.gap) }

// over reports whether the series makes no further request.
func (l *load) over(now int64) bool {
	return now >= l.until && (l.gap == 0 || l.due() >= l.until || now >= l.until+backlogLimit)
}

// wake returns when the series has something to do, unless a response comes before.
func (l *load) wake() int64 {
	at := l.until
	if l.gap > 0 && l.due() < l.until {
		at += backlogLimit
	}
	if next, ok := l.next(); ok {
		at = min(at, next)
	}
	return at
}

// run makes the requests that are due.
func (l *load) run(now int64) {
	for budget := l.size; budget > 0 && !l.over(now); budget-- {
		due, ok := l.next()
		if !ok || due > now {
			return
		}
		if l.gap == 0 {
			due = now
		}
		c := &l.t.conns[l.queue[l.head]]
		l.head, l.size = (l.head+1)%len(l.queue), l.size-1
		c.slots--
		if c.state != stateReady {
			continue
		}
		l.request(c, due)
	}
}

// finish counts the requests that were due and not made.
func (l *load) finish() {
	if l.gap > 0 {
		due := int64(float64(l.until-l.start) / l.gap)
		l.t.count.Unsent += max(due-l.issued, 0)
	}
}

// The steps of clients that churn, and of those that open pages. Their requests are about the
// resource that the first step has chosen, but for calls.
var (
	churn = []Kind{Subscribe, Call, Unsubscribe}
	page  = []Kind{Open, Leave}
)

// request makes the next request on a connection.
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
		steps := churn
		if l.kind == Open {
			steps = page
		}
		kind = steps[c.step]
		if c.step == 0 {
			c.model = int32(rand.IntN(max(t.cfg.Models, 1)))
		}
		topic = int(c.model)
		if kind == Call {
			topic = 0
		}
		c.step = (c.step + 1) % uint8(len(steps))
	}
	if !t.driver.Request(c, kind, topic, t.requestID(kind, due)) {
		t.count.Errors++
		t.count.Waiting--
		c.waiting--
	}
}
