package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jirenius/go-res"
	"github.com/nats-io/nats.go"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"sluice/internal/testkit"
)

// tap is a service's connection to NATS that notes the header of each request.
type tap struct {
	*nats.Conn
	mu      sync.Mutex
	parents map[string]string // traceparent by subject
}

// ChanSubscribe implements res.Conn.
func (t *tap) ChanSubscribe(subject string, ch chan *nats.Msg) (*nats.Subscription, error) {
	return t.Conn.Subscribe(subject, t.to(ch))
}

// ChanQueueSubscribe implements res.Conn.
func (t *tap) ChanQueueSubscribe(subject, queue string, ch chan *nats.Msg) (*nats.Subscription, error) {
	return t.QueueSubscribe(subject, queue, t.to(ch))
}

func (t *tap) to(ch chan *nats.Msg) nats.MsgHandler {
	return func(m *nats.Msg) {
		t.mu.Lock()
		t.parents[m.Subject] = m.Header.Get("traceparent")
		t.mu.Unlock()
		ch <- m
	}
}

func (t *tap) parent(subject string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.parents[subject]
}

// startTraced starts a gateway whose spans a collector receives, and a service of go-res.
func startTraced(t *testing.T, change func(*Config)) (g *live, c *testkit.Collector, service *tap) {
	c = testkit.NewCollector(t)
	g = startLive(t, func(o *Config) {
		o.OTLPEndpoint, o.CloseTimeout = c.URL, 10*time.Millisecond
		if change != nil {
			change(o)
		}
	})
	nc, err := nats.Connect(g.NATSURL().Reveal())
	if err != nil {
		t.Fatal(err)
	}
	service = &tap{Conn: nc, parents: map[string]string{}}
	s := res.NewService("library")
	s.SetLogger(nil)
	s.Handle("book", res.Access(res.AccessGranted), res.GetModel(func(r res.ModelRequest) { r.Model(map[string]any{"title": "x", "author": res.Ref("library.author")}) }),
		res.Call("set", func(r res.CallRequest) { r.OK(nil) }))
	s.Handle("first", res.Access(res.AccessGranted), res.GetModel(func(r res.ModelRequest) { r.Model(map[string]any{}) }))
	s.Handle("author", res.Access(res.AccessGranted), res.GetModel(func(r res.ModelRequest) { r.Model(map[string]any{"name": "y"}) }))
	serving := make(chan struct{})
	s.SetOnServe(func(*res.Service) { close(serving) })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Serve(service); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-ended
	})
	<-serving
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	// The service has reset its resources. That is over when it has replied to a request.
	if _, head := g.tokenRequest("/api/library/first", "Authorization: Bearer "+endsIn(time.Hour)); !strings.Contains(head, "Date") {
		t.Fatal(head)
	}
	return g, c, service
}

// traces returns the spans that a stopped gateway has sent, as lines: each span with the spans that
// it has caused.
func traces(g *live, c *testkit.Collector) (tree map[string][]string, spans map[string]*trace.Span) {
	_ = g.Stop(context.Background())
	all, _ := c.Spans()
	name := func(s *trace.Span) string {
		what := testkit.Attribute(s.Attributes, "messaging.destination.name")
		if what == nil {
			what = testkit.Attribute(s.Attributes, "sluice.rid")
		}
		if what == nil {
			return s.Name
		}
		return s.Name + " " + fmt.Sprint(what)
	}
	names := make(map[string]string)
	spans = make(map[string]*trace.Span)
	for _, s := range all {
		names[string(s.SpanId)] = name(s)
		spans[name(s)] = s
	}
	tree = make(map[string][]string)
	for _, s := range all {
		tree[names[string(s.ParentSpanId)]] = append(tree[names[string(s.ParentSpanId)]], name(s))
	}
	return tree, spans
}

func wantBelow(t *testing.T, tree map[string][]string, parent string, want ...string) {
	t.Helper()
	got := tree[parent]
	if len(got) != len(want) {
		t.Errorf("below %q: %q, want %q", parent, got, want)
		return
	}
	for _, w := range want {
		found := false
		for _, g := range got {
			found = found || g == w
		}
		if !found {
			t.Errorf("below %q: %q, want %q", parent, got, want)
		}
	}
}

