//go:build !race && !invariants

package cache

import "testing"

// TestEventAllocations bounds the allocations of an event: its parsed form, the new leaf, the
// event.
func TestEventAllocations(t *testing.T) {
	k := &sink{answer: func(string) []byte { return []byte(`{"result":{"model":{"a":1,"b":2}}}`) }}
	s := k.shard(1)
	k.take(s, "test.model")
	texts := [][]byte{[]byte(`{"values":{"a":5}}`), []byte(`{"values":{"a":6}}`)}
	i, before := 0, k.posted
	change := testing.AllocsPerRun(200, func() {
		s.Event("test.model", "change", texts[i%2], 0)
		s.turn()
		i++
	})
	if k.posted-before < 200 {
		t.Fatal("no event reached the loop")
	}
	if change > 10 {
		t.Errorf("%v allocations for a change", change)
	}
	custom := []byte(`{"a":5}`)
	if n := testing.AllocsPerRun(200, func() { s.Event("test.model", "custom", custom, 0); s.turn() }); n > 1 {
		t.Errorf("%v allocations for a custom event", n)
	}
	if n := testing.AllocsPerRun(200, func() { s.Event("test.unknown", "change", custom, 0); s.turn() }); n > 0 {
		t.Errorf("%v allocations for an event of an unknown resource", n)
	}
}
