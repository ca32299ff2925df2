//go:build !race

package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// Encoding into an existing buffer does not allocate, however large the graph is.
func TestAllocEncode(t *testing.T) {
	for name, g := range benchGraphs(t) {
		for _, encoding := range []string{"json", "jsonflat"} {
			h := New(Options{Encoding: encoding}, nil)
			dst, _ := h.AppendGraph(nil, g)
			if n := testing.AllocsPerRun(100, func() { dst, _ = h.AppendGraph(dst[:0], g) }); n != 0 {
				t.Errorf("%s as %s: %v allocations", name, encoding, n)
			}
		}
	}
}

// A GET allocates for the resource ID and a few header fields, and for a long response a place in
// the list of those that are being written; not for its size.
func TestAllocGet(t *testing.T) {
	for name, g := range benchGraphs(t) {
		h := New(Options{}, &fakeBackend{graph: g})
		r := httptest.NewRequest("GET", "/api/test/model", nil)
		w := &nowhere{header: http.Header{}}
		get := func() {
			clear(w.header)
			h.ServeHTTP(w, r)
		}
		get()
		if n := testing.AllocsPerRun(100, get); n > 9 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
