package natsbus

import (
	"strings"
	"time"

	"sluice/internal/invariants"
	"sluice/internal/limit"
	"sluice/internal/owner"
	"sluice/internal/tracing"
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

	timeouts Timeouts

	// Requests in flight. Slots live in pages because a timer must not move while armed, and
	// because the publisher reads a slot's generation.
	pages   []*[pageSlots]slot
	unused  *slot
	pending int
	freed   uint64 // links whose publishers wait for a place that may be free

	// The turn's operations, by connection.
	batches []*batch

	orphans []orphan // calls given up before they were sent

	metrics *callerMetrics // fixed

	recorder *tracing.Recorder // nil: requests are not traced
}

const pageSlots = 64

// NewCaller returns the caller of one owner. number identifies the owner in its replies and must be
// unique on the bus; wheel and now are the owner's own.
func (b *Bus) NewCaller(number uint32, wheel *owner.Wheel, now func() time.Duration) *Caller {
	return &Caller{bus: b, owner: number, wheel: wheel, now: now, timeouts: b.opts.Timeouts, batches: make([]*batch, len(b.links)), metrics: b.opts.Metrics.addCaller(), recorder: b.opts.Tracer.NewRecorder(now)}
}

// Adjust changes the timeouts. Requests in flight have the new ones if these end later than the
// old. Bus.Adjust is for what is not an owner's.
func (c *Caller) Adjust(t Timeouts) { c.timeouts = t }

// Recorder returns the recorder of the owner's spans; nil if requests are not traced.
func (c *Caller) Recorder() *tracing.Recorder { return c.recorder }

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

// Request describes a request.
type Request struct {
	// Name is the resource that the request is about. It selects the connection, so that the reply
	// keeps its order with the resource's events, and the service whose limit counts. An empty name
	// selects the first connection.
	Name    string
	Subject string
	Payload []byte // copied

	// While the service has as many requests as it may, the others wait: by priority, clients in
	// turn, those of one client and priority in order.
	Priority limit.Priority
	Client   uint64
	Group    *Group // the request belongs to it until it ends; nil: none

	// Trace is the span that causes this request; nil: none. With a Tracer the request is a span of
	// its own, which the service gets in the message's header; without one, the service gets Trace.
	Trace *tracing.Context

	// More gets each pre-response, which has extended the timeout. nil: it is not of interest.
	More func(data []byte)
}

// Request makes a request. It calls done exactly once, later, on the owner's goroutine, with the
// reply, which is immutable and may be kept, or with one of the package's errors.
func (c *Caller) Request(r Request, done func(data []byte, err error)) {
	o := &c.bus.opts
	o.Metrics.Requests.Inc()
	conn := 0
	if len(c.bus.links) > 1 && r.Name != "" && !strings.HasPrefix(r.Subject, "auth.") {
		conn = connOf(HashName(r.Name), len(c.bus.links))
	}
	l := c.bus.links[conn]
	s := c.take(done, l)
	s.more = r.More
	r.Group.add(s)
	s.line, s.size = int32(publishLine(r.Subject, len(l.inbox)+replyTokenLen, len(r.Payload))), int32(len(r.Payload))
	s.kind, s.priority, s.made, s.subject = limit.KindOf(r.Subject), r.Priority, c.now(), r.Subject
	s.client = r.Client
	s.once = s.kind == limit.KindCall || s.kind == limit.KindAuth
	trace := r.Trace
	if trace != nil && c.recorder != nil {
		c.trace(s, &r)
		trace = &s.span.Context
	}
	if err := c.admit(l, s, r.Subject); err != nil {
		o.Receiver.Reply(Reply{Owner: c.owner, Err: err, slot: s.index, gen: s.gen()})
		return
	}
	wait := c.timeouts.RequestTimeout
	if o.Services != nil {
		s.service = o.Services.Get(r.limited())
	}
	if s.service != nil {
		wait = min(wait, c.timeouts.QueueTimeout)
	}
	c.wheel.Expect(&s.timer, s.made+wait, s)
	b := c.batch(conn)
	start := len(b.payloads)
	b.payloads = append(b.payloads, r.Payload...)
	b.ops = append(b.ops, op{
		kind: opRequest, subject: r.Subject, slot: s, gen: s.gen(), owner: c.owner, once: s.once, start: start, end: len(b.payloads),
		service: s.service, client: r.Client, priority: r.Priority, trace: trace,
	})
}

