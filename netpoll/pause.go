package netpoll

import (
	"sluice/pool"
	"sluice/wsproto"
)

// A WebSocket connection is paused while there is a reason for its next message to wait. What has
// been read of it is kept then; when more arrives, the socket is not read any more, so that the
// client waits, too, and no more is kept than two reads and a message. The end of the connection is
// noticed all the same.

// pause is a set of reasons.
type pause uint8

const (
	pauseHandler pause = 1 << iota // Conn.Pause
	pauseInflate                   // a message is inflated off the loop
	pauseQuota                     // it has had its share of the iteration
	pauseWork                      // Conn.Offload
)

// frameQuota is how many frames of a connection are handled in an iteration.
const frameQuota = 256

// readSize is what gnet reads at a time.
const readSize = 64 << 10

// Pause has the next messages of an open WebSocket wait until Resume. Nothing gets lost, and the
// order stays. On any other connection it does nothing.
func (c *Conn) Pause() {
	if c.state != stateOpen || c.flags&flagStream != 0 || c.paused&pauseHandler != 0 {
		return
	}
	c.paused |= pauseHandler
	m := c.loop.engine.metrics
	m.Paused.Add(1)
	m.Pauses.Add(1)
}

// Resume ends what Pause began. The messages that wait are handled later, in the order in which
// they came.
func (c *Conn) Resume() { c.ws().unpause(pauseHandler) }

// Paused reports whether messages wait for Resume.
func (c *Conn) Paused() bool { return c.paused&pauseHandler != 0 }

// unpause takes reasons away, and has the connection go on if none is left.
func (c wsConn) unpause(why pause) {
	if c.paused&why == 0 {
		return
	}
	if c.paused&why&pauseHandler != 0 {
		c.loop.engine.metrics.Paused.Add(-1)
	}
	if c.paused &^= why; c.paused != 0 || c.state >= stateReap {
		return
	}
	if c.readPaused {
		c.readPaused = !c.loop.listen(c.Conn, true)
	}
	if c.in != nil {
		c.loop.resumable = append(c.loop.resumable, c.Conn)
		c.loop.Wake()
	}
}

// bufferPaused keeps what has arrived while the connection is paused, and has no more read.
func (c wsConn) bufferPaused(b []byte) {
	if len(b) == 0 {
		return
	}
	if c.in == nil {
		c.in = pool.GetBuffer(len(b))
		c.in.B = append(c.in.B, b...)
	} else {
		c.buffer(b)
	}
	l := c.loop
	if !c.readPaused {
		c.readPaused = l.listen(c.Conn, false)
	}
	// Where the socket has to be read, there is a bound.
	if len(c.in.B) > l.engine.opts.Limits.MaxMessage+4*readSize {
		l.engine.metrics.Overflows.Add(1)
		c.fail(wsproto.CloseTryAgainLater, "too many messages at once")
	}
}

// yield ends the connection's share of the iteration.
func (c wsConn) yield() {
	l := c.loop
	c.paused |= pauseQuota
	l.yielded = append(l.yielded, c.Conn)
	l.engine.metrics.Yields.Add(1)
}

// resumeYielded lets those go on that have had their share in the iteration before.
func (l *Loop) resumeYielded() {
	for i, c := range l.yieldedBefore {
		l.yieldedBefore[i] = nil
		c.ws().unpause(pauseQuota)
	}
	l.yieldedBefore = l.yieldedBefore[:0]
}

// listen has gnet read a connection, or not. It reports whether that was possible.
func (l *Loop) listen(c *Conn, on bool) bool {
	p := l.wait.parker.Load()
	return p != nil && p.Watch(int(c.fd), on)
}
