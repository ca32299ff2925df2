package netpoll

import (
	"sluice/wsproto"
)

// A WebSocket connection is paused while there is a reason for its next message to wait. The first
// input after that is buffered, and gnet is told not to read the socket any more. So TCP's flow
// control stops the client, and no more is buffered than two reads and a message. The end of the
// connection is noticed all the same.

// pause is a set of reasons.
type pause uint8

const (
	pauseHandler pause = 1 << iota // Conn.Pause
	pauseInflate                   // a message is inflated off the loop
	pauseQuota                     // it has used up its frames of the iteration
	pauseWork                      // Conn.Offload
	pauseRate                      // it has sent more than its rates allow
)

// frameQuota is how many frames of a connection are handled in an iteration.
const frameQuota = 256

// readSize is what gnet reads at a time.
const readSize = 64 << 10

// Pause has the next messages of an open WebSocket wait until Resume. They are neither lost nor
// reordered. On any other connection it does nothing.
func (c *Conn) Pause() {
	if c.state != stateOpen || c.flags&flagStream != 0 || c.paused&pauseHandler != 0 {
		return
	}
	c.paused |= pauseHandler
	m := c.loop.engine.metrics
	m.Paused.Add(1)
	m.Pauses.Add(1)
}

// Resume ends the pause. The buffered messages are handled after it returns, in order of arrival.
func (c *Conn) Resume() { c.ws().unpause(pauseHandler) }

// Paused reports whether messages wait for Resume.
func (c *Conn) Paused() bool { return c.paused&pauseHandler != 0 }

// unpause removes reasons, and has the connection go on if none is left.
func (c wsConn) unpause(why pause) {
	if c.paused&why == 0 {
		return
	}
	if c.paused&why&pauseHandler != 0 {
		c.loop.engine.metrics.Paused.Add(-1)
	}
	if c.paused&why&pauseRate != 0 {
		c.loop.engine.metrics.Throttled.Add(-1)
	}
	if c.paused &^= why; c.paused != 0 || c.state >= stateReap {
		return
	}
	if !c.in.empty() {
		c.loop.resumption.add(c.Conn)
		return
	}
	c.readAgain()
}

// readAgain has the socket read once none of the buffered input waits. Were it read before, each
// pause would add to what is buffered.
func (c wsConn) readAgain() {
	if c.readPaused && c.paused == 0 && c.state < stateReap {
		c.readPaused = !c.loop.wait.watch(c.Conn, true)
	}
}

// bufferPaused buffers input that arrives while the connection is paused, and stops reading.
func (c wsConn) bufferPaused(b []byte) {
	if len(b) == 0 {
		return
	}
	kept := c.in.add(b)
	l := c.loop
	if !c.readPaused {
		c.readPaused = l.wait.watch(c.Conn, false)
	}
	// Where gnet cannot stop reading, the buffer has a bound.
	if len(kept) > l.opts.Limits.MaxMessage+4*readSize {
		l.engine.metrics.Overflows.Add(1)
		Because(c.Conn, CauseOutbox)
		c.fail(wsproto.CloseTryAgainLater, "too many messages at once")
	}
}

// yield pauses the connection until the next iteration.
func (c wsConn) yield() {
	l := c.loop
	c.paused |= pauseQuota
	l.resumption.yielded = append(l.resumption.yielded, c.Conn)
	l.engine.metrics.Yields.Add(1)
}
