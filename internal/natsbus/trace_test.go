package natsbus

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"sluice/internal/natstest"
	"sluice/internal/owner"
	"sluice/internal/testkit"
	"sluice/internal/tracing"
)

// newTracer returns a tracer whose spans the collector has when stop returns.
func newTracer(c *testkit.Collector, clock owner.Clock) (t *tracing.Tracer, stop func()) {
	log := new(testkit.Log).Logger()
	t = tracing.New(tracing.Options{Endpoint: c.URL, Ratio: 1}, tracing.Env{Clock: clock, Wall: time.Now, Metrics: new(tracing.Metrics), Faults: owner.NewFaults(clock, log), Log: log})
	_ = t.Start(context.Background(), nil)
	return t, func() { _ = t.Stop(context.Background()) }
}

const clientParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"

// A service finds the span of a request in the header of the message, and the collector gets the
// span with what became of the request.
func TestTrace(t *testing.T) {
	collector := testkit.NewCollector(t)
	var stop func()
	h := newHarness(t, func(h *harness, o *Options) { o.Tracer, stop = newTracer(collector, h.clock) })
	service := h.nats.Client()
	seen := make(chan *nats.Msg, 8)
	if _, err := service.Subscribe("*.library.>", func(m *nats.Msg) {
		seen <- m
		switch {
		case strings.HasPrefix(m.Subject, "access."):
			_ = m.Respond([]byte(`{"error":{"code":"system.notFound"}}`))
		case strings.HasPrefix(m.Subject, "get."):
			_ = m.Respond([]byte(`{"result":{"model":{}}}`))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	recorded, not := tracing.Parse(clientParent+"1", "v=1"), tracing.Parse(clientParent+"0", "")
	errs := make(map[string]error)
	ask := func(subject string, trace *tracing.Context) {
		h.caller.Request(Request{Name: "library.book", Subject: subject, Payload: []byte("{}"), Trace: trace}, func(_ []byte, err error) { errs[subject] = err })
	}
	ask("access.library.book", &recorded)
	ask("get.library.book", &recorded)
	ask("call.library.book.set", &recorded)
	ask("call.nobody.book.set", &recorded)
	ask("get.library.other", &not)
	ask("access.library.plain", nil)
	h.caller.Flush()
	ids := make(map[string]string)
	for range 5 {
		m := testkit.Await(t, seen, "a request")
		parent := m.Header.Get("traceparent")
		switch m.Subject {
		case "access.library.plain":
			if m.Header != nil {
				t.Errorf("%s: header %v", m.Subject, m.Header)
			}
			continue
		case "get.library.other":
			if !strings.HasSuffix(parent, "-00") {
				t.Errorf("%s: traceparent %q", m.Subject, parent)
			}
		default:
			if !strings.HasSuffix(parent, "-01") || m.Header.Get("tracestate") != "v=1" {
				t.Errorf("%s: header %v", m.Subject, m.Header)
			}
		}
		if len(parent) != 55 || parent[:36] != clientParent[:36] || parent[36:52] == clientParent[36:52] {
			t.Fatalf("%s: traceparent %q", m.Subject, parent)
		}
		ids[m.Subject] = parent[36:52]
		if string(m.Data) != "{}" {
			t.Errorf("%s: payload %q", m.Subject, m.Data)
		}
	}
	for len(errs) < 5 {
		h.next("reply")
	}
	h.advance(4 * time.Second)
	for len(errs) < 6 {
		h.next("reply")
	}
	stop()
	spans, _ := collector.Spans()
	got := make(map[string]*trace.Span)
	for _, s := range spans {
		got[fmt.Sprint(testkit.Attribute(s.Attributes, "messaging.destination.name"))] = s
	}
	for subject, want := range map[string]string{"access.library.book": "error", "get.library.book": "ok", "call.library.book.set": "timeout", "call.nobody.book.set": "no_responders"} {
		s := got[subject]
		if s == nil {
			t.Fatalf("no span of %s", subject)
		}
		if result := testkit.Attribute(s.Attributes, "sluice.result"); result != want {
			t.Errorf("%s: result %v, want %s", subject, result, want)
		}
		if kind, _, _ := strings.Cut(subject, "."); s.Name != kind || s.Kind != trace.Span_SPAN_KIND_CLIENT {
			t.Errorf("%s: %v", subject, s)
		}
		if id := ids[subject]; id != "" && id != fmt.Sprintf("%x", s.SpanId) {
			t.Errorf("%s: span %x, the service got %s", subject, s.SpanId, id)
		}
		if fmt.Sprintf("%x %x", s.TraceId, s.ParentSpanId) != clientParent[3:35]+" "+clientParent[36:52] {
			t.Errorf("%s: %v", subject, s)
		}
		if failed := s.Status.GetCode() == trace.Status_STATUS_CODE_ERROR; failed != (want == "timeout" || want == "no_responders") {
			t.Errorf("%s: status %v", subject, s.Status)
		}
	}
	if len(spans) != 4 {
		t.Errorf("%d spans, want 4", len(spans))
	}
}

// A request must not fail for its trace: without room for the header, or with a server that takes
// none, it goes without.
func TestTraceWithoutRoom(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*server.Options)
		payload int
	}{
		"no headers":  {func(o *server.Options) { o.NoHeaderSupport = true }, 2},
		"max_payload": {func(o *server.Options) { o.MaxPayload = 1000 }, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			h := &harness{t: t, nats: natstest.Start(t, c.change)}
			h.connect(func(h *harness, o *Options) {
				tracer, stop := newTracer(testkit.NewCollector(t), h.clock)
				t.Cleanup(stop)
				o.Tracer = tracer
			})
			service := h.nats.Client()
			seen := make(chan *nats.Msg, 1)
			if _, err := service.Subscribe("get.>", func(m *nats.Msg) {
				seen <- m
				_ = m.Respond([]byte("{}"))
			}); err != nil {
				t.Fatal(err)
			}
			if err := service.Flush(); err != nil {
				t.Fatal(err)
			}
			parent := tracing.Parse(clientParent+"1", "")
			h.caller.Request(Request{Name: "a", Subject: "get.a", Payload: make([]byte, c.payload), Trace: &parent}, func([]byte, error) {})
			h.caller.Flush()
			if m := testkit.Await(t, seen, "the request"); m.Header != nil || len(m.Data) != c.payload {
				t.Errorf("header %v, %d bytes", m.Header, len(m.Data))
			}
			h.next("reply")
		})
	}
}
