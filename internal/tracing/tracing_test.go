package tracing

import (
	"context"
	"strings"
	"testing"
	"time"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"sluice/internal/owner"
	"sluice/internal/secret"
	"sluice/internal/testkit"
)

func TestParse(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []struct {
		name, parent, state string
		valid, sampled      bool
		wantState           string
	}{
		{"sampled", good, "a=1,b=2", true, true, "a=1,b=2"},
		{"not sampled", good[:53] + "00", "", true, false, ""},
		{"other flags", good[:53] + "03", "", true, true, ""},
		{"a later version", "cc" + good[2:] + "-what-is-to-come", "", true, true, ""},
		{"a later version of the same form", "01" + good[2:], "", true, true, ""},
		{"a later version without a dash", "cc" + good[2:] + ".", "", false, false, ""},
		{"version 00 with more", good + "-x", "", false, false, ""},
		{"version ff", "ff" + good[2:], "", false, false, ""},
		{"none", "", "a=1", false, false, ""},
		{"cut", good[:54], "", false, false, ""},
		{"upper case", strings.ToUpper(good), "", false, false, ""},
		{"no hex digit", "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", "", false, false, ""},
		{"other separators", strings.ReplaceAll(good, "-", "_"), "", false, false, ""},
		{"trace of zeros", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "", false, false, ""},
		{"span of zeros", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "", false, false, ""},
		{"state with a line end", good, "a=1\r\nX: y", true, true, ""},
		{"state too long", good, "a=" + strings.Repeat("1", maxState), true, true, ""},
	} {
		got := Parse(c.parent, c.state)
		if got.Valid() != c.valid || got.Sampled != c.sampled || got.State != c.wantState {
			t.Errorf("%s: %+v", c.name, got)
		}
		if c.valid && got.Parent()[3:52] != good[3:52] {
			t.Errorf("%s: passed on as %s", c.name, got.Parent())
		}
	}
	if c := Parse(good, ""); c.Parent() != good {
		t.Errorf("passed on as %s", c.Parent())
	}
}

func FuzzParse(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1")
	f.Fuzz(func(t *testing.T, parent, state string) {
		c := Parse(parent, state)
		if !c.Valid() {
			if c != (Context{}) {
				t.Fatalf("invalid, but %+v", c)
			}
			return
		}
		if again := Parse(c.Parent(), c.State); again != c {
			t.Fatalf("%+v passed on is %+v", c, again)
		}
	})
}

type kit struct {
	*Tracer
	*Recorder
	clock   *owner.ManualClock
	metrics *Metrics
	log     *testkit.Log
}

func newKit(t *testing.T, o Options) *kit {
	k := &kit{clock: owner.NewManualClock(), metrics: new(Metrics), log: new(testkit.Log)}
	log := k.log.Logger()
	k.Tracer = New(o, Env{Clock: k.clock, Wall: func() time.Time { return time.Unix(1_000_000, 0) }, Metrics: k.metrics, Faults: owner.NewFaults(k.clock, log), Log: log})
	k.Recorder = k.Tracer.NewRecorder(k.clock.Now)
	return k
}

func (k *kit) start(t *testing.T) {
	_ = k.Tracer.Start(t.Context(), nil)
}

func (k *kit) stop() { _ = k.Tracer.Stop(context.Background()) }

