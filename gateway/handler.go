package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"

	"sluice/fanout"
	"sluice/internal/httpapi"
	"sluice/internal/httpedge"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/netpoll"
	"sluice/wsproto"
)

// client is a WebSocket connection with its session. Owned by its loop.
type client struct {
	httpedge.Peer
	session *session.Session
}

// Session returns the client's session.
func (c *client) Session() *session.Session { return c.session }

// Closed ends the session of a client that is gone.
func (c *client) Closed() { c.session.Close() }

// attached is what a connection's Session holds: a WebSocket client, a stream or
// an HTTP request.
type attached interface {
	Session() *session.Session
	Closed()
}

// handler is what the event loops call (netpoll.Handler).
type handler struct{ g *Gateway }

// Start makes the state of a loop.
func (h handler) Start(n *netpoll.Loop) {
	l := newLoop(h.g, n)
	n.Data = l
	h.g.loops[l.index].Store(l)
}

// Upgrade refuses pages of foreign origins, and all while services cannot be
// reached. With wsHeaderAuth, a service is asked first.
func (h handler) Upgrade(c *netpoll.Conn, head *wsproto.Head) int {
	g := h.g
	if !g.rest.Origins().Allow(head.Get("Origin")) {
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
	rid, method := httpedge.SplitMethod(g.config.WSHeaderAuth)
	cl.session.Authenticate(rid, method, func(answered string, meta *res.Meta, err *res.Error) {
		header := make(http.Header)
		if status, body, ok := g.rest.Direct(header, meta, answered, err); ok {
			c.Refuse(status, string(httpedge.AppendFields(nil, header)), string(body))
			return
		}
		g.rest.CheckStatus(meta, cl.URI())
		httpapi.MergeHeader(header, meta)
		c.Accept(func(dst []byte) []byte { return httpedge.AppendFields(append(dst, extension...), header) })
	})
	return netpoll.Pending
}

// newSession makes the session of a new WebSocket client; deflate says that
// permessage-deflate was negotiated.
func (h handler) newSession(c *netpoll.Conn, head *wsproto.Head, deflate bool) *client {
	g := h.g
	l := c.Loop().Data.(*loop)
	cl := &client{Peer: l.http.Peer(c, head)}
	form := fanout.Message
	if deflate {
		form = fanout.Deflated
		c.EnableDeflate()
	}
	cl.session = session.New(&l.env, cl, g.outbox(c), form, g.cids.Conn(c.Handle()))
	c.Session = cl
	return cl
}

// outbox returns where the frames of a WebSocket client go.
func (g *Gateway) outbox(c *netpoll.Conn) fanout.Outbox { return g.traced(c, payload) }

// streamOutbox returns where the bytes of a stream go.
func (g *Gateway) streamOutbox(c *netpoll.Conn) fanout.Outbox { return g.traced(c, eventData) }

// traced returns an outbox that logs what it sends, if the log wants to know.
func (g *Gateway) traced(c *netpoll.Conn, message func(sent []byte) []byte) fanout.Outbox {
	if g.log.Enabled(context.Background(), LevelTrace) {
		return traced{c, c.Handle(), message, g.log}
	}
	return c
}

// Open makes the session of a new client, unless its upgrade needed one.
func (h handler) Open(c *netpoll.Conn, head *wsproto.Head) {
	if c.Session == nil {
		h.newSession(c, head, false)
	}
}

// Message passes a client's message on. A client that sends several requests at
// once may get the answers to those that need no service together with the
// first that does: one write instead of two in every connect that asks for the
// version and subscribes.
func (h handler) Message(c *netpoll.Conn, payload []byte) {
	if log := h.g.log; log.Enabled(context.Background(), LevelTrace) {
		log.Log(context.Background(), LevelTrace, "message from client", "conn", c.Handle(), "message", traceText(payload))
	}
	cl := c.Session.(*client)
	before := cl.session.Requests()
	cl.session.Message(payload)
	pending := cl.session.Requests()
	if pending <= before {
		return
	}
	l := c.Loop().Data.(*loop)
	l.asking = append(l.asking, c)
	if most := l.allowance(); pending >= most {
		c.Pause()
		cl.session.Await(most / 2)
	}
}

// Lagging holds the events of a client that does not read what it is sent, and
// lets go of them, or of the difference that they make, when it does.
func (h handler) Lagging(c *netpoll.Conn) {
	if a, ok := c.Session.(attached); ok {
		if s := a.Session(); s != nil {
			s.Lag(c.Lagging())
		}
	}
}

// Closed ends the session of a client, or of a request, that is gone.
func (h handler) Closed(c *netpoll.Conn) {
	if a, ok := c.Session.(attached); ok {
		a.Closed()
	}
}

// Stream passes on a request that may ask for server-sent events.
func (h handler) Stream(c *netpoll.Conn, head *wsproto.Head) bool {
	return c.Loop().Data.(*loop).http.Stream(c, head)
}

// Request passes a plain request on.
func (h handler) Request(c *netpoll.Conn, head *wsproto.Head, body []byte) bool {
	return c.Loop().Data.(*loop).http.Request(c, head, body)
}

// Turn handles a loop's mailbox.
func (h handler) Turn(n *netpoll.Loop) {
	l := n.Data.(*loop)
	for _, c := range l.asking {
		c.Defer() // before the mailbox is looked at: the answer may be in it
	}
	clear(l.asking)
	l.asking = l.asking[:0]
	l.turn()
}

// traced logs the messages that a client is sent.
type traced struct {
	fanout.Outbox
	handle  netpoll.Handle
	message func(sent []byte) []byte // what is in the bytes that are sent
	log     *slog.Logger
}

func (t traced) Send(f []byte) {
	t.log.Log(context.Background(), LevelTrace, "message to client", "conn", t.handle, "message", string(t.message(f)))
	t.Outbox.Send(f)
}

// eventData returns the message in a server-sent event, as streamFrame makes it.
func eventData(f []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimPrefix(f, []byte(eventStart)), []byte(eventEnd))
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
