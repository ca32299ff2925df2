package netpoll

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"sluice/internal/owner"
)

// deadlineConn is a socket at net/http. A deadline that is found passed much too late, because the
// process did not run, is put off once (see owner.Slack), as on the loops. So input that the client
// sent in time is still read.
type deadlineConn struct {
	*net.TCPConn
	read, write ioDeadline
}

// ioDeadline is one deadline. Any goroutine may use it: net/http ends a read of one goroutine from
// another.
type ioDeadline struct {
	mu  sync.Mutex
	at  time.Time             // zero: none, or not to be put off
	set func(time.Time) error // of the socket
}

func newDeadlineConn(c *net.TCPConn) *deadlineConn {
	p := &deadlineConn{TCPConn: c}
	p.read.set, p.write.set = c.SetReadDeadline, c.SetWriteDeadline
	return p
}

// put sets the deadline. One that has passed already aborts reads or writes, and is not put off.
func (p *ioDeadline) put(at time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at = at; !at.After(time.Now()) {
		p.at = time.Time{}
	}
	return p.set(at)
}

// more reports whether to retry after err, because the deadline has been put off.
func (p *ioDeadline) more(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at, now := p.at, time.Now()
	p.at = time.Time{}
	return !at.IsZero() && now.Sub(at) > owner.Slack && p.set(now.Add(owner.Grace)) == nil
}

// Read implements net.Conn.
func (c *deadlineConn) Read(p []byte) (n int, err error) {
	n, err = c.TCPConn.Read(p)
	if n == 0 && err != nil && c.read.more(err) {
		n, err = c.TCPConn.Read(p)
	}
	return n, err
}

// Write implements net.Conn.
func (c *deadlineConn) Write(p []byte) (n int, err error) {
	n, err = c.TCPConn.Write(p)
	if err != nil && n < len(p) && c.write.more(err) {
		var more int
		more, err = c.TCPConn.Write(p[n:])
		n += more
	}
	return n, err
}

// SetDeadline implements net.Conn.
func (c *deadlineConn) SetDeadline(at time.Time) error {
	return errors.Join(c.read.put(at), c.write.put(at))
}

// SetReadDeadline implements net.Conn.
func (c *deadlineConn) SetReadDeadline(at time.Time) error { return c.read.put(at) }

// SetWriteDeadline implements net.Conn.
func (c *deadlineConn) SetWriteDeadline(at time.Time) error { return c.write.put(at) }
