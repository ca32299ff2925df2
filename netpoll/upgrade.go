package netpoll

import (
	"net/http"
	"sync/atomic"

	"sluice/wsproto"
)

// Pending is the result of a Handler.Upgrade that leaves the decision open: Conn.Accept or
// Conn.Refuse follows.
const Pending = -1

// maxPipelined bounds, in bytes, what a client may send after its handshake or request before the
// response. After a handshake it should send nothing (RFC 6455 §4.1), but some do not wait.
const maxPipelined = 16 << 10

// decision is what Accept or Refuse was called with during Handler.Upgrade.
type decision struct {
	conn    *Conn // the argument of Handler.Upgrade; nil: it is not being called
	extra   func(dst []byte) []byte
	refusal []byte
	given   bool
}

// Accept opens the WebSocket of a pending connection. extra, if not nil, appends further complete
// field lines to the response before Accept returns; values from outside must not contain line
// ends. Handler.Open is called before Accept returns; messages that the client has already sent are
// handled after it. Accept may be called during Handler.Upgrade: then the result must be Pending,
// and Open follows it. On a connection that is not pending Accept does nothing.
func (c *Conn) Accept(extra func(dst []byte) []byte) {
	l := c.loop
	if l.deciding.conn == c {
		if !l.deciding.given {
			l.deciding.extra, l.deciding.given = extra, true
		}
		return
	}
	if c.state != statePending {
		return
	}
	l.engine.metrics.Pending.Add(-1)
	// The head is the beginning of the buffered input. It has been parsed before, so this cannot
	// fail.
	n, _ := wsproto.ParseHead(c.in.bytes(), l.opts.Limits.MaxHead, &l.acceptHead)
	c.http().open(&l.acceptHead, extra)
	rest := c.in.bytes()[n:]
	if len(rest) == 0 {
		c.in.drop()
		if c.flags&flagEnded != 0 {
			c.ending().afterInputEnd()
		}
		return
	}
	c.in.keep(rest)
	l.resumption.add(c)
}

// Refuse rejects a pending upgrade with an HTTP status and closes the connection. header holds zero
// or more complete field lines, each with its CR LF; values from outside must not contain line
// ends. body is plain text if header does not say otherwise. Handler.Closed follows when the
// connection has closed. Refuse may be called when Accept may be; the first call of either counts.
func (c *Conn) Refuse(status int, header, body string) {
	l := c.loop
	if l.deciding.conn == c {
		if !l.deciding.given {
			l.deciding.refusal, l.deciding.given = c.http().response(status, header, body), true
		}
		return
	}
	if c.state == statePending {
		c.http().refusePending(&l.engine.metrics.RefusedUpgrade, c.http().response(status, header, body))
	}
}

// upgrade has the Handler decide on a valid handshake; b is the input that begins with it. It
// returns how many bytes of b it is done with: none while the decision is open.
func (c httpConn) upgrade(b []byte, h *wsproto.Head, n int) int {
	l := c.loop
	m := l.engine.metrics
	l.deciding = decision{conn: c.Conn}
	status := l.engine.opts.Handler.Upgrade(c.Conn, h)
	v := l.deciding
	l.deciding = decision{}
	switch {
	case status == 0:
		c.open(h, nil)
		return n
	case status != Pending:
		m.RefusedUpgrade.Add(1)
		c.answer(status)
		return len(b)
	}
	c.hold()
	switch {
	case !v.given:
		c.to(statePending)
		m.Pending.Add(1)
		return c.await(b)
	case v.refusal != nil:
		m.RefusedUpgrade.Add(1)
		c.refuse(v.refusal)
		return len(b)
	}
	c.open(h, v.extra)
	return n
}

// await bounds the input of a pending connection, its head included. It returns how many bytes of b
// it is done with.
func (c httpConn) await(b []byte) int {
	e := c.loop.engine
	if len(b) <= c.loop.opts.Limits.MaxHead+maxPipelined {
		return 0
	}
	c.refusePending(&e.metrics.RefusedUpgrade, c.errorResponse(http.StatusBadRequest))
	return len(b)
}

// refusePending rejects a pending upgrade with a response, and counts it in why.
func (c httpConn) refusePending(why *atomic.Uint64, response []byte) {
	why.Add(1)
	c.loop.engine.metrics.Pending.Add(-1)
	c.refuse(response)
}

// hold notes that the Handler knows the connection: Handler.Closed will be called.
func (c httpConn) hold() {
	if c.flags&flagHeld == 0 {
		c.flags |= flagHeld
		c.loop.held++
	}
}

// open makes the connection a WebSocket.
func (c httpConn) open(h *wsproto.Head, extra func(dst []byte) []byte) {
	l := c.loop
	m := l.engine.metrics
	m.Upgraded.Add(1)
	m.Open.Add(1)
	c.hold()
	c.to(stateOpen)
	c.flags |= flagOpened
	c.push(l.arena.Commit(wsproto.AppendUpgradeDeflate(l.arena.Begin(), h, l.opts.ResponseHeader, extra)))
	c.ws().schedulePing()
	l.pace.open()
	l.engine.opts.Handler.Open(c.Conn, h)
}

// EnableDeflate makes the connection accept compressed messages. The Handler calls it before it
// accepts an upgrade whose response says that permessage-deflate was negotiated
// (wsproto.NegotiateDeflate).
func (c *Conn) EnableDeflate() { c.parser.EnableDeflate() }
