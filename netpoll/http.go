package netpoll

import (
	"bytes"
	"net/http"

	"sluice/wsproto"
)

// httpConn is the role of a connection that speaks HTTP: requests and responses, until a WebSocket
// is open or net/http takes over.
type httpConn struct{ *Conn }

// consumeHead handles a request head, and the body of a plain request. It returns how many bytes it
// is done with: 0 if the request is incomplete or the Handler has not decided on it. The caller
// keeps the bytes then.
func (c httpConn) consumeHead(b []byte) int {
	l := c.loop
	e := l.engine
	if c.flags&flagBody != 0 {
		if len(b) < l.bodies[c.slot] {
			return 0
		}
		c.forgetBody()
	}
	idle := c.flags&flagIdle != 0
	c.flags &^= flagIdle
	h := &l.head
	n, err := c.scan.Parse(b, l.opts.Limits.MaxHead, h)
	if err != nil {
		e.metrics.RefusedHead.Add(1)
		c.reject(err.(*wsproto.HandshakeError))
		return len(b)
	}
	if n > 0 && (!h.IsUpgrade() || string(h.Path()) != e.opts.WSPath) {
		if c.stream(h) {
			return len(b)
		}
		return c.request(b, h, n)
	}
	if idle {
		l.wheel.Expect(&c.timer, l.now+l.opts.Limits.HeadTimeout, c.Conn)
	}
	if n == 0 {
		return 0
	}
	if refusal := wsproto.CheckUpgrade(h); refusal != nil {
		e.metrics.RefusedUpgrade.Add(1)
		c.reject(refusal)
		return len(b)
	}
	if e.draining.Load() {
		e.metrics.RefusedDrain.Add(1)
		c.answer(http.StatusServiceUnavailable)
		return len(b)
	}
	return c.upgrade(b, h, n)
}

// answer sends an HTTP response with a status and its text, and closes.
func (c httpConn) answer(status int) { c.refuse(c.errorResponse(status)) }

func (c httpConn) errorResponse(status int) []byte {
	return c.response(status, "", http.StatusText(status)+"\n")
}

func (c httpConn) reject(err *wsproto.HandshakeError) {
	c.refuse(c.response(err.Status, err.Header, err.Reason))
}

// refuse sends a complete HTTP response and closes.
func (c httpConn) refuse(response []byte) {
	l := c.loop
	c.to(stateFail)
	c.push(response)
	wait := l.opts.Limits.CloseTimeout
	if c.flags&flagReserve != 0 {
		wait = refuseWait
	}
	l.wheel.Expect(&c.timer, l.now+wait, c.Conn)
}

// handover gives the connection, with the bytes read so far, to net/http.
func (c httpConn) handover(b []byte) {
	e := c.loop.engine
	if e.opts.HTTP == nil {
		c.answer(http.StatusNotFound)
		return
	}
	fd, err := dup(int(c.fd))
	if err != nil {
		e.metrics.RefusedFDs.Add(1)
		c.answer(http.StatusServiceUnavailable)
		return
	}
	e.metrics.Handovers.Add(1)
	c.to(stateHandover)
	c.flags |= flagKeepOpen
	if c.link() != nil {
		c.tls().handoverTLS(fd, b)
	} else {
		go e.serveHTTP(fd, bytes.Clone(b), c.handedAddr(), c.ending().takeKey())
	}
	c.scheduleClose()
}

// response returns a complete HTTP response after which the connection closes. All responses of the
// engine itself are made here.
func (c httpConn) response(status int, header, body string) []byte {
	a := &c.loop.arena
	return a.Commit(wsproto.AppendHTTPError(a.Begin(), status, c.loop.opts.ResponseHeader+c.hint(status)+header, body))
}
