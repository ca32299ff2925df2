package state

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"sluice/internal/res"
)

// nodes records the nodes of a tree.
func nodes(n *node, found map[*node]bool) {
	found[n] = true
	if n.in != nil {
		for _, k := range n.in.kids {
			nodes(k, found)
		}
	}
}

// unshared returns how many bytes the nodes of s take up that o has not.
func unshared(s, o *Snapshot) (bytes int) {
	other, own := map[*node]bool{}, map[*node]bool{}
	nodes(o.root, other)
	nodes(s.root, own)
	for n := range own {
		if !other[n] {
			bytes += n.size() * 32
			if n.in == nil {
				bytes += n.size() * (valueBytes - 32)
			}
		}
	}
	return bytes
}

// TestRetains: what a version keeps that a later one has not is estimated well, whatever the edits.
func TestRetains(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	model, list := make([]res.Prop, 3000), make([]res.Value, 3000)
	for i := range model {
		model[i] = res.Prop{Key: fmt.Sprintf("k%05d", i), Value: num(i)}
		list[i] = num(i)
	}
	edits := map[string]func(s *Snapshot) *Event{
		"change": func(s *Snapshot) *Event {
			e, _ := s.Change([]res.Prop{{Key: fmt.Sprintf("k%05d", rnd.IntN(3000)), Value: num(rnd.IntN(1 << 30))}})
			return e
		},
		"add":    func(s *Snapshot) *Event { e, _ := s.Add(rnd.IntN(s.Len()+1), num(1)); return e },
		"remove": func(s *Snapshot) *Event { e, _ := s.Remove(rnd.IntN(s.Len())); return e },
	}
	for name, edit := range edits {
		first := NewCollection(list)
		if name == "change" {
			first = NewModel(model)
		}
		s := first
		if n := s.Retains(s); n != 0 {
			t.Errorf("%s: a version keeps %d bytes that it has not itself", name, n)
		}
		for i := range 2000 {
			e := edit(s)
			if i < 3 && e.Size() < unshared(s, e.Next)/2 {
				t.Errorf("%s: an event has %d bytes, its step replaces %d", name, e.Size(), unshared(s, e.Next))
			}
			s = e.Next
			if i%100 != 0 {
				continue
			}
			got, real := first.Retains(s), unshared(first, s)
			if got < real*2/3 || got > first.TreeBytes() || i < 10 && got > real*3 {
				t.Errorf("%s: after %d edits %d bytes are kept, by estimate %d", name, i+1, real, got)
			}
			if s.Retains(first) != s.TreeBytes() && i > 0 {
				t.Errorf("%s: an earlier version shares with a later one", name)
			}
		}
	}
	// Another tree shares nothing.
	a, b := NewCollection(list), NewCollection(list)
	b.Replaces(a)
	if got := a.Retains(b); got != a.TreeBytes() || !a.Before(b) {
		t.Errorf("%d of %d bytes are kept", got, a.TreeBytes())
	}
}

// TestLongValuesAreRetained: the text of a value that is replaced or removed counts.
func TestLongValuesAreRetained(t *testing.T) {
	text := res.Value{Kind: res.Primitive, Raw: `"` + strings.Repeat("x", 10_000) + `"`}
	m := NewModel([]res.Prop{{Key: "a", Value: text}, {Key: "b", Value: num(1)}})
	change, _ := m.Change([]res.Prop{{Key: "a", Value: num(1)}})
	unset, _ := m.Change([]res.Prop{{Key: "a", Value: res.DeleteValue}})
	c := NewCollection([]res.Value{text, num(1)})
	remove, _ := c.Remove(0)
	for what, n := range map[string]int{"changed": m.Retains(change.Next), "deleted": m.Retains(unset.Next), "removed": c.Retains(remove.Next)} {
		if n < 10_000 {
			t.Errorf("%s: %d bytes are kept", what, n)
		}
	}
	if n := NewDelete(m).Size(); n < 10_000 {
		t.Errorf("the end of a resource has %d bytes", n)
	}
}

// TestDropTexts: a text that was dropped is encoded again.
func TestDropTexts(t *testing.T) {
	m := NewModel([]res.Prop{{Key: "a", Value: soft("x")}})
	want, legacy, bare := string(m.JSON(false)), string(m.JSON(true)), m.TreeBytes()
	if m.Footprint() <= bare {
		t.Error("texts have no footprint")
	}
	m.DropTexts()
	if n := m.Footprint(); n != bare {
		t.Errorf("%d bytes are left of %d", n, bare)
	}
	if got, old := string(m.JSON(false)), string(m.JSON(true)); got != want || old != legacy {
		t.Errorf("%s, %s", got, old)
	}
}
