package tracing

import (
	"strings"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// encode returns the body of an export request. TracesData has the same encoding as
// ExportTraceServiceRequest, whose package has a gRPC server and client as well.
func (t *Tracer) encode(spans []*Span) ([]byte, error) {
	zero := t.env.Wall().Add(-t.env.Clock.Now()).UnixNano() // when the owners' clock was zero
	scope := &trace.ScopeSpans{Scope: &common.InstrumentationScope{Name: "sluice", Version: text(t.o.Version)}}
	for _, s := range spans {
		scope.Spans = append(scope.Spans, s.message(zero))
	}
	return proto.Marshal(&trace.TracesData{ResourceSpans: []*trace.ResourceSpans{{Resource: t.resource(), ScopeSpans: []*trace.ScopeSpans{scope}}}})
}

func (t *Tracer) resource() *resource.Resource {
	r := new(resource.Resource)
	add := func(key, value string) {
		if value != "" {
			r.Attributes = append(r.Attributes, &common.KeyValue{Key: text(key), Value: ofString(value)})
		}
	}
	own := map[string]bool{"service.name": true}
	for _, a := range t.o.Attributes {
		if !own[a[0]] {
			own[a[0]] = true
			add(a[0], a[1])
		}
	}
	add("service.name", t.o.Service)
	for _, a := range [][2]string{{"service.version", t.o.Version}, {"service.instance.id", t.o.Instance}} {
		if !own[a[0]] {
			add(a[0], a[1])
		}
	}
	return r
}

func (s *Span) message(zero int64) *trace.Span {
	m := &trace.Span{
		TraceId: s.Trace[:], SpanId: s.Context.Span[:], TraceState: s.State, Name: text(s.name),
		Kind:              trace.Span_SpanKind(s.kind),
		StartTimeUnixNano: at(zero, s.start), EndTimeUnixNano: at(zero, s.end),
		Flags: 1, // sampled
	}
	if s.parent != [8]byte{} {
		m.ParentSpanId = s.parent[:]
	}
	if s.failed {
		m.Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR}
	}
	for _, a := range s.attrs {
		v := ofString(a.text)
		switch a.as {
		case ofInt:
			v = &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: int64(a.number)}}
		case ofFloat:
			v = &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: a.number}}
		}
		m.Attributes = append(m.Attributes, &common.KeyValue{Key: a.key, Value: v})
	}
	return m
}

func at(zero int64, t time.Duration) uint64 { return uint64(zero + int64(t)) }

func ofString(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: text(s)}}
}

// text returns s as a string of protobuf, which is valid UTF-8. A client chooses resource IDs.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
