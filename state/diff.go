package state

import (
	"slices"

	"sluice/res"
)

// Diff returns the events that lead from a to b when they are applied one after the other, none if the two are equal.
// The error is ErrWrongType if one is a model and the other a collection.
//
// For models that is one change event. For collections it is the shortest list of removes and adds that the bound on
// work lets it find: all removes first, from the back, then all adds, from the front, so that each remove's index is the
// value's index in a and each add's is the one in b. What the two trees share is not looked at, what is equal at both ends
// and values that only one side has cost linear time; only the rest takes part in the search, see align.
//
// The last event's Next is b itself if b shares structure with a, and otherwise has as much of a's structure as possible,
// so that later differences are cheap as well.
func Diff(a, b *Snapshot) ([]*Event, error) {
	switch {
	case a.model != b.model:
		return nil, ErrWrongType
	case a.root == b.root:
		return nil, nil
	case a.model:
		return diffModels(a, b), nil
	}
	return diffCollections(a, b), nil
}

func diffModels(a, b *Snapshot) []*Event {
	e := &Event{Kind: Change}
	put := func(c PropChange) {
		e.Changes = append(e.Changes, c)
		e.refs(c.Old, c.New)
	}
	shared := false
	ca, cb := newCursor(a, false), newCursor(b, false)
	for !ca.ended() || !cb.ended() {
		same, sh := commonPrefix(ca, cb, a.Len())
		shared = shared || sh
		if same > 0 {
			continue
		}
		var ka, kb string
		var va, vb *res.Value
		if !ca.ended() {
			ka, va = ca.entry()
		}
		if !cb.ended() {
			kb, vb = cb.entry()
		}
		switch {
		case vb == nil || va != nil && ka < kb:
			put(PropChange{Key: ka, New: res.DeleteValue, Old: *va, HadOld: true})
			ca.next()
		case va == nil || kb < ka:
			put(PropChange{Key: kb, New: *vb})
			cb.next()
		default:
			put(PropChange{Key: ka, New: *vb, Old: *va, HadOld: true})
			ca.next()
			cb.next()
		}
	}
	if len(e.Changes) == 0 {
		return nil
	}
	if shared {
		e.Next = b
	} else {
		e.Next = a.with(e.Changes)
	}
	return []*Event{e}
}

func diffCollections(a, b *Snapshot) []*Event {
	limit := min(a.Len(), b.Len())
	ca, cb := newCursor(a, false), newCursor(b, false)
	head, shared := commonPrefix(ca, cb, limit)
	if head == a.Len() && head == b.Len() {
		return nil
	}
	tail, sh := commonPrefix(newCursor(a, true), newCursor(b, true), limit-head)
	shared = shared || sh

	d := differ{budget: maxWork}
	wa, wb := window(ca, a.Len()-head-tail), window(cb, b.Len()-head-tail)
	fromA, fromB := head, head
	for _, m := range matchLeaves(wa, wb) {
		// Whole leaves that both have: what is between two of them is a difference of its own.
		d.gap(wa[:m.a], wb[:m.b], fromA, fromB)
		fromA += entries(wa[:m.a]) + len(wa[m.a].vals)
		fromB += entries(wb[:m.b]) + len(wb[m.b].vals)
		wa, wb = wa[m.a+1:], wb[m.b+1:]
		shared = true
	}
	d.gap(wa, wb, fromA, fromB)

	events := make([]*Event, 0, len(d.removed)+len(d.added))
	s := a
	for _, i := range slices.Backward(d.removed) {
		e, _ := s.Remove(i)
		events = append(events, e)
		s = e.Next
	}
	for _, add := range d.added {
		e, _ := s.Add(add.index, add.value)
		events = append(events, e)
		s = e.Next
	}
	if shared {
		events[len(events)-1].Next = b
	}
	return events
}

// chunk is a leaf's values, or some of them; leaf is set if it is all.
type chunk struct {
	leaf *node
	vals []res.Value
}

