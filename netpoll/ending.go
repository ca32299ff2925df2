package netpoll

import (
	"golang.org/x/sys/unix"

	"sluice/wsproto"
)

// endingConn is the role of a connection at its end: the client has ended its input (half.go), our
// side is shut down (linger.go), or it is closed.
type endingConn struct{ *Conn }

// flushed is called when the outbox has become empty in a state that waits for that.
func (c endingConn) flushed() {
	if c.link() != nil && (c.state == stateFinish || c.state == stateFail) && !c.tls().flushCloseNotify() {
		return // called again once that is written
	}
	switch c.state {
	case stateAnswered:
		c.http().answered()
	case stateFinish:
		c.scheduleClose()
	case stateFail:
		if c.flags&flagEnded != 0 {
			c.scheduleClose() // no input can follow that would have to be discarded
			return
		}
		c.startLinger()
	}
}

// finalize releases all that the connection has. It is called just before the descriptor is closed;
// nothing is written to it from now on.
func (c endingConn) finalize() {
	l := c.loop
	m := l.engine.metrics
	if c.state == statePending {
		m.Pending.Add(-1)
	}
	if l.engine.quitting.Load() && c.unfinished() {
		m.Cut.Add(1)
	}
	if l.engine.quitting.Load() {
		Because(c.Conn, CauseDraining)
		c.farewell()
	}
	if c.flags&flagOpened != 0 && !c.movedOn() {
		discardInput(int(c.fd))
	}
	defer delete(l.causes, c.slot) // also if Closed panics
	key := c.takeKey()
	if c.standing&(shared|moved) == shared {
		_ = unix.Shutdown(int(c.fd), unix.SHUT_RDWR)
	}
	c.to(stateClosed)
	c.ws().unpause(^pause(0))
	c.gc = nil
	l.wheel.Cancel(&c.timer)
	c.dropOutbox()
	c.tls().dropTLS()
	c.parser.Reset()
	c.in.drop()
	c.http().forgetBody()
	c.forgetLinger()
	delete(c.loop.acked, c.slot)
	c.forgetProxied()
	if c.flags&flagReserve != 0 {
		l.acceptor.reserveUsed--
	}
	if int(c.fd) >= l.engine.fdLimit {
		l.engine.fds.above.Add(-1)
	}
	if c.flags&flagKeepOpen == 0 {
		l.engine.uncount(key)
	}
	l.table.remove(c.Conn)
	if c.flags&flagOpened != 0 {
		if c.code == 0 {
			c.code = CloseAbnormal
		}
		m.Open.Add(-1)
		if !c.movedOn() {
			m.ClosedWith(c.code).Add(1)
		}
	}
	if c.flags&flagHeld != 0 {
		c.flags &^= flagHeld
		l.held--
		if c.flags&flagStream != 0 {
			m.OpenStreams.Add(-1)
		}
		l.engine.opts.Handler.Closed(c.Conn)
	}
	c.Session = nil
}

// farewell has a WebSocket or stream whose turn in the drain has not come, because this process was
// slower than its time, end in order as far as its socket takes that at once.
func (c endingConn) farewell() {
	if c.state == stateOpen && c.gc != nil {
		c.sendAway(wsproto.CloseGoingAway, stopText)
		c.loop.output.flusher.flush(c.loop, []*Conn{c.Conn})
	}
}

// mostInput bounds what discardInput reads, in bytes.
const mostInput = 64 << 10

// discardInput reads what a client has sent that was not handled, just before its socket is closed:
// close(2) with input that was not read resets the connection, and the client may lose the close
// frame that it was sent (RFC 9112 §9.6 has the same of a response).
func discardInput(fd int) {
	var b [4 << 10]byte
	for left := mostInput; left > 0; {
		n, err := unix.Read(fd, b[:])
		if err != nil || n <= 0 {
			return
		}
		left -= n
	}
}

// hasInput reports whether a socket has bytes of its peer that were not read.
func hasInput(fd int) bool {
	var b [1]byte
	n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == nil && n > 0
}

// forgetProxied removes the client address from a proxy, before the slot is free.
func (c endingConn) forgetProxied() {
	if c.flags&flagProxied != 0 {
		delete(c.loop.proxied, c.slot)
		c.flags &^= flagProxied
	}
}
