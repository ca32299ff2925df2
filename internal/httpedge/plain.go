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
	"sluice/internal/metrics"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/netpoll"
	"sluice/wsproto"
)

const (
	// quickAnswer is how many bytes of a response a loop encodes itself. Such bodies are copied for
	// each client instead of shared: finding a shared one takes a lock and a hash, and an event
	// loop does not wait for locks. The copies of clients that do not read are bounded by
	// Options.MaxBacklog of httpapi like all that waits.
	quickAnswer = 64 << 10
	// copiedBody is how many bytes of an answer's body are joined with its head.
	copiedBody = 8 << 10
	// maxEncoding is the default of Options.MaxEncoding.
	maxEncoding = 1024
)

// plainRequest is an HTTP request for a resource that its connection's loop
// answers: a session that lasts until then (session.Peer). Owned by the loop.
type plainRequest struct {
	l       *Loop
	conn    *netpoll.Conn
	number  uint64
	session *session.Session
	query   httpapi.Query
	plan    httpapi.Plan
	params  []byte    // of a call, until it is made
	meta    *res.Meta // what header authentication said

	// Known if there is header authentication.
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

// Request answers plain requests for resources on their loop. Everything else is
// left to the HTTP side, and so is a stream that the loop has declined: it has
// the words for what is wrong.
func (l *Loop) Request(c *netpoll.Conn, head *wsproto.Head, body []byte) bool {
	e := l.edge
	if !e.forResource(head.Path()) {
		return false
	}
	p := &plainRequest{l: l, conn: c}
	readQuery(&p.query, head)
	a := l.newAnswer()
	p.plan = e.api.Plan(a, &p.query)
	switch p.plan.Do {
	case httpapi.Stream:
		return false
	case httpapi.Call:
		params, ok := e.api.Params(a, l.env.Parser, body, nil)
		if !ok {
			p.plan.Do = httpapi.Nothing
		} else if e.o.HeaderAuth != "" {
			params = bytes.Clone(params) // the call has to wait
		}
		p.params = params
	}
	e.o.Metrics.count(p.query.Method)
	if p.plan.Do == httpapi.Nothing {
		p.respond(a)
		return true
	}
	c.Session = p
	p.number = l.requests.number()
	p.session = session.NewHTTP(l.env, p, e.o.Gateway.IDs.Request(l.net.Index(), p.number))
	l.requests.add(p.number, p.session)
	if e.o.HeaderAuth == "" {
		p.start()
		return true
	}
	p.header, p.host, p.uri = l.headers.of(head), l.hosts.of(head.Get("Host")), l.uris.of(head.Target)
	p.remote = e.forwarding.ofHead(c.RemoteAddr(), head)
	p.authenticate()
	return true
}

// authenticate asks the service that headerAuth names, and then starts.
func (p *plainRequest) authenticate() {
	e := p.l.edge
	rid, method := SplitMethod(e.o.HeaderAuth)
	p.session.Authenticate(rid, method, func(answered string, meta *res.Meta, err *res.Error) {
		if p.meta = e.api.Redirected(meta, answered); !httpapi.Ends(meta) {
			p.start() // without a token, if the service did not send one
		} else if p.plan.Do == httpapi.Get {
			p.got(nil, nil, err)
		} else {
			p.called(res.CallResult{}, nil, err)
		}
	})
}

// start does what is to be done.
func (p *plainRequest) start() {
	if p.plan.Do == httpapi.Get {
		p.session.Fetch(p.plan.RID, p.got)
		return
	}
	params := p.params
	p.params = nil
	p.session.Invoke(p.plan.RID, p.plan.Method, params, p.called)
}

// got answers a GET.
func (p *plainRequest) got(graph *session.Graph, meta *res.Meta, err *res.Error) {
	p.leave()
	r := p.l.edge.api
	a := p.newAnswer()
	if r.Got(a, &p.query, graph, httpapi.MergeMeta(p.meta, meta), httpError(err), quickAnswer) {
		p.respond(a)
		return
	}
	p.later(func(a *httpapi.Answer) { r.Encode(a, &p.query, graph) })
}

// called answers a call.
func (p *plainRequest) called(result res.CallResult, metas []*res.Meta, err *res.Error) {
	p.leave()
	meta := p.meta
	for _, m := range metas {
		meta = httpapi.MergeMeta(meta, m)
	}
	if err != nil {
		result = res.CallResult{} // as a Backend returns it
	}
	r := p.l.edge.api
	a := p.newAnswer()
	if r.Called(a, &p.query, &result, meta, httpError(err), quickAnswer) {
		p.respond(a)
		return
	}
	p.later(func(a *httpapi.Answer) { r.Pack(a, &p.query) })
}

// Session returns the session of the request, nil once it has been answered.
func (p *plainRequest) Session() *session.Session { return p.session }

// Closed ends the session of a request whose client is gone.
func (p *plainRequest) Closed() { p.leave() }

// leave ends the session.
func (p *plainRequest) leave() { p.l.requests.end(p.number) }

// newAnswer returns the loop's answer, empty. It is to be used at once.
func (l *Loop) newAnswer() *httpapi.Answer {
	l.answer.Free()
	clear(l.answer.Header)
	l.answer = httpapi.Answer{Header: l.answer.Header}
	return &l.answer
}

// newAnswer returns the loop's answer with what is in all answers to the request.
func (p *plainRequest) newAnswer() *httpapi.Answer {
	a := p.l.newAnswer()
	p.l.edge.api.CORS(a.Header, p.query.Origin)
	return a
}

// respond sends the answer, and frees it.
func (p *plainRequest) respond(a *httpapi.Answer) {
	p.conn.Session = nil
	keep := p.conn.KeepAlive()
	arena := p.l.net.Arena()
	dst := a.AppendHead(arena.Begin(), p.query.Method, p.l.date.at(p.l.net.Now()), keep)
	body := a.Body
	switch {
	case p.query.Method == http.MethodHead:
		body = nil
	case len(body) <= copiedBody:
		dst = append(dst, body...)
		body = nil
	case !a.Shared:
		body = bytes.Clone(body)
	}
	p.conn.Respond(arena.Commit(dst), body, keep)
	a.Free()
}

// later has the loop's answer, which takes long, ended by work on a goroutine,
// and sends it then. If too many wait for that, this one is refused.
func (p *plainRequest) later(work func(*httpapi.Answer)) {
	l := p.l
	e := &l.edge.encoding
	a := l.answer
	l.answer = httpapi.Answer{Header: make(http.Header)}
	handle := p.conn.Handle()
	if !e.run(func() {
		ok := p.contained(&a, work)
		l.post(func() {
			before := l.env.Enter(p.session)
			switch {
			case l.net.Conn(handle) != p.conn || p.conn.Session != p:
				a.Free()
			case !ok:
				p.conn.Fault()
			default:
				p.respond(&a)
			}
			l.env.Enter(before)
		})
	}) {
		a.Free()
		busy := p.newAnswer()
		l.edge.api.Busy(busy)
		p.respond(busy)
	}
}

// contained does what later is about. It returns false after a panic, and then the answer is not to
// be used.
func (p *plainRequest) contained(a *httpapi.Answer, work func(*httpapi.Answer)) (ok bool) {
	defer p.l.edge.o.Faults.Contain(owner.Encoder)
	work(a)
	return true
}

// encoding runs what would keep a loop from its other clients. Any goroutine may
// use it.
type encoding struct {
	most    int64        // that may wait or run
	waiting atomic.Int64 // or running
	refused *metrics.Counter
	slots   chan struct{}
	all     sync.WaitGroup
}

func (e *encoding) init(most int, refused *metrics.Counter) {
	e.most, e.slots, e.refused = int64(most), make(chan struct{}, runtime.GOMAXPROCS(0)), refused
}

// run runs f on a goroutine, unless too many wait already.
func (e *encoding) run(f func()) bool {
	if e.waiting.Add(1) > e.most {
		e.waiting.Add(-1)
		e.refused.Inc()
		return false
	}
	e.all.Go(func() {
		e.slots <- struct{}{}
		defer func() {
			<-e.slots
			e.waiting.Add(-1)
		}()
		f()
	})
	return true
}

// dateLine is the value of the field Date, made anew once a second.
type dateLine struct {
	text  []byte
	until time.Duration
}

func (d *dateLine) at(now time.Duration) []byte {
	if d.text == nil || now >= d.until {
		t := time.Now().UTC()
		d.text = t.AppendFormat(d.text[:0], http.TimeFormat)
		d.until = now + time.Second - time.Duration(t.Nanosecond())
	}
	return d.text
}

// readQuery takes what matters for the answer out of a request's head.
func readQuery(q *httpapi.Query, head *wsproto.Head) {
	q.Method = methodName(head.Method)
	q.Path, q.RawQuery = splitTarget(head)
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

// methodName returns a method's name, without an allocation if it is usual.
func methodName(name []byte) string {
	for _, m := range httpMethods {
		if string(name) == m {
			return m
		}
	}
	return string(name)
}