// What a collector receives of a request and a request to a service that it caused.
func TestExport(t *testing.T) {
	r := testkit.NewCollector(t)
	k := newKit(t, Options{Endpoint: r.URL + "/v1/traces", Headers: "x-key=s%2Cecret, b = 2", Ratio: 1, Service: "edge", Version: "v9",
		Attributes: [][2]string{{"deployment.environment.name", "test"}, {"service.version", "own"}, {"service.name", "not this"}}, Instance: "one"})
	k.start(t)
	outer := k.Begin("call", Parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "v=1"))
	outer.Text("sluice.rid", "library.book\xff"+strings.Repeat("x", 2*maxText))
	k.clock.Advance(time.Millisecond)
	inner := k.Child("call", &outer.Context)
	inner.Int("messaging.message.body.size", 17)
	inner.Seconds("sluice.queue.duration", 250*time.Millisecond)
	inner.Text("empty", "")
	inner.Fail("timeout", true)
	k.clock.Advance(time.Millisecond)
	k.End(inner)
	k.End(outer)
	k.clock.Advance(exportDelay)
	testkit.Until(t, "two spans", func() bool { spans, _ := r.Spans(); return len(spans) == 2 })
	k.stop()
	spans, _ := r.Spans()
	i, o := spans[0], spans[1]
	if string(i.TraceId) != string(o.TraceId) || string(i.ParentSpanId) != string(o.SpanId) || o.TraceId[0] != 0x4b || o.ParentSpanId[7] != 0xb7 || o.TraceState != "v=1" {
		t.Errorf("inner %v\nouter %v", i, o)
	}
	if o.Kind != trace.Span_SPAN_KIND_SERVER || i.Kind != trace.Span_SPAN_KIND_CLIENT || o.Status.GetCode() != trace.Status_STATUS_CODE_UNSET || i.Status.GetCode() != trace.Status_STATUS_CODE_ERROR {
		t.Errorf("inner %v\nouter %v", i, o)
	}
	if i.EndTimeUnixNano-i.StartTimeUnixNano != 1e6 || o.EndTimeUnixNano-o.StartTimeUnixNano != 2e6 || o.EndTimeUnixNano > 1_000_000e9 || o.StartTimeUnixNano < 999_990e9 {
		t.Errorf("times: inner %v\nouter %v", i, o)
	}
	if got := testkit.Attribute(o.Attributes, "sluice.rid").(string); !strings.HasPrefix(got, "library.book\uFFFDxxx") || len(got) > maxText+3 {
		t.Errorf("rid is %d bytes: %.30q", len(got), got)
	}
	if testkit.Attribute(i.Attributes, "messaging.message.body.size") != int64(17) || testkit.Attribute(i.Attributes, "sluice.queue.duration") != 0.25 || testkit.Attribute(i.Attributes, "error.type") != "timeout" || testkit.Attribute(i.Attributes, "empty") != nil {
		t.Errorf("inner %v", i)
	}
	about, header := r.Last()
	for key, want := range map[string]any{"service.name": "edge", "service.version": "own", "service.instance.id": "one", "deployment.environment.name": "test"} {
		if got := testkit.Attribute(about, key); got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	if header.Get("X-Key") != "s,ecret" || header.Get("B") != "2" || header.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("header %v", header)
	}
	if m := k.metrics; m.Exported.Load() != 2 || m.Queued.Load() != 0 || m.Dropped.Load()+m.Failed.Load() != 0 {
		t.Errorf("metrics %+v", m)
	}
}

// The ratio decides by the trace's ID about traces that begin here; others are recorded as their
// callers do.
func TestRatio(t *testing.T) {
	for ratio, want := range map[float64][2]int{0: {0, 0}, 1: {4000, 4000}, 0.25: {800, 1200}} {
		k := newKit(t, Options{Endpoint: "http://localhost:1/v1/traces", Ratio: ratio})
		n := 0
		for range 4000 {
			if s := k.Begin("get", Context{}); s.Sampled {
				n++
			}
			if s := k.Begin("get", Parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "")); !s.Sampled {
				t.Fatal("a sampled trace is not continued")
			}
		}
		if n < want[0] || n > want[1] {
			t.Errorf("ratio %v: %d of 4000 are recorded", ratio, n)
		}
	}
}

