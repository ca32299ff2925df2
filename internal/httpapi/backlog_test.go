package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"sluice/internal/res"
)

// TestBacklogIsBounded: when too many bytes are queued, a GET with a large body is rejected, and
// everything else is served.
func TestBacklogIsBounded(t *testing.T) {
	waiting := int64(900 << 10)
	var m Metrics
	h := New(Options{MaxBacklog: 1 << 20, Backlog: func() int64 { return waiting }, Metrics: &m, CompressAbove: -1}, &fakeBackend{})
	all := resources{"large": `{"text":"` + strings.Repeat("x", 300<<10) + `"}`, "small": `{"a":1}`}
	get := func(method, rid string) *Response {
		a := &Response{Header: http.Header{}}
		h.Encode(a, &Query{Method: method, Path: "/api/" + rid}, all.graph(t, rid))
		return a
	}
	a := get("GET", "large")
	if a.Status != 503 || a.Header.Get("Retry-After") == "" || a.Header.Get("Etag") != "" || !strings.Contains(string(a.Body), "system.serviceUnavailable") {
		t.Errorf("GET beyond the bound: %d %v %.100s", a.Status, a.Header, a.Body)
	}
	if a := get("HEAD", "large"); a.Status != 200 {
		t.Errorf("HEAD: status %d", a.Status)
	}
	if a := get("GET", "small"); a.Status != 200 {
		t.Errorf("small body: status %d", a.Status)
	}
	called := &Response{Header: http.Header{}}
	result := res.CallResult{Payload: []byte(all["large"])}
	if h.Called(called, &Query{Method: "POST", Path: "/api/large/do"}, &result, nil, nil, 0); called.Status != 200 {
		t.Errorf("call: status %d", called.Status)
	}
	if n := m.BacklogFull.Load(); n != 1 {
		t.Errorf("counted %d rejected requests", n)
	}
	waiting = 0
	m.Backlog.Store(900 << 10) // of net/http
	if a := get("GET", "large"); a.Status != 503 {
		t.Errorf("with the backlog of net/http: status %d", a.Status)
	}
	m.Backlog.Store(0)
	if a := get("GET", "large"); a.Status != 200 {
		t.Errorf("with an empty backlog: status %d", a.Status)
	}
}
