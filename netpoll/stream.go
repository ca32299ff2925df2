package netpoll

import "sluice/wsproto"

// A stream is an HTTP response that does not end by itself: Server-Sent Events, say. It stays on
// the loop and has what a WebSocket has: a handle, an outbox with its bound, a place in the drain.
// There is no framing, and no ping: what the Handler sends now and then for the client's sake shows
// whether the peer is still there.

// stream asks the Handler whether it keeps the request as a stream.
func (c httpConn) stream(h *wsproto.Head) bool {
	l := c.loop
	e := l.engine
	c.to(stateOpen) // it may send during the call
	c.flags |= flagStream
	if !e.opts.Handler.Stream(c.Conn, h) {
		c.flags &^= flagStream
		if c.state != stateOpen {
			c.scheduleClose() // it was closed or has lost its socket: there is nothing to hand over
			return true
		}
		c.to(stateHead)
		return false
	}
	c.hold()
	e.metrics.Streams.Add(1)
	e.metrics.OpenStreams.Add(1)
	if c.state != stateOpen {
		return true
	}
	l.wheel.Cancel(&c.timer)
	if limits := &e.opts.Limits; limits.PingInterval > 0 {
		// The kernel gives up a peer that acknowledges nothing, or takes nothing, for as long as a
		// WebSocket may be silent. Where it cannot, it does so later by its own rules.
		setUserTimeout(int(c.fd), limits.PingInterval+limits.PongTimeout)
	}
	if e.draining.Load() {
		c.Finish()
	}
	return true
}

// Finish ends a stream: what is queued is still sent, within Limits.CloseTimeout, then our side of
// the connection is shut, and Handler.Closed follows. On anything but a stream that is open it does
// nothing.
func (c *Conn) Finish() {
	if c.state != stateOpen || c.flags&flagStream == 0 {
		return
	}
	l := c.loop
	c.to(stateFail)
	l.wheel.Expect(&c.timer, l.now+l.opts.Limits.CloseTimeout, c)
	if c.queued == 0 {
		c.ending().flushed()
	}
}
