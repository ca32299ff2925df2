package state

import (
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/internal/res"
)

// replay applies the events to a in order and checks each step.
func replay(t *testing.T, a *Snapshot, events []*Event) *Snapshot {
	t.Helper()
	s := a
	for _, e := range events {
		var got *Event
		var err error
		switch e.Kind {
		case Add:
			got, err = s.Add(e.Index, e.Value)
		case Remove:
			got, err = s.Remove(e.Index)
		case Change:
			var props []res.Prop
			for _, c := range e.Changes {
				props = append(props, res.Prop{Key: c.Key, Value: c.New})
			}
			got, err = s.Change(props)
		}
		if err != nil || got == nil {
			t.Fatalf("event %+v does not apply: %v", e, err)
		}
		if !got.Next.Equal(e.Next) {
			t.Fatalf("Next is %s, want %s", e.Next.JSON(false), got.Next.JSON(false))
		}
		checkTree(t, e.Next)
		checkRefs(t, s, e)
		s = e.Next
	}
	return s
}

// lcs is the quadratic textbook algorithm, a reference for lengths.
func lcs(a, b []res.Value) int {
	row := make([]int, len(b)+1)
	for i := range a {
		diagonal := 0
		for j := range b {
			above := row[j+1]
			if a[i].Equal(b[j]) {
				row[j+1] = diagonal + 1
			} else {
				row[j+1] = max(above, row[j])
			}
			diagonal = above
		}
	}
	return row[len(b)]
}

func TestDiffOfUnrelatedCollections(t *testing.T) {
	for seed := range uint64(1500) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		size, values := 1+rnd.IntN(80), 1+rnd.IntN(40)
		list := func() []res.Value {
			out := make([]res.Value, rnd.IntN(size))
			for i := range out {
				out[i] = num(rnd.IntN(values))
			}
			return out
		}
		va, vb := list(), list()
		a, b := NewCollection(va), NewCollection(vb)
		events, err := Diff(a, b)
		if err != nil {
			t.Fatal(err)
		}
		if got := replay(t, a, events); !got.Equal(b) {
			t.Fatalf("seed %d: from %s to %s, but got %s", seed, a.JSON(false), b.JSON(false), got.JSON(false))
		}
		if want := len(va) + len(vb) - 2*lcs(va, vb); len(events) != want {
			t.Fatalf("seed %d: %d events from %s to %s, want %d", seed, len(events), a.JSON(false), b.JSON(false), want)
		}
	}
}

func TestDiffOfRelatedCollections(t *testing.T) {
	for seed := range uint64(120) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		vals := make([]res.Value, rnd.IntN(4000))
		for i := range vals {
			vals[i] = num(rnd.IntN(1000))
		}
		a := NewCollection(vals)
		b := a
		edits := rnd.IntN(30)
		for range edits {
			var e *Event
			if b.Len() == 0 || rnd.IntN(2) == 0 {
				e, _ = b.Add(rnd.IntN(b.Len()+1), num(rnd.IntN(1000)))
			} else {
				e, _ = b.Remove(rnd.IntN(b.Len()))
			}
			b = e.Next
		}
		events, _ := Diff(a, b)
		if got := replay(t, a, events); !got.Equal(b) {
			t.Fatalf("seed %d: wrong result", seed)
		}
		if len(events) > edits {
			t.Fatalf("seed %d: %d events for %d edits", seed, len(events), edits)
		}
		// The same without shared structure.
		vals = vals[:0]
		for _, v := range b.All() {
			vals = append(vals, v)
		}
		c := NewCollection(vals)
		events, _ = Diff(a, c)
		got := replay(t, a, events)
		if !got.Equal(c) || len(events) > edits {
			t.Fatalf("seed %d: %d events for %d edits", seed, len(events), edits)
		}
		if !c.Equal(b) {
			t.Fatal("Equal depends on the trees' shapes")
		}
		if again, _ := Diff(b, c); again != nil {
			t.Fatal("equal collections differ")
		}
	}
}

func TestDiffOfModels(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		keys := []int{5, 100, 3000}[seed%3]
		some := func(n int, del bool) (props []res.Prop) {
			for range n {
				v := anyValue(rnd)
				if del && rnd.IntN(3) == 0 {
					v = res.DeleteValue
				}
				props = append(props, res.Prop{Key: num(rnd.IntN(keys)).Raw, Value: v})
			}
			return props
		}
		a := NewModel(some(rnd.IntN(keys), false))
		b := NewModel(some(rnd.IntN(keys), false))
		if seed%2 == 0 {
			b = a
			if e, _ := a.Change(some(1+rnd.IntN(20), true)); e != nil {
				b = e.Next
			}
		}
		events, err := Diff(a, b)
		if err != nil || len(events) > 1 {
			t.Fatalf("%d events, %v", len(events), err)
		}
		if got := replay(t, a, events); !got.Equal(b) {
			t.Fatalf("seed %d: wrong result", seed)
		}
		if len(events) == 1 {
			checkData(t, events[0])
		}
	}
}

