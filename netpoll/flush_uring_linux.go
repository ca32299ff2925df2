package netpoll

import (
	"errors"

	"golang.org/x/sys/unix"

	"sluice/internal/invariants"
	"sluice/netpoll/tlskeys"
	"sluice/netpoll/uring"
)

const (
	// uringBatch is how many sends one system call carries, a power of two. More than 64 do not
	// make a send cheaper, and the loop cannot be preempted during the call, by the garbage
	// collector for example: about half a millisecond.
	uringBatch = 64
	// uringScratch is how many bytes of connections with several slices, and of TLS records, one
	// system call carries: at least those of smallCopy.
	uringScratch = 64 << 10
)

// uringFlusher is a flusher that sends on many connections with one system call. All sends are
// complete when flush returns. Until then the outboxes, which nothing changes during the flush, and
// joined keep alive what the kernel reads.
type uringFlusher struct {
	writer writer      // for small batches, and output that does not fit
	ring   *uring.Ring // nil: closed, or abandoned after a failure
	failed func(error)
	sends  []inFlight // by slot of ring
	first  uint32     // slot of the first send that is queued
	bufs   [vectorLen][]byte
	joined []byte // scratch: holds the joined slices of each connection, or their TLS records
}

// inFlight is a send whose result has not been taken.
type inFlight struct {
	index int32 // of the connection in the batch
	size  int32
	at    int32 // with TLS: where its records are in joined, from 1 on; 0: no TLS
}

// newURingFlusher returns a flusher with a ring of its own, which close frees. It calls failed if
// it abandons the ring later.
func newURingFlusher(calls uring.Calls, entries uint32, failed func(error)) (*uringFlusher, error) {
	r, err := uring.New(entries, calls)
	if err != nil {
		return nil, err
	}
	if err = r.Probe(); err != nil {
		r.Close()
		return nil, err
	}
	return &uringFlusher{ring: r, failed: failed, sends: make([]inFlight, r.Cap()), joined: make([]byte, 0, uringScratch)}, nil
}

// close frees the ring. Later flushes use the writer.
func (u *uringFlusher) close() {
	if u.ring != nil {
		u.ring.Close()
		u.ring = nil
	}
}

func (u *uringFlusher) flush(l *Loop, batch []*Conn) {
	for i := 0; i < len(batch); {
		if u.ring == nil || len(batch)-i < uringFrom {
			u.writer.flush(l, batch[i:])
			return
		}
		next, queued := u.queue(batch, i)
		if queued > 0 {
			u.submit(l, batch, queued)
		}
		i = next
	}
}

// queue queues a send for each connection of the batch from index i on, until the ring or joined is
// full. It returns the index of the next connection.
func (u *uringFlusher) queue(batch []*Conn, i int) (next int, queued uint32) {
	u.joined = u.joined[:0]
	for ; i < len(batch) && int(queued) < len(u.sends); i++ {
		c := batch[i]
		c.loop.iter.conn = c
		if (c.queued == 0 || c.state >= stateReap) && c.link() == nil {
			continue
		}
		var b []byte
		var room bool
		at := 0
		if c.link() != nil {
			at = len(u.joined) + 1
			b, room = u.seal(c.tls())
		} else {
			b, room = u.gather(c)
		}
		if !room {
			break
		}
		if b == nil {
			continue
		}
		slot := u.ring.Add(c.fd, b)
		if u.sends[slot] = (inFlight{int32(i), int32(len(b)), int32(at)}); queued == 0 {
			u.first = slot
		}
		queued++
	}
	return i, queued
}

// gather returns the outbox of a connection without TLS, as one slice. nil: it was written.
func (u *uringFlusher) gather(c *Conn) (b []byte, room bool) {
	if c.more == nil {
		return c.first, true
	}
	bufs := c.gather(u.bufs[:0])
	defer clear(bufs)
	switch size := total(bufs); {
	case len(bufs) == 1:
		return bufs[0], true
	case size > smallCopy:
		u.writer.writeConn(c)
		return nil, true
	case size > cap(u.joined)-len(u.joined):
		return nil, false
	}
	at := len(u.joined)
	u.joined = join(u.joined, bufs)
	return u.joined[at:], true
}

