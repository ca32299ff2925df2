package state

import (
	"slices"

	"sluice/internal/res"
)

// Diff returns the events that lead from a to b when applied in order; none if the two are equal.
// The error is ErrWrongType if one is a model and the other a collection.
//
// For models the result is one change event. For collections it is the shortest edit script within
// the bound on work: all removes first, from the back, then all adds, from the front. So the index
// of a remove is the value's index in a, and the index of an add is the value's index in b. Shared
// subtrees cost nothing; equal ends and values of one side only cost linear time. Only the rest
// takes part in the search; see align.
//
// The Next of the last event is b itself if b shares structure with a. Otherwise it shares as much
// structure with a as possible, so that later diffs are cheap too. After a long diff, see script,
// it is always b.
func Diff(a, b *Snapshot) ([]*Event, error) {
	switch {
	case a.model != b.model:
		return nil, ErrWrongType
	case a.tree() == b.tree():
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
	if d.walk(ca, cb, head, a.Len()-tail, b.Len()-tail) {
		shared = true
	}
	if len(d.removed)+len(d.added) > maxEagerSteps {
		return d.script(a, b)
	}

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

// chunk is a leaf's values, or part of them; leaf is set if it is all of them.
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

// window collects n values from a forward cursor and advances past them; most bounds the number of
// chunks.
func window(c *cursor, n, most int) []chunk {
	var out []chunk
	for n > 0 && len(out) < most {
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

// differ collects the edits of one Diff.
type differ struct {
	budget  int   // remaining steps
	removed []int // indices in a, ascending
	added   []addition
}

type addition struct {
	index int // in b
	value res.Value
}

// ahead is the number of leaves that walk reads ahead in search of a shared one.
const ahead = 8

// walk compares the values from index from up to endA and endB; the cursors are at from. It skips
// shared subtrees, so that its cost is that of the edits, and finds the edits in the gaps between
// them. shared reports whether there were such subtrees.
func (d *differ) walk(ca, cb *cursor, from, endA, endB int) (shared bool) {
	atA, atB := from, from // indices of the cursors
	var gapA, gapB []chunk // the unshared values just before them
	startA, startB := from, from
	closeGap := func() {
		shared = d.split(gapA, gapB, startA, startB) || shared
		gapA, gapB = nil, nil
	}
	for atA < endA || atB < endB {
		if atA < endA && atB < endB {
			if n := skipShared(ca, cb, min(endA-atA, endB-atB)); n > 0 {
				closeGap()
				atA, atB = atA+n, atB+n
				startA, startB = atA, atB
				shared = true
				continue
			}
		}
		savedA, savedB := ca.clone(), cb.clone()
		wa, wb := window(ca, endA-atA, ahead), window(cb, endB-atB, ahead)
		if i, j, ok := nearest(wa, wb); ok && i+j > 0 {
			*ca, *cb = *savedA, *savedB
			wa, wb = window(ca, endA-atA, i), window(cb, endB-atB, j)
		}
		gapA, gapB = append(gapA, wa...), append(gapB, wb...)
		atA, atB = atA+entries(wa), atB+entries(wb)
	}
	closeGap()
	return shared
}

// nearest finds the first leaf that both windows contain.
func nearest(a, b []chunk) (i, j int, ok bool) {
	for sum := 0; sum <= len(a)+len(b)-2; sum++ {
		for i := max(0, sum-len(b)+1); i <= min(sum, len(a)-1); i++ {
			if a[i].leaf != nil && a[i].leaf == b[sum-i].leaf {
				return i, sum - i, true
			}
		}
	}
	return 0, 0, false
}

// split finds the edits in a gap. It first splits the gap at shared leaves that were too far apart
// for walk to find.
func (d *differ) split(a, b []chunk, fromA, fromB int) (shared bool) {
	if len(a) > 1 && len(b) > 1 {
		index := make(map[*node]int, len(a))
		for i, c := range a {
			if c.leaf != nil {
				index[c.leaf] = i
			}
		}
		nextA, nextB := 0, 0
		for j, c := range b {
			i, ok := index[c.leaf]
			if c.leaf == nil || !ok || i < nextA {
				continue
			}
			beforeA, beforeB := a[nextA:i], b[nextB:j]
			d.gap(beforeA, beforeB, fromA, fromB)
			fromA += entries(beforeA) + len(c.vals)
			fromB += entries(beforeB) + len(c.vals)
			nextA, nextB = i+1, j+1
			shared = true
		}
		a, b = a[nextA:], b[nextB:]
	}
	d.gap(a, b, fromA, fromB)
	return shared
}

// gap finds the edits between two windows, which start at fromA and fromB.
func (d *differ) gap(wa, wb []chunk, fromA, fromB int) {
	x, y := flatten(wa), flatten(wb)
	if len(x)+len(y) == 0 {
		return
	}
	keepX, keepY := make([]bool, len(x)), make([]bool, len(y))
	d.align(x, y, keepX, keepY)
	for i, keep := range keepX {
		if !keep {
			d.removed = append(d.removed, fromA+i)
		}
	}
	for i, keep := range keepY {
		if !keep {
			d.added = append(d.added, addition{fromB + i, *y[i]})
		}
	}
}

func flatten(chunks []chunk) []*res.Value {
	out := make([]*res.Value, 0, entries(chunks))
	for _, c := range chunks {
		for i := range c.vals {
			out = append(out, &c.vals[i])
		}
	}
	return out
}
