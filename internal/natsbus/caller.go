package natsbus

import (
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/invariants"
	"sluice/internal/owner"
)

// Caller is one owner's side of the bus: its requests in flight, their timeouts on the owner's
// wheel, and the operations of the current turn. Only that owner calls its methods.
//
// Operations of one Caller on one connection reach NATS in the order in which they were called, so
// a Subscribe is in force before the reply to the Request that follows it.
type Caller struct {
	// Fixed after construction.
	bus   *Bus
	owner uint32
	wheel *owner.Wheel
	now   func() time.Duration

	// Requests in flight. Slots live in pages because a timer must not move while armed, and
	// because the publisher reads a slot's generation.
	pages   []*[pageSlots]slot
	free    *slot
	pending int

	// The turn's operations, by connection.
	batches []*batch

	orphans []orphan // calls given up before they were sent, in the order of Abandon
}

const pageSlots = 256

// slot holds one request. Its generation is part of the reply subject and changes when the request
// ends, so a late reply does not match the slot's next request.
type slot struct {
	// Fixed when the page is made.
	caller *Caller
	index  uint32

	gen atomic.Uint32 // written by the owner; the publisher reads it to skip requests that have ended

	// Written by the publisher when the request is sent: the generation, and the link's epoch in
	// the low half.
	sent atomic.Uint64

	// Owned by the caller's owner.
	timer owner.Timer
	done  func(data []byte, err error) // nil while the slot is free
	link  *link
	line  int32 // length of the request's protocol line
	size  int32 // of its payload
	once  bool  // it must not be sent twice: calls and auth requests
	next  *slot // free list

	expiring bool // timed out; the timeout is queued for the dispatcher

	group         *Group // nil: none
	before, after *slot  // of the same group
}

// NewCaller returns the caller of one owner. number identifies the owner in its replies and must be
// unique on the bus; wheel and now are the owner's own.
func (b *Bus) NewCaller(number uint32, wheel *owner.Wheel, now func() time.Duration) *Caller {
	return &Caller{bus: b, owner: number, wheel: wheel, now: now, batches: make([]*batch, len(b.links))}
}

// Subscribe subscribes to the events of a resource, until Unsubscribe. Calls are not counted. The
// error is ErrBadSubject, ErrSubjectTooLong or ErrClosed.
func (c *Caller) Subscribe(name string) error { return c.interest(opSubscribe, name) }

// Unsubscribe ends Subscribe. The Receiver may still get events that were received before.
func (c *Caller) Unsubscribe(name string) error { return c.interest(opUnsubscribe, name) }

func (c *Caller) interest(kind opKind, name string) error {
	conn := c.bus.ConnOf(name)
	if err := c.bus.checkName(c.bus.links[conn], name); err != nil {
		return err
	}
	b := c.batch(conn)
	b.ops = append(b.ops, op{kind: kind, subject: name})
	return nil
}

// Request sends a copy of payload to subject. It calls done exactly once, later, on the owner's
// goroutine, with the reply, which is immutable and may be kept, or with one of the package's
// errors. name is the resource that the request is about. It selects the connection, so that the
// reply keeps its order with the resource's events; an empty name selects the first connection.
func (c *Caller) Request(name, subject string, payload []byte, done func(data []byte, err error)) {
	c.RequestIn(nil, name, subject, payload, done)
}

// RequestIn is Request with a group, nil for none, that the request belongs to until it ends.
func (c *Caller) RequestIn(g *Group, name, subject string, payload []byte, done func(data []byte, err error)) {
	m := c.bus.opts.Metrics
	m.Requests.Inc()
	conn := 0
	if len(c.bus.links) > 1 && name != "" && !strings.HasPrefix(subject, "auth.") {
		conn = connOf(HashName(name), len(c.bus.links))
	}
	l := c.bus.links[conn]
	s := c.take(done, l)
	g.add(s)
	s.line, s.size = int32(publishLine(subject, len(l.inbox)+replyTokenLen, len(payload))), int32(len(payload))
	s.once = strings.HasPrefix(subject, "call.") || strings.HasPrefix(subject, "auth.")
	if err := c.admit(l, s, subject); err != nil {
		c.bus.opts.Receiver.Reply(Reply{Owner: c.owner, Err: err, slot: s.index, gen: s.gen.Load()})
		return
	}
	c.wheel.Expect(&s.timer, c.now()+c.bus.opts.RequestTimeout, s)
	b := c.batch(conn)
	start := len(b.payloads)
	b.payloads = append(b.payloads, payload...)
	b.ops = append(b.ops, op{
		kind: opRequest, subject: subject, slot: s, gen: s.gen.Load(),
		owner: c.owner, once: s.once, start: start, end: len(b.payloads),
	})
}

// admit returns why a request cannot be sent, nil if it can. It does not count the operations of
// other owners' current turns, so the limits may be exceeded by one turn's worth.
func (c *Caller) admit(l *link, s *slot, subject string) error {
	o := &c.bus.opts
	if c.bus.closed.Load() {
		return ErrClosed
	}
	if err := checkPublish(subject, int(s.line), int(l.lineLimit.Load())); err != nil {
		o.Metrics.reject(err)
		return err
	}
	if c.pending > o.RequestLimit || l.queued.Load() >= int64(o.QueueLimit) || l.queuedBytes.Load() >= int64(o.QueueBytes) {
		o.Metrics.Overloaded.Inc()
		return ErrOverloaded
	}
	return nil
}

