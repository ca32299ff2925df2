package netpoll

import (
	"time"

	"sluice/internal/owner"
	"sluice/wsproto"
)

// The outbox of a connection holds slices that other connections share, and that must not be
// changed. The oldest is outbox.first; a backlog exists only while there are more, or while the
// connection lags.
//
// A connection lags while its socket does not take all that is queued. A timer then retries the
// write, instead of the end of each iteration. Short frames that are sent to it are copied: a
// shared slice keeps alive the whole chunk that it was cut from, and a slow consumer would hold a
// chunk per frame.

const (
	lagMin           = 5 * time.Millisecond  // until the first retry after the socket was full
	lagMax           = 80 * time.Millisecond // between retries without progress
	copyBelow        = 4 << 10               // bytes of a frame from which on it is shared, not copied
	ownChunk         = 8 << 10               // bytes of a buffer for copies
	manySlices       = 64                    // slices after which frames are copied though the socket is not full yet
	fullPart         = 4                     // the part of Limits.OutboxBytes beyond which Loop.Full is true
	maxFreeBacklogs  = 8192                  // backlogs that a loop keeps for reuse
	freeBacklogSlots = 16                    // capacity, in slices, up to which a backlog is kept for reuse
)

// outbox is what is queued for a socket.
type outbox struct {
	first  []byte // the oldest slice; nil if nothing is queued
	more   *backlog
	queued int32 // bytes in first and more
	fd     int32 // the socket; fixed while open
}

// backlog is the part of an outbox that most connections do not need.
type backlog struct {
	conn    *Conn
	bufs    [][]byte // after outbox.first, oldest first, from head
	head    int
	owned   bool // the last of bufs is a copy and may be appended to
	lagging bool
	wait    time.Duration
	timer   owner.Timer
	next    *backlog // in output.freeBacklogs
	slow    slowEntry
}

// Send queues a frame, header included, or bytes of a stream for the end of the iteration. The
// frame is shared: it must not be changed from now on. Frames that were committed to the loop's
// arena in a row are written as one. Beyond Limits.OutboxBytes the connection is closed with 1013,
// a stream finished. On a connection that is pending or closing Send does nothing.
func (c *Conn) Send(frame []byte) {
	if c.state != stateOpen || len(frame) == 0 {
		return
	}
	c.loop.stats.frames++
	c.offer(frame)
}

// Queued returns how many bytes wait to be written.
func (o *outbox) Queued() int { return int(o.queued) }

// Lagging reports whether the peer is a slow consumer: its socket did not take all output. A
// Handler that can send less, the newest state instead of every change, should wait until it is
// false.
func (o *outbox) Lagging() bool { return o.more != nil && o.more.lagging }

// offer queues a frame within the bound. A frame for an empty outbox is always taken, however
// large.
func (c *Conn) offer(frame []byte) {
	limit := c.loop.opts.Limits.OutboxBytes
	if c.queued > 0 && int(c.queued)+len(frame) > limit {
		// The socket may take it by now: it was not tried in this iteration or, if the connection
		// lags, for some milliseconds.
		at := c.loop.iter.conn
		c.loop.output.flusher.flush(c.loop, []*Conn{c})
		c.loop.iter.conn = at
		if c.state != stateOpen {
			return
		}
		if c.queued > 0 && int(c.queued)+len(frame) > limit {
			c.loop.engine.metrics.Overflows.Add(1)
			c.loop.engine.log.Debug("a client is closed: it does not read what it is sent", "remote", c.RemoteAddr(), "queued", c.queued, "limit", limit)
			Because(c, CauseOutbox)
			c.Close(wsproto.CloseTryAgainLater, "too slow")
			return
		}
	}
	c.push(frame)
}

// push queues bytes without checking the bound.
func (c *Conn) push(b []byte) {
	l := c.loop
	switch {
	case c.queued == 0:
		c.first = b
	case c.more == nil:
		if both, ok := l.arena.Join(c.first, b); ok {
			c.first = both
			break
		}
		c.more = l.output.newBacklog(c)
		fallthrough
	default:
		c.more.push(b)
	}
	c.queued += int32(len(b))
	if m := c.more; m != nil && !m.lagging && (len(m.bufs)-m.head >= manySlices || int(c.queued) >= l.opts.Limits.OutboxBytes/fullPart) {
		l.output.full = true
	}
	if c.more != nil && c.more.slow.listed {
		l.slow.weigh(c.more, c.more.slow.weight+int64(len(b)))
	}
	if c.flags&flagCharged != 0 {
		l.engine.metrics.ResponseBytes.Add(int64(len(b)))
	}
	if !c.Lagging() {
		c.markDirty()
	}
}

func (c *Conn) markDirty() {
	c.flags &^= flagDeferred
	if c.flags&flagDirty == 0 {
		c.flags |= flagDirty
		c.loop.output.dirty = append(c.loop.output.dirty, c)
	}
}

