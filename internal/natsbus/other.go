package natsbus

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
)

// Messages that are no part of RES use the first connection, and keep their order with its
// requests.

// Do has the first connection's publisher call f after everything that the owner has made before
// for that connection, and before what it makes later. f must not wait for an owner. If the
// connection is down, it may take long until f is called.
func (c *Caller) Do(f func()) {
	b := c.batch(0)
	b.ops = append(b.ops, op{kind: opRun, start: len(b.runs)})
	b.runs = append(b.runs, f)
}

// Do has the first connection's publisher call f after what has been enqueued before.
func (b *Bus) Do(f func()) {
	batch := takeBatch()
	batch.ops = append(batch.ops, op{kind: opRun})
	batch.runs = append(batch.runs, f)
	b.links[0].enqueue(batch)
}

// Listen subscribes to Options.Subjects, from now on and after each reconnect.
func (b *Bus) Listen() { b.links[0].post(opListen, "") }

// listen is Listen for the publisher.
func (p *publisher) listen() {
	p.base.listening = true
	p.subscribeTo(p.nc.Load(), p.base.later)
}

// subscribeTo adds subscriptions to those of base, as far as the connection is open.
func (p *publisher) subscribeTo(nc Conn, subjects []string) {
	for _, s := range subjects {
		sub, err := nc.ChanSubscribe(s, p.msgs)
		if err != nil {
			return // closed: reopen subscribes again
		}
		p.base.subs = append(p.base.subs, sub)
		p.made.Add(1)
		p.opts.Metrics.Subscribes.Inc()
	}
}

// Publish publishes a message on the first connection. The error is ErrDisconnected while that is
// down. nil means that the message was written, which a loss of the connection may undo.
func (b *Bus) Publish(subject string, payload []byte) error {
	l := b.links[0]
	if err := checkPublish(subject, publishLine(subject, 0, len(payload)), int(l.lineLimit.Load())); err != nil {
		b.opts.Metrics.reject(err)
		return err
	}
	if !l.up.Load() {
		return ErrDisconnected
	}
	nc := l.nc.Load()
	switch err := nc.Publish(subject, payload); {
	case err == nil:
		b.opts.Metrics.BytesOut.Add(uint64(len(payload)))
		return nil
	case errors.Is(err, nats.ErrMaxPayload):
		err = payloadTooLarge(len(payload), nc.MaxPayload())
		b.opts.Metrics.reject(err)
		return err
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed):
		return ErrDisconnected
	default:
		return publishError(err)
	}
}

// Ask makes a request on the first connection, and returns the first reply. The error is
// ErrNoResponders if no client of NATS subscribes to the subject, or ctx's.
func (b *Bus) Ask(ctx context.Context, subject string, payload []byte) ([]byte, error) {
	nc, ok := b.links[0].nc.Load().(natsConn)
	if !ok {
		return nil, ErrNoResponders // it is no connection to a server
	}
	m, err := nc.RequestWithContext(ctx, subject, payload)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, ErrNoResponders
	}
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}