// A WebSocket client's requests begin traces. The requests to services that they cause belong to
// them, those for references included, and a service finds its span in the message.
func TestTraceOfWebSocket(t *testing.T) {
	g, c, service := startTraced(t, useSecret)
	client := g.dialWith(endsIn(1 << 40))
	client.ask("subscribe.library.book", "")
	client.ask("call.library.book.set", `{"password":"private"}`)
	client.ask("get.library.none?q=private", "")
	tree, spans := traces(g, c)
	wantBelow(t, tree, "", "GET /", "GET /api/{resource} library.first", "subscribe library.book", "call library.book", "get library.none")
	wantBelow(t, tree, "subscribe library.book", "access access.library.book", "get get.library.book", "get get.library.author")
	wantBelow(t, tree, "call library.book", "call call.library.book.set")
	for subject, name := range map[string]string{"get.library.author": "get get.library.author", "call.library.book.set": "call call.library.book.set"} {
		s := spans[name]
		if s == nil {
			continue
		}
		if want := fmt.Sprintf("00-%x-%x-01", s.TraceId, s.SpanId); service.parent(subject) != want {
			t.Errorf("%s: the service got %q, want %q", subject, service.parent(subject), want)
		}
	}
	if s := spans["get library.none"]; testkit.Attribute(s.Attributes, "error.type") != "system.notFound" || s.Status != nil {
		t.Errorf("a resource that is not there: %v", s)
	}
	cid, _ := testkit.Attribute(spans["call library.book"].Attributes, "sluice.cid").(string)
	if cid == "" || testkit.Attribute(spans["call library.book"].Attributes, "rpc.method") != "set" {
		t.Errorf("call: %v", spans["call library.book"])
	}
	all, _ := c.Spans()
	if text := fmt.Sprint(all); strings.Contains(text, "private") || strings.Contains(text, "ada") || strings.Contains(text, "eyJ") {
		t.Errorf("a token, a query or parameters are in the spans: %s", text)
	}
}

// An HTTP request continues the trace of its caller: on a loop, at net/http, and as a stream.
func TestTraceOfHTTP(t *testing.T) {
	const parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for name, c := range map[string]struct {
		fields []string
		status any
	}{
		"plain":    {[]string{parent}, int64(http.StatusOK)},
		"net/http": {[]string{parent, "Connection: keep-alive, x", "Expect: 100-continue"}, nil},
		"stream":   {[]string{parent, "Accept: text/event-stream"}, int64(http.StatusOK)},
	} {
		t.Run(name, func(t *testing.T) {
			g, collector, service := startTraced(t, nil)
			if status, _ := g.tokenRequest("/api/library/book", strings.Join(c.fields, "\r\n")); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			tree, spans := traces(g, collector)
			s := spans["GET /api/{resource} library.book"]
			if s == nil {
				t.Fatalf("spans %v", tree)
			}
			if fmt.Sprintf("%x", s.TraceId) != parent[16:48] || fmt.Sprintf("%x", s.ParentSpanId) != parent[49:65] {
				t.Errorf("%v", s)
			}
			if got := testkit.Attribute(s.Attributes, "http.response.status_code"); got != c.status {
				t.Errorf("status %v, want %v", got, c.status)
			}
			wantBelow(t, tree, "GET /api/{resource} library.book", "access access.library.book", "get get.library.book", "get get.library.author")
			if got := service.parent("get.library.author"); !strings.HasPrefix(got, parent[13:49]) || got[36:52] == parent[49:65] {
				t.Errorf("the service got %q", got)
			}
		})
	}
}

// Without a collector no message has a header.
func TestNoTraces(t *testing.T) {
	g := startLive(t, nil)
	seen := make(chan *nats.Msg, 8)
	if _, err := g.nc.ChanSubscribe("*.test.>", seen); err != nil {
		t.Fatal(err)
	}
	g.flush()
	g.serve("access.>", always(`{"result":{"get":true}}`))
	g.serve("get.>", always(`{"result":{"model":{}}}`))
	if status, body := g.get("/api/test/a"); status != http.StatusOK {
		t.Fatal(status, body)
	}
	for range 2 {
		if m := testkit.Await(t, seen, "a request"); m.Header != nil {
			t.Errorf("%s: header %v", m.Subject, m.Header)
		}
	}
}

// Clients are served although the collector does not respond, and the gateway stops.
func TestTracesWithoutCollector(t *testing.T) {
	g, c, _ := startTraced(t, nil)
	c.Silent.Store(true)
	for range 50 {
		if status, body := g.get("/api/library/book"); status != http.StatusOK {
			t.Fatal(status, body)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = g.Stop(ctx)
	if g.traceMetrics.Queued.Load() != 0 || g.traceMetrics.Failed.Load() == 0 {
		t.Errorf("%d spans are queued after the stop, %d have failed", g.traceMetrics.Queued.Load(), g.traceMetrics.Failed.Load())
	}
}
