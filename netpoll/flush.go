package netpoll

import (
	"golang.org/x/sys/unix"
)

// flusher writes what the connections of a batch have queued, as far as their sockets take it, and
// tells each by sent or scheduleClose. It is called on the loop and must not block. No connection
// is in a batch twice.
type flusher interface {
	flush(l *Loop, batch []*Conn)
}

const (
	vectorLen = 64       // slices in one writev
	smallCopy = 16 << 10 // bytes up to which several slices are copied into one write
)

// writer is a flusher that makes one write or writev call per connection.
type writer struct {
	bufs    [vectorLen][]byte
	vector  [vectorLen]unix.Iovec
	scratch [smallCopy]byte
}

func (w *writer) flush(l *Loop, batch []*Conn) {
	for _, c := range batch {
		l.work.conn = c
		w.writeConn(c)
	}
}

// writeConn writes what one connection has queued.
func (w *writer) writeConn(c *Conn) {
	if c.link() != nil {
		c.tls().flushTLS()
		return
	}
	// More than one round only if there are more slices than a vector holds.
	for again := true; again && c.queued > 0 && c.state < stateReap; {
		bufs := c.gather(w.bufs[:0])
		size := total(bufs)
		n, err := w.write(int(c.fd), bufs, size)
		clear(bufs)
		again = c.sent(n, size, err)
	}
}

// write returns how many bytes the socket took.
func (w *writer) write(fd int, bufs [][]byte, size int) (n int, err error) {
	switch {
	case len(bufs) == 1:
		n, err = write(fd, bufs[0])
	case size <= len(w.scratch):
		n, err = write(fd, join(w.scratch[:0], bufs))
	default:
		n, err = writev(fd, bufs, w.vector[:])
	}
	return max(n, 0), err
}

// sent is told that the socket took the oldest n of size bytes, or the error that kept it from
// doing so. It reports whether the socket may take more.
func (c *Conn) sent(n, size int, err error) bool {
	switch {
	case err == nil || err == unix.EAGAIN:
	case err == unix.EINTR:
		return true
	default:
		c.scheduleClose()
		return false
	}
	if n > 0 && c.Lagging() {
		c.ws().noteAlive() // it reads, if slowly
	}
	c.dequeue(n, n < size)
	return n == size
}

func total(bufs [][]byte) (size int) {
	for _, b := range bufs {
		size += len(b)
	}
	return size
}

// join appends all of bufs to b.
func join(b []byte, bufs [][]byte) []byte {
	for _, more := range bufs {
		b = append(b, more...)
	}
	return b
}
