package netpoll

import (
	"net/http"
	"time"

	"github.com/panjf2000/gnet/v2"

	"sluice/internal/owner"
)

const (
	flagDirty    uint16 = 1 << iota // in Loop.dirty or Loop.queue
	flagHeld                        // the Handler knows it: Handler.Closed was not called yet
	flagOpened                      // became a WebSocket
	flagStream                      // is a stream
	flagProxied                     // its address is in Loop.proxied
	flagPinged                      // a ping is out and nothing was heard since
	flagReserve                     // uses the reserve of descriptors
	flagKeepOpen                    // lives on in net/http: not to be counted as closed
	flagTLS                         // is inside TLS: see Conn.link
	flagIdle                        // between two plain requests, of the next of which nothing has come
	flagBody                        // a request's body is incomplete: see Loop.bodies
	flagLast                        // closes behind the answer
	flagEnded                       // nothing more comes from the peer: see half.go
	flagFault                       // a panic has left it in doubt: it is being closed
	flagDeferred                    // its output waits for more: in Loop.deferred, or will be at the end of the iteration
	flagCharged                     // what is queued is in Metrics.ResponseBytes
)

// Conn is a client's connection. All its methods must be called on its loop.
//
// There are very many of them, most of them idle: so there is no buffer, no goroutine and no
// closure per connection. Input is kept only while a message is incomplete, output only in slices
// that are shared with all who get the same, and one timer serves whatever deadline the state has.
type Conn struct {
	// What an event touches, in one line of the processor's cache: it is seldom there when an event
	// has many takers.
	loop *Loop // fixed while open
	outbox
	slot       uint32 // fixed while open
	gen        uint32 // fixed while open
	flags      uint16
	code       uint16 // close code to be counted; 0: not known yet
	state      state
	paused     pause // why input waits; 0: it does not
	readPaused bool  // gnet does not read the socket

	// Session is the Handler's.
	Session any

	gc gnet.Conn // fixed while open; nil once closed

	inbox

	// Time.
	timer    owner.Timer
	activeAt time.Duration // when something came in, or went out of a full outbox
}

// A connection has several roles. Each has a type with its methods: a Conn seen from one side,
// which costs nothing.
func (c *Conn) http() httpConn     { return httpConn{c} }
func (c *Conn) ws() wsConn         { return wsConn{c} }
func (c *Conn) tls() tlsConn       { return tlsConn{c} }
func (c *Conn) ending() endingConn { return endingConn{c} }

// newConn makes the connection for gc; nil if the loop has no slot left.
func (l *Loop) newConn(gc gnet.Conn) *Conn {
	c := &Conn{loop: l, gc: gc, outbox: outbox{fd: int32(gc.Fd())}, activeAt: l.now, state: stateHead}
	if !l.table.add(c) {
		return nil
	}
	gc.SetContext(c)
	l.engine.metrics.OpenAll.Add(1)
	return c
}

// refuseWait is how long a connection over the limit may take to send its request. An answer before
// the request would be lost: closing with unread input resets the connection.
const refuseWait = time.Second

// accept decides what becomes of a new connection. The kernel gives the lowest free descriptor, so
// a number at the limit says that all below are in use.
func (l *Loop) accept(gc gnet.Conn) {
	e := l.engine
	e.metrics.Accepted.Add(1)
	c := l.newConn(gc)
	if c == nil {
		e.metrics.RefusedMax.Add(1)
		_ = l.el.Close(gc)
		return
	}
	limit := int64(e.opts.Limits.MaxConns)
	noFDs := int(c.fd) >= e.fdLimit
	noRoom := limit > 0 && e.metrics.OpenAll.Load() > limit
	if (noFDs || noRoom) && len(l.toReap) < e.reservePerLoop && l.evict() {
		noFDs, noRoom = false, false // there is, once this iteration has ended
	}
	switch {
	case e.draining.Load():
		e.metrics.RefusedDrain.Add(1)
	case noFDs:
		e.metrics.RefusedFDs.Add(1)
		l.warn(&l.logged.fds, "clients are refused: descriptors are running out; raise the limit (ulimit -n)", "limit", e.fdLimit)
	case noRoom:
		e.metrics.RefusedMax.Add(1)
		l.warn(&l.logged.max, "clients are refused: there are as many as maxConnections allows", "limit", limit)
	default:
		if e.trusts(c.RemoteAddrPort().Addr()) {
			c.to(stateProxy)
		} else if l.tls != nil {
			c.tls().startTLS()
			return
		}
		l.wheel.Expect(&c.timer, l.now+e.opts.Limits.HeadTimeout, c)
		return
	}
	if l.tls != nil {
		c.scheduleClose() // nobody would hear an answer before the handshake
		return
	}
	if l.reserveUsed >= e.reservePerLoop {
		c.http().answer(http.StatusServiceUnavailable)
		c.to(stateFinish) // no descriptor to spare for courtesy
		return
	}
	l.reserveUsed++
	c.flags |= flagReserve
	c.to(stateRefuse)
	l.wheel.Expect(&c.timer, l.now+refuseWait, c)
}

