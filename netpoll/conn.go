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
		if c.in.empty() {
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
