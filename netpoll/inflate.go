package netpoll

import (
	"runtime"

	"sluice/internal/owner"
	"sluice/pool"
	"sluice/wsproto"
)

// A compressed message may take tens of milliseconds to inflate, however short it is then: Huffman tables cost more
// than what they stand before. A loop inflates short ones, within a budget for each iteration; others are inflated by
// workers, of which few compute at a time. The connection is paused meanwhile: its order stays, and it has no more than
// one message with them.

const (
	inflateHere   = 4 << 10  // bytes of a compressed message that the loop inflates itself
	inflateBudget = 64 << 10 // compressed bytes that it inflates in an iteration
)

// inflater is how a loop has messages inflated.
type inflater struct {
	mail *owner.Mailbox[inflated] // from workers
	used int                      // bytes of the budget; owned by the loop
}

// inflated is what a worker made of a message.
type inflated struct {
	handle Handle
	op     wsproto.Op
	text   *pool.Buffer
	err    error
}

// inflateSlots returns what limits the workers of an engine.
func inflateSlots() chan struct{} {
	return make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1))
}

// limits returns the parser's for the next frame.
func (l *Loop) limits() wsproto.Limits {
	return wsproto.Limits{Message: l.engine.opts.Limits.MaxMessage, Inflate: min(inflateHere, max(inflateBudget-l.inflater.used, 1))}
}

// inflate has a worker inflate a message.
func (c *Conn) inflate(m wsproto.Message) {
	l := c.loop
	e := l.engine
	e.metrics.Inflated.Add(1)
	c.paused |= pauseInflate
	packed := pool.GetBuffer(len(m.Payload))
	packed.B = append(packed.B, m.Payload...)
	done := inflated{handle: c.Handle(), op: m.Op}
	limit := e.opts.Limits.MaxMessage
	go func() {
		e.inflating <- struct{}{}
		done.text, done.err = wsproto.InflateMessage(done.op, packed.B, limit)
		<-e.inflating
		packed.Put()
		l.inflater.mail.Put(done)
	}()
}

// hearInflaters handles the messages that workers have inflated.
func (l *Loop) hearInflaters() { l.inflater.mail.Drain(0, l.inflated) }

func (l *Loop) inflated(i inflated) {
	defer i.text.Put()
	c := l.table.get(i.handle)
	if c == nil || c.state != stateOpen || c.paused&pauseInflate == 0 {
		return // what comes from a client that is being closed is discarded
	}
	l.work.conn = c
	if i.err != nil {
		broken := i.err.(*wsproto.CloseError)
		c.fail(broken.Code, broken.Reason)
		return
	}
	c.dispatch(wsproto.Message{Op: i.op, Payload: i.text.B})
	c.goOn(pauseInflate)
}
