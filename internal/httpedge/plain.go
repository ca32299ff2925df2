package httpedge

import (
	"bytes"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"sluice/internal/httpapi"
	"sluice/internal/intern"
	"sluice/internal/metrics"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/tracing"
	"sluice/netpoll"
	"sluice/wsproto"
)

const (
	// quickBody is the longest body, in bytes, that a loop encodes itself. Such bodies are copied
	// for each client instead of shared: finding a shared one takes a lock, and an event loop does
	// not wait for locks. Options.MaxBacklog of httpapi bounds these copies, too.
	quickBody = 64 << 10
	// copiedBody is the longest body, in bytes, that is copied to follow its head in one buffer.
	copiedBody = 8 << 10
	// maxEncoding is the default of Options.MaxEncoding.
	maxEncoding = 1024
)

// plainRequest is an HTTP request for a resource on its connection's loop, with a session until its
// response (session.Peer). Owned by the loop.
type plainRequest struct {
	l       *Loop
	conn    *netpoll.Conn
	number  uint64
	session *session.Session
	query   httpapi.Query
	plan    httpapi.Plan
	params  []byte    // of a call, until it is made
	kept    any       // see Kept
	meta    *res.Meta // of header authentication

	span *tracing.Span // until the response; nil: it is not traced

	// Set if there is header authentication.
	header, host, uri unique.Handle[string]
	remote            string
}

// Fault implements session.Faulter.
func (p *plainRequest) Fault() { p.conn.Fault() }

// Describe implements session.Peer.
func (p *plainRequest) Describe(r *res.AuthRequest) {
	if p.remote != "" {
		r.Header, r.Host, r.URI, r.RemoteAddr = p.header.Value(), p.host.Value(), p.uri.Value(), p.remote
	}
}

// Request handles a plain request for a resource on its loop. It returns false for any other
// request, which net/http then gets; among them is a stream that [Loop.Stream] has declined, for
// its error response.
func (l *Loop) Request(c *netpoll.Conn, head *wsproto.Head, body []byte) bool {
	e := l.edge
	if !e.forResource(head.Path()) {
		return false
	}
	p := &plainRequest{l: l, conn: c}
	readQuery(&p.query, head, l.env.Parser.Interned)
	found := e.o.Tokens.Find(head.Target, head)
	p.query.RawQuery = found.Query(p.query.RawQuery)
	resp := l.newResponse()
	p.plan = e.api.Plan(resp, &p.query)
	switch p.plan.Do {
	case httpapi.Stream:
		return false
	case httpapi.Call:
		params, ok := e.api.Params(resp, l.env.Parser, body, nil)
		if !ok {
			p.plan.Do = httpapi.Nothing
		} else if l.authenticates(e.o.HeaderAuth) {
			params = bytes.Clone(params) // the parser's memory is reused before the call
		}
		p.params = params
	}
	e.o.Metrics.count(p.query.Method)
	if why := l.limit(c, head); why != nil {
		resp = p.newResponse()
		resp.TooActive(why.Why, why.RetryAfter())
		p.plan.Do = httpapi.Nothing
	}
	if p.plan.Do == httpapi.Nothing {
		p.respond(resp)
		return true
	}
	c.Session = p
	p.number = l.requests.number()
	p.session = session.NewHTTP(l.env, p, e.o.Gateway.IDs.Request(l.net.Index(), p.number))
	l.requests.add(p.number, p.session)
	if l.env.Recorder != nil {
		p.span = l.beginSpan(p.query.Method, e.route, headField(head), p.plan.RID, p.session.CID())
		defer l.env.Within(l.env.Within(p.span))
	}
	if !l.authenticates(e.o.HeaderAuth) {
		p.start()
		return true
	}
	if e.o.HeaderAuth != "" {
		p.header, p.host, p.uri = l.headers.of(head, &found), l.hosts.of(head.Get("Host")), l.uris.of(found.Target(head.Target))
		p.remote = e.forwarding.ofHead(c.RemoteAddr(), head)
	}
	l.authenticate(p.session, found.Token, p.rejected, func(meta *res.Meta) {
		p.meta = meta
		p.start()
	})
	return true
}

