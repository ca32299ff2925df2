package session

import (
	"fmt"
	"strings"
	"testing"

	"sluice/internal/res"
	"sluice/internal/state"
)

// chain makes the models r.0 to r.<n>, each of which refers to the next.
func (w *world) chain(n int) {
	for i := range n {
		next := fmt.Sprintf("r.%d", i+1)
		w.service[fmt.Sprintf("r.%d", i)] = state.NewModel([]res.Prop{{Key: "next", Value: refTo(next)}})
	}
	w.service[fmt.Sprintf("r.%d", n)] = state.NewModel(nil)
}

// TestChainCost: the number of graph searches does not grow with the length of a chain of
// references.
func TestChainCost(t *testing.T) {
	searches := func(n int) uint32 {
		w := newWorld(t, 1, Limits{})
		w.chain(n)
		c := w.clients[0]
		before := c.s.mark
		c.request("subscribe", "r.0")
		w.answer(0) // access: from now on a waiter waits for the loads
		if err := w.settle(); err != nil {
			t.Fatal(err)
		}
		if held := c.s.subs.Len(); held != n+1 {
			t.Fatalf("holds %d resources of %d", held, n+1)
		}
		return c.s.mark - before
	}
	if short, long := searches(10), searches(300); long > short {
		t.Errorf("%d searches of the graph for a chain of 300, %d for one of 10", long, short)
	}
}

// TestWaitBehindLoaded: a response also waits for loads behind resources that another request has
// loaded.
func TestWaitBehindLoaded(t *testing.T) {
	w := newWorld(t, 1, Limits{})
	w.chain(6)
	c := w.clients[0]
	c.request("get", "r.2")
	w.answer(0)
	for range 2 {
		w.deliver(0) // r.2, r.3
	}
	c.request("subscribe", "r.0")
	w.answer(0)
	for range 2 {
		w.deliver(1) // r.0, r.1; r.4 is still loading
	}
	if strings.Contains(w.log.String(), `"models":{"r.0"`) {
		t.Errorf("response before all resources are loaded\n%s", w.log.String())
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	if held := c.s.subs.Len(); held != 7 {
		t.Errorf("holds %d resources of 7\n%s", held, w.log.String())
	}
}
