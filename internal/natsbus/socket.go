package natsbus

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// corkBytes is how much a corked connection buffers before it writes all the same.
const corkBytes = 32 << 10

// strictConn closes itself when a write fails. nats.go forgets what it had buffered then (for a
// subscription it does not even report it) and would go on with the connection as if nothing were
// missing; closed, it reconnects and repeats its subscriptions.
//
// It also makes one write of many. nats.go repeats each subscription on a new connection by a write
// of its own, and its flusher may find a turn of the publisher line by line. So writes are buffered
// while the connection is corked: from the dial until nats.go has repeated all subscriptions, and
// during a turn of the publisher. While it connects, a read writes what is buffered first: the peer
// may wait for it.
type strictConn struct {
	net.Conn
	timeout time.Duration // of the write in uncork

	connecting atomic.Bool // corked since the dial

	mu   sync.Mutex
	turn bool   // corked by the publisher
	kept []byte // written to it and not yet written by it
}

func newStrictConn(c net.Conn, timeout time.Duration) *strictConn {
	s := &strictConn{Conn: c, timeout: timeout}
	s.connecting.Store(true)
	return s
}

func (c *strictConn) Read(p []byte) (int, error) {
	if c.connecting.Load() {
		c.mu.Lock()
		_ = c.flush() // the read fails, too
		c.mu.Unlock()
	}
	return c.Conn.Read(p)
}

func (c *strictConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.turn && !c.connecting.Load() {
		return c.write(p)
	}
	c.kept = append(c.kept, p...)
	if len(c.kept) >= corkBytes {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// SetWriteDeadline does not change the deadline of a write in uncork.
func (c *strictConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}

// cork begins a turn of the publisher.
func (c *strictConn) cork() {
	c.mu.Lock()
	c.turn = true
	c.mu.Unlock()
}

// uncork ends a turn of the publisher: what is buffered is written, unless the connection is being
// made.
func (c *strictConn) uncork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn = false
	if !c.connecting.Load() {
		c.flushInTime()
	}
}

// connected ends the cork that began with the dial.
func (c *strictConn) connected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connecting.Store(false)
	if !c.turn {
		c.flushInTime()
	}
}

// flushInTime flushes outside of a Write, for which nats.go would have set a deadline.
func (c *strictConn) flushInTime() {
	if len(c.kept) == 0 {
		return
	}
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		c.Conn.Close()
		return
	}
	_ = c.flush() // it has closed the connection, which nats.go's read loop notices
}

// flush writes what is buffered. The caller has the lock.
func (c *strictConn) flush() error {
	if len(c.kept) == 0 {
		return nil
	}
	_, err := c.write(c.kept)
	c.kept = c.kept[:0]
	return err
}

func (c *strictConn) write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.Conn.Close()
	}
	return n, err
}
