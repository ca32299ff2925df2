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
	if e := l.pop(&m); e.Kind != state.Custom || len(l.queue) != 2*max-1 {
		t.Errorf("popped a %v event, %d left", e.Kind, len(l.queue))
	}
	l.dropEvents(&m)
	if l.pending() {
		t.Error("something is pending after all was dropped")
	}
	if l.bytes != 0 || m.HeldBytes.Load() != 0 || m.HeldShares.Load() != 0 {
		t.Errorf("%d bytes, of all %d, in shares %d; want none", l.bytes, m.HeldBytes.Load(), m.HeldShares.Load())
	}
}

// TestHeldBytes: an event in two queues takes up memory once, until it has left both.
func TestHeldBytes(t *testing.T) {
	var one, two backlog
	var m Metrics
	check := func(when string, a, b, all int) {
		t.Helper()
		// The places in the queues are not shared.
		places := 0
		for _, l := range []*backlog{&one, &two} {
			places += placeBytes * len(l.queue)
		}
		a, b, all = a+placeBytes*len(one.queue), b+placeBytes*len(two.queue), all+places
		if one.bytes != a || two.bytes != b || m.HeldBytes.Load() != int64(all) || m.HeldShares.Load() != int64(a+b) {
			t.Errorf("%s: %d and %d bytes, of all %d, in shares %d; want %d, %d, %d, %d", when, one.bytes, two.bytes, m.HeldBytes.Load(), m.HeldShares.Load(), a, b, all, a+b)
		}
	}
	e := state.NewCustom("ping", make([]byte, 1000), state.NewModel(nil))
	n := e.Size()
	if n < 1000 || n > 2000 {
		t.Fatalf("an event with 1000 bytes takes up %d", n)
	}
	one.push(e, 4, &m)
	check("in one queue", n, 0, n)
	two.push(e, 4, &m)
	check("in two", n, n, n)
	one.pop(&m)
	check("in the other", 0, n, n)
	one.unshift([]*state.Event{e}, &m)
	check("in two again", n, n, n)
	one.dropEvents(&m)
	two.dropEvents(&m)
	check("in none", 0, 0, 0)
}
