package netpoll

import "sluice/wsproto"

// Plain HTTP/1.1 requests get their responses on the loop, one at a time: the next request of a
// connection is handled once the response to the one before has been written. So responses keep
// their order, at most one is in an outbox, and a connection that leaves for net/http has none in
// flight. Pipelined requests are buffered, within bounds. Beyond these the pending response is the
// last, and the client has to repeat the other requests (RFC 9112 §9.3.2).

// request asks the Handler whether it keeps a plain request; b is the input that begins with it, n
// the length of its head. It returns how many bytes of b it is done with: none while the body is
// incomplete.
func (c httpConn) request(b []byte, h *wsproto.Head, n int) int {
	l := c.loop
	limits := &l.opts.Limits
	length, last, plain := h.Plain()
	if !plain || length > max(limits.MaxBody, 0) {
		c.handover(b)
		return len(b)
	}
	end := n + length
	if len(b) < end {
		c.flags |= flagBody
		if l.bodies == nil {
			l.bodies = make(map[uint32]int)
		}
		l.bodies[c.slot] = end
		l.wheel.Expect(&c.timer, l.now+limits.BodyTimeout, c.Conn)
		return 0
	}
	c.to(stateRequest) // Respond may be called during the call
	if last {
		c.flags |= flagLast
	}
	l.wheel.Cancel(&c.timer)
	c.hold()
	if !l.engine.opts.Handler.Request(c.Conn, h, b[n:end]) {
		c.release()
		if c.state != stateRequest {
			c.scheduleClose() // it was answered or closed: nothing can be handed over
			return len(b)
		}
		c.flags &^= flagLast
		c.to(stateHead)
		c.handover(b)
		return len(b)
	}
	l.stats.requests++
	return end
}

// KeepAlive reports whether the connection stays open after the response to its current plain
// request. If not, the response should contain "Connection: close".
func (c *Conn) KeepAlive() bool {
	ended := c.flags&flagEnded != 0 && c.in.empty() // there can be no further request
	return c.flags&flagLast == 0 && !ended && !c.ending().closesIdle()
}

// Respond sends the response to the plain request that Handler.Request kept: a complete HTTP
// response, head and, if not empty, body after it. Both may be shared, and must not be changed from
// now on. Limits.OutboxBytes does not apply. keep must be false unless KeepAlive was true and the
// response does not close the connection. If the connection has closed, or the response was sent
// already, Respond does nothing.
func (c *Conn) Respond(head, body []byte, keep bool) {
	if c.state != stateRequest {
		return
	}
	c.to(stateAnswered)
	if !keep {
		c.flags |= flagLast
	}
	c.push(head)
	if len(body) > 0 {
		c.push(body)
	}
	if len(head)+len(body) >= chargeFrom {
		c.http().charge()
	}
}

// chargeFrom is the length, in bytes, from which a response is counted in Metrics.ResponseBytes
// when it is queued. A shorter one is counted once its socket has not taken all of it, so that the
// usual response touches no counter that loops share.
const chargeFrom = 16 << 10

// charge counts the outbox, and what is queued from now on, in Metrics.ResponseBytes until it is
// written or dropped: see dequeue and dropOutbox.
func (c httpConn) charge() {
	if c.flags&flagCharged == 0 {
		c.flags |= flagCharged
		c.loop.engine.metrics.ResponseBytes.Add(int64(c.queued))
	}
}

// answered is called when the response to a plain request has been written.
func (c httpConn) answered() {
	l := c.loop
	limits := &l.opts.Limits
	if !c.KeepAlive() {
		c.to(stateFail) // still held, so that Stop waits for its end
		l.wheel.Expect(&c.timer, l.now+limits.CloseTimeout, c.Conn)
		c.ending().flushed()
		return
	}
	c.release()
	c.to(stateHead)
	if !c.in.empty() {
		l.wheel.Expect(&c.timer, l.now+limits.HeadTimeout, c.Conn)
		l.resumption.add(c.Conn)
		return
	}
	c.flags |= flagIdle
	// Rounded up, so that connections that become idle one after the other share wake-ups.
	grid := max(limits.IdleTimeout/64, tick)
	l.wheel.Expect(&c.timer, (l.now+limits.IdleTimeout+grid-1)/grid*grid, c.Conn)
}

// pipeline bounds what a client sends before the response to its last request. It returns how many
// bytes of b are discarded.
func (c httpConn) pipeline(b []byte) int {
	limits := &c.loop.opts.Limits
	if c.flags&flagLast == 0 && len(b) <= limits.MaxHead+max(limits.MaxBody, 0)+maxPipelined {
		return 0
	}
	c.flags |= flagLast
	return len(b)
}

// release undoes hold: the Handler has no further use for the connection.
func (c httpConn) release() {
	if c.flags&flagHeld != 0 {
		c.flags &^= flagHeld
		c.loop.held--
		c.Session = nil
	}
}

// forgetBody removes the length of an incomplete body: the body is complete, or the slot will be
// free.
func (c httpConn) forgetBody() {
	if c.flags&flagBody != 0 {
		delete(c.loop.bodies, c.slot)
		c.flags &^= flagBody
	}
}
