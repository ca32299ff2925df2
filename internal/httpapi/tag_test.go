package httpapi

import (
	"fmt"
	"testing"

	"sluice/internal/res"
)

// A response that is used again has the tag of its own body, however many others it had before, and
// whatever tag a service has set in between.
func TestTagsOfResponsesUsedAgain(t *testing.T) {
	h := New(Options{}, nil)
	again := NewResponse()
	for round := range 3 {
		for i := range 200 {
			rid := fmt.Sprint("m", i)
			g := resources{rid: fmt.Sprintf(`{"n":%03d1}`, 100+i)}.graph(t, rid)
			q := Query{Method: "GET", Path: "/api/" + rid}
			var meta *res.Meta
			if i%5 == 0 {
				meta = &res.Meta{Header: map[string][]string{"Etag": {`"own"`}}}
			}
			for range 2 {
				fresh := NewResponse()
				again.Reset()
				if !h.Got(&fresh, &q, g, meta, nil, 1000) || !h.Got(&again, &q, g, meta, nil, 1000) {
					t.Fatal("not quick")
				}
				want, got := fresh.Header.Get("Etag"), again.Header.Get("Etag")
				if want != got || (want == `"own"`) != (meta != nil) || string(fresh.Body) != string(again.Body) {
					t.Fatalf("round %d, %s: %s %s, want %s %s", round, rid, got, again.Body, want, fresh.Body)
				}
				fresh.Free()
			}
		}
	}
}
