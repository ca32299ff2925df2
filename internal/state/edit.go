package state

import (
	"slices"

	"sluice/internal/res"
)

// Change applies the properties of a change event to a model. A delete action removes its property,
// any other value sets it; the last value of a repeated key wins. The event holds the effective
// changes only; it is nil if there are none. The cost is O(k log n) for k properties in a model of
// n. The error is ErrWrongType on a collection.
func (s *Snapshot) Change(props []res.Prop) (*Event, error) {
	if !s.model {
		return nil, ErrWrongType
	}
	e := &Event{Kind: Change}
	if len(props) > 1 {
		props = sortProps(props)
	}
	for _, p := range props {
		old, had := s.Get(p.Key)
		if p.Value.Kind == res.Delete && !had || had && old.Equal(p.Value) {
			continue
		}
		e.Changes = append(e.Changes, PropChange{Key: p.Key, New: p.Value, Old: old, HadOld: had})
		e.refs(old, p.Value)
	}
	if len(e.Changes) == 0 {
		return nil, nil
	}
	e.Next = s.with(e.Changes)
	return e, nil
}

// with applies changes that are sorted, unique and effective.
func (s *Snapshot) with(changes []PropChange) *Snapshot {
	// Many changes to a small model: one pass is cheaper than one path copy per change.
	if len(changes) > 1 && len(changes) >= s.Len()/width {
		return s.merged(changes)
	}
	next := s
	for i := range changes {
		c := &changes[i]
		index, _ := next.root.search(c.Key)
		switch {
		case c.New.Kind == res.Delete:
			next = next.removed(index)
		case c.HadOld:
			next = next.next(next.root.set(index, c.New), next.levels(), len(c.Old.Raw))
		default:
			next = next.inserted(index, c.Key, c.New)
		}
	}
	return next
}

func (s *Snapshot) merged(changes []PropChange) *Snapshot {
	props := make([]res.Prop, 0, s.Len()+len(changes))
	put := func(c *PropChange) {
		if c.New.Kind != res.Delete {
			props = append(props, res.Prop{Key: c.Key, Value: c.New})
		}
	}
	i := 0
	for key, v := range s.All() {
		for i < len(changes) && changes[i].Key < key {
			put(&changes[i])
			i++
		}
		if i < len(changes) && changes[i].Key == key {
			put(&changes[i])
			i++
			continue
		}
		props = append(props, res.Prop{Key: key, Value: v})
	}
	for ; i < len(changes); i++ {
		put(&changes[i])
	}
	next := fromProps(slices.Clip(props))
	next.Replaces(s)
	return next
}

// Add inserts a value into a collection before index i, or at the end. Errors: ErrWrongType,
// ErrIndex.
func (s *Snapshot) Add(i int, v res.Value) (*Event, error) {
	if s.model {
		return nil, ErrWrongType
	}
	if i < 0 || i > s.Len() {
		return nil, ErrIndex
	}
	e := &Event{Kind: Add, Index: i, Value: v, Next: s.inserted(i, "", v)}
	e.refs(res.Value{}, v)
	return e, nil
}

// Remove removes the value at index i of a collection. Errors: ErrWrongType, ErrIndex.
func (s *Snapshot) Remove(i int) (*Event, error) {
	if s.model {
		return nil, ErrWrongType
	}
	if i < 0 || i >= s.Len() {
		return nil, ErrIndex
	}
	_, old := s.tree().at(i)
	e := &Event{Kind: Remove, Index: i, Old: old, Next: s.removed(i)}
	e.refs(old, res.Value{})
	return e, nil
}

func (s *Snapshot) inserted(i int, key string, v res.Value) *Snapshot {
	left, right := s.tree().insert(i, key, v)
	if right == nil {
		return s.next(left, s.levels(), 0)
	}
	return s.next(newInner([]*node{left, right}), s.levels()+1, 0)
}

func (s *Snapshot) removed(i int) *Snapshot {
	root, height := s.tree().remove(i), s.levels()
	for root.in != nil && len(root.in.kids) == 1 {
		root, height = root.in.kids[0], height-1
	}
	return s.next(root, height, s.Bytes()-root.bytes)
}
