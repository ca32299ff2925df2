package netpoll

import (
	"sluice/internal/owner"
	"sluice/internal/timeslice"
	"sluice/pool"
	"sluice/wsproto"
)

// Inflating a compressed message may take tens of milliseconds, even if its text is short: building
// Huffman tables costs more than a short text. A loop inflates short messages itself, within a
// budget per iteration. Workers inflate the others; few of them compute at a time, in order of
// arrival, and in slices between which loops go on. The connection is paused until then: its
// messages keep their order, and as it has at most one message with the workers, clients share them
// evenly. Conn.Offload hands other costly work to the same workers.

const (
	inflateInline = 4 << 10  // bytes of a compressed message up to which the loop inflates it itself
	inflateBudget = 24 << 10 // cost (wsproto.Message) of what a loop inflates in an iteration: 4 ms at worst
)

// inflater passes work of a loop to workers. Owned by the loop.
type inflater struct {
	loop *Loop                     // fixed
	mail *owner.Mailbox[offloaded] // from workers; any goroutine may use it
	used int                       // of inflateBudget
}

// offloaded is work that a worker has done.
type offloaded struct {
	handle Handle
	why    pause       // to be ended
	then   func(*Conn) // gets nil if the connection has closed or begun to
	failed bool        // the work panicked
}

// inflate has a worker inflate a message.
func (c wsConn) inflate(m wsproto.Message) {
	c.loop.engine.metrics.Inflated.Add(1)
	packed := pool.GetBuffer(len(m.Payload))
	packed.B = append(packed.B, m.Payload...)
	limit := c.loop.opts.Limits.MaxMessage
	var text *pool.Buffer
	var err error
	c.offload(pauseInflate, func(yield func()) {
		text, err = wsproto.InflateMessage(m.Op, packed.B, limit, yield)
		packed.Put()
	}, func(c *Conn) {
		defer text.Put()
		switch broken, ok := err.(*wsproto.CloseError); {
		case c == nil: // the client is being closed: its message is discarded
		case ok:
			Because(c, CauseProtocol)
			c.ws().fail(broken.Code, broken.Reason)
		default:
			c.ws().dispatch(wsproto.Message{Op: m.Op, Payload: text.B})
		}
	})
}

// Offload has a worker call work, which would take too long on the loop, and which calls yield
// every millisecond or more often, so that loops go on. The next messages of c wait until then was
// called, on the loop: with true, or with false if c has closed or begun to. It may be called
// during Handler.Message only, at most once.
func (c *Conn) Offload(work func(yield func()), then func(open bool)) {
	c.loop.engine.metrics.Offloaded.Add(1)
	c.ws().offload(pauseWork, work, func(c *Conn) { then(c != nil) })
}

// offload has a worker call work while c is paused, and then calls then on the loop.
func (c wsConn) offload(why pause, work func(yield func()), then func(*Conn)) {
	l := c.loop
	e := l.engine
	c.paused |= why
	done := offloaded{handle: c.Handle(), why: why, then: then}
	go func() {
		timeslice.Do(func(yield func()) { done.failed = !e.contain(work, yield) })
		l.inflater.mail.Put(done)
	}()
}

// contain calls work and reports whether it did not panic.
func (e *Engine) contain(work func(yield func()), yield func()) (ok bool) {
	defer func() {
		if !owner.Containing || ok {
			return
		}
		e.opts.Faults.Note(owner.Loop, recover())
	}()
	work(yield)
	return true
}

// drain finishes the work that workers have done.
func (f *inflater) drain() { f.mail.Drain(0, f.finish) }

func (f *inflater) finish(w offloaded) {
	l := f.loop
	c := l.table.get(w.handle)
	if c != nil && (c.state != stateOpen || c.paused&w.why == 0) {
		c = nil
	}
	l.iter.conn = c
	switch {
	case !w.failed:
		w.then(c)
	case c != nil:
		Because(c, CauseFault)
		c.ws().fail(wsproto.CloseInternalError, "")
	}
	if c != nil {
		c.ws().unpause(w.why)
	}
}