func (q *backlog) push(b []byte) {
	last := len(q.bufs) - 1
	if q.head <= last && !q.owned {
		if both, ok := q.conn.loop.arena.Join(q.bufs[last], b); ok {
			q.bufs[last] = both
			return
		}
	}
	if len(b) < copyBelow && (q.lagging || len(q.bufs)-q.head >= manySlices) {
		if q.head > last || !q.owned || cap(q.bufs[last])-len(q.bufs[last]) < len(b) {
			q.bufs = append(q.bufs, make([]byte, 0, ownChunk))
			q.owned = true
			last = len(q.bufs) - 1
		}
		q.bufs[last] = append(q.bufs[last], b...)
		return
	}
	q.bufs = append(q.bufs, b)
	q.owned = false
}

// pop returns the oldest slice; nil if there is none.
func (q *backlog) pop() []byte {
	if q.head == len(q.bufs) {
		return nil
	}
	b := q.bufs[q.head]
	q.bufs[q.head] = nil
	q.head++
	if q.head == len(q.bufs) {
		q.bufs, q.head, q.owned = q.bufs[:0], 0, false
	}
	return b
}

// gather appends the oldest slices of the outbox, as many as there is room for.
func (o *outbox) gather(bufs [][]byte) [][]byte {
	if o.queued == 0 {
		return bufs
	}
	bufs = append(bufs, o.first)
	if o.more != nil {
		rest := o.more.bufs[o.more.head:]
		bufs = append(bufs, rest[:min(len(rest), cap(bufs)-len(bufs))]...)
	}
	return bufs
}

// dequeue removes the oldest n bytes from the outbox. full means that the socket did not take all
// that it was given.
func (c *Conn) dequeue(n int, full bool) {
	l := c.loop
	l.stats.writes++
	l.stats.out += uint64(n)
	c.queued -= int32(n)
	if c.flags&flagCharged != 0 {
		l.engine.metrics.ResponseBytes.Add(-int64(n))
	}
	for n > 0 && n >= len(c.first) {
		n -= len(c.first)
		c.first = nil
		if c.more != nil {
			c.first = c.more.pop()
		}
	}
	c.first = c.first[n:]
	switch {
	case c.queued == 0:
		c.first = nil
		c.dropOutbox()
		c.ending().flushed()
	case full:
		c.lag(n > 0)
	}
}

// lag schedules a retry for a socket that did not take all; progress says whether it took anything.
func (c *Conn) lag(progress bool) {
	l := c.loop
	if c.more == nil {
		c.more = l.output.newBacklog(c)
	}
	q := c.more
	switch {
	case !q.lagging:
		q.lagging = true
		l.output.lagChanged = append(l.output.lagChanged, c)
		q.wait = lagMin
		l.engine.metrics.Lagging.Add(1)
		l.engine.metrics.Lags.Add(1)
		if c.state == stateAnswered {
			c.http().charge()
		}
		if c.state == stateAnswered && !c.timer.Armed() { // a drain may have armed it
			l.wheel.Expect(&c.timer, l.now+l.opts.Limits.ReadTimeout, c)
		}
	case progress:
		q.wait = lagMin
	default:
		q.wait = min(2*q.wait, lagMax)
	}
	l.wheel.Schedule(&q.timer, l.now+q.wait, q)
	if c.state <= stateOpen {
		l.slow.note(c, progress)
	}
}

// Expire is called by the wheel when a lagging connection is due for a retry.
func (q *backlog) Expire(time.Duration) { q.conn.markDirty() }

// dropOutbox discards what is queued and releases the backlog.
func (c *Conn) dropOutbox() {
	if c.flags&flagCharged != 0 {
		c.flags &^= flagCharged
		c.loop.engine.metrics.ResponseBytes.Add(-int64(c.queued))
	}
	c.first, c.queued = nil, 0
	q := c.more
	if q == nil {
		return
	}
	c.more = nil
	l := c.loop
	l.wheel.Cancel(&q.timer)
	l.slow.remove(q)
	if q.lagging {
		l.engine.metrics.Lagging.Add(-1)
		l.output.lagChanged = append(l.output.lagChanged, c)
	}
	if l.output.freeCount == maxFreeBacklogs || cap(q.bufs) > freeBacklogSlots {
		return
	}
	clear(q.bufs)
	*q = backlog{bufs: q.bufs[:0], next: l.output.freeBacklogs}
	l.output.freeBacklogs = q
	l.output.freeCount++
}

// newBacklog returns a backlog for c.
func (o *output) newBacklog(c *Conn) *backlog {
	q := o.freeBacklogs
	if q == nil {
		return &backlog{conn: c}
	}
	o.freeBacklogs = q.next
	o.freeCount--
	q.conn, q.next = c, nil
	return q
}

// notifyLagging notifies the Handler of connections whose Conn.Lagging has changed. What it sends
// is written in the next round.
func (o *output) notifyLagging() {
	l := o.loop
	for i := 0; i < len(o.lagChanged); i++ {
		c := o.lagChanged[i]
		o.lagChanged[i] = nil
		if c != nil && c.state == stateOpen && c.flags&flagHeld != 0 { // nil: a panic interrupted it
			l.iter.conn = c
			l.engine.opts.Handler.Lagging(c)
		}
	}
	o.lagChanged = o.lagChanged[:0]
	l.iter.conn = nil
}
