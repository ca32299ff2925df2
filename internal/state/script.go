package state

import (
	"slices"
	"sync/atomic"

	"sluice/internal/res"
)

// maxEagerSteps is the number of edits up to which a diff builds a tree for each step. Beyond it,
// trees that are hardly ever read would cost kilobytes per step and seconds of the shard's time.
const maxEagerSteps = 1024

// script is a long edit script between two collections: all removes, from the back, then all adds,
// from the front. It builds the collection after any step in one pass over the collection.
type script struct {
	a, b    *Snapshot
	removed []int // indices in a, ascending
	added   []int // indices in b, ascending
}

// lazyTree stands in for the tree of a step's snapshot. It is immutable except for the tree, which
// the first reader builds; if two readers build concurrently, one tree is discarded.
type lazyTree struct {
	totals
	script *script
	step   int // number of steps applied
	built  atomic.Pointer[builtTree]
}

type builtTree struct {
	root   *node
	height int
}

func (l *lazyTree) build() *builtTree {
	if t := l.built.Load(); t != nil {
		return t
	}
	t := new(builtTree)
	t.root, t.height = l.script.at(l.step, l.count)
	if !l.built.CompareAndSwap(nil, t) {
		t = l.built.Load()
	}
	return t
}

// at builds the tree of count values after step steps: a without the last values of removed or,
// once all of those are removed, b without the last values of added, which are still to be added.
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

// block allocates several steps at once. A retained step keeps its block alive, so a block is
// small.
type block struct {
	events [64]Event
	nexts  [64]Snapshot
	lazies [64]lazyTree
	used   int
}

// script returns the events of d, whose edits lead from a to b. Only the last event's Next has a
// tree: b's. All others are lazy.
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
		e, next, l := &at.events[at.used], &at.nexts[at.used], &at.lazies[at.used]
		at.used++
		events = append(events, e)
		if len(events) == total {
			e.Next = b
			return e
		}
		l.script, l.step = s, len(events)
		next.lazy, next.past = l, a.past
		e.Next = next
		return e
	}
	// done sets the totals, which are known once the edit is.
	done := func(e *Event) {
		if e.Next.lazy != nil {
			e.Next.lazy.totals = sums
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
