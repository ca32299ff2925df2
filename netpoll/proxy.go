package netpoll

import (
	"net"
	"net/netip"

	"sluice/internal/proxyproto"
	"sluice/pool"
)

// A proxy of a trusted network may say, before anything else, whose connection it passes on. What
// others say in this way is taken for a request, and a malformed one at that. The address is kept
// beside the connections, by slot, so that those without a proxy do not pay for it.

// trusts reports whether a peer may speak for others.
func (o *Options) trusts(peer netip.Addr) bool {
	peer = peer.WithZone("") // networks have none
	for _, network := range o.ProxyFrom {
		if network.Contains(peer) {
			return true
		}
	}
	return false
}

// takeProxy takes the header of a proxy from the beginning of the input b, if there is one, and
// returns what follows. As long as it is incomplete, the input is kept and the state stays
// stateProxy. If used is not nil, rest lies in it, and it is to be given back after use.
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
			"proxy", c.RemoteAddr(), "error", err)
		c.in.drop()
		c.scheduleClose() // it would not understand an answer
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
	if c.to(stateHead); c.loop.tls != nil {
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

// RemoteAddrPort returns the client's address: what a proxy or SetRemoteAddr said, else the peer's.
// It is invalid once the connection has closed.
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

// SetRemoteAddr has the connection's client known by another address, for a Handler that has it on
// good authority. net/http gets it with the connection, if it is called before the hand-over.
func (c *Conn) SetRemoteAddr(a netip.AddrPort) {
	if c.gc == nil {
		return
	}
	l := c.loop
	if l.proxied == nil {
		l.proxied = make(map[uint32]netip.AddrPort)
	}
	l.proxied[c.slot] = a
	c.flags |= flagProxied
}

// handedAddr returns the address that net/http is to see in place of the socket's; invalid: none.
func (c httpConn) handedAddr() netip.AddrPort {
	if c.flags&flagProxied != 0 {
		return c.loop.proxied[c.slot]
	}
	return netip.AddrPort{}
}
