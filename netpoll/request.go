package netpoll

import "sluice/wsproto"

// Plain requests of HTTP/1.1 are answered on the loop, one after the other: the next request of a
// connection is looked at when the answer to the one before has gone to the socket. So answers keep
// their order, no more than one waits in an outbox, and a connection that leaves for net/http has
// nothing in flight. What comes meanwhile is kept, within bounds: beyond them the answer that is
// due is the last one, and the client has to ask the rest again (RFC 9112 §9.3.2).

// request asks the Handler whether it keeps a plain request; b is the input that begins with it, n
// the length of its head. It returns how much of b is done with: nothing while the body is
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
	c.to(stateRequest) // it may be answered during the call
	if last {
		c.flags |= flagLast
	}
	l.wheel.Cancel(&c.timer)
	c.hold()
	if !l.engine.opts.Handler.Request(c.Conn, h, b[n:end]) {
		c.release()
		if c.state != stateRequest {
			c.scheduleClose() // it was answered: there is nothing to hand over
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

// KeepAlive reports whether the connection stays open behind the answer to the present plain
// request. If not, the answer should say so, by "Connection: close".
func (c *Conn) KeepAlive() bool {
	ended := c.flags&flagEnded != 0 && c.in.empty() // there can be no further request
	return c.flags&flagLast == 0 && !ended && !c.loop.engine.draining.Load()
}

// Respond answers the plain request that Handler.Request kept: a whole HTTP response, of which body
// may be the end that is at hand in one piece; else it is nil. Both may be shared, nobody may
// change them any more. They are taken however large they are. keep says that the response promises
// to keep the connection open: only if KeepAlive was true. If the connection has gone, or the
// request has been answered already, Respond does nothing.
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

// charge counts what is queued, and what will be, as part of a response that waits to be written.
// It ends with the outbox: see wrote and dropOutbox.
func (c httpConn) charge() {
	if c.flags&flagCharged == 0 {
		c.flags |= flagCharged
		c.loop.engine.metrics.ResponseBytes.Add(int64(c.queued))
	}
}

// answered is called when the answer to a plain request has gone.
func (c httpConn) answered() {
	l := c.loop
	limits := &l.opts.Limits
	if !c.KeepAlive() {
		c.to(stateFail) // and held to its end, so that Stop waits for it
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
	// Rounded up so that connections which fall silent one after the other share wake-ups.
	grid := max(limits.IdleTimeout/64, tick)
	l.wheel.Expect(&c.timer, (l.now+limits.IdleTimeout+grid-1)/grid*grid, c.Conn)
}

// pipeline keeps what a client sends before its last request was answered, within bounds. It
// returns how much is not to be kept.
func (c httpConn) pipeline(b []byte) int {
	limits := &c.loop.opts.Limits
	if c.flags&flagLast == 0 && len(b) <= limits.MaxHead+max(limits.MaxBody, 0)+maxPipelined {
		return 0
	}
	c.flags |= flagLast
	return len(b)
}

// release takes hold back: the Handler is done with the connection.
func (c httpConn) release() {
	if c.flags&flagHeld != 0 {
		c.flags &^= flagHeld
		c.loop.held--
		c.Session = nil
	}
}

// forgetBody is called when a body is complete, and before the slot is given away.
func (c httpConn) forgetBody() {
	if c.flags&flagBody != 0 {
		delete(c.loop.bodies, c.slot)
		c.flags &^= flagBody
	}
}
