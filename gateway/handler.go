package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"unique"

	"sluice/fanout"
	"sluice/internal/httpapi"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/netpoll"
	"sluice/wsproto"
)

// client is a WebSocket connection or a stream with its session, and what auth
// requests say of it. Clients of one kind send the same headers, so they share
// them.
type client struct {
	conn    *netpoll.Conn
	session *session.Session
	header  unique.Handle[string] // raw JSON
	host    unique.Handle[string]
	uri     unique.Handle[string]
	remote  string  // as a trusted proxy says; empty: the connection's
	stream  *stream // nil for a WebSocket
}

// newClient returns what there is to know of a client from its request's head.
func (l *loop) newClient(c *netpoll.Conn, head *wsproto.Head) *client {
	cl := &client{
		conn:   c,
		header: l.headers.of(head),
		host:   l.hosts.of(head.Get("Host")),
		uri:    l.uris.of(head.Target),
	}
	if len(l.g.forwarding.trusted) > 0 {
		peer := c.RemoteAddr()
		if remote := l.g.forwarding.ofHead(peer, head); remote != peer {
			cl.remote = remote
		}
	}
	return cl
}

// Describe implements session.Peer.
func (c *client) Describe(r *res.AuthRequest) {
	r.Header, r.Host, r.URI = c.header.Value(), c.host.Value(), c.uri.Value()
	if r.RemoteAddr = c.remote; r.RemoteAddr == "" {
		r.RemoteAddr = c.conn.RemoteAddr()
	}
}

// handler is what the event loops call (netpoll.Handler).
type handler Gateway

// Start makes the state of a loop.
func (h *handler) Start(n *netpoll.Loop) {
	g := (*Gateway)(h)
	l := newLoop(g, n)
	n.Data = l
	g.loops[l.index].Store(l)
}

// Upgrade refuses pages of foreign origins, and all while services cannot be
// reached. With wsHeaderAuth, a service is asked first.
func (h *handler) Upgrade(c *netpoll.Conn, head *wsproto.Head) int {
	g := (*Gateway)(h)
	if !g.origins.allows(head.Get("Origin")) {
		return http.StatusForbidden
	}
	if g.watch.closed.Load() {
		return http.StatusServiceUnavailable
	}
	extension := ""
	if g.config.WSCompression {
		extension = wsproto.NegotiateDeflate(head)
	}
	if g.config.WSHeaderAuth == "" && extension == "" {
		return 0 // Open makes the session
	}
	cl := h.newSession(c, head, extension != "")
	if g.config.WSHeaderAuth == "" {
		c.Accept(func(dst []byte) []byte { return append(dst, extension...) })
		return netpoll.Pending
	}
	rid, method := splitMethod(g.config.WSHeaderAuth)
	cl.session.Authenticate(rid, method, func(answered string, meta *res.Meta, err *res.Error) {
		header := make(http.Header)
		if status, body, ok := g.rest.Direct(header, meta, answered, err); ok {
			c.Refuse(status, string(appendFields(nil, header)), string(body))
			return
		}
		g.rest.CheckStatus(meta, cl.uri.Value())
		httpapi.MergeHeader(header, meta)
		c.Accept(func(dst []byte) []byte { return appendFields(append(dst, extension...), header) })
	})
	return netpoll.Pending
}

// appendFields appends a header as complete field lines.
func appendFields(dst []byte, header http.Header) []byte {
	b := bytes.NewBuffer(dst)
	_ = header.Write(b) // a bytes.Buffer does not fail
	return b.Bytes()
}

// newSession makes the session of a new WebSocket client; deflate says that
// permessage-deflate was negotiated.
func (h *handler) newSession(c *netpoll.Conn, head *wsproto.Head, deflate bool) *client {
	g := (*Gateway)(h)
	l := c.Loop().Data.(*loop)
	cl := l.newClient(c, head)
	form := fanout.Message
	if deflate {
		form = fanout.Deflated
		c.EnableDeflate()
	}
	cl.session = session.New(&l.env, cl, g.outbox(c), form, g.cids.format(c.Handle()))
	c.Session = cl
	return cl
}

// outbox returns where a client's frames go.
func (g *Gateway) outbox(c *netpoll.Conn) fanout.Outbox {
	if g.log.Enabled(context.Background(), LevelTrace) {
		return traced{c, g.log}
	}
	return c
}

// Open makes the session of a new client, unless its upgrade needed one.
func (h *handler) Open(c *netpoll.Conn, head *wsproto.Head) {
	if c.Session == nil {
		h.newSession(c, head, false)
	}
}

// Message passes a client's message on. A client that sends several requests at
// once may get the answers to those that need no service together with the
// first that does: one write instead of two in every connect that asks for the
// version and subscribes.
func (h *handler) Message(c *netpoll.Conn, payload []byte) {
	if log := h.log; log.Enabled(context.Background(), LevelTrace) {
		log.Log(context.Background(), LevelTrace, "message from client", "conn", c.Handle(), "message", string(payload))
	}
	cl := c.Session.(*client)
	before := cl.session.Requests()
	cl.session.Message(payload)
	if cl.session.Requests() > before {
		l := c.Loop().Data.(*loop)
		l.asking = append(l.asking, c)
	}
}

// Lagging holds the events of a client that does not read what it is sent, and
// lets go of them, or of the difference that they make, when it does.
func (h *handler) Lagging(c *netpoll.Conn) {
	if cl, ok := c.Session.(*client); ok {
		cl.session.Lag(c.Lagging())
	}
}

// Closed ends the session of a client, or of a request, that is gone.
func (h *handler) Closed(c *netpoll.Conn) {
	switch s := c.Session.(type) {
	case *client:
		s.session.Close()
		if s.stream != nil {
			s.stream.stop()
		}
	case *plainRequest:
		s.leave()
	}
}

// Turn handles a loop's mailbox.
func (h *handler) Turn(n *netpoll.Loop) {
	l := n.Data.(*loop)
	for _, c := range l.asking {
		c.Defer() // before the mailbox is looked at: the answer may be in it
	}
	clear(l.asking)
	l.asking = l.asking[:0]
	l.turn()
}

// traced logs the frames that a client is sent.
type traced struct {
	conn *netpoll.Conn
	log  *slog.Logger
}

func (t traced) Send(f []byte) {
	t.log.Log(context.Background(), LevelTrace, "message to client", "conn", t.conn.Handle(), "message", string(payload(f)))
	t.conn.Send(f)
}

// payload returns the message in an unmasked frame (RFC 6455 section 5.2).
func payload(f []byte) []byte {
	switch f[1] {
	case 126:
		return f[4:]
	case 127:
		return f[10:]
	}
	return f[2:]
}
