package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/fanout"
	"sluice/internal/httpapi"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/netpoll"
	"sluice/wsproto"
)

// stream is what a client of server-sent events needs beside its session: the
// comments that keep proxies from taking a quiet stream for a dead one.
type stream struct {
	conn  *netpoll.Conn
	loop  *loop
	timer owner.Timer
}

// heartbeat is a comment (WHATWG HTML section 9.2.6), shared by all streams.
var heartbeat = []byte(":\n\n")

// Expire implements owner.Expirer.
func (s *stream) Expire(now time.Duration) {
	s.conn.Send(heartbeat)
	s.beat(now)
}

func (s *stream) beat(now time.Duration) {
	if every := s.loop.g.config.HeartbeatInterval; every > 0 {
		s.loop.net.Wheel().Schedule(&s.timer, now+every, s)
	}
}

func (s *stream) stop() { s.loop.net.Wheel().Cancel(&s.timer) }

// Stream keeps a GET that asks for server-sent events on its loop, where it is
// a client as those on WebSocket are. What is not a plain case of that is left
// to the HTTP side, which also has the words for whatever is wrong with it.
func (h *handler) Stream(c *netpoll.Conn, head *wsproto.Head) bool {
	g := (*Gateway)(h)
	if string(head.Method) != http.MethodGet || string(head.Proto) != "HTTP/1.1" || !httpapi.WantsStream(accepts(head)) {
		return false
	}
	path, query := splitTarget(head)
	rid, ok := g.rest.RID(path, query)
	header := make(http.Header)
	if !ok || !g.rest.CORS(header, string(head.Get("Origin"))) || g.watch.closed.Load() {
		return false
	}
	l := c.Loop().Data.(*loop)
	cl := l.newClient(c, head)
	cl.stream = &stream{conn: c, loop: l}
	cl.session = session.NewStream(&l.env, cl, g.outbox(c), g.cids.format(c.Handle()))
	c.Session = cl
	g.httpMetrics.count(http.MethodGet)
	if g.config.HeaderAuth == "" {
		cl.begin(header, nil, rid)
		return true
	}
	auth, method := splitMethod(g.config.HeaderAuth)
	cl.session.Authenticate(auth, method, func(answered string, meta *res.Meta, err *res.Error) {
		if meta = g.rest.Redirected(meta, answered); httpapi.Ends(meta) {
			cl.refuse(header, meta, err)
			return
		}
		cl.begin(header, meta, rid)
	})
	return true
}

// begin asks for the resource and sends the head of the response and the
// resource set, or what is wrong. header has the fields that are sure already,
// first what header authentication said.
func (c *client) begin(header http.Header, first *res.Meta, rid string) {
	c.session.Stream(rid, func(set []byte, meta *res.Meta, err *res.Error) {
		meta = httpapi.MergeMeta(first, meta)
		if err != nil || httpapi.Ends(meta) {
			c.refuse(header, meta, err)
			return
		}
		l := c.stream.loop
		l.g.rest.CheckStatus(meta, c.uri.Value())
		httpapi.StreamHeader(header, meta)
		c.conn.Send(l.net.Arena().Copy(appendResponse(nil, http.StatusOK, header, nil)))
		c.conn.Send(l.env.Hub.Frame(set, fanout.Stream))
		c.stream.beat(l.net.Now())
	}, c.conn.Finish)
}

// refuse answers with an error, or with what the services want to be answered.
func (c *client) refuse(header http.Header, meta *res.Meta, err *res.Error) {
	g := c.stream.loop.g
	status, body, ok := g.rest.Direct(header, meta, "", err)
	if !ok {
		httpapi.MergeHeader(header, meta)
		err = httpError(err)
		status, body = httpapi.Status(err), err.AppendJSON(nil)
	}
	if len(body) > 0 {
		header.Set("Content-Type", "application/json; charset=utf-8")
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Connection", "close")
	c.conn.Send(appendResponse(nil, status, header, body))
	c.conn.Finish()
}

// appendResponse appends an HTTP response.
func appendResponse(dst []byte, status int, header http.Header, body []byte) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(append(append(dst, ' '), http.StatusText(status)...), "\r\n"...)
	dst = append(appendFields(dst, header), "\r\n"...)
	return append(dst, body...)
}

// accepts returns the values of Accept that may name server-sent events: shorter
// ones cannot.
func accepts(head *wsproto.Head) (values []string) {
	head.Each(func(name, value []byte) {
		if len(value) >= len("text/event-stream") && equalASCII("accept", name) {
			values = append(values, string(value))
		}
	})
	return values
}

// splitTarget returns the escaped path and the query of a request's target.
func splitTarget(head *wsproto.Head) (path, query string) {
	path, query, _ = strings.Cut(string(head.Target), "?")
	if !strings.HasPrefix(path, "/") {
		path = string(head.Path()) // of the absolute form
	}
	return path, query
}
