package state

import (
	"slices"
	"sync/atomic"

	"sluice/internal/res"
)

// stepwise is the number of edits up to which a difference has a tree for each step. A tree for each of very many would cost
// kilobytes a step, and seconds of a shard's time for what hardly anybody ever looks into.
const stepwise = 1024

// script is a long difference between two collections: all removes, from the back, then all adds, from the front. It makes
// the collection after any of its steps in one pass, which costs about as much as to read the whole collection once.
type script struct {
	a, b    *Snapshot
	removed []int // indices in a, ascending
	added   []int // indices in b, ascending
}

// late is what a step's snapshot has in place of a tree. It is immutable but for the tree, which the first who needs it
// makes; two may get there together, and then one tree is dropped.
type late struct {
	totals
	script *script
	step   int // how many steps have been done
	grown  atomic.Pointer[grown]
}

type grown struct {
	root   *node
	height int
}

func (l *late) grow() *grown {
	if g := l.grown.Load(); g != nil {
		return g
	}
	g := new(grown)
	g.root, g.height = l.script.at(l.step, l.count)
	if !l.grown.CompareAndSwap(nil, g) {
		g = l.grown.Load()
	}
	return g
}

// at makes the tree of count values that there is after some steps: a without the last values of removed, or, when all of
// those are gone, b without the last values of added, which have yet to come.
func (s *script) at(step, count int) (*node, int) {
	from, without := s.a, s.removed[max(len(s.removed)-step, 0):]
	if step > len(s.removed) {
		from, without = s.b, s.added[step-len(s.removed):]
	}
	vals := make([]res.Value, 0, count)
	i := 0
	for _, v := range from.All() {
		if len(without) > 0 && without[0] == i {
			without = without[1:]
		} else {
			vals = append(vals, v)
		}
		i++
	}
	return build(nil, vals)
}

// block is memory for some steps at once. A step that somebody holds on to keeps its neighbours alive, so it is not large.
type block struct {
	events [64]Event
	nexts  [64]Snapshot
	lates  [64]late
	used   int
}

// script returns the events of d, whose edits lead from a to b. Only the last one's Next has a tree, which is b's.
func (d *differ) script(a, b *Snapshot) []*Event {
	s := &script{a: a, b: b, removed: d.removed, added: make([]int, len(d.added))}
	total := len(d.removed) + len(d.added)
	events := make([]*Event, 0, total)
	sums := *a.sums()
	at := new(block)
	step := func() *Event {
		if at.used == len(at.events) {
			at = new(block)
		}
		e, next, l := &at.events[at.used], &at.nexts[at.used], &at.lates[at.used]
		at.used++
		events = append(events, e)
		if len(events) == total {
			e.Next = b
			return e
		}
		l.script, l.step = s, len(events)
		next.late = l
		e.Next = next
		return e
	}
	// The totals are set when the edit is known.
	done := func(e *Event) {
		if e.Next.late != nil {
			e.Next.late.totals = sums
		}
		e.refs(e.Old, e.Value)
	}
	for _, i := range slices.Backward(d.removed) {
		e := step()
		e.Kind, e.Index = Remove, i
		_, e.Old = a.tree().at(i)
		sums.sub(weigh("", e.Old))
		done(e)
	}
	for i, add := range d.added {
		s.added[i] = add.index
		e := step()
		e.Kind, e.Index, e.Value = Add, add.index, add.value
		sums.add(weigh("", e.Value))
		done(e)
	}
	return events
}
