package httpedge

import (
	"net/http"
	"net/netip"

	"sluice/internal/httpapi"
	"sluice/internal/ratelimit"
	"sluice/netpoll"
	"sluice/wsproto"
)

// Limits by address hold for the client's address. netpoll counts a connection by the address of
// its peer, or that in the PROXY header. A proxy whose Forwarded header is trusted has the requests
// of many clients on its connections, so netpoll does not count those; what its clients open and
// ask is counted here, by the address in the header.

// address returns the address of the client that has sent a request, and whether it is one that a
// trusted proxy has forwarded.
func (l *Loop) address(c *netpoll.Conn, head *wsproto.Head) (addr netip.Addr, forwarded bool) {
	f := &l.edge.forwarding
	if len(f.networks()) == 0 {
		return c.RemoteAddrPort().Addr(), false
	}
	peer := c.RemoteAddr()
	remote := f.ofHead(peer, head)
	return addrOf(remote), remote != peer
}

// addrOf returns the address of a remote address, which may have a port; invalid if it has none.
func addrOf(remote string) netip.Addr {
	if a, err := netip.ParseAddrPort(remote); err == nil {
		return a.Addr()
	}
	a, _ := netip.ParseAddr(remote)
	return a
}

// Admit counts a connection that is about to become a client for good, as a WebSocket or a stream,
// if a trusted proxy has forwarded its request. Leave must follow, unless it is refused.
func (l *Loop) Admit(c *netpoll.Conn, head *wsproto.Head) *ratelimit.Refusal {
	a := l.edge.o.Addresses
	if !a.Limiting() {
		return nil
	}
	addr, forwarded := l.address(c, head)
	if !forwarded {
		return nil // counted by netpoll
	}
	c.SetExempt(a.Exempt(addr))
	key, why := a.Admit(addr, l.net.Now())
	c.SetNamed(key != 0)
	return why
}

// Refuse rejects the upgrade of a client that Admit has refused.
func (l *Loop) Refuse(c *netpoll.Conn, why *ratelimit.Refusal) {
	resp := httpapi.Response{Header: make(http.Header)}
	resp.TooActive(why.Why, why.RetryAfter())
	c.Refuse(resp.Status, string(httpapi.AppendFields(nil, resp.Header)), string(resp.Body))
}

// Leave is called when a client that was admitted has gone.
func (l *Loop) Leave(p *Peer) {
	if p.conn.Named() {
		l.edge.o.Addresses.Leave(ratelimit.KeyOf(addrOf(p.remote)))
	}
}

// limit counts a plain HTTP request or a stream against the limit of its client's address.
func (l *Loop) limit(c *netpoll.Conn, head *wsproto.Head) *ratelimit.Refusal {
	a := l.edge.o.Addresses
	if !a.Limiting() {
		return nil
	}
	addr, _ := l.address(c, head)
	return a.Request(addr, l.net.Now())
}

// limit is Loop.limit, and for a stream Loop.Admit, for a request that net/http has. The key is for
// Addresses.Leave when the request has ended.
func (e *Edge) limit(r *http.Request) (ratelimit.Key, *ratelimit.Refusal) {
	a := e.o.Addresses
	if !a.Limiting() {
		return 0, nil
	}
	remote := e.forwarding.ofHeader(r.RemoteAddr, r.Header)
	addr, now := addrOf(remote), e.o.Clock.Now()
	if why := a.Request(addr, now); why != nil {
		return 0, why
	}
	if remote == r.RemoteAddr || r.Method != http.MethodGet || !httpapi.WantsStream(r.Header["Accept"]) {
		return 0, nil
	}
	return a.Admit(addr, now)
}

// tooActive rejects a request beyond a limit of its client's address.
func (e *Edge) tooActive(w http.ResponseWriter, r *http.Request, why *ratelimit.Refusal) {
	resp := httpapi.Response{Header: w.Header()}
	e.api.CORS(resp.Header, r.Header.Get("Origin"))
	resp.TooActive(why.Why, why.RetryAfter())
	send(w, r, &resp)
}
