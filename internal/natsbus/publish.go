package natsbus

import (
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"sluice/internal/invariants"
	"sluice/internal/owner"
)

type opKind uint8

const (
	opRequest opKind = iota
	opSubscribe
	opUnsubscribe
	opForget  // NATS has refused the subscription
	opResolve // NATS has refused some subscription
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
}

// batch is a turn's operations of one owner for one connection. It belongs to the owner until it is
// enqueued, then to the publisher.
type batch struct {
	ops      []op
	payloads []byte
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func takeBatch() *batch { return batches.Get().(*batch) }

// A batch that once was larger than this is left to the garbage collector.
const (
	keepOps   = 4096
	keepBytes = 1 << 20
)

func (b *batch) release() {
	if cap(b.ops) > keepOps || cap(b.payloads) > keepBytes {
		return
	}
	clear(b.ops) // no references to slots and subjects from the pool
	b.ops, b.payloads = b.ops[:0], b.payloads[:0]
	batches.Put(b)
}

// enqueue hands a batch to the publisher; any goroutine.
func (l *link) enqueue(b *batch) {
	l.queued.Add(int64(len(b.ops)))
	l.queuedBytes.Add(int64(len(b.payloads)))
	l.opts.Metrics.Queue.Add(int64(len(b.ops)))
	l.queue.Put(b)
}

// publish is the publisher's loop.
func (l *link) publish() {
	defer close(l.published)
	for !l.send() {
	}
}

// send publishes until the link closes. It returns false after a panic, which has cost the operation at hand.
func (l *link) send() (closed bool) {
	defer l.containPublish()
	if b := l.batch; b != nil {
		if o := &b.ops[l.next]; o.kind == opRequest {
			l.skip()
			l.fail(o, errFault)
		} else {
			l.skip()
		}
		l.perform()
		poke(l.work) // there may be more
	}
	for {
		select {
		case <-l.work:
			l.queue.Drain(0, l.run)
		case <-l.lost:
			l.reopen()
		case <-l.back:
			l.probe()
		case <-l.base.doubt:
			l.probe()
		case <-l.base.retry.C:
			l.renewBase()
		case <-l.closing:
			l.queue.Drain(0, l.run)
			return true
		}
	}
}

var errFault = errors.New("natsbus: the request could not be sent")

// containPublish is deferred by send.
func (l *link) containPublish() {
	if !owner.Containing {
		return
	}
	if value := recover(); value != nil {
		l.opts.Faults.Note(owner.Publisher, value, "connection", l.number)
	}
}

// run performs a batch. While the connection is down it waits in the middle of it: what comes later
// queues up behind, and requests that run out of time meanwhile are left out when it goes on.
func (l *link) run(b *batch) {
	l.batch, l.next = b, 0
	l.perform()
}

// perform performs the present batch from the operation at hand on.
func (l *link) perform() {
	b := l.batch
	for l.next < len(b.ops) {
		switch o := &b.ops[l.next]; o.kind {
		case opSubscribe:
			l.subscribe(o.subject)
		case opUnsubscribe:
			l.unsubscribe(o.subject)
		case opForget:
			l.unsubscribe(o.subject)
		case opResolve:
			l.resolve()
		case opRequest:
			l.request(o, b.payloads[o.start:o.end])
		}
		l.skip()
	}
	l.batch = nil
	bytes := l.queuedBytes.Add(-int64(len(b.payloads)))
	if invariants.Enabled {
		invariants.Check(bytes >= 0 && l.queued.Load() >= 0, "publisher's queue holds %d operations, %d bytes", l.queued.Load(), bytes)
	}
	b.release()
}

// skip goes on to the next operation.
func (l *link) skip() {
	l.next++
	l.queued.Add(-1)
	l.opts.Metrics.Queue.Dec()
}

func (l *link) request(o *op, payload []byte) {
	if p := l.base.refused.Load(); p != nil && *p == inboxName {
		l.fail(o, refused(inboxName)) // no reply would come
		return
	}
	l.reply = appendReplyToken(append(l.reply[:0], l.inbox...), o.owner, l.made.Load(), o.slot.index, o.gen)
	reply := string(l.reply)
	line := publishLine(o.subject, len(reply), len(payload))
	if line > int(l.longest.Load()) {
		l.longest.Store(int32(line))
	}
	for {
		if o.slot.gen.Load() != o.gen {
			l.opts.Metrics.Unsent.Inc()
			return
		}
		nc, epoch := l.nc.Load(), l.epoch.Load()
		err := nc.PublishRequest(o.subject, reply, payload)
		switch {
		case err == nil:
			l.opts.Metrics.BytesOut.Add(uint64(len(payload)))
			o.slot.sent.Store(uint64(o.gen)<<32 | uint64(epoch))
			if l.epoch.Load() != epoch && !o.once {
				l.fail(o, ErrCut) // the owner may have looked before it could see that this was sent
			}
			return
		case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed):
			// Disconnected. nats.go is told to keep no buffer for this time, see configure.
			if !l.awaitConnection() {
				l.fail(o, ErrClosed)
				return
			}
		case errors.Is(err, nats.ErrMaxPayload):
			err = payloadTooLarge(len(payload), nc.MaxPayload())
			l.opts.Metrics.reject(err)
			l.fail(o, err)
			return
		default:
			l.opts.Metrics.Failed.Inc()
			l.fail(o, publishError(err))
			return
		}
	}
}

// awaitConnection waits until the connection may be up again, and opens another if nats.go has closed
// it; false when the link closes instead.
func (l *link) awaitConnection() bool {
	select {
	case <-l.back:
		l.probe()
		return true
	case <-l.lost:
		return l.reopen()
	case <-l.closing:
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
