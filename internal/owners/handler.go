package owners

import (
	"net/http"
	"time"

	"sluice/fanout"
	"sluice/internal/httpedge"
	"sluice/internal/natsbus"
	"sluice/internal/overlap"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/upstream"
	"sluice/netpoll"
	"sluice/pool"
	"sluice/wsproto"
)

// client is a WebSocket connection with its session. Owned by its loop. It is one object, of which
// the session, the connection and the subscriptions keep parts.
type client struct {
	session session.Session
	httpedge.Peer
	inFlight natsbus.Group
	guest    bool // it has the ID of another process: see guests
}

// Session returns the client's session.
func (c *client) Session() *session.Session { return &c.session }

// Closed ends the session of a client that has disconnected.
func (c *client) Closed() {
	c.session.Close()
	l := c.Conn().Loop().Data.(*Loop)
	l.http.Leave(&c.Peer)
	if c.guest {
		l.guestLeft(c.session.CID())
	}
}

// guestLeft is called when a client that has come from another process has closed.
func (l *Loop) guestLeft(cid string) {
	delete(l.recall.ahead, cid)
	l.set.guests.leave(cid)
}

// hadToken reports whether a client has had a token event at the process that it has come from.
func (r *recall) hadToken(cid string, data []byte, now time.Duration) bool {
	ahead := r.ahead[cid]
	if len(ahead) == 0 {
		return false
	}
	sum := natsbus.HashName(string(data))
	for i, m := range ahead {
		if m.Sum == sum && m.At > now-overlap.Apart {
			r.ahead[cid] = append(ahead[:i], ahead[i+1:]...)
			return true
		}
	}
	return false
}

var _ upstream.Grouper = (*client)(nil)

// InFlight implements upstream.Grouper.
func (c *client) InFlight() *natsbus.Group { return &c.inFlight }

// handler is what the event loops call (netpoll.Handler).
type handler struct{ *Set }

// Start makes the state of a loop that starts.
func (h handler) Start(n *netpoll.Loop) {
	l := newLoop(h.Set, n)
	n.Data = l
	h.loops[l.index].Store(l)
}

// Upgrade rejects pages of foreign origins, and every client after the grace period without NATS.
// It has tokens verified, and with wsHeaderAuth it then sends an auth request to a service.
func (h handler) Upgrade(c *netpoll.Conn, head *wsproto.Head) int {
	if !h.o.HTTP.API().Origins().Allow(head.Get("Origin")) {
		return http.StatusForbidden
	}
	if h.o.Grace.Over() {
		return http.StatusServiceUnavailable
	}
	extension := ""
	if h.o.Config.WSCompression {
		extension = wsproto.NegotiateDeflate(head)
	}
	l := c.Loop().Data.(*Loop)
	if refusal := l.http.Admit(c, head); refusal != nil {
		l.http.Refuse(c, refusal)
		return netpoll.Pending
	}
	if h.o.Config.WSHeaderAuth == "" && extension == "" && !h.o.Tokens.On() {
		return 0 // Open makes the session
	}
	cl, token := h.newSession(c, head, extension != "")
	l.http.Upgrade(&cl.Peer, &cl.session, head, token, h.o.Config.WSHeaderAuth, extension)
	return netpoll.Pending
}

// newSession makes the session of a WebSocket client, and returns the token that it has sent.
func (h handler) newSession(c *netpoll.Conn, head *wsproto.Head, deflate bool) (cl *client, token string) {
	l := c.Loop().Data.(*Loop)
	cl = new(client)
	cl.Peer, token = l.http.Peer(c, head)
	form := fanout.Message
	if deflate {
		form = fanout.Deflated
		c.EnableDeflate()
	}
	cid := h.o.IDs.Conn(c.Handle())
	session.Init(&cl.session, &l.Env, cl, h.o.Trace.Frames(c, cid), form, cid)
	c.Session = cl
	return cl, token
}

// Open makes the session of a new client, unless Upgrade has made it.
func (h handler) Open(c *netpoll.Conn, head *wsproto.Head) {
	if c.Session == nil {
		h.newSession(c, head, false)
	}
	session.Announce(&c.Session.(*client).session)
}

// Message passes a client's message to its session. The responses to requests that need no service
// may be batched with the response to one that does: one write instead of two for a client that
// sends version and subscribe together.
func (h handler) Message(c *netpoll.Conn, payload []byte) {
	cl := c.Session.(*client)
	h.o.Trace.Received(cl.session.CID(), payload)
	if len(payload) > parseHere {
		h.parseAway(c, cl, payload)
		return
	}
	before := cl.session.Requests()
	cl.session.Message(payload)
	h.asked(c, cl, before)
}

// asked is called after a client's message was handled; before is the number of its requests that
// were in flight before. If the client has reached its limit now, it is no longer read until half
// of its requests have responses.
func (h handler) asked(c *netpoll.Conn, cl *client, before int) {
	pending := cl.session.Requests()
	if pending <= before {
		return
	}
	l := c.Loop().Data.(*Loop)
	l.asking = append(l.asking, c)
	if most := l.allowance(); pending >= most {
		c.Pause()
		cl.session.Await(most / 2)
	}
}

// parseHere is the longest message, in bytes, that the loop parses itself: a megabyte of JSON takes
// up to 50 ms.
const parseHere = 32 << 10

// parseAway has a worker parse a message.
func (h handler) parseAway(c *netpoll.Conn, cl *client, payload []byte) {
	text := pool.GetBuffer(len(payload))
	text.B = append(text.B, payload...)
	var parser res.Parser
	var r res.Request
	var err error
	c.Offload(func(yield func()) {
		parser.Yield = yield
		err = parser.Request(text.B, &r)
	}, func(open bool) {
		if open {
			before := cl.session.Requests()
			cl.session.Request(&r, err)
			h.asked(c, cl, before)
		}
		text.Put()
	})
}

// Lagging is called when a client becomes a slow consumer, and when its socket has drained: its
// session holds events in between, and then sends them, or the difference that they make.
func (h handler) Lagging(c *netpoll.Conn) {
	if s := httpedge.SessionOf(c); s != nil {
		s.Lag(c.Lagging())
	}
}

// Closed ends the session of a connection that is closed.
func (h handler) Closed(c *netpoll.Conn) {
	if a, ok := c.Session.(interface{ Closed() }); ok {
		a.Closed()
	}
}

// Stream handles a request if it asks for server-sent events.
func (h handler) Stream(c *netpoll.Conn, head *wsproto.Head) bool {
	return c.Loop().Data.(*Loop).http.Stream(c, head)
}

// Request handles a plain HTTP request.
func (h handler) Request(c *netpoll.Conn, head *wsproto.Head, body []byte) bool {
	return c.Loop().Data.(*Loop).http.Request(c, head, body)
}

// Iterate handles a loop's mailbox, once per loop iteration.
func (h handler) Iterate(n *netpoll.Loop) {
	l := n.Data.(*Loop)
	for _, c := range l.asking {
		c.Defer() // before the mailbox is drained: the reply may be in it
	}
	clear(l.asking)
	l.asking = l.asking[:0]
	l.turn()
}
