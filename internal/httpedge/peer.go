package httpedge

import (
	"bytes"
	"unique"

	"sluice/internal/jwtauth"
	"sluice/internal/ratelimit"
	"sluice/internal/res"
	"sluice/netpoll"
	"sluice/wsproto"
)

// Peer is a client whose session is its connection's, a WebSocket or a stream, and describes it in
// auth requests (session.Peer). Clients of one kind send the same header, and share it in memory.
type Peer struct {
	conn   *netpoll.Conn
	head   unique.Handle[description]
	remote string // address from a trusted proxy; empty: the connection's
}

// description is what auth requests say of the head of a client's request.
type description struct{ header, host, uri unique.Handle[string] } // header is raw JSON

// Peer returns the description of a client from its request's head, and the token that the request
// carries, which is no part of the description.
func (l *Loop) Peer(c *netpoll.Conn, head *wsproto.Head) (p Peer, token string) {
	found := l.edge.o.Tokens.Find(head.Target, head)
	p = Peer{conn: c, head: l.heads.of(description{
		header: l.headers.of(head, &found),
		host:   l.hosts.of(head.Get("Host")),
		uri:    l.uris.of(found.Target(head.Target)),
	})}
	if f := &l.edge.forwarding; len(f.networks()) > 0 {
		peer := c.RemoteAddr()
		if remote := f.ofHead(peer, head); remote != peer {
			p.remote = remote
		}
	}
	return p, found.Token
}

// Conn returns the client's connection.
func (p *Peer) Conn() *netpoll.Conn { return p.conn }

// Ending implements session.Ender.
func (p *Peer) Ending() (reason string, code uint16) {
	cause, code := netpoll.Ending(p.conn)
	return cause.String(), code
}

// URI returns the target of the client's request.
func (p *Peer) URI() string { return p.head.Value().uri.Value() }

// Fault implements session.Faulter.
func (p *Peer) Fault() { p.conn.Fault() }

// Describe implements session.Peer.
func (p *Peer) Describe(r *res.AuthRequest) {
	d := p.head.Value()
	r.Header, r.Host, r.URI = d.header.Value(), d.host.Value(), d.uri.Value()
	if r.RemoteAddr = p.remote; r.RemoteAddr == "" {
		r.RemoteAddr = p.conn.RemoteAddr()
	}
}

// memo caches the handle of the newest text: unique.Make allocates even for a text that is known.
// The zero value is ready. A loop owns it.
type memo struct{ last unique.Handle[string] }

func (m *memo) of(text []byte) unique.Handle[string] {
	if m.last == (unique.Handle[string]{}) || m.last.Value() != string(text) {
		m.last = unique.Make(string(text))
	}
	return m.last
}

// headMemo is a memo of descriptions.
type headMemo struct {
	last   description
	handle unique.Handle[description]
}

func (m *headMemo) of(d description) unique.Handle[description] {
	if m.last != d {
		m.last, m.handle = d, unique.Make(d)
	}
	return m.handle
}

// headerMemo caches the newest header in the form of auth requests. The zero value is ready. A loop
// owns it.
type headerMemo struct {
	sent, scratch []byte        // the fields as received
	found         jwtauth.Found // of the request at hand; here, so that it needs no memory of its own
	last          unique.Handle[string]
}

// of returns the header of a request without its token, and without Sec-WebSocket-Key, a nonce that
// says nothing about the client and would keep clients from sharing the header.
func (m *headerMemo) of(head *wsproto.Head, found *jwtauth.Found) unique.Handle[string] {
	m.scratch = m.scratch[:0]
	m.found = *found
	from := m.found.Fields(head)
	if from == jwtauth.Fields(head) {
		head.Each(m.add) // without an allocation, unlike a call through the interface
	} else {
		from.Each(m.add)
	}
	if m.last == (unique.Handle[string]{}) || !bytes.Equal(m.scratch, m.sent) {
		m.last = unique.Make(string(res.AppendHeader(nil, func(f func(name, value []byte)) {
			from.Each(func(name, value []byte) {
				if !isNonce(name) {
					f(name, value)
				}
			})
		})))
		m.sent, m.scratch = m.scratch, m.sent
	}
	m.found = jwtauth.Found{} // the token is the client's
	return m.last
}

// add adds a field to scratch.
func (m *headerMemo) add(name, value []byte) {
	if !isNonce(name) {
		m.scratch = append(append(m.scratch, name...), ':') // which no name contains
		m.scratch = append(append(m.scratch, value...), '\n')
	}
}

func isNonce(name []byte) bool { return bytes.EqualFold(name, []byte("Sec-WebSocket-Key")) }

// PeerState is what a Peer says, when its client goes over to another process.
// They are bytes, because a client may send any.
type PeerState struct{ Header, Host, URI, Remote []byte }

// State returns what p says.
func (p *Peer) State() PeerState {
	d := p.head.Value()
	return PeerState{[]byte(d.header.Value()), []byte(d.host.Value()), []byte(d.uri.Value()), []byte(p.remote)}
}

// Join makes the Peer of a client that has come from another process. Leave follows.
func (l *Loop) Join(c *netpoll.Conn, s PeerState) Peer {
	if c.Named() {
		l.edge.o.Addresses.Return(ratelimit.KeyOf(addrOf(string(s.Remote))))
	}
	return Peer{
		conn: c, remote: string(s.Remote),
		head: unique.Make(description{unique.Make(string(s.Header)), unique.Make(string(s.Host)), unique.Make(string(s.URI))}),
	}
}
