package state

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"sluice/internal/res"
)

// scripted returns the diff as a script of any length.
func scripted(a, b *Snapshot, budget int) []*Event {
	d := differ{budget: budget}
	d.walk(newCursor(a, false), newCursor(b, false), 0, a.Len(), b.Len())
	if len(d.removed)+len(d.added) == 0 {
		return nil
	}
	return d.script(a, b)
}

func TestScript(t *testing.T) {
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		list := func() []res.Value {
			out := make([]res.Value, rnd.IntN(120))
			for i := range out {
				out[i] = anyValue(rnd)
			}
			return out
		}
		a, b := NewCollection(list()), NewCollection(list())
		events := scripted(a, b, rnd.IntN(2)*maxWork)
		if got := replay(t, a, events); !got.Equal(b) {
			t.Fatalf("seed %d: from %s to %s, but got %s", seed, a.JSON(false), b.JSON(false), got.JSON(false))
		}
		for _, e := range events {
			if sums, tree := *e.Next.sums(), e.Next.tree().totals; sums != tree {
				t.Fatalf("seed %d: totals are %+v, the tree's %+v", seed, sums, tree)
			}
			checkData(t, e)
		}
	}
}

// A long diff builds only the trees that are read, and ends in the target snapshot itself.
func TestLongDiff(t *testing.T) {
	const size = 6000
	rnd := rand.New(rand.NewPCG(1, 12))
	vals := bigValues(size)
	vals[17] = ref("some.thing")
	a := NewCollection(vals)
	rnd.Shuffle(size, func(i, j int) { vals[i], vals[j] = vals[j], vals[i] })
	b := NewCollection(vals)
	events, err := Diff(a, b)
	if err != nil || len(events) <= maxEagerSteps {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if events[len(events)-1].Next != b {
		t.Error("it does not end in b")
	}
	now := slices.Clone(bigValues(size))
	now[17] = ref("some.thing")
	for i, e := range events {
		if e.Kind == Remove {
			if !now[e.Index].Equal(e.Old) {
				t.Fatalf("event %d removes %v, not %v", i, e.Old, now[e.Index])
			}
			now = slices.Delete(now, e.Index, e.Index+1)
		} else {
			now = slices.Insert(now, e.Index, e.Value)
		}
		refs := slices.ContainsFunc(now, func(v res.Value) bool { return v.Kind == res.Reference })
		if n := e.Next; n.Len() != len(now) || n.HasRefs() != refs || n.HasSpecial() {
			t.Fatalf("event %d: %d values, references %v; want %d, %v", i, n.Len(), n.HasRefs(), len(now), refs)
		}
		if l := e.Next.lazy; l != nil && l.built.Load() != nil {
			t.Fatalf("event %d has a tree that nobody has asked for", i)
		}
		if i%499 == 0 {
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					if !e.Next.Equal(NewCollection(now)) {
						t.Errorf("event %d: wrong state", i)
					}
				})
			}
			wg.Wait()
			checkTree(t, e.Next)
			// The diff from a step in the middle to the end.
			rest, _ := Diff(e.Next, b)
			if len(rest) > len(events)-i {
				t.Errorf("event %d: %d events are left, but the difference is %d", i, len(events)-i-1, len(rest))
			}
		}
	}
	if !NewCollection(now).Equal(b) {
		t.Error("wrong result")
	}
}

// Common edits keep minimal scripts without shared structure.
func TestDiffOfSmallEditsIsMinimal(t *testing.T) {
	const size = 20_000
	rnd := rand.New(rand.NewPCG(1, 13))
	a := NewCollection(bigValues(size))
	for range 20 {
		i, j := rnd.IntN(size-1), rnd.IntN(size-1)
		for name, c := range map[string]struct {
			vals []res.Value
			most int
		}{
			"add":     {slices.Insert(bigValues(size), i, num(-1)), 1},
			"remove":  {slices.Delete(bigValues(size), i, i+1), 1},
			"move":    {slices.Insert(slices.Delete(bigValues(size), i, i+1), j, num(i)), 2},
			"replace": {slices.Replace(bigValues(size), i, i+1, num(-1)), 2},
		} {
			if events, _ := Diff(a, NewCollection(c.vals)); len(events) > c.most {
				t.Errorf("%s from %d to %d: %d events", name, i, j, len(events))
			}
		}
	}
}

func FuzzDiff(f *testing.F) {
	f.Add([]byte("abcdefgh"), []byte("hgfedcba"), 0)
	f.Add([]byte("abcabcabcabc"), []byte("cbacba"), 100)
	f.Add([]byte(""), []byte("a"), 1)
	f.Fuzz(func(t *testing.T, x, y []byte, budget int) {
		list := func(b []byte) []res.Value {
			b = b[:min(len(b), 300)]
			out := make([]res.Value, len(b))
			for i, c := range b {
				if out[i] = num(int(c)); c&7 == 0 {
					out[i] = ref(num(int(c)).Raw)
				}
			}
			return out
		}
		va, vb := list(x), list(y)
		a, b := NewCollection(va), NewCollection(vb)
		events, err := Diff(a, b)
		if err != nil || len(events) != len(va)+len(vb)-2*lcs(va, vb) {
			t.Fatalf("%d events, %v", len(events), err)
		}
		if !replay(t, a, events).Equal(b) || !replay(t, a, scripted(a, b, budget)).Equal(b) {
			t.Fatal("wrong result")
		}
	})
}
