package httpedge

import (
	"net/http"

	"sluice/fanout"
	"sluice/internal/httpapi"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/tracing"
	"sluice/netpoll"
)

// httpClient describes a request on net/http to services (session.Peer). The request's goroutine
// makes it, then its loop owns it.
type httpClient struct {
	l       *Loop
	number  uint64
	session *session.Session
	request *http.Request // only read
	remote  string
	fault   func() // ends the request after a panic in its session
	cause   netpoll.Cause
}

// because notes why a stream ends. The first cause counts.
func (c *httpClient) because(cause netpoll.Cause) {
	if c.cause == netpoll.CauseClient {
		c.cause = cause
	}
}

// Ending implements session.Ender.
func (c *httpClient) Ending() (reason string, code uint16) { return c.cause.String(), 0 }

// Fault implements session.Faulter.
func (c *httpClient) Fault() { c.fault() }

// Describe implements session.Peer.
func (c *httpClient) Describe(a *res.AuthRequest) {
	a.Header = string(res.AppendHeader(nil, headerFields(c.request.Header).Each))
	a.Host, a.URI, a.RemoteAddr = c.request.Host, c.request.RequestURI, c.remote
}

// backend runs the requests on net/http as short-lived sessions on the event loops
// (httpapi.Backend), so that they share topics and cache with all other clients. Plain requests
// stay on their loop: see plain.go.
type backend struct{ edge *Edge }

// exchange is one request on net/http that runs on a loop. The request's goroutine makes it and
// reads the result once finished is closed. In between, the loop owns it.
type exchange struct {
	client   *httpClient
	meta     *res.Meta // of all replies so far, merged
	err      *res.Error
	finished chan struct{}
	ended    bool
	rid      string
	span     *tracing.Span // nil: it is not traced
}

// finish ends the exchange and its session. It may be called again.
func (x *exchange) finish() {
	if x.ended {
		return
	}
	x.ended = true
	x.client.l.requests.end(x.client.number)
	x.endSpan()
	close(x.finished)
}

// metaOrNil returns the merged meta of all replies; nil if there is no exchange.
func (x *exchange) metaOrNil() *res.Meta {
	if x == nil {
		return nil
	}
	return x.meta
}

// begin posts r to one of the loops, which makes a session with open, authenticates it if
// headerAuth is set, and then calls start. The exchange lasts until finish is called. It returns
// nil if no loop has started.
func (q *backend) begin(r *http.Request, rid string, open func(c *httpClient, cid string) *session.Session, start func(x *exchange)) *exchange {
	e := q.edge
	l := e.someLoop()
	if l == nil {
		return nil
	}
	x := &exchange{
		client:   &httpClient{l: l, request: r, remote: e.forwarding.ofHeader(r.RemoteAddr, r.Header)},
		finished: make(chan struct{}),
		rid:      rid,
	}
	x.client.fault = func() {
		if !x.ended {
			x.err = res.InternalError("")
			x.finish()
		}
	}
	l.post(func() {
		if !l.env.Attempt(func() { q.open(x, open, start) }) {
			x.client.fault()
		}
	})
	return x
}

// open is the part of begin on the loop.
func (q *backend) open(x *exchange, open func(c *httpClient, cid string) *session.Session, start func(x *exchange)) {
	e, c := q.edge, x.client
	l := c.l
	c.number = l.requests.number()
	c.session = open(c, e.o.Gateway.IDs.Request(l.net.Index(), c.number))
	l.requests.add(c.number, c.session)
	if l.env.Recorder != nil {
		x.span = l.beginSpan(c.request.Method, e.route, c.request.Header.Get, x.rid, c.session.CID())
		defer l.env.Within(l.env.Within(x.span))
	}
	l.authenticate(c.session, tokenOf(c.request), func(meta *res.Meta, err *res.Error) {
		x.meta, x.err = meta, err
		x.finish()
	}, func(meta *res.Meta) {
		x.meta = meta
		start(x)
	})
}