func entries(chunks []chunk) (n int) {
	for _, c := range chunks {
		n += len(c.vals)
	}
	return n
}

// window collects the n values from a forward cursor on.
func window(c *cursor, n int) []chunk {
	var out []chunk
	for n > 0 {
		top := &c.path[len(c.path)-1]
		vals := top.n.vals[top.done:]
		k := chunk{vals: vals[:min(n, len(vals))]}
		if len(k.vals) == len(top.n.vals) {
			k.leaf = top.n
		}
		out = append(out, k)
		n -= len(k.vals)
		c.over(0)
	}
	return out
}

type match struct{ a, b int }

// matchLeaves finds leaves that both windows have, in an order that holds for both. Each match's indices count from
// behind the match before it.
func matchLeaves(a, b []chunk) []match {
	if len(a) < 2 || len(b) < 2 {
		return nil
	}
	index := make(map[*node]int, len(a))
	for i, c := range a {
		if c.leaf != nil {
			index[c.leaf] = i
		}
	}
	var out []match
	nextA, nextB := 0, 0
	for j, c := range b {
		i, ok := index[c.leaf]
		if c.leaf == nil || !ok || i < nextA {
			continue
		}
		out = append(out, match{i - nextA, j - nextB})
		nextA, nextB = i+1, j+1
	}
	return out
}

// differ gathers the edits of one Diff.
type differ struct {
	budget  int   // work that may still be done
	removed []int // indices in a, ascending
	added   []addition
}

type addition struct {
	index int // in b
	value res.Value
}

// identity is what makes two values equal.
type identity struct {
	kind res.Kind
	text string
}

func identify(v res.Value) identity {
	if v.Kind == res.Reference || v.Kind == res.SoftReference {
		return identity{v.Kind, v.RID}
	}
	return identity{v.Kind, v.Raw}
}

// gap finds the edits between two windows, which start at fromA and fromB.
func (d *differ) gap(wa, wb []chunk, fromA, fromB int) {
	na, nb := entries(wa), entries(wb)
	if na == 0 || nb == 0 {
		d.apply(wa, wb, fromA, fromB, make([]bool, na), make([]bool, nb))
		return
	}
	// Values become small numbers. Those that only one side has are edits in any case and leave the search.
	type side struct{ id, inA, inB int }
	ids := make(map[identity]*side, na)
	count := func(chunks []chunk) []*side {
		var list []*side
		for _, c := range chunks {
			for _, v := range c.vals {
				id := identify(v)
				s := ids[id]
				if s == nil {
					s = &side{id: len(ids)}
					ids[id] = s
				}
				list = append(list, s)
			}
		}
		return list
	}
	la, lb := count(wa), count(wb)
	for _, s := range la {
		s.inA++
	}
	for _, s := range lb {
		s.inB++
	}
	var x, y, atX, atY []int
	for i, s := range la {
		if s.inB > 0 {
			x, atX = append(x, s.id), append(atX, i)
		}
	}
	for i, s := range lb {
		if s.inA > 0 {
			y, atY = append(y, s.id), append(atY, i)
		}
	}
	keepX, keepY := make([]bool, len(x)), make([]bool, len(y))
	d.align(x, y, keepX, keepY)
	keepA, keepB := make([]bool, na), make([]bool, nb)
	for i, keep := range keepX {
		keepA[atX[i]] = keep
	}
	for i, keep := range keepY {
		keepB[atY[i]] = keep
	}
	d.apply(wa, wb, fromA, fromB, keepA, keepB)
}

// apply notes what is not kept.
func (d *differ) apply(wa, wb []chunk, fromA, fromB int, keepA, keepB []bool) {
	for i, keep := range keepA {
		if !keep {
			d.removed = append(d.removed, fromA+i)
		}
	}
	i := 0
	for _, c := range wb {
		for _, v := range c.vals {
			if !keepB[i] {
				d.added = append(d.added, addition{fromB + i, v})
			}
			i++
		}
	}
}
