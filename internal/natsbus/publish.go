package natsbus

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/nats-io/nats.go"

	"sluice/internal/invariants"
	"sluice/internal/keyed"
	"sluice/internal/limit"
	"sluice/internal/owner"
	"sluice/internal/tracing"
)

type opKind uint8

const (
	opRequest opKind = iota
	opSubscribe
	opUnsubscribe
	opForget          // NATS has denied the subscription
	opRefuseWildcards // NATS has denied one of a wildcard
	opResolve         // NATS has denied subscriptions for their number
	opListen          // see Bus.Listen
	opRun             // calls batch.runs[op.start]
)

// op is one operation for the publisher. For (un)subscribe, subject is the resource name.
type op struct {
	kind       opKind
	subject    string
	owner      uint32
	slot       *slot
	gen        uint32
	once       bool
	start, end int // the payload in the batch

	// For the limit of the service; service is nil if there is none.
	service  *limit.Service
	client   uint64
	priority limit.Priority

	trace *tracing.Context // sent with the request; nil: none
}

// batch is the operations of one owner's turn for one connection. The owner owns it until it is
// enqueued, then the publisher.
type batch struct {
	ops      []op
	payloads []byte
	runs     []func()
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func takeBatch() *batch { return batches.Get().(*batch) }

// A batch that has grown beyond these sizes is not reused.
const (
	keepOps   = 4096
	keepBytes = 1 << 20
)

func (b *batch) release() {
	if cap(b.ops) > keepOps || cap(b.payloads) > keepBytes {
		return
	}
	clear(b.ops) // no references to slots and subjects from the pool
	clear(b.runs)
	b.ops, b.payloads, b.runs = b.ops[:0], b.payloads[:0], b.runs[:0]
	batches.Put(b)
}

// enqueue passes a batch to the publisher. Any goroutine may call it.
func (l *link) enqueue(b *batch) {
	l.queued.Add(int64(len(b.ops)))
	l.queuedBytes.Add(int64(len(b.payloads)))
	l.opts.Metrics.Queue.Add(int64(len(b.ops)))
	l.queue.Put(b)
}

// publisher makes every call of nats.go that publishes or subscribes on a link, and replaces a
// connection that nats.go has closed. Its own goroutine owns it; before that starts, openLink does.
type publisher struct {
	*link

	subs  keyed.Table[interest] // by resource name
	room  room
	reply []byte // reused for reply subjects
	batch *batch // in progress; nil: none
	next  int    // index of its current operation

	waiting waiting

	// idle is called before the publisher waits for a connection. That of a Driven link returns
	// when there is one.
	idle func()
}

func newPublisher(l *link) *publisher {
	return &publisher{link: l, idle: func() {}}
}

// publish is the publisher's loop.
func (p *publisher) publish() {
	defer close(p.published)
	for !p.send() {
	}
}

// send publishes until the link closes. It returns false after a panic, which loses the current
// operation.
func (p *publisher) send() (closed bool) {
	defer p.containPublish()
	if b := p.batch; b != nil {
		if o := &b.ops[p.next]; o.kind == opRequest {
			p.skip()
			p.fail(o, errFault)
		} else {
			p.skip()
		}
		p.perform()
		poke(p.work) // there may be more
	}
	if h := p.waiting.sending; h.slot != nil {
		p.waiting.sending = held{}
		p.fail(&h.op, errFault)
		poke(p.work)
	}
	for {
		select {
		case <-p.work:
			p.turn()
		case <-p.lost:
			p.reopen()
		case <-p.back:
			p.probe()
		case <-p.base.doubt:
			p.probe()
		case <-p.base.retry.C:
			p.renewBase()
		case <-p.closing:
			p.queue.Drain(0, p.run)
			return true
		}
	}
}

// turn performs what is queued. What it publishes is written at the end, or in large pieces.
func (p *publisher) turn() {
	socket := p.socket.Load()
	socket.cork()
	defer socket.uncork() // after a panic, too
	p.sendQueued()
}

// uncork ends the turn's cork before the publisher waits for what the server sends.
func (p *publisher) uncork() {
	if s := p.socket.Load(); s != nil { // a Driven link has none
		s.uncork()
	}
}

var errFault = errors.New("natsbus: the request could not be sent")

// containPublish is deferred by send.
func (p *publisher) containPublish() {
	if !owner.Containing {
		return
	}
	if value := recover(); value != nil {
		p.opts.Faults.Note(owner.Publisher, value, "connection", p.number)
	}
}

// sendQueued performs what the owners have enqueued, and sends what had to wait.
func (p *publisher) sendQueued() {
	p.queue.Drain(0, p.run)
	p.sendWaiting()
}

// run performs a batch. While the connection is down, it waits in the middle of the batch: later
// batches queue up, and requests that time out are skipped when it resumes.
func (p *publisher) run(b *batch) {
	p.batch, p.next = b, 0
	p.perform()
}

// perform performs the rest of the current batch, from the operation at next.
func (p *publisher) perform() {
	b := p.batch
	for p.next < len(b.ops) {
		switch o := &b.ops[p.next]; o.kind {
		case opSubscribe:
			p.subscribe(o.subject)
		case opUnsubscribe:
			p.unsubscribe(o.subject)
		case opForget:
			p.unsubscribe(o.subject)
		case opResolve:
			p.resolve()
		case opListen:
			p.listen()
		case opRun:
			b.runs[o.start]()
		case opRefuseWildcards:
			p.refuseWildcards()
		case opRequest:
			p.admit(o, b.payloads[o.start:o.end])
		}
		p.skip()
	}
	p.batch = nil
	bytes := p.queuedBytes.Add(-int64(len(b.payloads)))
	if invariants.Enabled {
		invariants.Check(bytes >= 0 && p.queued.Load() >= 0, "publisher's queue holds %d operations, %d bytes", p.queued.Load(), bytes)
	}
	b.release()
}

// skip advances to the next operation.
func (p *publisher) skip() {
	p.next++
	p.queued.Add(-1)
	p.opts.Metrics.Queue.Dec()
}

// request sends a request that has its place in the service's limit.
func (p *publisher) request(o *op, payload []byte, now time.Duration) {
	if !o.slot.claim(o.gen, now) {
		p.opts.Metrics.Unsent.Inc()
		if o.service != nil {
			o.service.Release()
		}
		return
	}
	if subject := p.base.refused.Load(); subject != nil && *subject == inboxName {
		p.fail(o, refused(inboxName)) // no reply would come
		return
	}
	p.reply = appendReplyToken(append(p.reply[:0], p.inbox...), o.owner, p.made.Load(), o.slot.index, o.gen)
	reply := unsafe.String(unsafe.SliceData(p.reply), len(p.reply)) // nats.go copies it to its buffer
	line := publishLine(o.subject, len(reply), len(payload))
	if line > int(p.longest.Load()) {
		p.longest.Store(int32(line))
	}
	for {
		if o.slot.word.Load() != word(o.gen, claimed) {
			p.opts.Metrics.Unsent.Inc() // its owner has given it up
			return
		}
		nc, epoch := p.nc.Load(), p.epoch.Load()
		var err error
		if o.trace == nil {
			err = nc.PublishRequest(o.subject, reply, payload)
		} else {
			err = p.publishTraced(nc, o, reply, payload)
		}
		switch {
		case err == nil:
			p.opts.Metrics.BytesOut.Add(uint64(len(payload)))
			o.slot.word.CompareAndSwap(word(o.gen, claimed), word(o.gen, epoch))
			if p.epoch.Load() != epoch && !o.once {
				p.fail(o, ErrCut) // the owner's Cut may have run before the epoch was stored
			}
			return
		case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed):
			// Disconnected: nats.go buffers nothing, see configure.
			if !p.awaitConnection() {
				p.fail(o, ErrClosed)
				return
			}
			o.slot.resent(o.gen, p.opts.Clock.Now())
		case errors.Is(err, nats.ErrMaxPayload):
			err = payloadTooLarge(len(payload), nc.MaxPayload())
			p.opts.Metrics.reject(err)
			p.fail(o, err)
			return
		default:
			p.opts.Metrics.Failed.Inc()
			p.fail(o, publishError(err))
			return
		}
	}
}

// awaitConnection waits until the connection may be up again, and opens another if nats.go has
// closed it. It returns false if the link closes first.
func (p *publisher) awaitConnection() bool {
	p.uncork()
	p.idle()
	select {
	case <-p.back:
		p.probe()
		return true
	case <-p.lost:
		return p.reopen()
	case <-p.closing:
		return false
	}
}

func (l *link) fail(o *op, err error) {
	l.opts.Receiver.Reply(Reply{Owner: o.owner, Err: err, slot: o.slot.index, gen: o.gen})
}

func publishError(err error) error {
	if errors.Is(err, nats.ErrBadSubject) {
		return ErrBadSubject
	}
	return err
}

func payloadTooLarge(size int, limit int64) error {
	return fmt.Errorf("%w: %d bytes, max_payload is %d", ErrPayloadTooLarge, size, limit)
}
