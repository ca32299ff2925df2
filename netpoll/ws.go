package netpoll

import (
	"time"

	"sluice/wsproto"
)

// wsConn is the role of a WebSocket: frames, pings, pauses and the closing handshake.
type wsConn struct{ *Conn }

// consumeFrames handles the complete frames and returns how many bytes they were.
func (c wsConn) consumeFrames(b []byte) (off int) {
	l := c.loop
	limits := l.limits()
	for left := frameQuota; ; left-- {
		if left == 0 && c.state == stateOpen {
			c.yield()
		}
		if off == len(b) || c.paused != 0 && c.state == stateOpen {
			c.parser.Release()
			return off
		}
		m, n, done, err := c.parser.Next(b[off:], limits)
		if err != nil {
			broken := err.(*wsproto.CloseError)
			Because(c.Conn, CauseProtocol)
			c.fail(broken.Code, broken.Reason)
			return len(b)
		}
		if n == 0 {
			return off
		}
		off += n
		c.spend(1, n)
		if done {
			c.dispatch(m)
			if c.state != stateOpen && c.state != stateClosing {
				return len(b)
			}
			if m.Cost > 0 {
				limits = l.limits() // the budget has changed
			}
		}
	}
}

// dispatch handles a message or control frame.
func (c wsConn) dispatch(m wsproto.Message) {
	l := c.loop
	if l.inflater.used += m.Cost; m.Compressed {
		if c.state == stateOpen {
			c.inflate(m)
		}
		return
	}
	switch m.Op {
	case wsproto.OpClose:
		if c.state == stateClosing { // the response to ours
			c.to(stateFinish)
			if c.queued == 0 {
				c.scheduleClose()
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
	case wsproto.OpPong: // receive has noted that the peer is alive
	default:
		if c.state == stateOpen {
			l.stats.messages++
			l.engine.opts.Handler.Message(c.Conn, m.Payload)
		}
	}
}

// fail closes the connection after a protocol error. The peer's close frame is not awaited, because
// further input cannot be parsed (RFC 6455 §7.1.7).
func (c wsConn) fail(code uint16, reason string) {
	if c.state == stateClosing {
		c.to(stateFail)
		if c.queued == 0 {
			c.ending().flushed()
		}
		return
	}
	c.to(stateFail)
	c.sendClose(code, reason)
}

func (c wsConn) sendClose(code uint16, reason string) {
	l := c.loop
	if c.code == 0 {
		c.code = code
	}
	c.unpause(^pause(0)) // the peer's close frame follows the buffered messages
	c.push(l.arena.Commit(wsproto.AppendClose(l.arena.Begin(), code, reason)))
	l.wheel.Expect(&c.timer, l.now+l.opts.Limits.CloseTimeout, c.Conn)
}

var ping = wsproto.AppendFrame(nil, wsproto.OpPing, nil)

// keepAlive pings a peer that has been idle, and closes the connection if no pong follows. A peer
// that takes output, but slowly, comes to the ping late: it has time for as long as it goes on. And
// what waits in the socket has come in time: on a machine with too much to do this process may be
// later than any slack of the wheel.
func (c wsConn) keepAlive(now time.Duration) {
	l := c.loop
	limits := &l.opts.Limits
	switch {
	case c.paused != 0: // its input stays in the socket, so it does not count as idle
		c.flags &^= flagPinged
		c.active(now)
		c.schedulePing()
	case c.flags&flagPinged != 0 && (hasInput(int(c.fd)) || c.reads()):
		l.wheel.Expect(&c.timer, now+limits.PongTimeout, c.Conn)
	case c.flags&flagPinged != 0:
		l.engine.metrics.PingLost.Add(1)
		c.code = CloseAbnormal
		Because(c.Conn, CausePing)
		c.scheduleClose()
	case now < c.activeAt+limits.PingInterval:
		c.schedulePing()
	default:
		c.flags |= flagPinged
		c.push(ping)
		l.wheel.Expect(&c.timer, now+limits.PongTimeout, c.Conn)
	}
}

// reads reports whether the peer of a late pong is still taking what the kernel holds for it: at
// the first call for a ping whether there is anything, later whether it has acknowledged some of it
// since.
func (c wsConn) reads() bool {
	l := c.loop
	before, again := l.acked[c.slot]
	if unread(int(c.fd)) == 0 {
		return false
	}
	now := acknowledged(int(c.fd))
	if again && now == before {
		return false
	}
	if l.acked == nil {
		l.acked = make(map[uint32]uint64)
	}
	l.acked[c.slot] = now
	return true
}

// schedulePing arms the timer for the next ping. Input does not move the timer: when it fires,
// keepAlive checks how long the peer has been idle. Times are rounded up, so that many idle
// connections share wake-ups.
func (c wsConn) schedulePing() {
	interval := c.loop.opts.Limits.PingInterval
	if interval < 0 {
		c.loop.wheel.Cancel(&c.timer)
		return
	}
	grid := max(interval/64, tick)
	at := (c.activeAt + interval + grid - 1) / grid * grid
	c.loop.wheel.Schedule(&c.timer, at, c.Conn)
}
