package netpoll

import (
	"golang.org/x/sys/unix"

	"sluice/internal/owner"
)

// output holds the connections of a loop that have something to write. Owned by the loop.
type output struct {
	loop    *Loop // fixed
	flusher flusher

	dirty      []*Conn    // have new output; flagDirty is set
	queue      writeQueue // wait for their writes since earlier iterations
	lagChanged []*Conn    // Conn.Lagging has changed since the Handler was notified
	full       bool       // see Loop.Full

	deferred      []*Conn     // see Conn.Defer; nil: a panic interrupted its flush
	deferredTimer owner.Timer // armed while there are any

	freeBacklogs *backlog // for reuse
	freeCount    int
}

// flusher writes the outboxes of a batch of connections, as far as their sockets take them, and
// calls Conn.sent or Conn.scheduleClose for each. It is called on the loop and must not block. No
// connection is in a batch twice.
type flusher interface {
	flush(l *Loop, batch []*Conn)
}

const (
	vectorLen = 64       // slices in one writev
	smallCopy = 16 << 10 // bytes up to which several slices are copied into one write
)

// flush writes the connections with new output, or queues them if they are more than directMax, and
// writes queueBatch queued ones.
func (o *output) flush() {
	l := o.loop
	if n := len(o.dirty); n > directMax {
		o.queue.push(o.dirty)
		clear(o.dirty)
		o.dirty = o.dirty[:0]
	} else if n > 0 {
		l.iter.batch, l.iter.queued = o.dirty, false
		l.measured.Batches.Observe(n)
		o.flusher.flush(l, o.splitDeferred(o.dirty))
		l.iter.batch, l.iter.conn = nil, nil
		// Connections that became dirty during the flush follow the batch.
		rest := copy(o.dirty, o.dirty[n:])
		clear(o.dirty[rest:])
		o.dirty = o.dirty[:rest]
	}
	if o.queue.len() > 0 {
		batch := o.queue.pop(queueBatch)
		l.iter.batch, l.iter.queued = batch, true
		l.measured.Batches.Observe(len(batch))
		o.flusher.flush(l, o.splitDeferred(batch))
		l.iter.batch, l.iter.conn = nil, nil
		clear(batch)
	}
	if o.queue.len() == 0 {
		o.full = false
	}
}

// writer is a flusher that makes one write or writev call per connection.
type writer struct {
	bufs    [vectorLen][]byte
	vector  [vectorLen]unix.Iovec
	scratch [smallCopy]byte
}

func (w *writer) flush(l *Loop, batch []*Conn) {
	for _, c := range batch {
		l.iter.conn = c
		w.writeConn(c)
	}
}

// writeConn writes the outbox of one connection.
func (w *writer) writeConn(c *Conn) {
	if c.link() != nil {
		c.tls().flushTLS()
		return
	}
	// More than one write is needed only for more slices than vectorLen.
	for again := true; again && c.queued > 0 && c.state < stateReap; {
		bufs := c.gather(w.bufs[:0])
		size := total(bufs)
		n, err := w.write(int(c.fd), bufs, size)
		clear(bufs)
		again = c.sent(n, size, err)
	}
}

// write writes bufs, size bytes in all, and returns how many of them the socket took.
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

// sent notes that the socket took the oldest n of size bytes, or err. It reports whether the socket
// may take more.
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
		c.ws().noteAlive() // the peer reads, if slowly
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
