package httpedge

import (
	"bytes"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/fanout"
	"sluice/internal/httpapi"
	"sluice/internal/intern"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/tracing"
	"sluice/netpoll"
	"sluice/wsproto"
)

// stream is a client of server-sent events on its connection's loop, with its session and the timer
// of its heartbeat comments. Owned by the loop.
type stream struct {
	Peer
	loop    *Loop
	session *session.Session
	timer   owner.Timer
	span    *tracing.Span // until it begins; nil: it is not traced
	begun   bool          // the response's head has been sent
	next    time.Duration // when the next heartbeat is due, if there are any
	left    func()        // called when it has closed; nil: nothing
}

// Session returns the session of the stream.
func (s *stream) Session() *session.Session { return s.session }

// Closed ends the session of a stream whose client has disconnected.
func (s *stream) Closed() {
	s.session.Close()
	s.loop.endSpan(&s.span, 0)
	s.loop.Leave(&s.Peer)
	s.loop.net.Wheel().Cancel(&s.timer)
	if s.left != nil {
		s.left()
	}
}

// StreamState is what goes along with a stream to another process, beside its session.
type StreamState struct {
	Beat time.Duration // until the next heartbeat
}

// MovableStream returns the session and the client of a connection's stream, if it has begun.
func MovableStream(c *netpoll.Conn) (s *session.Session, p *Peer, state *StreamState) {
	if v, ok := c.Session.(*stream); ok && v.begun {
		return v.session, &v.Peer, &StreamState{max(v.next-v.loop.net.Now(), 0)}
	}
	return nil, nil, nil
}

// JoinStream makes a stream that has come from another process: peer is for its session, for which
// ended is, too, and which begin gets. left is called when it has closed. If there is no session,
// Leave follows.
func (l *Loop) JoinStream(c *netpoll.Conn, from PeerState, state *StreamState, left func()) (peer session.Peer, p *Peer, begin func(*session.Session), ended func()) {
	s := &stream{loop: l, begun: true, left: left, Peer: l.Join(c, from)}
	return s, &s.Peer, func(ss *session.Session) {
		s.session = ss
		c.Session = s
		if every := l.heartbeat; every > 0 {
			s.beatAt(l.net.Now() + min(state.Beat, every))
		}
	}, s.end
}

// inputEnded is called when the client has ended its output. The stream continues, since the
// request was complete. A comment detects whether the client has closed the connection altogether.
func (s *stream) inputEnded() {
	if s.begun {
		s.conn.Send(heartbeat)
	}
}

// InputEnded is called on c's loop when the client has ended its output.
func InputEnded(c *netpoll.Conn) {
	if s, ok := c.Session.(*stream); ok {
		s.inputEnded()
	}
}

// heartbeat is a comment (WHATWG HTML section 9.2.6), shared by all streams.
var heartbeat = []byte(":\n\n")

// Expire implements owner.Expirer.
func (s *stream) Expire(now time.Duration) {
	s.beat(now) // first: a panic in the rest must not end the heartbeat
	before := s.loop.env.Enter(s.session)
	s.conn.Send(heartbeat)
	s.loop.env.Enter(before)
}

// beat schedules the next heartbeat.
func (s *stream) beat(now time.Duration) {
	if every := s.loop.heartbeat; every > 0 {
		s.beatAt(now + every)
	} else {
		s.loop.net.Wheel().Cancel(&s.timer)
	}
}

func (s *stream) beatAt(at time.Duration) {
	s.next = at
	s.loop.net.Wheel().Schedule(&s.timer, at, s)
}

// Adjust replaces Options.Heartbeat of the loop's streams.
func (l *Loop) Adjust(heartbeat time.Duration) {
	if heartbeat == l.heartbeat {
		return
	}
	l.heartbeat = heartbeat
	for next := 0; next >= 0; {
		next = l.net.Walk(next, math.MaxInt32, func(c *netpoll.Conn) {
			if s, ok := c.Session.(*stream); ok && s.begun {
				s.beat(l.net.Now())
			}
		})
	}
}