// limited returns the resource name whose service's limit counts. An auth request after a token
// reset has no resource, but a subject like one.
func (r *Request) limited() string {
	if r.Name == r.Subject {
		_, after, _ := strings.Cut(r.Subject, ".")
		return after
	}
	return r.Name
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
	room := int64(o.QueueLimit)
	if s.priority == limit.Call {
		room += room / 8 // a queue full of others does not reject what people do
	}
	if c.pending > o.RequestLimit || l.queued.Load() >= room || l.queuedBytes.Load() >= int64(o.QueueBytes) {
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
	if s == nil || s.gen() != r.gen || s.done == nil {
		if !r.expired {
			m.LateReplies.Inc()
			if s != nil && s.lost && s.gen() == r.gen && (r.Err != nil || !isPreResponse(r.Data)) {
				c.found(s, &r)
			}
		}
		return
	}
	switch {
	case r.expired:
		if s.expiring {
			s.expiring = false
			c.timedOut(s, r.Err)
		}
		return
	case r.Err == ErrNoResponders:
		m.NoResponders.Inc()
	case r.Err != nil: // counted where it was noticed
	default:
		c.observe(s, &r)
		if isPreResponse(r.Data) {
			m.PreResponses.Inc()
			c.extend(s, r.Data)
			if s.more != nil {
				s.more(r.Data)
			}
			return
		}
		m.Replies.Inc()
	}
	c.measure(s, &r)
	c.finish(s, r.Data, r.Err)
}

// timedOut ends a request whose deadline has passed, unless it was sent late.
func (c *Caller) timedOut(s *slot, err error) {
	if c.postpone(s, c.now()) {
		return
	}
	if v := s.service; v != nil {
		if s.stage() != unsent {
			v.TimedOut()
		} else if err == ErrTimeout {
			err = ErrQueueTimeout
			v.Expired()
		}
	}
	c.bus.opts.Metrics.Timeouts.Inc()
	c.measure(s, &Reply{Err: err})
	c.finish(s, nil, err)
}

// observe records the latency of a reply, or of the first pre-response, for the service's limit.
func (c *Caller) observe(s *slot, r *Reply) {
	if v := s.service; v != nil && !s.extended && s.stage() != unsent {
		sent := time.Duration(s.sentAt.Load())
		v.Observe(s.kind, r.at-sent)
		v.Replied(sent)
	}
}

// extend handles a pre-response: the request waits at its service no more.
func (c *Caller) extend(s *slot, data []byte) {
	if v := s.service; v != nil && !s.extended && s.stage() != unsent {
		v.Extend(1)
		c.freed |= v.Waiting()
		s.extended = true
	}
	if d, ok := parsePreResponse(data); ok {
		s.extended = true
		c.wheel.Expect(&s.timer, c.now()+d, s)
		s.expiring = false
	}
}

// found handles the reply to a lost request.
func (c *Caller) found(s *slot, r *Reply) {
	if r.Err == nil {
		s.service.Replied(time.Duration(s.sentAt.Load()))
	}
	c.wheel.Cancel(&s.timer)
	c.free(s)
}

// finish frees the slot before done runs, since done may make the next request.
func (c *Caller) finish(s *slot, data []byte, err error) {
	if invariants.Enabled {
		invariants.Check(s.done != nil && c.pending > 0, "request in slot %d ended twice, %d pending", s.index, c.pending)
	}
	done := s.done
	if s.span != nil {
		c.traced(s, data, err)
	}
	c.wheel.Cancel(&s.timer)
	s.group.remove(s)
	s.done, s.more, s.expiring = nil, nil, false
	c.pending--
	c.bus.opts.Metrics.Pending.Dec()
	if givenUp := err == ErrTimeout || err == ErrAbandoned; !givenUp || !c.lose(s) {
		c.free(s)
	}
	done(data, err)
}

// Pending returns how many requests are in flight.
func (c *Caller) Pending() int { return c.pending }

func (c *Caller) take(done func([]byte, error), l *link) *slot {
	if c.unused == nil {
		c.grow()
	}
	s := c.unused
	if invariants.Enabled {
		invariants.Check(s.done == nil && !s.timer.Armed(), "free slot %d is in use", s.index)
	}
	c.unused, s.next = s.next, nil
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
		s.next, c.unused = c.unused, s
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
	if len(c.orphans) > 0 {
		c.endOrphans()
	}
	for i, b := range c.batches {
		if b != nil {
			c.batches[i] = nil
			c.bus.links[i].enqueue(b)
		}
	}
	if c.freed != 0 {
		c.wake()
	}
}

// Cut ends requests with ErrCut that were sent on lost connections of link number conn: their
// replies may be lost as well, and the owner can repeat them. Calls and auth requests must not be
// repeated; a slow service may still reply to them, so they stay in flight. All of them leave their
// places in the limits of services to others.
func (c *Caller) Cut(conn int) {
	l := c.bus.links[conn]
	epoch := l.epoch.Load()
	for _, page := range c.pages {
		for i := range page {
			s := &page[i]
			switch {
			case s.link != l:
			case s.lost:
				c.wheel.Cancel(&s.timer)
				c.free(s)
			case s.done == nil:
			default:
				if sent := s.epoch(s.gen()); sent == 0 || sent == epoch {
					continue
				}
				if !s.once {
					c.measure(s, &Reply{Err: ErrCut})
					c.finish(s, nil, ErrCut)
				} else {
					c.leave(s, true)
				}
			}
		}
	}
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
