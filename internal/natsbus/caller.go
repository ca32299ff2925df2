package natsbus

import (
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/invariants"
	"sluice/internal/owner"
)

// Caller is one owner's side of the bus: its requests under way, their timeouts on its own wheel, and
// the operations of the current turn. All methods are called by that owner only.
//
// Operations of one Caller on one connection reach NATS in the order in which they were called, so a
// Subscribe is in force before the Request that follows it is answered.
type Caller struct {
	// Fixed after construction.
	bus   *Bus
	owner uint32
	wheel *owner.Wheel
	now   func() time.Duration

	// Requests under way. Slots live in pages because a timer must not move while armed and because
	// the publisher looks at a slot's generation.
	pages   []*[pageSlots]slot
	free    *slot
	pending int

	// The turn's operations, by connection.
	batches []*batch

	orphans []orphan // calls given up before they were sent, in the order of Abandon
}

const pageSlots = 256

// slot holds one request. Its generation is part of the reply subject and changes when the request is
// over, so an answer that comes too late does not meet the slot's next request.
type slot struct {
	// Fixed when the page is made.
	caller *Caller
	index  uint32

	gen atomic.Uint32 // written by the owner; the publisher reads it to leave out requests that are over

	// Written by the publisher when the request is sent: the generation, and the link's epoch in the low half.
	sent atomic.Uint64

	// Owned by the caller's owner.
	timer owner.Timer
	done  func(data []byte, err error) // nil while the slot is free
	link  *link
	line  int32 // length of the request's protocol line
	size  int32 // of its payload
	once  bool  // it must not be sent twice: calls and auth requests
	next  *slot // free list

	expiring bool // its time is over, which the dispatcher was told

	group         *Group // nil: none
	before, after *slot  // of the same group
}

// NewCaller returns the caller of one owner. number comes back in its replies and must be unique on
// the bus; wheel and now are the owner's own.
func (b *Bus) NewCaller(number uint32, wheel *owner.Wheel, now func() time.Duration) *Caller {
	return &Caller{bus: b, owner: number, wheel: wheel, now: now, batches: make([]*batch, len(b.links))}
}

// Subscribe makes events of the resource name arrive, until Unsubscribe. A name is subscribed or not,
// it is not counted. The error is ErrBadSubject, ErrSubjectTooLong or ErrClosed.
func (c *Caller) Subscribe(name string) error { return c.interest(opSubscribe, name) }

// Unsubscribe ends Subscribe. Events that have arrived already may still be handed to the Receiver.
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

// Request sends payload, which is copied, to subject and calls done exactly once, later, on the
// owner's goroutine, never from within Request: with the answer, which is immutable and may be kept, or
// with one of the package's errors. name is the resource on whose behalf the request is made: it
// selects the connection, so that the answer keeps its order with the resource's events. An empty name stands for the first connection.
func (c *Caller) Request(name, subject string, payload []byte, done func(data []byte, err error)) {
	c.RequestIn(nil, name, subject, payload, done)
}

// RequestIn is Request with a group, if that is not nil, that the request stays in until it is over.
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

// admit says why a request cannot be sent, nil if it can. The limits are looked at without the
// operations of other owners' current turns, so they may be passed by one turn's worth.
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

// Deliver ends the request that r answers, or extends its timeout if r is a pre-response. An answer
// to a request that is over is counted and dropped.
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

// expiryRetry is when the end of a request's time is said again if the dispatcher had no room to hear it.
const expiryRetry = 10 * time.Millisecond

// Expire implements owner.Expirer: the request's time is over. The answer may have been received all the same, and
// wait to be dispatched. So the end stands in line behind all that has come, and counts when it gets through.
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

// slot returns nil for an index that was never handed out: the token may be forged.
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

// Flush hands the turn's operations to the publishers. The owner calls it at the end of each turn; a
// request is not sent before.
func (c *Caller) Flush() {
	c.endOrphans()
	for i, b := range c.batches {
		if b != nil {
			c.batches[i] = nil
			c.bus.links[i].enqueue(b)
		}
	}
}

// Cut ends the requests that were sent on connections of link number conn that are lost, with ErrCut:
// their replies may be lost as well, and whoever needs one asks again. Calls and auth requests must not
// be made twice; a service that is slow may still reply to them, so they go on waiting.
func (c *Caller) Cut(conn int) {
	l := c.bus.links[conn]
	epoch := l.epoch.Load()
	c.each(l, func(s *slot) {
		if sent := s.sent.Load(); !s.once && sent != 0 && uint32(sent>>32) == s.gen.Load() && uint32(sent) != epoch {
			c.finish(s, nil, ErrCut)
		}
	})
}

// Recheck ends the requests that link number conn cannot have sent for their length, now that more is
// known of what the server accepts.
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
