package netpoll

import (
	"errors"
	"net/http"

	"github.com/panjf2000/gnet/v2"

	"sluice/internal/owner"
	"sluice/wsproto"
)

// A panic on an event loop is contained: it is logged and counted, the connection that the loop was
// working for is closed, and the loop goes on with its iteration. It never unwinds through gnet,
// whose loop would end. The process dies instead in builds with assertions.
//
// An iteration, or what a callback of gnet adds to it, is a sequence of steps. Each can be done
// again: it consumes what it works on before it does, so after a panic the same step goes on with
// the rest. Only input is not taken twice.
type step uint8

const (
	stepBegin step = iota // timers
	stepInput             // the callback's own
	stepResume
	stepAckWake
	stepWorkers
	stepHandler
	stepJudge
	stepDrain
	stepWrite
	stepEnd
)

// maxFaults is how many panics of an iteration are answered by doing the same step again.
const maxFaults = 100

// work is what a loop is doing, as far as it matters when that panics.
type work struct {
	step   step
	conn   *Conn // is worked for; nil: no single one
	in     input
	batch  []*Conn // is being written
	queued bool    // batch is a part of the line

	faulty bool // there was a panic: mend is due
}

// input is what a callback of gnet is about.
type input struct {
	do      func(*Loop, input) // a method of Loop
	conn    *Conn              // receive, finish
	b       []byte             // receive
	gc      gnet.Conn          // accept, adopt
	adopted *adopted           // adopt
}

func (l *Loop) inReceive(in input) { in.conn.receive(in.b) }
func (l *Loop) inAccept(in input)  { l.accept(in.gc) }
func (l *Loop) inAdopt(in input)   { l.adopt(in.gc, in.adopted) }

// handle has a callback's input handled.
func (l *Loop) handle(in input) {
	l.work.in = in
	l.run(stepInput, stepInput)
	l.work.in = input{}
}

// run does the steps from first to last.
func (l *Loop) run(first, last step) {
	if l.broken {
		return
	}
	w := &l.work
	w.step = first
	for faults := 1; !l.steps(last); faults++ {
		if faults%maxFaults == 0 {
			w.step++
		}
	}
}

// steps does the steps from the present one to last. It returns false after a panic.
func (l *Loop) steps(last step) (done bool) {
	defer l.contain()
	w := &l.work
	if w.faulty {
		w.faulty = false
		l.repair()
	}
	for ; w.step <= last; w.step++ {
		w.conn = nil
		l.do(w.step)
	}
	w.conn = nil
	return true
}

func (l *Loop) do(s step) {
	switch s {
	case stepBegin:
		l.iterating = true
		l.wait.callbacks = 0
		l.ackWake()
	case stepInput:
		in := l.work.in
		l.work.conn = in.conn
		in.do(l, in)
	case stepResume:
		// Behind the input: a connection that leaves for net/http now takes along all that was read
		// from it.
		l.resumeYielded()
		l.resume()
	case stepAckWake:
		if l.wait.scheduled.Load() {
			l.ackWake() // no iteration of its own is needed
		}
	case stepWorkers:
		l.drainHandshakes()
		l.drainOffloaded()
	case stepHandler:
		l.behind = false
		l.engine.opts.Handler.Iterate(l)
	case stepJudge:
		if l.wheel.Overdue() && l.judge() {
			l.engine.opts.Handler.Iterate(l) // it may have something to send off
		}
	case stepDrain:
		l.continueDrain()
	case stepWrite:
		for first := true; first || len(l.dirty) > 0 || len(l.toReap) > 0 || len(l.lagChanged) > 0; first = false {
			l.flush()
			l.reap()
			l.notifyLagging()
		}
	case stepEnd:
		l.checkDrained()
		l.ticker.Rearm()
		l.publish()
		if len(l.yielded) > 0 {
			l.Wake() // the rest of their input is for the next iteration
		}
		l.iterating = false
	}
}

// contain is deferred by steps.
func (l *Loop) contain() {
	if !owner.Containing {
		return
	}
	value := recover()
	if value == nil {
		return
	}
	l.note(value)
	w := &l.work
	w.faulty = true
	if w.step == stepInput {
		w.step++
	}
	switch e := l.wheel.Fired().(type) {
	case *Conn:
		w.conn = e
	case *backlog:
		w.conn = e.conn
	}
}

func (l *Loop) note(value any) {
	var handle Handle
	if c := l.work.conn; c != nil {
		handle = c.Handle()
	}
	l.engine.opts.Faults.Note(owner.Loop, value, "loop", l.index, "conn", handle)
}

