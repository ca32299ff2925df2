package netpoll

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// While another process takes over, a connection that net/http serves comes back to a loop when it
// is at rest, and leaves with the loops' own (leave.go).
//
// It is at rest when net/http waits for the first byte of the next request, in a read of its whole
// buffer: then it holds no byte that the client has sent. The wait is between two deadlines for
// reads, which net/http sets after http.StateIdle and when the request begins. Such a read is ended
// by a deadline that has passed. It returns either bytes, and net/http goes on, or none: then the
// loop reads what comes next. So nothing is read by both.

// restAtHTTP is what a connection at net/http is doing between two requests. handed.mu guards it.
type restAtHTTP struct {
	phase    restPhase
	buffer   int       // size of net/http's buffer, as its first read shows; 0: there was none
	deadline time.Time // of reads
	reads    bool      // in a read that may be ended
	ended    bool      // it is being ended
	gone     bool      // a loop has the connection: net/http is told that its input has ended
	closed   bool
}

// restPhase is how far net/http has got after a response.
type restPhase uint8

const (
	restBusy    restPhase = iota
	restIdle              // http.StateIdle
	restWaiting           // the deadline of the wait is set
)

// Idle is called by the server when a connection is in http.StateIdle, on its goroutine.
func (h *handed) Idle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rest.phase = restIdle
}

// SetReadDeadline implements net.Conn.
func (h *handed) SetReadDeadline(at time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &h.rest
	r.deadline = at
	if r.phase == restIdle {
		r.phase = restWaiting
	} else {
		r.phase = restBusy
	}
	return h.Conn.SetReadDeadline(at)
}

// begin notes a read of up to n bytes. It reports whether the connection is at rest, and whether it
// is to leave before anything is read. h.mu is held.
func (h *handed) begin(n int) (rests, leaves bool) {
	r := &h.rest
	if r.buffer == 0 {
		r.buffer = n
	}
	rests = r.phase == restWaiting && n == r.buffer
	r.phase, r.reads, r.ended = restBusy, rests, false
	return rests, rests && h.engine.left.Load()
}

// finish ends a read at rest, which has returned n bytes and err. It reports whether the connection
// has left.
func (h *handed) finish(n int, err error) bool {
	h.mu.Lock()
	r := &h.rest
	ended := r.ended
	r.reads, r.ended = false, false
	if ended && n > 0 {
		_ = h.Conn.SetReadDeadline(r.deadline)
	}
	h.mu.Unlock()
	return ended && n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && h.regain()
}

// regain has a loop go on with a connection at rest, of which nobody reads. It reports whether the
// connection is no longer net/http's.
func (h *handed) regain() bool {
	if h.engine.draining.Load() {
		return false // net/http closes it
	}
	h.mu.Lock()
	gone := !h.rest.closed
	h.rest.gone = gone
	h.mu.Unlock()
	if gone {
		_ = h.engine.Adopt(h.self, nil) // closes it if no loop can have it
	}
	return gone
}

// end ends the read of a connection at rest, so that it leaves.
func (h *handed) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := &h.rest; r.reads && !r.ended {
		r.ended = true
		_ = h.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// close reports whether net/http is to close the connection: not if a loop has it.
func (h *handed) close() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rest.closed = true
	return !h.rest.gone
}

// atHTTP are the connections that net/http has, for regain.
type atHTTP struct {
	mu    sync.Mutex
	conns map[*handed]struct{}
}

// add notes a connection. self is the net.Conn that net/http gets.
func (a *atHTTP) add(h *handed, self net.Conn) {
	h.self = self
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns == nil {
		a.conns = make(map[*handed]struct{})
	}
	a.conns[h] = struct{}{}
}

func (a *atHTTP) remove(h *handed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.conns, h)
}

// end has the connections at rest leave; the others follow when they are (Engine.left).
func (a *atHTTP) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for h := range a.conns {
		h.end()
	}
}