// wait waits for the exchange to finish, for the client to disconnect, or for the loops to end. It
// returns the error for the response, if any.
func (q *backend) wait(r *http.Request, x *exchange) *res.Error {
	if x == nil {
		return res.ErrServiceUnavailable
	}
	select {
	case <-x.finished:
		return httpError(x.err)
	case <-r.Context().Done():
	case <-q.edge.halted:
		return res.ErrServiceUnavailable
	}
	// The loop must finish the exchange before this goroutine reads its results.
	x.client.l.post(func() {
		if !x.ended {
			x.err = res.ErrTimeout
			x.finish()
		}
	})
	select {
	case <-x.finished:
		return httpError(x.err)
	case <-q.edge.halted:
		return res.ErrServiceUnavailable
	}
}

// Get implements httpapi.Backend.
func (q *backend) Get(r *http.Request, rid string) (*session.Graph, *res.Meta, *res.Error) {
	var graph *session.Graph
	x := q.begin(r, rid, func(c *httpClient, cid string) *session.Session { return session.NewHTTP(c.l.env, c, cid) }, func(x *exchange) {
		x.client.session.Fetch(rid, func(g *session.Graph, meta *res.Meta, err *res.Error) {
			graph, x.meta, x.err = g, httpapi.MergeMeta(x.meta, meta), err
			x.finish()
		})
	})
	err := q.wait(r, x)
	if err != nil {
		return nil, x.metaOrNil(), err
	}
	return graph, x.meta, nil
}

// Call implements httpapi.Backend.
func (q *backend) Call(r *http.Request, rid, method string, params []byte) (res.CallResult, *res.Meta, *res.Error) {
	var result res.CallResult
	x := q.begin(r, rid, func(c *httpClient, cid string) *session.Session { return session.NewHTTP(c.l.env, c, cid) }, func(x *exchange) {
		x.client.session.Invoke(rid, method, params, func(res res.CallResult, metas []*res.Meta, err *res.Error) {
			for _, m := range metas {
				x.meta = httpapi.MergeMeta(x.meta, m)
			}
			result, x.err = res, err
			x.finish()
		})
	})
	err := q.wait(r, x)
	if err != nil {
		return res.CallResult{}, x.metaOrNil(), err
	}
	return result, x.meta, nil
}

// sink makes a stream on net/http the outbox of a session.
type sink struct {
	httpapi.Sink
	client *httpClient
}

func (s sink) Send(frame []byte) {
	if !s.Sink.Send(frame) && s.client.request.Context().Err() == nil {
		s.client.because(netpoll.CauseOutbox)
	}
}

var _ fanout.Outbox = sink{}

// Stream implements httpapi.Backend. The session lasts until the request's context ends, after
// Stream has returned.
func (q *backend) Stream(r *http.Request, rid string, out httpapi.Sink) (*res.Meta, *res.Error) {
	begun := make(chan struct{})
	_, lost := httpapi.CutLost(r.URL.RawQuery)
	x := q.begin(r, rid, func(c *httpClient, cid string) *session.Session {
		return session.NewStream(c.l.env, c, sink{out, c}, cid, lost)
	}, func(x *exchange) {
		x.client.session.Stream(rid, func(set []byte, meta *res.Meta, err *res.Error) {
			x.meta, x.err = httpapi.MergeMeta(x.meta, meta), err
			if err != nil || httpapi.Ends(meta) {
				x.client.because(netpoll.CauseRefused)
				x.finish()
				return
			}
			out.Send(x.client.l.env.Hub.Frame(set, fanout.Stream))
			x.client.fault = func() {
				x.client.because(netpoll.CauseFault)
				out.Close()
			}
			x.endSpan()
			close(begun)
		}, func() {
			x.client.because(netpoll.CauseEnded)
			out.Close()
		})
	})
	if x == nil {
		return nil, res.ErrServiceUnavailable
	}
	select {
	case <-begun:
	case <-x.finished:
		return x.meta, httpError(x.err)
	case <-r.Context().Done():
		return nil, q.wait(r, x)
	case <-q.edge.halted:
		return nil, res.ErrServiceUnavailable
	}
	go func() {
		defer q.edge.o.Faults.Contain(owner.HTTP)
		cause := netpoll.CauseClient
		select {
		case <-r.Context().Done():
		case <-q.edge.stopping:
			cause = netpoll.CauseDraining
			q.edge.sendAway(x.client.l, out)
			<-r.Context().Done()
		}
		x.client.l.post(func() {
			x.client.because(cause)
			x.finish()
		})
	}()
	return x.meta, nil
}
