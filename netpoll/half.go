package netpoll

import (
	"errors"
	"io"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/owner"
)

// The end of a client's input is not the end of its connection: it may have shut its side down
// after its last request and wait for the response (RFC 9112 §9.6). gnet closes a connection whose
// read returns 0. A connection with output owed then goes on with a duplicate of the descriptor
// that neither gnet nor any poller watches: there is nothing to read, and the end of input would be
// reported again and again. Writes are tried as always. Whether the client has reset the connection
// is asked of the kernel at intervals.
//
// Owed are the responses to complete requests, queued output, and a stream, which is the response
// to its request. A stream has no end of its own, so Options.InputEnded may send something: if the
// client has closed the connection altogether, its kernel answers with a reset. A WebSocket cannot
// go on, because the closing handshake and pings need both directions: it is closed once its outbox
// is empty.

// resetCheckInterval is how often half-closed connections are checked for a reset.
const resetCheckInterval = 200 * time.Millisecond

// halfClosed holds the connections of a loop that go on after the end of their input, with a
// descriptor of their own. Owned by the loop.
type halfClosed struct {
	loop  *Loop            // fixed
	conns map[uint32]*Conn // by slot
	timer owner.Timer      // armed while there are any
}

// endInput notes that the client has ended its input, and reports whether the connection owes it
// output.
func (c endingConn) endInput() bool {
	first := c.flags&flagEnded == 0
	if first {
		c.flags |= flagEnded
		c.afterInputEnd()
	}
	owes := c.owesOutput()
	if first && owes {
		c.loop.engine.metrics.HalfClosed.Add(1)
	}
	return owes
}

// owesOutput reports whether something is still to be sent to a client whose input has ended.
func (c endingConn) owesOutput() bool {
	switch c.state {
	case stateTLS:
		return c.link().hs != nil // the rest of the handshake may have been received, and a request after it
	case statePending, stateRequest, stateAnswered, stateOpen: // which is a stream
		return true
	case stateFinish, stateFail:
		return c.queued > 0
	}
	return false
}

// afterInputEnd decides how a connection whose client has ended its input goes on.
func (c endingConn) afterInputEnd() {
	l := c.loop
	closeBy := l.now + l.opts.Limits.CloseTimeout
	switch {
	case c.state == stateTLS:
		if h := c.link().hs; h != nil {
			h.end()
		}
	case c.state == stateHead && (!c.in.empty() || c.flags&flagBody != 0):
		c.http().forgetBody()
		c.in.drop()
		c.http().answer(http.StatusBadRequest) // the request will never be complete
	case c.state == stateHead:
		c.finishEnded()
	case c.state == stateOpen && c.flags&flagStream != 0:
		if ended := l.engine.opts.InputEnded; ended != nil {
			ended(c.Conn)
		} else {
			c.Finish()
		}
	case c.state == stateOpen || c.state == stateClosing:
		if c.code == 0 {
			c.code = CloseAbnormal
		}
		c.to(stateFinish)
		l.wheel.Expect(&c.timer, closeBy, c.Conn)
		if c.queued == 0 {
			c.flushed()
		} else if !c.Lagging() {
			c.markDirty() // it may have been deferred
		}
	case c.state == stateLinger:
		c.scheduleClose()
	}
}

// finishEnded closes a connection whose client has ended its input and is owed nothing.
func (c endingConn) finishEnded() {
	c.to(stateFinish)
	c.loop.wheel.Expect(&c.timer, c.loop.now+c.loop.opts.Limits.CloseTimeout, c.Conn)
	if c.queued == 0 {
		c.flushed()
	}
}

// keepHalfClosed is called when gnet is about to close the connection's descriptor because of err.
// It reports whether the connection goes on with one of its own.
func (c endingConn) keepHalfClosed(err error) bool {
	if !errors.Is(err, io.EOF) || !c.endInput() {
		return false
	}
	if c.flags&flagProxied == 0 {
		c.SetRemoteAddr(c.RemoteAddrPort()) // gnet forgets it
	}
	fd, err := dup(int(c.fd))
	if err != nil {
		return false
	}
	if socketError(fd) != nil {
		_ = unix.Close(fd)
		return false
	}
	c.loop.half.add(c.Conn, fd)
	return true
}

// add has a connection go on with the descriptor fd.
func (h *halfClosed) add(c *Conn, fd int) {
	c.fd, c.gc = int32(fd), nil
	if h.conns == nil {
		h.conns = make(map[uint32]*Conn)
	}
	h.conns[c.slot] = c
	if !h.timer.Armed() {
		h.schedule(h.loop.now)
	}
}

func (h *halfClosed) schedule(now time.Duration) {
	h.loop.wheel.Schedule(&h.timer, now+resetCheckInterval, owner.Func(h.check))
}

// check closes the connections that have been reset.
func (h *halfClosed) check(now time.Duration) {
	for _, c := range h.conns {
		if socketError(int(c.fd)) != nil {
			c.scheduleClose()
		}
	}
	if len(h.conns) > 0 {
		h.schedule(now)
	}
}

// closeAll closes all half-closed connections. It is called after gnet has ended, which does not
// know them.
func (h *halfClosed) closeAll() {
	for _, c := range h.conns {
		c.ending().closeHalf()
	}
	h.loop.wheel.Cancel(&h.timer)
}

// closeHalf closes a half-closed connection.
func (c endingConn) closeHalf() {
	fd := int(c.fd)
	delete(c.loop.half.conns, c.slot)
	c.finalize()
	_ = unix.Close(fd)
}

// dup returns a duplicate of a descriptor that child processes do not inherit.
func dup(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// socketError returns and clears the pending error of a socket, such as a reset.
func socketError(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}
