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

// A GET allocates for the resource ID, and for the ETag and the length of the body as fields of the
// head. A long response also has a place in the list of those that are being written, and its
// deadlines. Nothing else depends on its size.
func TestAllocGet(t *testing.T) {
	most := map[string]float64{"Model": 4, "Soft": 4, "List": 8}
	for name, g := range benchGraphs(t) {
		h := New(Options{}, &fakeBackend{graph: g})
		r := httptest.NewRequest("GET", "/api/test/model", nil)
		w := &nowhere{header: http.Header{}}
		get := func() {
			clear(w.header)
			h.ServeHTTP(w, r)
		}
		get()
		if n := testing.AllocsPerRun(100, get); n > most[name] {
			t.Errorf("%s: %v allocations, want %v", name, n, most[name])
		}
	}
}
