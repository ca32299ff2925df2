package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"sluice/internal/res"
)

// TestBacklogIsBounded: when too much waits to be written, a large body is not added to it, and all
// else is served.
func TestBacklogIsBounded(t *testing.T) {
	waiting := int64(900 << 10)
	var m Metrics
	h := New(Options{MaxBacklog: 1 << 20, Backlog: func() int64 { return waiting }, Metrics: &m, CompressAbove: -1}, &fakeBackend{})
	all := resources{"large": `{"text":"` + strings.Repeat("x", 300<<10) + `"}`, "small": `{"a":1}`}
	get := func(method, rid string) *Answer {
		a := &Answer{Header: http.Header{}}
		h.Encode(a, &Query{Method: method, Path: "/api/" + rid}, all.graph(t, rid))
		return a
	}
	a := get("GET", "large")
	if a.Status != 503 || a.Header.Get("Retry-After") == "" || a.Header.Get("Etag") != "" || !strings.Contains(string(a.Body), "system.serviceUnavailable") {
		t.Errorf("over the bound: %d %v %.100s", a.Status, a.Header, a.Body)
	}
	if a := get("HEAD", "large"); a.Status != 200 {
		t.Errorf("HEAD: %d", a.Status)
	}
	if a := get("GET", "small"); a.Status != 200 {
		t.Errorf("a small one: %d", a.Status)
	}
	called := &Answer{Header: http.Header{}}
	result := res.CallResult{Payload: []byte(all["large"])}
	if h.Called(called, &Query{Method: "POST", Path: "/api/large/do"}, &result, nil, nil, 0); called.Status != 200 {
		t.Errorf("a call that has been made: %d", called.Status)
	}
	if n := m.BacklogFull.Load(); n != 1 {
		t.Errorf("%d counted", n)
	}
	waiting = 0
	m.Backlog.Store(900 << 10) // of net/http
	if a := get("GET", "large"); a.Status != 503 {
		t.Errorf("what net/http writes does not count: %d", a.Status)
	}
	m.Backlog.Store(0)
	if a := get("GET", "large"); a.Status != 200 {
		t.Errorf("later: %d", a.Status)
	}
}
