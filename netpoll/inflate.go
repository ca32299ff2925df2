package netpoll

import (
	"runtime"

	"sluice/internal/owner"
	"sluice/pool"
	"sluice/wsproto"
)

// A compressed message may take tens of milliseconds to inflate, however short it is then: Huffman
// tables cost more than what they stand before. A loop inflates short ones, within a budget for
// each iteration; others are inflated by workers, of which few compute at a time, in the order of
// arrival. The connection is paused meanwhile: its order stays, and as it has no more than one
// message with them, clients take iterations. What else a client's message may cost the loop goes
// the same way: Offload.

const (
	inflateInline = 4 << 10  // bytes of a compressed message that the loop inflates itself
	inflateBudget = 64 << 10 // compressed bytes that it inflates in an iteration
)

// inflater is how a loop has work done by workers.
type inflater struct {
	mail *owner.Mailbox[offloaded] // from workers
	used int                       // bytes of the budget; owned by the loop
}

// offloaded is what a worker tells the loop.
type offloaded struct {
	handle Handle
	why    pause       // to be ended
	then   func(*Conn) // gets nil if the connection has closed or begun to
	failed bool        // the work panicked
}

// inflateSlots returns what limits the workers of an engine.
func inflateSlots() chan struct{} {
	return make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1))
}

// limits returns the parser's for the next frame.
func (l *Loop) limits() wsproto.Limits {
	return wsproto.Limits{Message: l.engine.opts.Limits.MaxMessage, Inflate: min(inflateInline, max(inflateBudget-l.inflater.used, 1))}
}

// inflate has a worker inflate a message.
func (c wsConn) inflate(m wsproto.Message) {
	c.loop.engine.metrics.Inflated.Add(1)
	packed := pool.GetBuffer(len(m.Payload))
	packed.B = append(packed.B, m.Payload...)
	limit := c.loop.engine.opts.Limits.MaxMessage
	var text *pool.Buffer
	var err error
	c.offload(pauseInflate, func() {
		text, err = wsproto.InflateMessage(m.Op, packed.B, limit)
		packed.Put()
	}, func(c *Conn) {
		defer text.Put()
		switch broken, ok := err.(*wsproto.CloseError); {
		case c == nil: // what comes from a client that is being closed is discarded
		case ok:
			c.ws().fail(broken.Code, broken.Reason)
		default:
			c.ws().dispatch(wsproto.Message{Op: m.Op, Payload: text.B})
		}
	})
}

// Offload has a worker call work, for what would hold up the loop. The next messages of c wait
// until then has been called, on the loop: with true, or with false if c has closed or begun to.
// During Handler.Message only, at most once.
func (c *Conn) Offload(work func(), then func(open bool)) {
	c.loop.engine.metrics.Offloaded.Add(1)
	c.ws().offload(pauseWork, work, func(c *Conn) { then(c != nil) })
}

// offload has a worker call work while c is paused, and then calls then on the loop.
func (c wsConn) offload(why pause, work func(), then func(*Conn)) {
	l := c.loop
	e := l.engine
	c.paused |= why
	done := offloaded{handle: c.Handle(), why: why, then: then}
	go func() {
		e.inflating <- struct{}{}
		done.failed = !e.contain(work)
		<-e.inflating
		l.inflater.mail.Put(done)
	}()
}

// contain calls work and reports whether it did not panic.
func (e *Engine) contain(work func()) (ok bool) {
	defer func() {
		if !owner.Containing || ok {
			return
		}
		e.opts.Faults.Note(owner.Loop, recover())
	}()
	work()
	return true
}

// drainOffloaded handles the work that workers have done.
func (l *Loop) drainOffloaded() { l.inflater.mail.Drain(0, l.finishOffloaded) }

func (l *Loop) finishOffloaded(w offloaded) {
	c := l.table.get(w.handle)
	if c != nil && (c.state != stateOpen || c.paused&w.why == 0) {
		c = nil
	}
	l.work.conn = c
	switch {
	case !w.failed:
		w.then(c)
	case c != nil:
		c.ws().fail(wsproto.CloseInternalError, "")
	}
	if c != nil {
		c.ws().unpause(w.why)
	}
}
