package session

import (
	"testing"

	"sluice/internal/res"
	"sluice/internal/state"
)

// TestThrottleLetsGoOfTheLoaded: a resource has loaded and makes room for the next, which is there
// already. What waited for that one ends all interest in the first.
func TestThrottleLetsGoOfTheLoaded(t *testing.T) {
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
	first, second := "r.b", "r.c" // one loads, the other waits for its place
	if c.s.subs.get(first).Topic() == nil {
		first, second = second, first
	}
	if c.s.subs.get(first).Topic() == nil || c.s.subs.get(second).Topic() != nil {
		t.Fatal("not one of both is loading")
	}
	other.request("get", second)
	w.set("r.p", res.Prop{Key: "x", Value: res.DeleteValue}, res.Prop{Key: "y", Value: refTo(second)})
	w.deliver(1) // what other wants
	w.deliver(0)
	if err := w.settle(); err != nil {
		t.Fatalf("%v\n%s", err, w.log.String())
	}
	if n := c.s.subs.len(); n != 2 {
		t.Errorf("%d resources are left, want r.p and %s", n, second)
	}
}
