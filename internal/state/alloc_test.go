//go:build !race && !invariants

package state

import (
	"testing"

	"sluice/internal/res"
)

// An edit allocates one node per level of its path, and node sizes are bounded.
func TestEditAllocations(t *testing.T) {
	small, large := bigCollection(20), bigCollection(100_000)
	v := num(1)
	for _, c := range []struct {
		s    *Snapshot
		most float64
	}{{small, 5}, {large, 20}} {
		if n := testing.AllocsPerRun(100, func() { _, _ = c.s.Add(c.s.Len()/2, v) }); n > c.most {
			t.Errorf("an add to %d values takes %v allocations", c.s.Len(), n)
		}
	}
	m := bigModel(100_000)
	props := []res.Prop{{Key: "key00050000", Value: num(-1)}}
	if n := testing.AllocsPerRun(100, func() { _, _ = m.Change(props) }); n > 20 {
		t.Errorf("a change takes %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = m.Get("key00050000") }); n > 0 {
		t.Errorf("a look at a property takes %v allocations", n)
	}
	e, _ := m.Change(props)
	buf := make([]byte, 0, 200)
	if n := testing.AllocsPerRun(100, func() { buf = e.AppendData(buf[:0], true) }); n > 0 {
		t.Errorf("an event's data takes %v allocations", n)
	}
}
