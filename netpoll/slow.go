package netpoll

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	"sluice/internal/loglimit"
	"sluice/internal/owner"
	"sluice/wsproto"
)

// What slow clients hold is bounded for each (Limits.OutboxBytes), in time (Limits.SlowTimeout) and
// for all of an engine together (Limits.BacklogBytes). A loop lists its lagging connections, counts
// what they hold, and checks the last two bounds while there are any. WebSockets, streams and
// responses to plain requests count alike, with TLS also the sealed records, and what is held back
// (Holder).
//
// Beyond the bound of all, each loop closes the worst of its own: those with the largest backlog,
// and among equals those that have taken nothing for longest, until its share of the excess is
// gone. What is queued for them is dropped at once, so that the memory is free.

// slowTick is the interval at which a loop with lagging connections checks their bounds.
const slowTick = 100 * time.Millisecond

const shedText = "slow clients are closed: what is queued for all of them exceeds its bound (backlogBytes, memory limit)"

// slowList has a loop's lagging connections in the order in which they last took something, the one
// that has waited longest first. Owned by the loop.
type slowList struct {
	loop        *Loop // fixed
	first, last *backlog
	bytes       int64 // weights of all
	published   int64 // the part of Metrics.BacklogBytes that is of this loop
	timer       owner.Timer
	logShed     loglimit.Limiter
}

// slowEntry is a backlog's place in the list.
type slowEntry struct {
	listed     bool
	prev, next *backlog
	weight     int64         // bytes counted
	since      time.Duration // when the socket last took something, or began to lag
	unread     int           // bytes that the kernel held for the peer then
}

// note records that c has just lagged, with or without progress.
func (s *slowList) note(c *Conn, progress bool) {
	q := c.more
	e := &q.slow
	switch {
	case !e.listed:
		e.listed = true
		s.append(q)
		s.progress(q)
		if !s.timer.Armed() {
			s.loop.wheel.Schedule(&s.timer, s.loop.now+slowTick, s)
		}
	case progress:
		s.unlink(q)
		s.append(q)
		s.progress(q)
	}
	weight := int64(c.queued)
	if t := c.link(); t != nil {
		weight += int64(cap(t.out.bytes()))
	}
	s.weigh(q, weight)
}

func (s *slowList) progress(q *backlog) {
	q.slow.since, q.slow.unread = s.loop.now, unread(int(q.conn.fd))
}

func (s *slowList) weigh(q *backlog, weight int64) {
	s.bytes += weight - q.slow.weight
	q.slow.weight = weight
}

// remove takes a backlog off the list, if it is on it: its connection lags no longer, or is closed
// for its slowness and counts no more.
func (s *slowList) remove(q *backlog) {
	if !q.slow.listed {
		return
	}
	s.weigh(q, 0)
	s.unlink(q)
	q.slow = slowEntry{}
}

func (s *slowList) append(q *backlog) {
	q.slow.prev = s.last
	if s.last != nil {
		s.last.slow.next = q
	} else {
		s.first = q
	}
	s.last = q
}

func (s *slowList) unlink(q *backlog) {
	e := &q.slow
	if e.prev != nil {
		e.prev.slow.next = e.next
	} else {
		s.first = e.next
	}
	if e.next != nil {
		e.next.slow.prev = e.prev
	} else {
		s.last = e.prev
	}
	e.prev, e.next = nil, nil
}

// Expire checks the bounds of lagging connections.
func (s *slowList) Expire(now time.Duration) {
	if s.first == nil {
		return
	}
	l := s.loop
	l.wheel.Schedule(&s.timer, now+slowTick, s)
	s.endStalled(now)
	s.shed()
	l.iter.conn = nil
}

// endStalled closes the connections that have taken nothing for Limits.SlowTimeout. A socket takes
// more only when a good part of its buffer is free, which a slow reader may not reach in that time:
// so the kernel is asked whether the peer has read anything.
func (s *slowList) endStalled(now time.Duration) {
	e := s.loop.engine
	limit := s.loop.opts.Limits.SlowTimeout
	for q := s.first; q != nil && limit > 0 && now >= q.slow.since+limit; q = s.first {
		c := q.conn
		s.loop.iter.conn = c
		if unread(int(c.fd)) < q.slow.unread {
			s.note(c, true)
			continue
		}
		e.metrics.SlowClosed.Add(1)
		e.log.Debug("a client is closed: it has read nothing for slowTimeout", "remote", c.RemoteAddr(), "queued", c.queued)
		c.ending().endSlow(CauseSlow)
	}
}

// held returns what is held back for all connections, in bytes.
func held(e *Engine) int64 {
	if e.opts.Holder == nil {
		return 0
	}
	return max(e.opts.Holder.Held(), 0)
}

// weighed is a lagging connection with all that is queued or held for it.
type weighed struct {
	q     *backlog
	bytes int64
}

