package netpoll

import (
	"log/slog"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"sluice/internal/loglimit"
)

const (
	// refuseWait is how long a connection over a limit may take to send its request. A response
	// before the request would be lost: closing a socket with unread input resets the connection.
	refuseWait = time.Second
	// warnEvery is how often a loop logs the same reason for a refusal.
	warnEvery = time.Minute
)

// acceptor decides on the new connections of a loop. Owned by the loop.
type acceptor struct {
	loop        *Loop // fixed
	reserveUsed int   // connections that use the reserve of descriptors
	ramp        ramp
	refused     uint64 // connections answered with Retry-After
	logFDs      loglimit.Limiter
	logRate     loglimit.Limiter
	logMax      loglimit.Limiter
	logMemory   loglimit.Limiter
	logProxy    loglimit.Limiter
	logAddress  loglimit.Limiter
}

// newConn makes the connection for gc; nil if the loop has no slot left.
func (a *acceptor) newConn(gc gnet.Conn) *Conn {
	l := a.loop
	c := &Conn{loop: l, gc: gc, outbox: outbox{fd: int32(gc.Fd())}, activeAt: l.now, state: stateHead}
	if !l.table.add(c) {
		return nil
	}
	gc.SetContext(c)
	l.engine.byFD.set(int(c.fd), c.slot)
	l.engine.metrics.OpenAll.Add(1)
	if int(c.fd) >= l.engine.fdLimit {
		l.engine.fds.above.Add(1)
	}
	return c
}

// accept decides on a new connection. The kernel gives the lowest free descriptor, so a number at
// the limit means that all below are in use.
func (a *acceptor) accept(gc gnet.Conn) {
	l := a.loop
	e := l.engine
	e.metrics.Accepted.Add(1)
	c := a.newConn(gc)
	if c == nil {
		e.metrics.RefusedMax.Add(1)
		_ = l.el.Close(gc)
		return
	}
	limit := int64(l.opts.Limits.MaxConns)
	noFDs := a.noFDs(c)
	noRoom := limit > 0 && e.metrics.OpenAll.Load() > limit
	if (noFDs || noRoom) && len(l.reaper.conns) < e.reservePerLoop && l.evictor.evict() {
		noFDs, noRoom = false, false // there is room once this iteration has ended
	}
	switch {
	case e.draining.Load():
		e.metrics.RefusedDrain.Add(1)
	case e.refusing.Load():
		e.metrics.RefusedMemory.Add(1)
		a.warn(&a.logMemory, "clients are refused: memory is short; raise the limit (memoryLimit), or give the gateway fewer clients")
	case !noFDs && !noRoom && !a.ramp.take(float64(l.opts.Limits.AcceptRate)/float64(len(e.loops)), l.now):
		e.metrics.RefusedRate.Add(1)
		a.warn(&a.logRate, "clients are refused: more connect per second than acceptRate allows", "rate", l.opts.Limits.AcceptRate)
	case noFDs:
		e.metrics.RefusedFDs.Add(1)
		a.warn(&a.logFDs, "clients are refused: descriptors are running out; raise the limit (ulimit -n)", "limit", e.fdLimit)
	case noRoom:
		e.metrics.RefusedMax.Add(1)
		a.warn(&a.logMax, "clients are refused: there are as many as maxConnections allows", "limit", limit)
	default:
		a.admit(c)
		return
	}
	a.refuse(c, 0)
}

// noFDs reports whether the descriptors for clients are in use. While connections have descriptors
// of the reserve (they took the place of evicted ones), a lower number does not mean that there is
// room: then as many clients are admitted as there were when the numbers below the limit ran out.
func (a *acceptor) noFDs(c *Conn) bool {
	e := a.loop.engine
	open, above := e.metrics.OpenAll.Load(), e.fds.above.Load()
	if int(c.fd) >= e.fdLimit {
		e.fds.room.Store(open - above)
		return true
	}
	return above > 0 && open > e.fds.room.Load()
}

// admit has a connection begin with the proxy's header, the TLS handshake or its request.
func (a *acceptor) admit(c *Conn) {
	l := a.loop
	if l.opts.trusts(c.RemoteAddrPort().Addr()) {
		c.to(stateProxy) // countAddress follows when the client is known
	} else if !a.countAddress(c) {
		return
	} else if l.tls != nil {
		c.tls().startTLS()
		return
	}
	l.wheel.Expect(&c.timer, l.now+l.opts.Limits.HeadTimeout, c)
}

// refuse closes a connection, with a response where it can be sent: 429 if the client may try again
// after so many seconds, 503 if that is 0.
func (a *acceptor) refuse(c *Conn, after int) {
	l := a.loop
	c.code = uint16(after)
	switch {
	case l.tls != nil:
		c.scheduleClose() // a response before the handshake would not be understood
	case a.reserveUsed >= l.engine.reservePerLoop:
		c.http().answerRefused()
		c.to(stateFinish) // closed without lingering: no descriptor is left for that
	default:
		a.reserveUsed++
		c.flags |= flagReserve
		c.to(stateRefuse)
		l.wheel.Expect(&c.timer, l.now+refuseWait, c)
	}
}

// warn logs what clients or proxies cause, each kind once per warnEvery.
func (a *acceptor) warn(kind *loglimit.Limiter, text string, attrs ...any) {
	kind.Log(a.loop.engine.log, slog.LevelWarn, a.loop.now, warnEvery, text, attrs...)
}

// adopt takes a connection back from net/http and handles its latest request as if it had just been
// received, or goes on with one from another process.
func (a *acceptor) adopt(gc gnet.Conn, from *adopted) {
	l := a.loop
	e := l.engine
	c := a.newConn(gc)
	if c == nil {
		e.metrics.RefusedMax.Add(1)
		_ = l.el.Close(gc)
		return
	}
	_ = unix.SetNonblock(int(c.fd), true)
	if from.client.IsValid() {
		c.SetRemoteAddr(from.client)
	}
	if from.socket != nil {
		a.join(c, from)
		return
	}
	if from.arrived {
		a.arrive(c, from)
		return
	}
	a.returnAddress(c, from.key)
	e.metrics.Adopted.Add(1)
	wait := l.opts.Limits.HeadTimeout
	if len(from.head) == 0 {
		c.flags |= flagIdle
		wait = l.opts.Limits.IdleTimeout
	}
	l.wheel.Expect(&c.timer, l.now+wait, c)
	if from.link != nil {
		c.tls().adoptTLS(from)
	} else if len(from.head) > 0 {
		c.receive(from.head)
	}
	// Now: a client that asks all the time would go to net/http again before the next look.
	if len(from.head) == 0 && !l.drain.empty && c.ending().departs() {
		l.drain.give(c.ending().depart(nil))
	}
}

// arrive goes on with a connection at rest that another process has accepted.
func (a *acceptor) arrive(c *Conn, from *adopted) {
	l := a.loop
	l.engine.metrics.Arrived.Add(1)
	if from.link != nil {
		c.tls().joinTLS(from.link, new(Sealed))
	}
	if !a.countAddress(c) {
		return
	}
	wait := l.opts.Limits.HeadTimeout
	if from.idle {
		c.flags |= flagIdle
		wait = l.opts.Limits.IdleTimeout
	}
	l.wheel.Expect(&c.timer, l.now+wait, c)
	if len(from.sealed) > 0 {
		c.tls().unseal(from.sealed)
	}
}