func TestDiffEndsInBIfItShares(t *testing.T) {
	vals := make([]res.Value, 1000)
	for i := range vals {
		vals[i] = num(i)
	}
	a := NewCollection(vals)
	first, _ := a.Add(500, num(-1))
	second, _ := first.Next.Remove(900)
	events, _ := Diff(a, second.Next)
	if len(events) != 2 || events[1].Next != second.Next {
		t.Fatalf("%d events", len(events))
	}
}

func TestDiffOfQuiteDifferentCollections(t *testing.T) {
	const size = 8_000
	rnd := rand.New(rand.NewPCG(1, 6))
	vals := make([]res.Value, size)
	for i := range vals {
		vals[i] = num(i)
	}
	shuffled := slices.Clone(vals)
	rnd.Shuffle(size, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	reversed := slices.Clone(vals)
	slices.Reverse(reversed)
	repeated, others := make([]res.Value, size), make([]res.Value, size)
	for i := range repeated {
		repeated[i], others[i] = num(rnd.IntN(200)), num(rnd.IntN(200))
	}
	strangers := make([]res.Value, size)
	for i := range strangers {
		strangers[i] = num(size + i)
	}
	a := NewCollection(vals)
	for name, pair := range map[string][2]*Snapshot{
		"shuffled":  {a, NewCollection(shuffled)},
		"reversed":  {a, NewCollection(reversed)},
		"repeated":  {NewCollection(repeated), NewCollection(others)},
		"strangers": {a, NewCollection(strangers)},
	} {
		s := pair[0]
		events, _ := Diff(pair[0], pair[1])
		if len(events) > 0 {
			s = events[len(events)-1].Next
		}
		if !s.Equal(pair[1]) {
			t.Errorf("%s: wrong result", name)
		}
		if name == "reversed" && len(events) != 2*(size-1) {
			t.Errorf("reversed: %d events", len(events))
		}
	}
}

func TestMyersKeepsToItsBudget(t *testing.T) {
	const size, budget = 20_000, 1 << 16
	rnd := rand.New(rand.NewPCG(1, 10))
	x, y := rnd.Perm(size), rnd.Perm(size)
	steps, rest := 0, 0
	m := myers[int]{
		equal:    func(a, b int) bool { steps++; return a == b },
		budget:   budget,
		fallback: func(x, y []int, _, _ []bool) { rest += len(x) },
	}
	if !m.walk(x, y, make([]bool, size), make([]bool, size)) || rest == 0 {
		t.Fatalf("it did it all, in %d steps", steps)
	}
	if steps > budget+4*size {
		t.Fatalf("%d steps", steps)
	}
	m.fallback, m.budget = nil, budget
	if m.walk(x, y, make([]bool, size), make([]bool, size)) {
		t.Fatal("it did not give up")
	}
}

// Beyond the budget a list without repeated values still gets the shortest script, any other a
// valid one.
func TestAlignWithoutBudget(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		x, y := rnd.Perm(60), rnd.Perm(60)
		repeated := seed%3 == 0
		if repeated {
			for i := range x {
				x[i], y[i] = x[i]/3, y[i]/3
			}
		}
		var vx, vy []*res.Value
		var lx, ly []res.Value
		for i := range x {
			a, b := num(x[i]), num(y[i])
			vx, vy, lx, ly = append(vx, &a), append(vy, &b), append(lx, a), append(ly, b)
		}
		keepX, keepY := make([]bool, 60), make([]bool, 60)
		d := differ{budget: -1 + rnd.IntN(2)*rnd.IntN(300)}
		d.align(vx, vy, keepX, keepY)
		var fromX, fromY []res.Value
		for i := range x {
			if keepX[i] {
				fromX = append(fromX, lx[i])
			}
			if keepY[i] {
				fromY = append(fromY, ly[i])
			}
		}
		if longest := lcs(lx, ly); !slices.Equal(fromX, fromY) || !repeated && len(fromX) != longest {
			t.Fatalf("seed %d: kept %v and %v, longest is %d", seed, fromX, fromY, longest)
		}
	}
}

// Long runs are removed and inserted, so that shared leaves are far apart.
func TestDiffOfCollectionsWithShiftedLeaves(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 8))
		vals := make([]res.Value, 6000)
		for i := range vals {
			vals[i] = num(i)
		}
		a := NewCollection(vals)
		b, edits := a, 0
		for range 1 + rnd.IntN(4) {
			at := rnd.IntN(b.Len())
			for n := rnd.IntN(900); n > 0 && at < b.Len(); n-- {
				var e *Event
				if seed%2 == 0 {
					e, _ = b.Remove(at)
				} else {
					e, _ = b.Add(at, num(10_000+edits))
				}
				b = e.Next
				edits++
			}
		}
		events, _ := Diff(a, b)
		s := a
		for _, e := range events {
			if e.Kind == Remove {
				e, _ = s.Remove(e.Index)
			} else {
				e, _ = s.Add(e.Index, e.Value)
			}
			s = e.Next
		}
		if !s.Equal(b) || len(events) != edits {
			t.Fatalf("seed %d: %d events for %d edits", seed, len(events), edits)
		}
	}
}