// repair brings the loop into a sound state after a panic.
func (l *Loop) repair() {
	w := &l.work
	if w.batch != nil {
		l.repairFlush()
	}
	if len(l.deferred.conns) > 0 && !l.deferred.timer.Armed() {
		l.wheel.Schedule(&l.deferred.timer, l.now+tick, l)
	}
	if c, ok := l.accepting(); ok {
		w.conn = c
	}
	w.in = input{}
	if w.conn != nil {
		if w.conn.flags&flagFault != 0 {
			w.conn.scheduleClose() // Fault itself has panicked, or what came of it
		}
		w.conn.Fault() // which is still to blame if that panics
		w.conn = nil
	}
	if l.engine.opts.AfterPanic != nil {
		l.engine.opts.AfterPanic(l)
	}
}

// accepting returns the connection whose acceptance was interrupted. One that had not got its Conn
// is closed.
func (l *Loop) accepting() (c *Conn, ok bool) {
	gc := l.work.in.gc
	if gc == nil {
		return nil, false
	}
	if c, ok = gc.Context().(*Conn); !ok {
		l.work.in = input{}
		_ = l.el.Close(gc)
	}
	return c, ok
}

// repairFlush has all that were to be written in the flush that was interrupted written in the next
// one, but for those of which no one knows how much the socket took.
func (l *Loop) repairFlush() {
	w := &l.work
	batch, rest := w.batch, l.dirty
	w.batch = nil
	if u, ok := l.flusher.(interface{ interrupted(batch []*Conn) }); ok {
		u.interrupted(batch)
	}
	if !w.queued {
		rest = l.dirty[len(batch):]
	}
	dirty := make([]*Conn, 0, len(batch)+len(rest))
	dirty = append(dirty, rest...)
	for _, c := range batch {
		c.flags &^= flagDirty
	}
	for _, c := range rest {
		c.flags |= flagDirty
	}
	for _, c := range batch {
		if c.queued > 0 && c.state < stateReap && !c.Lagging() && c.flags&(flagDirty|flagDeferred) == 0 {
			c.flags |= flagDirty
			dirty = append(dirty, c)
		}
	}
	clear(batch)
	if w.conn != nil {
		w.conn.scheduleClose()
		w.conn = nil
	}
	l.dirty = dirty
}

// Fault closes a connection that a panic has left in doubt: a WebSocket with 1011, a plain request
// with 500. It is for Options.AfterPanic.
func (c *Conn) Fault() {
	if c.state >= stateReap || c.flags&flagFault != 0 {
		return
	}
	c.flags |= flagFault
	c.in, c.parser = nil, wsproto.Parser{} // left to the collector: whoever has a buffer else is not known
	c.http().forgetBody()
	switch c.state {
	case stateOpen, stateClosing:
		if c.flags&flagStream != 0 {
			c.Finish()
			return
		}
		c.ws().fail(wsproto.CloseInternalError, "internal error")
	case statePending:
		c.http().refusePending(&c.loop.engine.metrics.RefusedUpgrade, c.http().errorResponse(http.StatusInternalServerError))
	case stateHead, stateRequest:
		if c.queued == 0 {
			c.http().refuse(c.http().errorResponse(http.StatusInternalServerError))
			return
		}
		c.scheduleClose()
	case stateTLS:
		if t := c.link(); t != nil && t.handshaking {
			c.tls().endHandshake(&c.loop.engine.metrics.TLSFailed)
		}
		c.scheduleClose()
	default:
		c.scheduleClose()
	}
}

// attempt does f for one of many connections: a panic is contained, and closes that one alone.
func attempt(c *Conn, f func(*Conn)) {
	l := c.loop
	at := l.work.conn
	l.work.conn = c
	if !tried(c, f) && !tried(c, (*Conn).Fault) {
		c.scheduleClose()
	}
	l.work.conn = at
}

func tried(c *Conn, f func(*Conn)) (done bool) {
	defer c.loop.containClose()
	f(c)
	return true
}

// finalized finalizes a connection, and sees to it that no count misses it if that panics.
func (l *Loop) finalized(c *Conn) {
	if l.tryFinalize(c) {
		return
	}
	if l.table.get(c.Handle()) == c {
		l.table.remove(c)
	}
	if c.flags&flagHeld != 0 {
		c.flags &^= flagHeld
		l.held--
		l.tryClosed(c)
	}
	c.Session = nil
}

func (l *Loop) tryFinalize(c *Conn) (done bool) {
	defer l.containClose()
	c.ending().finalize()
	return true
}

// tryKeepHalfClosed is endingConn.keepHalfClosed; false if that panics.
func (l *Loop) tryKeepHalfClosed(c *Conn, err error) (does bool) {
	defer l.containClose()
	return c.ending().keepHalfClosed(err)
}

func (l *Loop) tryClosed(c *Conn) {
	defer l.containClose()
	l.engine.opts.Handler.Closed(c)
}

// containClose is deferred where a panic concerns one connection only.
func (l *Loop) containClose() {
	if !owner.Containing {
		return
	}
	if value := recover(); value != nil {
		l.note(value)
	}
}

// errInterrupted is why a ring is given up.
var errInterrupted = errors.New("a panic interrupted a flush")
