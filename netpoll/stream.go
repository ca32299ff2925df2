package netpoll

import "sluice/wsproto"

// A stream is an HTTP response without an end, such as server-sent events. It stays on the loop and
// has a handle, a bounded outbox and a place in the drain, like a WebSocket. It has no framing and
// no pings: the data that the Handler sends at intervals shows whether the client is still there.

// stream asks the Handler whether it keeps the request as a stream.
func (c httpConn) stream(h *wsproto.Head) bool {
	l := c.loop
	e := l.engine
	c.to(stateOpen) // it may send during the call
	c.flags |= flagStream
	if !e.opts.Handler.Stream(c.Conn, h) {
		c.flags &^= flagStream
		if c.state != stateOpen {
			c.scheduleClose() // Stream closed it, or its socket failed: nothing can be handed over
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
	c.expectReader()
	if e.draining.Load() {
		Because(c.Conn, CauseDraining)
		c.ending().sendAway(0, "") // a stream has no close frame
	}
	return true
}

// expectReader has the kernel end the connection of a stream if the peer acknowledges or accepts no
// data for as long as a WebSocket may be idle. Kernels without that option do so later.
func (c httpConn) expectReader() {
	if limits := &c.loop.opts.Limits; limits.PingInterval > 0 {
		setUserTimeout(int(c.fd), limits.PingInterval+limits.PongTimeout)
	}
}

// Finish ends a stream: queued output is still sent, within Limits.CloseTimeout, then our side of
// the connection is shut down, and Handler.Closed follows. On other connections, and on a stream
// that is not open, it does nothing.
func (c *Conn) Finish() {
	if c.state != stateOpen || c.flags&flagStream == 0 {
		return
	}
	l := c.loop
	c.to(stateFail)
	c.ws().unpause(^pause(0)) // what the client still sends is discarded within bounds
	l.wheel.Expect(&c.timer, l.now+l.opts.Limits.CloseTimeout, c)
	if c.queued == 0 {
		c.ending().flushed()
	}
}
