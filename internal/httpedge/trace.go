package httpedge

import (
	"net/http"
	"strconv"
	"strings"

	"sluice/internal/session"
	"sluice/internal/tracing"
	"sluice/wsproto"
)

// routeOf returns what spans call the paths of resources.
func routeOf(apiPath string) string { return strings.TrimSuffix(apiPath, "/") + "/{resource}" }

// headField returns a function that returns a field of a request's head.
func headField(head *wsproto.Head) func(name string) string {
	return func(name string) string { return string(head.Get(name)) }
}

// beginSpan begins the span of a request for a resource, or of an upgrade: then rid is empty. It
// continues the trace of the request's header. l.env.Recorder is not nil.
func (l *Loop) beginSpan(method, route string, field func(name string) string, rid, cid string) *tracing.Span {
	known := "_OTHER" // a client can make up methods
	for _, m := range httpMethods {
		if m == method {
			known = m
		}
	}
	span := l.env.Recorder.Begin(known+" "+route, tracing.Parse(field(tracing.ParentField), field(tracing.StateField)))
	span.Text("http.request.method", known)
	span.Text("http.route", route)
	name, _, _ := strings.Cut(rid, "?")
	span.Text(session.AttrRID, name)
	span.Text(session.AttrCID, cid)
	return span
}

// endSpan ends a span with the status of the response, or with 0 if the client has gone before.
// Nothing happens if *span is nil.
func (l *Loop) endSpan(span **tracing.Span, status int) {
	s := *span
	if s == nil {
		return
	}
	*span = nil
	switch {
	case status == 0:
		s.Fail("disconnected", false)
	case status >= http.StatusInternalServerError:
		s.Fail(strconv.Itoa(status), true)
	}
	if status != 0 {
		s.Int("http.response.status_code", status)
	}
	l.env.Recorder.End(s)
}

// endSpan ends the span of an exchange, if it has one, with its error: net/http has the status.
func (x *exchange) endSpan() {
	if span := x.span; span != nil {
		x.span = nil
		x.client.l.env.EndSpan(span, x.err)
	}
}
