package session

import (
	"testing"

	"sluice/internal/res"
	"sluice/internal/state"
)

// TestThrottleFreesPlaceOfDisposed: a loaded resource frees its place for the next one, which loads
// immediately. The event that waited for that one disposes of the first.
func TestThrottleFreesPlaceOfDisposed(t *testing.T) {
	w := newWorld(t, 1, Limits{DirectPerRID: 3, References: 1})
	for _, rid := range []string{"r.x", "r.b", "r.c"} {
		w.service[rid] = state.NewModel(nil)
	}
	w.service["r.p"] = state.NewModel([]res.Prop{{Key: "x", Value: refTo("r.x")}})
	c, other := w.clients[0], w.clients[1]
	c.request("subscribe", "r.p")
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	w.set("r.x", res.Prop{Key: "b", Value: refTo("r.b")}, res.Prop{Key: "c", Value: refTo("r.c")})
	first, second := "r.b", "r.c" // one loads, the other is queued
	if c.s.subs.Get(first).Topic() == nil {
		first, second = second, first
	}
	if c.s.subs.Get(first).Topic() == nil || c.s.subs.Get(second).Topic() != nil {
		t.Fatal("exactly one of the two resources must be loading")
	}
	other.request("get", second)
	w.set("r.p", res.Prop{Key: "x", Value: res.DeleteValue}, res.Prop{Key: "y", Value: refTo(second)})
	w.deliver(1) // the resource that other gets
	w.deliver(0)
	if err := w.settle(); err != nil {
		t.Fatalf("%v\n%s", err, w.log.String())
	}
	if n := c.s.subs.Len(); n != 2 {
		t.Errorf("%d resources are left, want r.p and %s", n, second)
	}
}
