package session

import (
	"fmt"
	"strings"
	"testing"

	"sluice/internal/res"
	"sluice/internal/state"
)

func primitives(from, to int) (values []res.Value) {
	for i := from; i < to; i++ {
		values = append(values, res.Value{Raw: fmt.Sprint(i)})
	}
	return values
}

// TestLongDifferenceIsPaced: a client gets one portion of a long difference per loop iteration. A
// slow consumer gets none until it reads again. Responses and events in between keep their order.
func TestLongDifferenceIsPaced(t *testing.T) {
	w := newWorld(t, 1, Limits{})
	w.env.Hub.Portion = 10
	w.service["r.b"] = state.NewCollection(primitives(0, 30))
	for _, c := range w.clients[:2] {
		c.request("subscribe", "r.b")
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	portion := func(who string, want int) {
		t.Helper()
		if got := strings.Count(w.log.String(), who+` < {"event":"r.b.`); got != want {
			t.Fatalf("%s got %d events, want %d\n%s", who, got, want, w.log.String())
		}
		w.log.Reset()
	}
	w.log.Reset()
	next := state.NewCollection(primitives(100, 130))
	steps, err := state.Diff(w.service["r.b"], next)
	if err != nil || len(steps) != 60 {
		t.Fatal(len(steps), err)
	}
	w.service["r.b"] = steps[59].Next
	w.emit("r.b", state.Update{Kind: state.Synced, Snapshot: w.service["r.b"], Steps: steps})
	w.deliver(0)
	if got := strings.Count(w.log.String(), "A < "); got != 10 {
		t.Fatalf("A got %d events in one batch\n%s", got, w.log.String())
	}
	portion("B", 10)

	ping := state.NewCustom("ping", []byte(`{}`), w.service["r.b"])
	w.emit("r.b", state.Update{Kind: state.Applied, Event: ping})
	w.deliver(0)
	portion("A", 0) // after the difference

	w.clients[1].s.Lag(true)
	w.answer(0)
	w.answer(0)
	if strings.Contains(w.log.String(), "B < ") {
		t.Errorf("B gets events although it is a slow consumer\n%s", w.log.String())
	}
	portion("A", 10)
	w.clients[2].request("subscribe", "r.b") // gets the newest state, whole, while others are on their way to it
	w.answer(len(w.answers) - 1)
	if log := w.log.String(); !strings.Contains(log, `C < {"id":3,"result":{"collections":{"r.b":[100,101,`) {
		t.Errorf("C did not get the newest state\n%s", log)
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	log := w.log.String()
	if strings.LastIndex(log, `A < {"event":"r.b.ping"`) < strings.LastIndex(log, `A < {"event":"r.b.add"`) {
		t.Error("an event was sent before the difference that precedes it")
	}
	if got := strings.Count(log, `B < {"event":"r.b.`); got != 51 {
		t.Errorf("B got %d events in the end, want 50 and the ping", got)
	}
}