// seal returns the outbox of a connection with TLS as records. nil: it was written, because it is
// long, has records that wait already, or is sealed by crypto/tls.
func (u *uringFlusher) seal(c tlsConn) (b []byte, room bool) {
	t := c.link()
	if c.state >= stateReap || t.records == nil || !t.out.empty() || c.queued == 0 || c.queued > smallCopy {
		c.flushTLS()
		return nil, true
	}
	if int(c.queued)+tlskeys.Overhead > cap(u.joined)-len(u.joined) {
		return nil, false
	}
	at := len(u.joined)
	u.joined, t.plain = t.records.Seal(u.joined, c.oldest(smallCopy)), c.queued
	c.loop.tls.note(t)
	return u.joined[at:], true
}

// submit submits the queued sends and handles their results.
func (u *uringFlusher) submit(l *Loop, batch []*Conn, queued uint32) {
	r := u.ring
	left, failure := r.Submit()
	lost := false
	l.stats.submits++
	for range queued - left {
		slot, result, err := r.Next()
		if err != nil {
			failure, lost = err, true
			break
		}
		s := &u.sends[slot]
		size := int(s.size)
		s.size = 0
		c := batch[s.index]
		l.iter.conn = c
		n, err := max(int(result), 0), sendError(result)
		switch {
		case s.at == 0 && c.sent(n, size, err):
			u.writer.writeConn(c) // it has more output, or the send was interrupted
		case s.at == 0:
		case err == unix.EINTR:
			u.rewrite(c, s.at, size)
		default:
			c.tls().sentSealed(u.sealed(s.at, size), n, err)
		}
	}
	due := r.Taken()
	if invariants.Enabled {
		invariants.Check(due == 0 || lost, "%d sends are under way at the end of a flush", due)
	}
	if left > 0 || lost {
		u.clear(batch, queued-left, left)
	}
	if lost || failure != nil && !errors.Is(failure, unix.EAGAIN) && !errors.Is(failure, unix.EBUSY) {
		u.close()
		u.failed(failure)
	}
}

// clear handles the sends without a result: the kernel took the first of them, begun in number, but
// not the left ones after those.
func (u *uringFlusher) clear(batch []*Conn, begun, left uint32) {
	for i := range begun + left {
		s := &u.sends[(int(u.first)+int(i))%len(u.sends)]
		switch c := batch[s.index]; {
		case s.size == 0: // it has a result
		case i < begun:
			c.ending().tear()
		default:
			u.rewrite(c, s.at, int(s.size))
		}
		s.size = 0
	}
}

// rewrite writes what a send that did not begin was to send.
func (u *uringFlusher) rewrite(c *Conn, at int32, size int) {
	if at > 0 {
		c.tls().link().out.add(u.sealed(at, size)) // it has its numbers: nothing may be sealed before it
	}
	u.writer.writeConn(c)
}

// sealed returns the records of a send; at is inFlight.at.
func (u *uringFlusher) sealed(at int32, size int) []byte {
	return u.joined[at-1 : int(at)-1+size]
}

// interrupted handles a flush that has panicked: sends may be queued, or have results that were not
// taken.
func (u *uringFlusher) interrupted(batch []*Conn) {
	pending := false
	for i := range u.sends {
		s := &u.sends[i]
		if s.size == 0 {
			continue
		}
		pending = true
		if int(s.index) < len(batch) {
			batch[s.index].ending().tear()
		}
		s.size = 0
	}
	if pending && u.ring != nil {
		u.close()
		u.failed(errInterrupted)
	}
}

// sendError returns the error of a send's result, for Conn.sent.
func sendError(result int32) error {
	switch errno := unix.Errno(-result); {
	case result >= 0:
		return nil
	case errno == unix.ECANCELED: // cancelled before it began
		return unix.EINTR
	default:
		return errno
	}
}

// uringCalls are the system calls of io_uring.
type uringCalls = uring.Calls

var kernelURing = uring.Kernel

// setURingFlushers gives each loop a ring, or returns an error and gives none.
func (e *Engine) setURingFlushers() error {
	made := make([]*uringFlusher, 0, len(e.loops))
	for i := range e.loops {
		u, err := newURingFlusher(e.uring, uringBatch, func(err error) {
			e.log.Error("io_uring failed: from now on the loop writes to each client by itself", "loop", i, "error", err)
		})
		if err != nil {
			for _, u := range made {
				u.close()
			}
			return err
		}
		made = append(made, u)
	}
	for i, l := range e.loops {
		l.output.flusher = made[i]
	}
	return nil
}
