package session

import (
	"testing"

	"sluice/internal/res"
	"sluice/internal/state"
)

// TestBacklogConflates: a full queue keeps custom events up to twice its bound and replaces all
// others.
func TestBacklogConflates(t *testing.T) {
	var l backlog
	var m Metrics
	snap := state.NewModel(nil)
	change := func(n string) *state.Event {
		e, err := snap.Change([]res.Prop{{Key: "n", Value: res.Value{Kind: res.Primitive, Raw: n}}})
		if err != nil {
			t.Fatal(err)
		}
		snap = e.Next
		return e
	}
	custom := func() *state.Event { return state.NewCustom("ping", nil, snap) }
	const max = 2
	l.push(change("1"), max, &m)
	l.push(custom(), max, &m)
	if l.conflated || len(l.queue) != 2 || !l.pending() {
		t.Fatalf("conflated %v with %d events queued, want 2 events", l.conflated, len(l.queue))
	}
	l.push(change("2"), max, &m)
	if !l.conflated || len(l.queue) != 1 || l.latest != snap {
		t.Fatalf("conflated %v with %d events queued, want the custom event only", l.conflated, len(l.queue))
	}
	for range 2 * max {
		l.push(custom(), max, &m)
	}
	if held, conflated, lost := m.Held.Load(), m.Conflated.Load(), m.Lost.Load(); held != 7 || conflated != 2 || lost != 1 {
		t.Errorf("held %d, conflated %d, lost %d; want 7, 2, 1", held, conflated, lost)
	}
	if e := l.pop(); e.Kind != state.Custom || len(l.queue) != 2*max-1 {
		t.Errorf("popped a %v event, %d left", e.Kind, len(l.queue))
	}
	l.dropEvents()
	if l.pending() {
		t.Error("something is pending after all was dropped")
	}
}