// A collector that does not answer costs spans, which are counted, and no owner waits for it.
func TestSilentCollector(t *testing.T) {
	r := testkit.NewCollector(t)
	r.Silent.Store(true)
	k := newKit(t, Options{Endpoint: r.URL, Ratio: 1})
	k.start(t)
	const more = 100
	for range maxQueue + more {
		k.End(k.Begin("get", Context{}))
	}
	if got := k.metrics.Dropped.Load(); got != more {
		t.Errorf("%d spans dropped, want %d", got, more)
	}
	if got := k.metrics.Queued.Load(); got != maxQueue {
		t.Errorf("%d spans queued, want %d", got, maxQueue)
	}
	testkit.Until(t, "a request", func() bool { _, calls := r.Spans(); return calls > 0 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = k.Tracer.Stop(ctx)
	if m := k.metrics; m.Queued.Load() != 0 || m.Failed.Load()+m.Exported.Load() != maxQueue {
		t.Errorf("after the stop %d are queued, %d failed, %d sent", m.Queued.Load(), m.Failed.Load(), m.Exported.Load())
	}
}

// A batch is sent again if the collector says that it may be, and not otherwise.
func TestRetry(t *testing.T) {
	for status, calls := range map[int32]int{503: 2, 429: 2, 400: 1, 302: 1} {
		r := testkit.NewCollector(t)
		r.Status.Store(status)
		k := newKit(t, Options{Endpoint: r.URL, Ratio: 1})
		k.start(t)
		k.End(k.Begin("get", Context{}))
		k.clock.Advance(exportDelay)
		testkit.Until(t, "a request", func() bool { _, n := r.Spans(); return n == 1 })
		r.Status.Store(200)
		testkit.Until(t, "an empty queue", func() bool {
			if at, ok := k.clock.Next(); ok && at == k.clock.Now()+retryFirst { // it waits before another try
				k.clock.Advance(retryFirst)
			}
			return k.metrics.Queued.Load() == 0
		})
		k.stop()
		if _, n := r.Spans(); n != calls || k.metrics.Exported.Load() != uint64(calls-1) || k.metrics.Failed.Load() != uint64(2-calls) {
			t.Errorf("status %d: %d requests, %d sent, %d failed", status, n, k.metrics.Exported.Load(), k.metrics.Failed.Load())
		}
		if log := k.log.String(); strings.Count(log, "cannot send spans") != 1 || strings.Contains(log, r.URL) {
			t.Errorf("status %d: log %s", status, log)
		}
	}
}

func TestSettings(t *testing.T) {
	for s, ok := range map[string]bool{"http://collector:4318": true, "https://c.example.com/otlp": true, "collector:4318": false, "grpc://c:4317": false,
		"http://user:pass@c": false, "http://c/?token=x": false, "http://": false} {
		if err := CheckEndpoint(s); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
	}
	for s, want := range map[string]string{"": "", "http://c:4318": "http://c:4318/v1/traces", "http://c:4318/": "http://c:4318/v1/traces", "http://c/x": "http://c/x"} {
		if got := TracesURL(s); got != want {
			t.Errorf("%s: %s", s, got)
		}
	}
	for s, ok := range map[string]bool{"": true, "a=b": true, "a=b, c=d,": true, "a": false, "=b": false, "a=%zz": false, "a b=c": false, "a=b%0d%0ac: d": false} {
		if err := CheckHeaders(s); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		} else if err != nil && strings.Contains(err.Error(), "b") && strings.Contains(err.Error(), s) {
			t.Errorf("%s: quoted in %v", s, err)
		}
	}
	if New(Options{}, Env{}).NewRecorder(nil) != nil {
		t.Error("a tracer without an endpoint records")
	}
	if got := secret.Key("x-key=y"); strings.Contains(got.String(), "y") {
		t.Error("headers are printed")
	}
}

// A span that is not recorded costs its context only.
func TestUnsampledAlloc(t *testing.T) {
	k := newKit(t, Options{Endpoint: "http://localhost:1", Ratio: 0})
	n := testing.AllocsPerRun(1000, func() {
		s := k.Begin("get", Context{})
		s.Text("a", "b")
		s.Int("c", 1)
		s.Fail("d", true)
		k.End(s)
	})
	if n > 1 {
		t.Errorf("%v allocations", n)
	}
}
