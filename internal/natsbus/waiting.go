package natsbus

import (
	"slices"

	"sluice/internal/limit"
)

// waiting is the requests of a link that wait for their services' limits. The publisher owns it.
type waiting struct {
	services []*queue
	sending  held // taken from its queue and being sent; zero: none
}

// queue is the requests that wait for one service.
type queue struct {
	limit.Queue[held]
	service *limit.Service
}

// held is a request with its payload.
type held struct {
	op
	payload []byte
}

// over reports whether a request that waits has ended.
func (h held) over() bool { return h.slot.word.Load() != word(h.gen, unsent) }

// admit sends a request, or has it wait for its service's limit.
func (p *publisher) admit(o *op, payload []byte) {
	now := p.opts.Clock.Now()
	if v := o.service; v != nil && (v.Waits(p.number) || !v.TryAcquire(now)) {
		p.hold(o, payload)
		return
	}
	p.request(o, payload, now)
}

// hold queues a request. sendWaiting follows, so a place that has become free is not missed.
func (p *publisher) hold(o *op, payload []byte) {
	q := p.queueOf(o.service)
	h := held{op: *o, payload: slices.Clone(payload)}
	p.queued.Add(1)
	p.queuedBytes.Add(int64(len(payload)))
	o.service.Queue(p.number, o.priority)
	q.Push(o.priority, o.client, h, func(h held) bool {
		if !h.over() {
			return false
		}
		p.dropped(&h, h.priority)
		return true
	})
}

// queueOf returns the queue of a service; it has few neighbours.
func (p *publisher) queueOf(v *limit.Service) *queue {
	for _, q := range p.waiting.services {
		if q.service == v {
			return q
		}
	}
	q := &queue{service: v}
	p.waiting.services = append(p.waiting.services, q)
	return q
}

// dequeued counts a request that has left its queue.
func (p *publisher) dequeued(h *held, priority limit.Priority) {
	h.service.Dequeue(priority)
	p.queued.Add(-1)
	p.queuedBytes.Add(-int64(len(h.payload)))
}

// dropped counts one that has ended in its queue.
func (p *publisher) dropped(h *held, priority limit.Priority) {
	p.dequeued(h, priority)
	p.opts.Metrics.Unsent.Inc()
}

// sendWaiting sends what the limits of the services allow by now.
func (p *publisher) sendWaiting() {
	left := p.waiting.services[:0]
	for _, q := range p.waiting.services {
		p.sendQueue(q)
		if q.Len() > 0 {
			left = append(left, q)
		} else {
			q.service.Emptied(p.number)
		}
	}
	clear(p.waiting.services[len(left):])
	p.waiting.services = left
}

func (p *publisher) sendQueue(q *queue) {
	for q.Len() > 0 {
		now := p.opts.Clock.Now()
		if !q.service.TryAcquire(now) {
			return
		}
		if h, ok := p.pop(q); ok {
			p.waiting.sending = h
			p.request(&p.waiting.sending.op, h.payload, now)
			p.waiting.sending = held{}
		} else {
			q.service.Release()
		}
	}
}

// pop returns the next request that has not ended.
func (p *publisher) pop(q *queue) (held, bool) {
	for {
		h, priority, ok := q.Pop()
		if !ok {
			return held{}, false
		}
		if !h.over() {
			p.dequeued(&h, priority)
			return h, true
		}
		p.dropped(&h, priority)
	}
}
