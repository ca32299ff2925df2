package netpoll

import (
	"errors"
	"net/http"

	"sluice/internal/owner"
	"sluice/wsproto"
)

// A panic on an event loop is contained: it is logged and counted, the connection that the loop was
// working for is closed, and the iteration goes on with the rest. It never unwinds through gnet,
// whose loop would end. In builds with assertions the process dies instead.

// maxFaults is after how many panics an iteration skips the step that panics.
const maxFaults = 100

// errInterrupted is why a ring is closed after a panic.
var errInterrupted = errors.New("a panic interrupted a flush")

// contain is deferred by steps: recover works only in the deferred function itself.
func (i *iteration) contain() {
	if !owner.Containing {
		return
	}
	value := recover()
	if value == nil {
		return
	}
	i.note(value)
	i.faulty = true
	if i.step == stepInput {
		i.step++
	}
	switch e := i.loop.wheel.Fired().(type) {
	case *Conn:
		i.conn = e
	case *backlog:
		i.conn = e.conn
	}
}

// containConn is deferred where a panic concerns one connection only.
func (i *iteration) containConn() {
	if !owner.Containing {
		return
	}
	if value := recover(); value != nil {
		i.note(value)
	}
}

// note counts and logs a panic.
func (i *iteration) note(value any) {
	var remote string
	if i.conn != nil {
		remote = i.conn.RemoteAddr()
	}
	i.loop.engine.opts.Faults.Note(owner.Loop, value, "loop", i.loop.index, "remote", remote)
}

// repair restores the loop's invariants after a panic and closes the connection that was worked
// for.
func (i *iteration) repair() {
	l := i.loop
	if i.batch != nil {
		i.repairFlush()
	}
	l.output.rearmDeferred()
	if c, ok := i.accepting(); ok {
		i.conn = c
	}
	i.in = input{}
	if i.conn != nil {
		if i.conn.flags&flagFault != 0 {
			i.conn.scheduleClose() // Fault itself has panicked, or its consequences have
		}
		i.conn.Fault() // conn stays set: a panic in Fault is this connection's, too
		i.conn = nil
	}
	if l.engine.opts.AfterPanic != nil {
		l.engine.opts.AfterPanic(l)
	}
}

// accepting returns the connection whose acceptance was interrupted. One that has no Conn yet is
// closed.
func (i *iteration) accepting() (c *Conn, ok bool) {
	gc := i.in.gc
	if gc == nil {
		return nil, false
	}
	if c, ok = gc.Context().(*Conn); !ok {
		i.in = input{}
		_ = i.loop.el.Close(gc)
	}
	return c, ok
}

// repairFlush has the rest of an interrupted flush written in the next one. Connections are closed
// if it is unknown how much their sockets took.
func (i *iteration) repairFlush() {
	o := &i.loop.output
	batch, rest := i.batch, o.dirty
	i.batch = nil
	if u, ok := o.flusher.(interface{ interrupted(batch []*Conn) }); ok {
		u.interrupted(batch)
	}
	if !i.queued {
		rest = o.dirty[len(batch):]
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
	if i.conn != nil {
		i.conn.ending().tear()
		i.conn = nil
	}
	o.dirty = dirty
}

// tear closes a connection of which it is unknown how much was sent: nothing may follow that.
func (c endingConn) tear() {
	if t := c.link(); t != nil {
		t.out.drop()
		t.closeNotify = true
	}
	c.scheduleClose()
}

// Fault closes a connection whose state a panic may have corrupted: a WebSocket with 1011, a plain
// request with 500. It is for Options.AfterPanic.
func (c *Conn) Fault() {
	if c.state >= stateReap || c.flags&flagFault != 0 {
		return
	}
	c.flags |= flagFault
	Because(c, CauseFault)
	c.in, c.parser = pendingBytes{}, wsproto.Parser{} // not returned to the pool: they may be in use elsewhere
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

// attempt calls f for one of many connections: a panic is contained, and closes only that one.
func attempt(c *Conn, f func(*Conn)) {
	i := &c.loop.iter
	before := i.conn
	i.conn = c
	if !tried(c, f) && !tried(c, (*Conn).Fault) {
		c.scheduleClose()
	}
	i.conn = before
}

// tried calls f and reports whether it did not panic.
func tried(c *Conn, f func(*Conn)) (done bool) {
	defer c.loop.iter.containConn()
	f(c)
	return true
}

// finalizeSafely is finalize. If that panics, the counts of connections and the Handler still
// learn of the connection's end.
func (c endingConn) finalizeSafely() {
	if c.tryFinalize() {
		return
	}
	l := c.loop
	if l.table.get(c.Handle()) == c.Conn {
		l.table.remove(c.Conn)
	}
	if c.flags&flagHeld != 0 {
		c.flags &^= flagHeld
		l.held--
		c.tryClosed()
	}
	c.Session = nil
}

func (c endingConn) tryFinalize() (done bool) {
	defer c.loop.iter.containConn()
	c.finalize()
	return true
}

func (c endingConn) tryClosed() {
	defer c.loop.iter.containConn()
	c.loop.engine.opts.Handler.Closed(c.Conn)
}

// tryKeepHalfClosed is keepHalfClosed; false if that panics.
func (c endingConn) tryKeepHalfClosed(err error) (kept bool) {
	defer c.loop.iter.containConn()
	return c.keepHalfClosed(err)
}
