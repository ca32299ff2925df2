package netpoll

import (
	"bytes"
	"net/http"

	"sluice/pool"
	"sluice/wsproto"
)

// receive takes the bytes of one read; they are valid during the call. An incomplete head or frame at
// their end is kept in a buffer that follows what has arrived, never what the peer announced.
func (c *Conn) receive(b []byte) {
	if c.state >= stateDoomed {
		return
	}
	c.loop.stats.in += uint64(len(b))
	c.hear()
	if c.state == stateLinger {
		c.discard(len(b))
		return
	}
	if c.state == stateProxy {
		rest, used := c.takeProxy(b)
		if used != nil {
			defer used.Put()
		}
		if len(rest) == 0 {
			return
		}
		b = rest
	}
	if c.link() != nil {
		c.receiveTLS(b)
		return
	}
	c.take(b)
}

// take takes plaintext; it is valid during the call.
func (c *Conn) take(b []byte) {
	if c.paused != 0 && c.state == stateOpen {
		c.wait(b)
		return
	}
	if c.in != nil {
		b = c.keep(b)
	}
	rest := b[c.consume(b):]
	switch {
	case c.in == nil && len(rest) > 0:
		c.in = pool.GetBuffer(len(rest))
		c.in.B = append(c.in.B, rest...)
	case c.in != nil && len(rest) == 0:
		c.dropInput()
	case c.in != nil && len(rest) < len(c.in.B):
		c.in.B = c.in.B[:copy(c.in.B, rest)]
	}
}

// keep appends b to what was kept, in a larger buffer if need be, and returns all of it.
func (c *Conn) keep(b []byte) []byte {
	if n := len(c.in.B) + len(b); n > cap(c.in.B) {
		larger := pool.GetBuffer(max(n, 2*cap(c.in.B)))
		larger.B = append(larger.B, c.in.B...)
		c.in.Put()
		c.in = larger
	}
	c.in.B = append(c.in.B, b...)
	return c.in.B
}

// dropInput forgets what was kept.
func (c *Conn) dropInput() {
	if c.in != nil {
		c.in.Put()
		c.in = nil
	}
}

// consume handles what it can of the input and returns how much that was.
func (c *Conn) consume(b []byte) (n int) {
	if c.state == stateHead {
		if n = c.consumeHead(b); n == 0 {
			return 0
		}
	}
	switch c.state {
	case statePending:
		return c.await(b)
	case stateRequest, stateAnswered:
		return n + c.pipeline(b[n:])
	case stateOpen, stateClosing:
		if c.flags&flagStream == 0 {
			return n + c.consumeFrames(b[n:])
		}
	case stateRefuse:
		c.answer(http.StatusServiceUnavailable)
	}
	return len(b) // whatever it is, nobody wants it any more
}

// consumeHead handles the request head, and with a plain request its body. It returns 0 if it is incomplete, and
// if the Handler has not decided on it: then it is to be kept.
func (c *Conn) consumeHead(b []byte) int {
	l := c.loop
	e := l.engine
	if c.flags&flagBody != 0 {
		if len(b) < l.bodies[c.slot] {
			return 0
		}
		c.forgetBody()
	}
	idle := c.flags&flagIdle != 0
	c.flags &^= flagIdle
	h := &l.head
	n, err := c.scan.Parse(b, e.opts.Limits.MaxHead, h)
	if err != nil {
		e.metrics.RefusedHead.Add(1)
		c.reject(err.(*wsproto.HandshakeError))
		return len(b)
	}
	if n > 0 && (!h.IsUpgrade() || string(h.Path()) != e.opts.WSPath) {
		if c.stream(h) {
			return len(b)
		}
		return c.request(b, h, n)
	}
	if idle {
		l.wheel.Expect(&c.timer, l.now+e.opts.Limits.HeadTimeout, c)
	}
	if n == 0 {
		return 0
	}
	if refusal := wsproto.CheckUpgrade(h); refusal != nil {
		e.metrics.RefusedUpgrade.Add(1)
		c.reject(refusal)
		return len(b)
	}
	if e.draining.Load() {
		e.metrics.RefusedDrain.Add(1)
		c.answer(http.StatusServiceUnavailable)
		return len(b)
	}
	return c.upgrade(b, h, n)
}

func (c *Conn) reject(err *wsproto.HandshakeError) {
	c.refuse(c.response(err.Status, err.Header, err.Reason))
}

// consumeFrames handles the complete frames and returns how much they were.
func (c *Conn) consumeFrames(b []byte) (off int) {
	l := c.loop
	for left := share; ; left-- {
		if left == 0 && c.state == stateOpen {
			c.yield()
		}
		if c.paused != 0 && c.state == stateOpen {
			_, _, _, _ = c.parser.Next(nil, l.limits()) // it may hold a buffer
			return off
		}
		m, n, done, err := c.parser.Next(b[off:], l.limits())
		if err != nil {
			broken := err.(*wsproto.CloseError)
			c.fail(broken.Code, broken.Reason)
			return len(b)
		}
		if n == 0 {
			return off
		}
		off += n
		if done {
			c.dispatch(m)
			if c.state != stateOpen && c.state != stateClosing {
				return len(b)
			}
		}
	}
}

// dispatch handles a message or control frame.
func (c *Conn) dispatch(m wsproto.Message) {
	l := c.loop
	if l.inflater.used += m.Cost; m.Compressed {
		if c.state == stateOpen {
			c.inflate(m)
		}
		return
	}
	switch m.Op {
	case wsproto.OpClose:
		if c.state == stateClosing { // the answer to ours
			c.to(stateFinish)
			if c.queued == 0 {
				c.doom()
			}
			return
		}
		c.to(stateFinish)
		c.code = m.Code
		c.sendClose(m.Code, "")
	case wsproto.OpPing:
		if c.state == stateOpen {
			c.offer(l.arena.Commit(wsproto.AppendFrame(l.arena.Begin(), wsproto.OpPong, m.Payload)))
		}
	case wsproto.OpPong: // that something came is all that counts
	default:
		if c.state == stateOpen {
			l.stats.messages++
			l.engine.opts.Handler.Message(c, m.Payload)
		}
	}
}

// handover gives the connection, with the bytes read so far, to net/http.
func (c *Conn) handover(b []byte) {
	e := c.loop.engine
	if e.opts.HTTP == nil {
		c.answer(http.StatusNotFound)
		return
	}
	fd, err := dup(int(c.fd))
	if err != nil {
		e.metrics.RefusedFDs.Add(1)
		c.answer(http.StatusServiceUnavailable)
		return
	}
	e.metrics.Handovers.Add(1)
	c.to(stateHandover)
	c.flags |= flagKeepOpen
	if c.link() != nil {
		c.handoverTLS(fd, b)
	} else {
		go e.serveHTTP(fd, bytes.Clone(b), c.handedAddr())
	}
	c.doom()
}
