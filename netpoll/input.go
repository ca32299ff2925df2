package netpoll

import (
	"sluice/internal/invariants"
	"sluice/wsproto"
)

// inbox is the input of a connection that could not be handled yet, and how far it was parsed.
type inbox struct {
	in     pendingBytes // an incomplete head or frame, or input that is not handled yet
	parser wsproto.Parser
	scan   wsproto.HeadScanner
}

// receive handles the bytes of one read; they are valid during the call. An incomplete head or
// frame at their end is buffered.
func (c *Conn) receive(b []byte) {
	if c.state >= stateReap {
		if invariants.Enabled {
			invariants.Check(!c.ending().goesOn(), "input of a connection is read that another owner goes on with")
		}
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

// take handles plaintext; b is valid during the call.
func (c *Conn) take(b []byte) {
	if c.paused != 0 && c.state == stateOpen {
		if c.flags&flagStream == 0 { // of which input is discarded
			c.ws().bufferPaused(b)
		}
		return
	}
	if !c.in.empty() {
		b = c.in.add(b)
	}
	if rest := b[c.consume(b):]; len(rest) > 0 || !c.in.empty() {
		c.in.keep(rest)
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
		c.ws().spend(0, len(b)-n)
	case stateRefuse:
		c.http().answerRefused()
	}
	return len(b) // input after the last request or message is discarded
}