// warnEvery is how often a loop warns of the same thing.
const warnEvery = time.Minute

// warnings has for each kind when a loop last warned of it; 0: never.
type warnings struct{ fds, max, proxy time.Duration }

// warn logs what clients cause, unless the loop did so less than warnEvery ago; last is of the
// kind.
func (l *Loop) warn(last *time.Duration, text string, args ...any) {
	if *last == 0 || l.now >= *last+warnEvery {
		*last = l.now
		l.engine.log.Warn(text, args...)
	}
}

// Loop returns the connection's loop.
func (c *Conn) Loop() *Loop { return c.loop }

// Handle returns the connection's name, which stays valid, but leads to nothing once it has closed.
func (c *Conn) Handle() Handle { return makeHandle(c.loop.index, c.slot, c.gen) }

// Closing reports whether the connection has closed or begun to: what is sent now goes nowhere.
func (c *Conn) Closing() bool { return c.state != stateOpen }

// Close sends a close frame after all that is queued, then waits for the peer's;
// Limits.CloseTimeout bounds both. Messages that still come in are discarded. A stream is finished,
// a pending upgrade is refused with 503, a plain request is still to be answered. Closing twice
// does nothing.
func (c *Conn) Close(code uint16, reason string) {
	switch {
	case c.state == statePending:
		c.http().refusePending(&c.loop.engine.metrics.RefusedUpgrade, c.http().errorResponse(http.StatusServiceUnavailable))
	case c.state != stateOpen:
	case c.flags&flagStream != 0:
		c.Finish()
	default:
		c.to(stateClosing)
		c.ws().sendClose(code, reason)
	}
}

// scheduleClose has the connection closed at the end of the iteration.
func (c *Conn) scheduleClose() {
	if c.state < stateReap {
		c.to(stateReap)
		c.loop.toReap = append(c.loop.toReap, c)
	}
}

// Expire is called by the wheel.
func (c *Conn) Expire(now time.Duration) {
	m := c.loop.engine.metrics
	switch c.state {
	case stateProxy:
		m.RefusedTimeout.Add(1)
		c.scheduleClose()
	case stateTLS:
		c.tls().endHandshake(&m.TLSTimeout)
		c.scheduleClose()
	case statePending:
		c.http().refusePending(&m.RefusedTimeout, c.http().errorResponse(http.StatusServiceUnavailable))
	case stateRequest: // it was the drain that set the timer
		c.http().refuse(c.http().errorResponse(http.StatusServiceUnavailable))
	case stateHead:
		if c.flags&flagIdle != 0 {
			c.scheduleClose()
			return
		}
		m.RefusedTimeout.Add(1)
		if c.in == nil {
			c.scheduleClose() // it never said a word
			return
		}
		c.http().answer(http.StatusRequestTimeout)
	case stateRefuse:
		c.http().answer(http.StatusServiceUnavailable)
	case stateOpen:
		c.ws().keepAlive(now)
	case stateLinger:
		c.ending().lingered(now)
	default:
		c.scheduleClose()
	}
}

// noteAlive notes that the peer is alive.
func (c wsConn) noteAlive() {
	c.activeAt = c.loop.now
	if c.flags&flagPinged != 0 {
		c.flags &^= flagPinged
		if c.state == stateOpen {
			c.schedulePing()
		}
	}
}
