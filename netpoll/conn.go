package netpoll

import (
	"net/http"
	"time"

	"github.com/panjf2000/gnet/v2"

	"sluice/internal/owner"
)

const (
	flagDirty    uint16 = 1 << iota // in output.dirty or output.queue
	flagHeld                        // the Handler knows it: Handler.Closed was not called yet
	flagOpened                      // became a WebSocket
	flagStream                      // is a stream
	flagProxied                     // its client address is in Loop.proxied
	flagPinged                      // a ping was sent, and nothing received since
	flagReserve                     // uses the reserve of descriptors
	flagKeepOpen                    // goes on in net/http: Metrics.OpenAll still counts it
	flagTLS                         // uses TLS: see Conn.link
	flagIdle                        // between two plain requests: no byte of the next was received
	flagBody                        // a request's body is incomplete: see Loop.bodies
	flagLast                        // closes after the response
	flagEnded                       // the client has ended its input: see half.go
	flagFault                       // a panic happened while the loop worked for it: it is being closed
	flagDeferred                    // see Conn.Defer
	flagCharged                     // Metrics.ResponseBytes includes its outbox
)

// Conn is a client's connection. All its methods must be called on its loop.
//
// Most connections are idle, so an idle one has no buffer, goroutine or closure of its own. Input
// is buffered only while a message is incomplete. Output consists of slices that all connections
// with the same output share. One timer serves the deadline of the current state.
type Conn struct {
	// What the fan-out of an event reads and writes, in one cache line: for many subscribers that
	// line is usually not cached.
	loop *Loop // fixed while open
	outbox
	slot       uint32 // fixed while open
	gen        uint32 // fixed while open
	flags      uint16
	code       uint16 // close code to be counted, 0: not known yet; in stateRefuse see acceptor.refuse
	state      state
	paused     pause // why messages wait; 0: they do not
	readPaused bool  // gnet does not read the socket
	standing

	// Session is the Handler's.
	Session any

	gc gnet.Conn // fixed while open; nil once closed

	inbox
	meter

	// Time.
	timer    owner.Timer
	activeAt time.Duration // of the latest input, or of output to a socket that had been full
}

// A connection has several roles. Each is a type with the methods of that role, in a file of its
// own: a view of the Conn that needs no memory.
func (c *Conn) http() httpConn     { return httpConn{c} }
func (c *Conn) ws() wsConn         { return wsConn{c} }
func (c *Conn) tls() tlsConn       { return tlsConn{c} }
func (c *Conn) ending() endingConn { return endingConn{c} }

// Loop returns the connection's loop.
func (c *Conn) Loop() *Loop { return c.loop }

// Handle returns the connection's handle. It may be used after the connection has closed; Loop.Conn
// then returns nil.
func (c *Conn) Handle() Handle { return makeHandle(c.loop.index, c.slot, c.gen) }

// Closing reports whether the connection has closed or begun to: Send does nothing then.
func (c *Conn) Closing() bool { return c.state != stateOpen }

// Close sends a close frame after the queued output, then waits for the peer's; Limits.CloseTimeout
// bounds both. Messages received from now on are discarded. A stream is finished and a pending
// upgrade rejected with 503; a plain request is not affected. Closing twice does nothing.
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

// Expire is called by the wheel when the deadline of the connection's state has passed.
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
	case stateRequest: // the drain has set the timer
		c.http().refuse(c.http().errorResponse(http.StatusServiceUnavailable))
	case stateHead:
		if c.flags&flagIdle != 0 {
			c.scheduleClose()
			return
		}
		m.RefusedTimeout.Add(1)
		if c.in.empty() {
			c.scheduleClose() // nothing was received
			return
		}
		c.http().answer(http.StatusRequestTimeout)
	case stateRefuse:
		c.http().answerRefused()
	case stateOpen:
		c.ws().keepAlive(now)
	case stateLinger:
		c.ending().lingered(now)
	default:
		c.scheduleClose()
	}
}

// noteAlive notes that the peer is alive, and ends the wait for a pong.
func (c wsConn) noteAlive() {
	c.active(c.loop.now)
	if c.flags&flagPinged != 0 {
		c.flags &^= flagPinged
		delete(c.loop.acked, c.slot)
		if c.state == stateOpen {
			c.schedulePing()
		}
	}
}