// shed closes the worst of the loop's lagging connections if all loops' together hold more than
// they may.
func (s *slowList) shed() {
	l := s.loop
	e := l.engine
	s.publish()
	heldBytes := held(e)
	all, limit := backlogOf(e, heldBytes), min(e.backlogLimit.Load(), int64(l.opts.Limits.BacklogBytes))
	if all <= limit {
		return
	}
	var worst []weighed
	var own, gone int64
	for q := s.first; q != nil; q = q.slow.next {
		w := weighed{q, q.slow.weight}
		if heldBytes > 0 {
			w.bytes += e.opts.Holder.HeldFor(q.conn) // too much of what is shared: the next tick makes up for it
		}
		worst = append(worst, w)
		own += w.bytes
	}
	if own <= 0 {
		return
	}
	share := int64(float64(all-limit) * float64(own) / float64(all))
	// They are in the order of their waiting already.
	slices.SortStableFunc(worst, func(a, b weighed) int { return cmp.Compare(b.bytes, a.bytes) })
	closed := 0
	for _, w := range worst {
		if gone > share {
			break
		}
		l.iter.conn = w.q.conn
		gone += w.bytes
		w.q.conn.ending().endSlow(CauseBacklog)
		closed++
	}
	e.metrics.BacklogClosed.Add(uint64(closed))
	s.logShed.Log(e.log, slog.LevelWarn, l.now, warnEvery, shedText, "bytes", all, "limit", limit, "connections", closed)
	s.publish()
}

// backlogOf returns all that waits for slow clients, held bytes of which are held back.
func backlogOf(e *Engine, held int64) int64 {
	all := e.metrics.BacklogBytes.Load() + held
	if e.opts.Others != nil {
		all += e.opts.Others()
	}
	return all
}

// ShedOthers does for clients that are not on a loop what a loop does for its own: bytes wait for
// them (a part of Options.Others). If all clients together have more than they may, it calls cut
// with the share of the excess, which closes the worst and returns how many. It is called by one
// goroutine at a time.
func (e *Engine) ShedOthers(bytes int64, cut func(share int64) int) {
	all, limit := backlogOf(e, held(e)), min(e.backlogLimit.Load(), int64(e.limits.Load().BacklogBytes))
	if all <= limit || bytes <= 0 {
		return
	}
	closed := cut(int64(float64(all-limit) * min(float64(bytes)/float64(all), 1)))
	e.metrics.BacklogClosed.Add(uint64(closed))
	e.logShed.Log(e.log, slog.LevelWarn, e.opts.Clock.Now(), warnEvery, shedText, "bytes", all, "limit", limit, "connections", closed)
}

// publish adds the loop's change to the sum of all loops.
func (s *slowList) publish() {
	if d := s.bytes - s.published; d != 0 {
		s.loop.engine.metrics.BacklogBytes.Add(d)
		s.published = s.bytes
	}
}

// endSlow closes a lagging connection for its slowness: a WebSocket with 1013, a stream by its end.
// What is queued is dropped, but for the slices that may have been sent in part. A response cannot
// be cut short in order, nor can a connection that is closing already: these are closed at once.
func (c endingConn) endSlow(why Cause) {
	Because(c.Conn, why)
	c.loop.slow.remove(c.more)
	if c.state != stateOpen {
		c.scheduleClose()
		return
	}
	if c.flags&flagStream == 0 && c.code == 0 {
		c.code = wsproto.CloseTryAgainLater // for Ending
	}
	c.cutOutbox()
	if h := c.loop.engine.opts.Holder; h != nil {
		h.Drop(c.Conn)
	}
	c.Close(wsproto.CloseTryAgainLater, "too slow")
}

// cutOutbox drops what is queued behind the first slice. With TLS, what is sealed stands for more.
// Each slice ends with a frame.
func (c endingConn) cutOutbox() {
	q := c.more
	kept, sealed := len(c.first), 0
	if t := c.link(); t != nil {
		sealed = int(t.plain)
	}
	end := q.head
	for ; end < len(q.bufs) && kept < sealed; end++ {
		kept += len(q.bufs[end])
	}
	clear(q.bufs[end:])
	q.bufs, q.owned = q.bufs[:end], false
	if q.head == end {
		q.bufs, q.head = q.bufs[:0], 0
	}
	c.queued = int32(kept)
}

// SetBacklogLimit bounds what slow clients of all loops may hold, in bytes, from now on. A limit
// above Limits.BacklogBytes is that one. Any goroutine may call it.
func (e *Engine) SetBacklogLimit(bytes int64) {
	e.backlogLimit.Store(bytes)
}

// Refuse has new connections refused with 503, or no longer, because memory is short. Any goroutine
// may call it.
func (e *Engine) Refuse(refuse bool) { e.refusing.Store(refuse) }