// rejected responds to a request that authentication ends.
func (p *plainRequest) rejected(meta *res.Meta, err *res.Error) {
	if p.meta = meta; p.plan.Do == httpapi.Get {
		p.got(nil, nil, err)
	} else {
		p.called(res.CallResult{}, nil, err)
	}
}

// start fetches the resource or calls the method.
func (p *plainRequest) start() {
	if p.plan.Do == httpapi.Get {
		p.session.Fetch(p.plan.RID, p.got)
		return
	}
	params := p.params
	p.params = nil
	p.session.Invoke(p.plan.RID, p.plan.Method, params, p.called)
}

// got responds to a GET.
func (p *plainRequest) got(graph *session.Graph, meta *res.Meta, err *res.Error) {
	p.leave()
	r := p.l.edge.api
	resp := p.newResponse()
	if r.Got(resp, &p.query, graph, httpapi.MergeMeta(p.meta, meta), httpError(err), quickBody) {
		p.respond(resp)
		return
	}
	p.later(func(resp *httpapi.Response) { r.Encode(resp, &p.query, graph) })
}

// called responds to a call.
func (p *plainRequest) called(result res.CallResult, metas []*res.Meta, err *res.Error) {
	p.leave()
	meta := p.meta
	for _, m := range metas {
		meta = httpapi.MergeMeta(meta, m)
	}
	if err != nil {
		result = res.CallResult{} // as Backend.Call does
	}
	r := p.l.edge.api
	resp := p.newResponse()
	if r.Called(resp, &p.query, &result, meta, httpError(err), quickBody) {
		p.respond(resp)
		return
	}
	p.later(func(resp *httpapi.Response) { r.Pack(resp, &p.query) })
}

// Kept implements upstream.Keeper.
func (p *plainRequest) Kept() *any { return &p.kept }

// Session returns the session of the request.
func (p *plainRequest) Session() *session.Session { return p.session }

// Closed ends the session of a request whose client has disconnected.
func (p *plainRequest) Closed() {
	p.leave()
	p.l.endSpan(&p.span, 0)
}

// leave ends the session.
func (p *plainRequest) leave() { p.l.requests.end(p.number) }

// newResponse returns the loop's response, empty. It is valid until the next call.
func (l *Loop) newResponse() *httpapi.Response {
	l.response.Reset()
	return &l.response
}

// newResponse returns the loop's response with the fields of httpapi.Handler.CORS.
func (p *plainRequest) newResponse() *httpapi.Response {
	resp := p.l.newResponse()
	p.l.edge.api.CORS(resp.Header, p.query.Origin)
	p.l.edge.hint(resp.Header)
	return resp
}

// respond sends the response, and frees it.
func (p *plainRequest) respond(resp *httpapi.Response) {
	p.conn.Session = nil
	p.l.endSpan(&p.span, resp.Status)
	keep := p.conn.KeepAlive()
	arena := p.l.net.Arena()
	dst := resp.AppendHead(arena.Begin(), p.query.Method, p.l.date.at(p.l.net.Now(), p.l.edge.o.Clock), keep)
	body := resp.Body
	switch {
	case p.query.Method == http.MethodHead:
		body = nil
	case len(body) <= copiedBody:
		dst = append(dst, body...)
		body = nil
	case !resp.Shared:
		body = bytes.Clone(body)
	}
	p.conn.Respond(arena.Commit(dst), body, keep)
	resp.Free()
}

