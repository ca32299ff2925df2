package netpoll

import (
	"net/http"
	"time"

	"github.com/panjf2000/gnet/v2"

	"sluice/internal/owner"
	"sluice/pool"
	"sluice/wsproto"
)

const (
	flagDirty    uint16 = 1 << iota // in Loop.dirty or Loop.line
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
	flagDeferred                    // its output waits for more: in Loop.deferred, or will be at the end of the turn
	flagCharged                     // what is queued is in Metrics.ResponseBytes
)

// Conn is a client's connection. All its methods must be called on its loop.
//
// There are very many of them, most of them idle: so there is no buffer, no goroutine and no closure
// per connection. Input is kept only while a message is incomplete, output only in slices that are shared
// with all who get the same, and one timer serves whatever deadline the state has.
type Conn struct {
	// What an event touches, in one line of the processor's cache: it is seldom there when an event has many takers.
	loop   *Loop    // fixed while open
	first  []byte   // output: see outbox.go
	more   *backlog // output
	queued int32    // bytes in first and more
	fd     int32    // fixed while open
	slot   uint32   // fixed while open
	gen    uint32   // fixed while open
	flags  uint16
	code   uint16 // close code to be counted; 0: not known yet
	state  state
	paused pause // why input waits; 0: it does not
	deaf   bool  // gnet does not read the socket

	// Session is the Handler's.
	Session any

	gc gnet.Conn // fixed while open; nil once closed

	// Input.
	in     *pool.Buffer // an incomplete head or frame; nil: none
	parser wsproto.Parser
	scan   wsproto.HeadScanner

	// Time.
	timer owner.Timer
	heard time.Duration // when something came in, or went out of a full outbox
}

// newConn makes the connection for gc; nil if the loop has no slot left.
func (l *Loop) newConn(gc gnet.Conn) *Conn {
	c := &Conn{loop: l, gc: gc, fd: int32(gc.Fd()), heard: l.now, state: stateHead}
	if !l.table.add(c) {
		return nil
	}
	gc.SetContext(c)
	l.engine.metrics.OpenAll.Add(1)
	return c
}

// refuseWait is how long a connection over the limit may take to send its request. An answer before the
// request would be lost: closing with unread input resets the connection.
const refuseWait = time.Second

// accept decides what becomes of a new connection. The kernel gives the lowest free descriptor, so a number
// at the limit says that all below are in use.
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
	if (noFDs || noRoom) && len(l.doomed) < e.lingerer && l.evict() {
		noFDs, noRoom = false, false // there is, once this iteration has ended
	}
	switch {
	case e.draining.Load():
		e.metrics.RefusedDrain.Add(1)
	case noFDs:
		e.metrics.RefusedFDs.Add(1)
		l.warn(&l.warned.fds, "clients are refused: descriptors are running out; raise the limit (ulimit -n)", "limit", e.fdLimit)
	case noRoom:
		e.metrics.RefusedMax.Add(1)
		l.warn(&l.warned.max, "clients are refused: there are as many as maxConnections allows", "limit", limit)
	default:
		if e.trusts(c.RemoteAddrPort().Addr()) {
			c.to(stateProxy)
		} else if l.tls != nil {
			c.startTLS()
			return
		}
		l.wheel.Expect(&c.timer, l.now+e.opts.Limits.HeadTimeout, c)
		return
	}
	if l.tls != nil {
		c.doom() // nobody would hear an answer before the handshake
		return
	}
	if l.refused >= e.lingerer {
		c.answer(http.StatusServiceUnavailable)
		c.to(stateFinish) // no descriptor to spare for courtesy
		return
	}
	l.refused++
	c.flags |= flagReserve
	c.to(stateRefuse)
	l.wheel.Expect(&c.timer, l.now+refuseWait, c)
}

// warnEvery is how often a loop warns of the same thing.
const warnEvery = time.Minute

// warnings has for each kind when a loop last warned of it; 0: never.
type warnings struct{ fds, max, proxy time.Duration }

// warn logs what clients cause, unless the loop did so less than warnEvery ago; last is of the kind.
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

// Close sends a close frame after all that is queued, then waits for the peer's; Limits.CloseTimeout bounds
// both. Messages that still come in are discarded. A stream is finished, a pending upgrade is refused with 503,
// a plain request is still to be answered. Closing twice does nothing.
func (c *Conn) Close(code uint16, reason string) {
	switch {
	case c.state == statePending:
		c.turnDown(&c.loop.engine.metrics.RefusedUpgrade, c.errorResponse(http.StatusServiceUnavailable))
	case c.state != stateOpen:
	case c.flags&flagStream != 0:
		c.Finish()
	default:
		c.to(stateClosing)
		c.sendClose(code, reason)
	}
}

// fail closes the connection of a peer that broke the protocol: its close frame is not waited for, because
// what it sends can no longer be understood (RFC 6455 §7.1.7).
func (c *Conn) fail(code uint16, reason string) {
	if c.state == stateClosing {
		c.to(stateFail)
		if c.queued == 0 {
			c.flushed()
		}
		return
	}
	c.to(stateFail)
	c.sendClose(code, reason)
}

func (c *Conn) sendClose(code uint16, reason string) {
	l := c.loop
	if c.code == 0 {
		c.code = code
	}
	c.goOn(^pause(0)) // the peer's close frame is behind what waits
	c.push(l.arena.Commit(wsproto.AppendClose(l.arena.Begin(), code, reason)))
	l.wheel.Expect(&c.timer, l.now+l.engine.opts.Limits.CloseTimeout, c)
}

