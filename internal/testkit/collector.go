package testkit

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector receives spans by OTLP over HTTP. Any goroutine may use it.
type Collector struct {
	*httptest.Server
	Status atomic.Int32 // of its responses; spans are taken if it is 200
	Silent atomic.Bool  // it does not respond

	release chan struct{}

	mu     sync.Mutex
	spans  []*trace.Span
	last   *trace.TracesData
	header http.Header
	calls  int
}

// NewCollector returns a collector that takes all spans, until the test ends.
func NewCollector(tb testing.TB) *Collector {
	c := &Collector{release: make(chan struct{})}
	c.Status.Store(http.StatusOK)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		// An ExportTraceServiceRequest has the same encoding.
		m := new(trace.TracesData)
		if err == nil {
			err = proto.Unmarshal(body, m)
		}
		if err != nil {
			tb.Errorf("collector: %v", err)
			return
		}
		status := int(c.Status.Load())
		c.take(m, r.Header, status == http.StatusOK)
		if c.Silent.Load() {
			select {
			case <-c.release:
			case <-r.Context().Done():
			}
		}
		w.Header().Set("Location", "http://example.com/")
		w.WriteHeader(status)
	}))
	tb.Cleanup(func() { close(c.release); c.Close() })
	return c
}

func (c *Collector) take(m *trace.TracesData, header http.Header, keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	c.last, c.header = m, header
	if keep {
		c.spans = append(c.spans, m.ResourceSpans[0].ScopeSpans[0].Spans...)
	}
}

// Spans returns what was received, and in how many requests.
func (c *Collector) Spans() ([]*trace.Span, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans, c.calls
}

// Last returns the attributes of the resource in the latest request, and its header.
func (c *Collector) Last() ([]*common.KeyValue, http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last.ResourceSpans[0].Resource.Attributes, c.header
}

// Attribute returns the value of an attribute; nil if there is none.
func Attribute(attrs []*common.KeyValue, key string) any {
	for _, a := range attrs {
		if a.Key != key {
			continue
		}
		switch v := a.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			return v.StringValue
		case *common.AnyValue_IntValue:
			return v.IntValue
		case *common.AnyValue_DoubleValue:
			return v.DoubleValue
		}
	}
	return nil
}
