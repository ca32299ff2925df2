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
// a handler runs: 400, 417, 431, 501, 505. Such a response gets the field lines that every response
// of the gateway has. A connection of HTTP/2 is not wrapped, since net/http serves that on a
// *tls.Conn only. There net/http makes one response without a handler, 431, which therefore lacks
// the lines: no hook leads to its header. Caches do not store it (RFC 9110 section 15.1).
type serverConn struct {
	net.Conn
	lines   string
	handled atomic.Bool // a handler makes the response and its header; from its begin to http.StateIdle
}

// newServerConn returns c as net/http is to get it.
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

// CloseWrite shuts our side down. net/http calls it when it has not read a request to its end.
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

// withServerConn lets handled find the connection of a request.
func withServerConn(ctx context.Context, c net.Conn) context.Context {
	switch c := c.(type) {
	case *serverConn:
		return context.WithValue(ctx, serverConnKey{}, c)
	case *secureServerConn:
		return context.WithValue(ctx, serverConnKey{}, c.serverConn)
	}
	return ctx
}

// handled notes that the response to r is a handler's.
func handled(r *http.Request) {
	if s, ok := r.Context().Value(serverConnKey{}).(*serverConn); ok {
		s.handled.Store(true)
	}
}

// responded is called when the state of a connection changes: at rest, its last response has been
// written.
func responded(c net.Conn, state http.ConnState) {
	if state != http.StateIdle {
		return
	}
	switch c := c.(type) {
	case *serverConn:
		c.handled.Store(false)
	case *secureServerConn:
		c.handled.Store(false)
	}
}
