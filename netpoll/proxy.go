package netpoll

import (
	"net"
	"net/netip"

	"sluice/internal/proxyproto"
	"sluice/internal/ratelimit"
	"sluice/pool"
)

// A proxy of a trusted network may begin a connection with the address of its client. From other
// peers the same bytes are a malformed request. The address is in a map by slot, so that
// connections without a proxy need no memory for it.

// trusts reports whether a peer may begin with a PROXY header.
func (o *Options) trusts(peer netip.Addr) bool { return ratelimit.Networks(o.ProxyFrom).Contain(peer) }

// takeProxy removes the header of a proxy from the beginning of the input b, if there is one, and
// returns the rest. While the header is incomplete, the input is buffered and the state stays
// stateProxy. If used is not nil, rest is part of it, and the caller releases it after use.
func (c httpConn) takeProxy(b []byte) (rest []byte, used *pool.Buffer) {
	e := c.loop.engine
	if !c.in.empty() {
		b = c.in.add(b)
	}
	var h proxyproto.Header
	n, err := proxyproto.Parse(b, &h)
	switch {
	case err == proxyproto.ErrNoHeader:
	case err != nil:
		e.metrics.RefusedProxy.Add(1)
		c.loop.acceptor.warn(&c.loop.acceptor.logProxy, "connection closed: a proxy of proxyProtocolFrom sent a malformed PROXY header; check the proxy's PROXY protocol setting",
			"remote", c.RemoteAddr(), "error", err)
		c.in.drop()
		c.scheduleClose() // a response would not be understood
		return nil, nil
	case n == 0:
		c.in.keep(b)
		return nil, nil
	default:
		e.metrics.Proxied.Add(1)
		if !h.Local && h.Source.IsValid() {
			c.SetRemoteAddr(h.Source)
		}
	}
	if c.to(stateHead); c.loop.acceptor.countAddress(c.Conn) && c.loop.tls != nil {
		c.tls().startTLS()
	}
	return b[n:], c.in.detach()
}

// RemoteAddr returns the client's host:port, or "" once the connection has closed. It allocates.
func (c *Conn) RemoteAddr() string {
	if a := c.RemoteAddrPort(); a.IsValid() {
		return a.String()
	}
	return ""
}

// RemoteAddrPort returns the client's address: that of a proxy's header or SetRemoteAddr, otherwise
// the peer's. It is invalid once the connection has closed.
func (c *Conn) RemoteAddrPort() netip.AddrPort {
	if c.state == stateClosed {
		return netip.AddrPort{}
	}
	if c.flags&flagProxied != 0 {
		return c.loop.proxied[c.slot]
	}
	if c.gc == nil {
		return netip.AddrPort{}
	}
	if tcp, ok := c.gc.RemoteAddr().(*net.TCPAddr); ok {
		a := tcp.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPort{}
}

// SetRemoteAddr replaces the client's address, for a Handler that knows it from a trusted source.
// net/http gets it with the connection, if it is called before the hand-over. What
// Options.Addresses has counted for the former address counts for this one.
func (c *Conn) SetRemoteAddr(a netip.AddrPort) {
	if c.gc == nil {
		return
	}
	l := c.loop
	if l.proxied == nil {
		l.proxied = make(map[uint32]netip.AddrPort)
	}
	before := c.ending().takeKey()
	l.proxied[c.slot] = a
	c.flags |= flagProxied
	c.ending().recount(before)
}

// handedAddr returns the address that net/http is to see in place of the socket's; invalid: none.
func (c httpConn) handedAddr() netip.AddrPort {
	if c.flags&flagProxied != 0 {
		return c.loop.proxied[c.slot]
	}
	return netip.AddrPort{}
}
