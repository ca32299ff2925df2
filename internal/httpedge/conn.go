package httpedge

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
)

// serverConn is a connection that net/http serves. net/http rejects some requests by itself, before
// a handler runs: 400, 417, 431, 501, 505. It inserts into such a response the field lines that
// every response of the gateway has. A connection of HTTP/2 is not wrapped, since net/http serves
// that on a *tls.Conn only. There net/http sends one response without a handler, 431, which lacks
// the lines: net/http has no hook for its header. Caches do not store it (RFC 9110 section 15.1).
type serverConn struct {
	net.Conn
	lines   string
	handled atomic.Bool // the response is a handler's: from the call of the handler to http.StateIdle
}

// newServerConn returns c, wrapped if lines are to be inserted, for net/http.
func newServerConn(c net.Conn, lines string) net.Conn {
	if _, ok := c.(*tls.Conn); ok || lines == "" {
		return c
	}
	s := &serverConn{Conn: c, lines: lines}
	if secure, ok := c.(connectionStater); ok {
		return &secureServerConn{s, secure}
	}
	return s
}

// connectionStater makes net/http set http.Request.TLS.
type connectionStater interface{ ConnectionState() tls.ConnectionState }

// secureServerConn is a serverConn inside TLS.
type secureServerConn struct {
	*serverConn
	connectionStater
}

// Write implements net.Conn.
func (s *serverConn) Write(p []byte) (int, error) {
	line := bytes.Index(p, []byte("\r\n"))
	if line < 0 || s.handled.Load() || !bytes.HasPrefix(p, []byte("HTTP/1.")) {
		return s.Conn.Write(p)
	}
	at := line + 2
	n, err := s.Conn.Write(slices.Concat(p[:at], []byte(s.lines), p[at:]))
	if n > at {
		n = max(at, n-len(s.lines))
	}
	return n, err
}

// CloseWrite ends the gateway's output. net/http calls it when it has not read a request to its
// end.
func (s *serverConn) CloseWrite() error {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// inner returns the connection that Handover got.
func (s *serverConn) inner() net.Conn { return s.Conn }

// innerConn returns the connection that Handover got, for one that net/http has.
func innerConn(c net.Conn) net.Conn {
	if s, ok := c.(interface{ inner() net.Conn }); ok {
		return s.inner()
	}
	return c
}

type serverConnKey struct{}

// withServerConn puts the connection into the context of its requests, for handled.
func withServerConn(ctx context.Context, c net.Conn) context.Context {
	switch c := c.(type) {
	case *serverConn:
		return context.WithValue(ctx, serverConnKey{}, c)
	case *secureServerConn:
		return context.WithValue(ctx, serverConnKey{}, c.serverConn)
	}
	return ctx
}

// handled records that the response to r is a handler's.
func handled(r *http.Request) {
	if s, ok := r.Context().Value(serverConnKey{}).(*serverConn); ok {
		s.handled.Store(true)
	}
}

// responded is called when the state of a connection changes: when it becomes idle, its last
// response has been written.
func responded(c net.Conn, state http.ConnState) {
	if state != http.StateIdle {
		return
	}
	if i, ok := innerConn(c).(interface{ Idle() }); ok {
		i.Idle()
	}
	switch c := c.(type) {
	case *serverConn:
		c.handled.Store(false)
	case *secureServerConn:
		c.handled.Store(false)
	}
}
