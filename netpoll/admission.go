package netpoll

import (
	"net/http"
	"strconv"

	"sluice/internal/ratelimit"
)

// Options.Addresses limits connections by the address of their client: the peer's, or the one in a
// trusted proxy's PROXY header. A connection is counted from its accept, or from that header, to
// its end, at net/http too. One beyond a limit gets 429 when its request comes. With TLS it is
// closed before the handshake, which would cost more than the limit saves.

// standing is what is known of a client's address, and whether the client is still this process's.
type standing uint8

const (
	counted standing = 1 << iota // Addresses.Leave is due
	exempt                       // the client has no rates
	named                        // see SetNamed
	moved                        // another process goes on with it: see Move, Leave
	shared                       // another process has its descriptor, but not its client: see WebSocket.Shared
)

// countAddress counts a connection whose client's address is known now. It reports whether the
// connection is within the limits; otherwise it is refused.
func (a *acceptor) countAddress(c *Conn) bool {
	l := a.loop
	addresses := l.engine.opts.Addresses
	if addresses == nil {
		return true
	}
	addr := c.RemoteAddrPort().Addr()
	if addresses.Exempt(addr) {
		c.standing |= exempt
		return true
	}
	key, refusal := addresses.Admit(addr, l.now)
	if refusal != nil {
		a.warn(&a.logAddress, "a client is refused: "+refusal.Why, "remote", addr)
		a.refuse(c, refusal.RetryAfter())
		return false
	}
	if key != 0 {
		c.standing |= counted
	}
	return true
}

// returnAddress counts a connection again that comes back from net/http, where it was counted with
// k.
func (a *acceptor) returnAddress(c *Conn, k ratelimit.Key) {
	addresses := a.loop.engine.opts.Addresses
	if addresses.Exempt(c.RemoteAddrPort().Addr()) {
		c.standing |= exempt
	}
	if k != 0 {
		addresses.Return(k)
		c.standing |= counted
	}
}

// SetExempt sets whether the client is exempt from Limits.MessageRate and Limits.ByteRate. It is
// for a Handler that knows the client's address better than the connection does.
func (s *standing) SetExempt(is bool) {
	if *s &^= exempt; is {
		*s |= exempt
	}
}

// SetNamed notes whether the Handler has counted the client by an address that a proxy has named.
func (s *standing) SetNamed(is bool) {
	if *s &^= named; is {
		*s |= named
	}
}

// Named returns what SetNamed has noted.
func (s *standing) Named() bool { return *s&named != 0 }

// takeKey returns the key that the connection is counted with, 0 if it is not. The caller takes it
// over, for uncount.
func (c endingConn) takeKey() ratelimit.Key {
	if c.standing&counted == 0 {
		return 0
	}
	c.standing &^= counted
	return ratelimit.KeyOf(c.RemoteAddrPort().Addr())
}

// recount counts a connection with its present address that was counted with k, takeKey's result.
func (c endingConn) recount(k ratelimit.Key) {
	if k != 0 {
		addresses := c.loop.engine.opts.Addresses
		addresses.Leave(k)
		c.standing |= counted
		addresses.Return(ratelimit.KeyOf(c.RemoteAddrPort().Addr()))
	}
}

// uncount is called with takeKey's result when a connection has ended, wherever that was.
func (e *Engine) uncount(k ratelimit.Key) {
	e.opts.Addresses.Leave(k)
	e.metrics.OpenAll.Add(-1)
}

// answerRefused sends the response that acceptor.refuse is about.
func (c httpConn) answerRefused() {
	after := int(c.code)
	if c.code = 0; after == 0 {
		c.unavailable()
		return
	}
	header, body := "Retry-After: "+strconv.Itoa(after)+"\r\n", http.StatusText(http.StatusTooManyRequests)+"\n"
	if given := c.loop.engine.opts.TooManyRequests; given != "" {
		header, body = header+"Content-Type: application/json; charset=utf-8\r\n", given
	}
	c.refuse(c.response(http.StatusTooManyRequests, header, body))
}