// later completes the loop's response, a long one, with work on a goroutine, and sends it
// afterwards. If too many are waiting for that, it sends 503 instead.
func (p *plainRequest) later(work func(*httpapi.Response)) {
	l := p.l
	e := &l.edge.encoding
	resp := l.response
	l.response = httpapi.NewResponse()
	handle := p.conn.Handle()
	if !e.run(func() {
		ok := p.contained(&resp, work)
		l.post(func() {
			before := l.env.Enter(p.session)
			switch {
			case l.net.Conn(handle) != p.conn || p.conn.Session != p:
				resp.Free()
			case !ok:
				p.conn.Fault()
			default:
				p.respond(&resp)
			}
			l.env.Enter(before)
		})
	}) {
		resp.Free()
		busy := p.newResponse()
		l.edge.api.Busy(busy)
		p.respond(busy)
	}
}

// contained runs work. It returns false after a panic: then the response must not be used.
func (p *plainRequest) contained(resp *httpapi.Response, work func(*httpapi.Response)) (ok bool) {
	defer p.l.edge.o.Faults.Contain(owner.Encoder)
	work(resp)
	return true
}

// encoding runs functions that would block a loop for too long, a bounded number of them, as many
// in parallel as there are processors. Any goroutine may use it.
type encoding struct {
	most     int64        // bound of pending
	pending  atomic.Int64 // waiting or running
	rejected *metrics.Counter
	slots    chan struct{}
	all      sync.WaitGroup
}

func (e *encoding) init(most int, rejected *metrics.Counter) {
	e.most, e.slots, e.rejected = int64(most), make(chan struct{}, runtime.GOMAXPROCS(0)), rejected
}

// run runs f on a goroutine. It returns false if too many are pending.
func (e *encoding) run(f func()) bool {
	if e.pending.Add(1) > e.most {
		e.pending.Add(-1)
		e.rejected.Inc()
		return false
	}
	e.all.Go(func() {
		e.slots <- struct{}{}
		defer func() {
			<-e.slots
			e.pending.Add(-1)
		}()
		f()
	})
	return true
}

// dateLine is the value of the field Date, formatted once a second of monotonic time: after the
// machine's clock was set, it is wrong for a second at most.
type dateLine struct {
	text  []byte
	until time.Duration
}

func (d *dateLine) at(now time.Duration, clock owner.Clock) []byte {
	if d.text == nil || now >= d.until {
		t := clock.Wall().UTC()
		d.text = t.AppendFormat(d.text[:0], http.TimeFormat)
		d.until = now + time.Second - time.Duration(t.Nanosecond())
	}
	return d.text
}

// readQuery copies what determines the response out of a request's head.
func readQuery(q *httpapi.Query, head *wsproto.Head, interned *intern.Cache) {
	q.Method, q.Interned = methodName(head.Method), interned
	q.Path, q.RawQuery = splitTarget(head, interned)
	origin := false
	head.Each(func(name, value []byte) {
		switch {
		case len(name) == len("origin") && bytes.EqualFold(name, []byte("origin")):
			if !origin {
				origin, q.Origin = true, string(value)
			}
		case len(name) == len("accept") && bytes.EqualFold(name, []byte("accept")):
			if len(value) >= len("text/event-stream") {
				q.Accept = append(q.Accept, string(value))
			}
		case len(name) == len("accept-encoding") && bytes.EqualFold(name, []byte("accept-encoding")):
			q.AcceptEncoding = append(q.AcceptEncoding, string(value))
		case len(name) == len("if-none-match") && bytes.EqualFold(name, []byte("if-none-match")):
			q.IfNoneMatch = append(q.IfNoneMatch, string(value))
		case len(name) == len("access-control-request-headers") && bytes.EqualFold(name, []byte("access-control-request-headers")):
			q.RequestHeaders = append(q.RequestHeaders, string(value))
		}
	})
}

// methodName returns a method's name, without an allocation for those of httpMethods.
func methodName(name []byte) string {
	for _, m := range httpMethods {
		if string(name) == m {
			return m
		}
	}
	return string(name)
}
