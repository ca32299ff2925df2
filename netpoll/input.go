package netpoll

import (
	"net/http"

	"sluice/pool"
	"sluice/wsproto"
)

// inbox is the input of a connection that could not be handled yet, and how far it was parsed.
type inbox struct {
	in     *pool.Buffer // an incomplete head or frame, or what waits; nil: none
	parser wsproto.Parser
	scan   wsproto.HeadScanner
}

// receive takes the bytes of one read; they are valid during the call. An incomplete head or frame
// at their end is kept in a buffer that follows what has arrived, never what the peer announced.
func (c *Conn) receive(b []byte) {
	if c.state >= stateReap {
		return
	}
	c.loop.stats.in += uint64(len(b))
	c.ws().noteAlive()
	if c.state == stateLinger {
		c.ending().discard(len(b))
		return
	}
	if c.state == stateProxy {
		rest, used := c.http().takeProxy(b)
		if used != nil {
			defer used.Put()
		}
		if len(rest) == 0 {
			return
		}
		b = rest
	}
	if c.link() != nil {
		c.tls().receiveTLS(b)
		return
	}
	c.take(b)
}

// take takes plaintext; it is valid during the call.
func (c *Conn) take(b []byte) {
	if c.paused != 0 && c.state == stateOpen {
		c.ws().bufferPaused(b)
		return
	}
	if c.in != nil {
		b = c.buffer(b)
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
func (i *inbox) buffer(b []byte) []byte {
	if n := len(i.in.B) + len(b); n > cap(i.in.B) {
		larger := pool.GetBuffer(max(n, 2*cap(i.in.B)))
		larger.B = append(larger.B, i.in.B...)
		i.in.Put()
		i.in = larger
	}
	i.in.B = append(i.in.B, b...)
	return i.in.B
}

// dropInput forgets what was kept.
func (i *inbox) dropInput() {
	if i.in != nil {
		i.in.Put()
		i.in = nil
	}
}

// consume handles what it can of the input and returns how much that was.
func (c *Conn) consume(b []byte) (n int) {
	if c.state == stateHead {
		if n = c.http().consumeHead(b); n == 0 {
			return 0
		}
	}
	switch c.state {
	case statePending:
		return c.http().await(b)
	case stateRequest, stateAnswered:
		return n + c.http().pipeline(b[n:])
	case stateOpen, stateClosing:
		if c.flags&flagStream == 0 {
			return n + c.ws().consumeFrames(b[n:])
		}
	case stateRefuse:
		c.http().answer(http.StatusServiceUnavailable)
	}
	return len(b) // whatever it is, nobody wants it any more
}
