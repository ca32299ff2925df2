package session

import (
	"sluice/internal/res"
	"sluice/internal/tracing"
)

// traces has the spans of requests in progress, of all sessions of a loop. It is empty unless
// requests are traced.
type traces struct {
	span    *tracing.Span                // of the request that the loop works for; nil: none
	open    map[*responder][]requestSpan // in the order of the requests
	loading map[*Sub]*tracing.Span       // the request that has a subscription load
}

// requestSpan is the span of a client's request.
type requestSpan struct {
	id   string // of the request
	span *tracing.Span
}

// Span returns the span of the request that the loop works for; nil if there is none.
func (t *traces) Span() *tracing.Span { return t.span }

// Within sets the span of the request that the loop works for, and returns the one before, for the
// call that ends this. Callbacks of Bus have the span in which Bus was called.
func (t *traces) Within(span *tracing.Span) (before *tracing.Span) {
	before, t.span = t.span, span
	return before
}

// keep returns f, within the present span.
func (t *traces) keep(f func()) func() {
	span := t.span
	if span == nil {
		return f
	}
	return func() {
		before := t.Within(span)
		f()
		t.Within(before)
	}
}

// loads records that b loads for the present request.
func (t *traces) loads(b *Sub) {
	if t.loading == nil {
		t.loading = make(map[*Sub]*tracing.Span)
	}
	t.loading[b] = t.span
}

// loader returns the span of the request that b loads for, or the present one.
func (t *traces) loader(b *Sub) *tracing.Span {
	if span := t.loading[b]; span != nil {
		return span
	}
	return t.span
}

// Attributes that spans of WebSocket and of HTTP requests have.
const (
	AttrRID = "sluice.rid"
	AttrCID = "sluice.cid"
)

// beginSpan begins the span of a request, and makes it the present one. The query of the resource
// ID is as a parameter of the request, and not recorded.
func (env *Env) beginSpan(s *Session, r *res.Request) {
	span := env.Recorder.Begin(r.Type.String(), tracing.Context{})
	span.Text("rpc.system.name", "res")
	span.Text("network.protocol.name", "websocket")
	span.Text("rpc.method", r.Method)
	span.Text(AttrRID, nameOf(r.RID))
	span.Text(AttrCID, s.cid)
	if env.open == nil {
		env.open = make(map[*responder][]requestSpan)
	}
	env.open[&s.responder] = append(env.open[&s.responder], requestSpan{r.ID, span})
	env.span = span
}

// endSpan ends the span of the request with an ID, if there is one: the oldest, if the client uses
// the ID more than once.
func (r *responder) endSpan(id string, err *res.Error) {
	open := r.env.open[r]
	for i := range open {
		if open[i].id != id {
			continue
		}
		r.env.EndSpan(open[i].span, err)
		if len(open) == 1 {
			delete(r.env.open, r)
			return
		}
		copy(open[i:], open[i+1:])
		open[len(open)-1] = requestSpan{}
		r.env.open[r] = open[:len(open)-1]
		return
	}
}

// EndSpan ends the span of a request with the error of its response; nil: none.
func (env *Env) EndSpan(span *tracing.Span, err *res.Error) {
	if err != nil {
		switch err.Code {
		case res.CodeInternalError, res.CodeTimeout, res.CodeServiceUnavailable:
			span.Fail(err.Code, true)
		default:
			span.Fail(err.Code, false)
		}
	}
	env.Recorder.End(span)
}

// endSpans ends the spans of a client that has gone before the responses.
func (env *Env) endSpans(r *responder) {
	for _, o := range env.open[r] {
		o.span.Fail("disconnected", false)
		env.Recorder.End(o.span)
	}
	delete(env.open, r)
}