// Deliver ends the request of a reply, or extends its timeout if r is a pre-response. A late reply
// is counted and dropped.
func (c *Caller) Deliver(r Reply) {
	m := c.bus.opts.Metrics
	s := c.slot(r.slot)
	switch {
	case s == nil || s.done == nil || s.gen.Load() != r.gen:
		if !r.expired {
			m.LateReplies.Inc()
		}
		return
	case r.expired:
		if s.expiring {
			m.Timeouts.Inc()
			c.finish(s, nil, r.Err)
		}
		return
	case r.Err == ErrNoResponders:
		m.NoResponders.Inc()
	case r.Err != nil: // counted where it was noticed
	case isPreResponse(r.Data):
		m.PreResponses.Inc()
		if d, ok := parsePreResponse(r.Data); ok {
			c.wheel.Expect(&s.timer, c.now()+d, s)
			s.expiring = false
		}
		return
	default:
		m.Replies.Inc()
	}
	c.finish(s, r.Data, r.Err)
}

// expiryRetry is when a timeout is queued again after it found the dispatcher's queue full.
const expiryRetry = 10 * time.Millisecond

// Expire implements owner.Expirer: the request has timed out. Its reply may have been received and
// wait in the dispatcher's queue. So the timeout is queued after it, and counts when it is
// dispatched.
func (s *slot) Expire(now time.Duration) {
	if s.expiring = s.link.expire(s); !s.expiring {
		s.caller.wheel.Schedule(&s.timer, now+expiryRetry, s)
	}
}

// finish frees the slot before done runs, since done may make the next request.
func (c *Caller) finish(s *slot, data []byte, err error) {
	if invariants.Enabled {
		invariants.Check(s.done != nil && c.pending > 0, "request in slot %d ended twice, %d pending", s.index, c.pending)
	}
	done := s.done
	c.wheel.Cancel(&s.timer)
	s.group.remove(s)
	s.done, s.link, s.expiring = nil, nil, false
	s.gen.Add(1)
	s.next, c.free = c.free, s
	c.pending--
	c.bus.opts.Metrics.Pending.Dec()
	done(data, err)
}

// Pending returns how many requests are in flight.
func (c *Caller) Pending() int { return c.pending }

func (c *Caller) take(done func([]byte, error), l *link) *slot {
	if c.free == nil {
		c.grow()
	}
	s := c.free
	if invariants.Enabled {
		invariants.Check(s.done == nil && !s.timer.Armed(), "free slot %d is in use", s.index)
	}
	c.free, s.next = s.next, nil
	s.done, s.link = done, l
	c.pending++
	c.bus.opts.Metrics.Pending.Inc()
	return s
}

func (c *Caller) grow() {
	page := new([pageSlots]slot)
	base := uint32(len(c.pages) * pageSlots)
	for i := range page {
		s := &page[pageSlots-1-i] // so that the lowest index is taken first
		s.caller, s.index = c, base+uint32(pageSlots-1-i)
		s.next, c.free = c.free, s
	}
	c.pages = append(c.pages, page)
}

// slot returns nil for an index that was never used: the token may be forged.
func (c *Caller) slot(index uint32) *slot {
	page := int(index / pageSlots)
	if page >= len(c.pages) {
		return nil
	}
	return &c.pages[page][index%pageSlots]
}

func (c *Caller) batch(conn int) *batch {
	b := c.batches[conn]
	if b == nil {
		b = takeBatch()
		c.batches[conn] = b
	}
	return b
}

// Flush enqueues the turn's operations for the publishers. The owner calls it at the end of each
// turn; no request is sent before.
func (c *Caller) Flush() {
	c.endOrphans()
	for i, b := range c.batches {
		if b != nil {
			c.batches[i] = nil
			c.bus.links[i].enqueue(b)
		}
	}
}

// Cut ends requests with ErrCut that were sent on lost connections of link number conn: their
// replies may be lost as well, and the owner can repeat them. Calls and auth requests must not be
// repeated; a slow service may still reply to them, so they stay in flight.
func (c *Caller) Cut(conn int) {
	l := c.bus.links[conn]
	epoch := l.epoch.Load()
	c.each(l, func(s *slot) {
		if sent := s.sent.Load(); !s.once && sent != 0 && uint32(sent>>32) == s.gen.Load() && uint32(sent) != epoch {
			c.finish(s, nil, ErrCut)
		}
	})
}

// Recheck ends the requests that are too long for the server of link number conn, by the limits
// that were learnt last.
func (c *Caller) Recheck(conn int) {
	l := c.bus.links[conn]
	line, payload := l.lineLimit.Load(), l.maxPayload.Load()
	c.each(l, func(s *slot) {
		switch {
		case s.line > line:
			c.bus.opts.Metrics.reject(ErrSubjectTooLong)
			c.finish(s, nil, ErrSubjectTooLong)
		case payload > 0 && int64(s.size) > payload:
			err := payloadTooLarge(int(s.size), payload)
			c.bus.opts.Metrics.reject(err)
			c.finish(s, nil, err)
		}
	})
}

// each calls f for every pending request of l. f may finish it.
func (c *Caller) each(l *link, f func(*slot)) {
	for _, page := range c.pages {
		for i := range page {
			if page[i].done != nil && page[i].link == l {
				f(&page[i])
			}
		}
	}
}