// Stream makes a GET that asks for server-sent events a session on its loop, as a WebSocket
// client's is. It returns false for any other request, and for one that net/http responds to with
// an error.
func (l *Loop) Stream(c *netpoll.Conn, head *wsproto.Head) bool {
	e := l.edge
	if string(head.Method) != http.MethodGet || string(head.Proto) != "HTTP/1.1" || !httpapi.WantsStream(accepts(head)) {
		return false
	}
	found := e.o.Tokens.Find(head.Target, head)
	path, query := splitTarget(head, nil)
	query, lost := httpapi.CutLost(found.Query(query))
	rid, ok := e.api.RID(path, query)
	header := make(http.Header)
	if !ok || !e.api.CORS(header, string(head.Get("Origin"))) || e.o.Gateway.Closed() {
		return false
	}
	e.o.Metrics.count(http.MethodGet)
	why := l.limit(c, head)
	if why == nil {
		why = l.Admit(c, head)
	}
	s := &stream{loop: l}
	s.Peer, _ = l.Peer(c, head)
	if why != nil {
		header.Set("Retry-After", strconv.Itoa(why.RetryAfter()))
		s.respond(header, nil, res.TooActive(why.Why))
		return true
	}
	s.session = session.NewStream(l.env, s, l.outbox(c), e.o.Gateway.IDs.Conn(c.Handle()), lost)
	c.Session = s
	if l.env.Recorder != nil {
		s.span = l.beginSpan(http.MethodGet, e.route, headField(head), rid, s.session.CID())
		defer l.env.Within(l.env.Within(s.span))
	}
	l.authenticate(s.session, found.Token, func(meta *res.Meta, err *res.Error) { s.respond(header, meta, err) },
		func(meta *res.Meta) { s.begin(header, meta, rid) })
	return true
}

// begin subscribes to the resource and sends the head of the response and the resource set, or an
// error. header has the fields of httpapi.Handler.CORS, first is the meta of header authentication.
func (s *stream) begin(header http.Header, first *res.Meta, rid string) {
	s.session.Stream(rid, func(set []byte, meta *res.Meta, err *res.Error) {
		if !s.respond(header, httpapi.MergeMeta(first, meta), err) {
			return
		}
		s.begun = true
		s.conn.Send(s.loop.env.Hub.Frame(set, fanout.Stream))
		s.beat(s.loop.net.Now())
	}, s.end)
}

// end is called when the gateway has ended the subscription.
func (s *stream) end() {
	netpoll.Because(s.conn, netpoll.CauseEnded)
	s.conn.Finish()
}

// respond sends the head of the stream, or an error or redirection in its place. It reports whether
// the stream begins.
func (s *stream) respond(header http.Header, meta *res.Meta, err *res.Error) bool {
	l := s.loop
	l.edge.hint(header)
	resp := httpapi.Response{Header: header}
	begins := l.edge.api.Streamed(&resp, s.URI(), meta, httpError(err))
	l.endSpan(&s.span, resp.Status)
	arena := l.net.Arena()
	dst := resp.AppendHead(arena.Begin(), http.MethodGet, l.date.at(l.net.Now(), l.edge.o.Clock), false)
	s.conn.Send(arena.Commit(append(dst, resp.Body...)))
	if !begins {
		netpoll.Because(s.conn, netpoll.CauseRefused)
		s.conn.Finish()
	}
	return begins
}

// accepts returns the values of Accept that are long enough to name server-sent events.
func accepts(head *wsproto.Head) (values []string) {
	head.Each(func(name, value []byte) {
		if len(value) >= len("text/event-stream") && bytes.EqualFold(name, []byte("accept")) {
			values = append(values, string(value))
		}
	})
	return values
}

// splitTarget returns the escaped path and the query of a request's target.
func splitTarget(head *wsproto.Head, interned *intern.Cache) (path, query string) {
	if bytes.IndexByte(head.Target, '?') >= 0 {
		interned = nil // it may have a secret
	}
	path, query, _ = strings.Cut(interned.Of(head.Target), "?")
	if !strings.HasPrefix(path, "/") {
		path = string(head.Path()) // of the absolute form
	}
	return path, query
}