// answer sends a short HTTP response and closes.
func (c *Conn) answer(status int) { c.refuse(c.errorResponse(status)) }

func (c *Conn) errorResponse(status int) []byte {
	return c.response(status, "", http.StatusText(status)+"\n")
}

// response returns a whole HTTP response after which the connection closes: each one that the engine makes itself.
func (c *Conn) response(status int, header, body string) []byte {
	a := &c.loop.arena
	return a.Commit(wsproto.AppendHTTPError(a.Begin(), status, c.loop.engine.opts.ResponseHeader+header, body))
}

// refuse sends a whole HTTP response and closes.
func (c *Conn) refuse(response []byte) {
	l := c.loop
	c.to(stateFail)
	c.push(response)
	wait := l.engine.opts.Limits.CloseTimeout
	if c.flags&flagReserve != 0 {
		wait = refuseWait
	}
	l.wheel.Expect(&c.timer, l.now+wait, c)
}

// flushed is called when the outbox has become empty in a state that waits for that.
func (c *Conn) flushed() {
	if c.link() != nil && (c.state == stateFinish || c.state == stateFail) && !c.bye() {
		return // called again once that has gone
	}
	switch c.state {
	case stateAnswered:
		c.answered()
	case stateFinish:
		c.doom()
	case stateFail:
		if c.flags&flagEnded != 0 {
			c.doom() // there is nothing that could still come
			return
		}
		c.startLinger()
	}
}

// doom has the connection closed at the end of the turn.
func (c *Conn) doom() {
	if c.state < stateDoomed {
		c.to(stateDoomed)
		c.loop.doomed = append(c.loop.doomed, c)
	}
}

// Expire is called by the wheel.
func (c *Conn) Expire(now time.Duration) {
	m := c.loop.engine.metrics
	switch c.state {
	case stateProxy:
		m.RefusedTimeout.Add(1)
		c.doom()
	case stateTLS:
		c.endHandshake(&m.TLSTimeout)
		c.doom()
	case statePending:
		c.turnDown(&m.RefusedTimeout, c.errorResponse(http.StatusServiceUnavailable))
	case stateRequest: // it was the drain that set the timer
		c.refuse(c.errorResponse(http.StatusServiceUnavailable))
	case stateHead:
		if c.flags&flagIdle != 0 {
			c.doom()
			return
		}
		m.RefusedTimeout.Add(1)
		if c.in == nil {
			c.doom() // it never said a word
			return
		}
		c.answer(http.StatusRequestTimeout)
	case stateRefuse:
		c.answer(http.StatusServiceUnavailable)
	case stateOpen:
		c.keepAlive(now)
	case stateLinger:
		c.lingered(now)
	default:
		c.doom()
	}
}

var ping = wsproto.AppendFrame(nil, wsproto.OpPing, nil)

// keepAlive pings a peer that has been silent, and gives up one that stays so.
func (c *Conn) keepAlive(now time.Duration) {
	l := c.loop
	limits := &l.engine.opts.Limits
	switch {
	case c.paused != 0: // whatever it says lies in the socket
		c.flags &^= flagPinged
		c.heard = now
		c.schedulePing()
	case c.flags&flagPinged != 0:
		l.engine.metrics.PingLost.Add(1)
		c.code = CloseAbnormal
		c.doom()
	case now < c.heard+limits.PingInterval:
		c.schedulePing()
	default:
		c.flags |= flagPinged
		c.push(ping)
		l.wheel.Expect(&c.timer, now+limits.PongTimeout, c)
	}
}

// schedulePing arms the timer for the end of the silence that is tolerated. It is not moved with each
// message: when it fires, it looks at how long the silence was. Times are rounded up so that the pings of
// many idle connections share wake-ups.
func (c *Conn) schedulePing() {
	interval := c.loop.engine.opts.Limits.PingInterval
	if interval < 0 {
		c.loop.wheel.Cancel(&c.timer)
		return
	}
	grid := max(interval/64, tick)
	at := (c.heard + interval + grid - 1) / grid * grid
	c.loop.wheel.Schedule(&c.timer, at, c)
}

// hear notes that the peer is alive.
func (c *Conn) hear() {
	c.heard = c.loop.now
	if c.flags&flagPinged != 0 {
		c.flags &^= flagPinged
		if c.state == stateOpen {
			c.schedulePing()
		}
	}
}

// finalize is called by gnet just before the descriptor is closed. Nothing is written to it from now on.
func (c *Conn) finalize() {
	l := c.loop
	m := l.engine.metrics
	if c.state == statePending {
		m.Pending.Add(-1)
	}
	if l.engine.quitting.Load() && c.owed() {
		m.Cut.Add(1)
	}
	c.to(stateClosed)
	c.goOn(^pause(0))
	c.gc = nil
	l.wheel.Cancel(&c.timer)
	c.dropOutbox()
	c.dropTLS()
	c.parser.Reset()
	c.dropInput()
	c.forgetBody()
	c.forgetLinger()
	c.forgetProxied()
	if c.flags&flagReserve != 0 {
		l.refused--
	}
	if c.flags&flagKeepOpen == 0 {
		m.OpenAll.Add(-1)
	}
	l.table.remove(c)
	if c.flags&flagOpened != 0 {
		if c.code == 0 {
			c.code = CloseAbnormal
		}
		m.Open.Add(-1)
		m.ClosedWith(c.code).Add(1)
	}
	if c.flags&flagHeld != 0 {
		c.flags &^= flagHeld
		l.held--
		if c.flags&flagStream != 0 {
			m.OpenStreams.Add(-1)
		}
		l.engine.opts.Handler.Closed(c)
	}
	c.Session = nil
}
