// Package state owns the form of a resource's value: immutable snapshots that share structure with each other, the
// events that lead from one snapshot to the next, and the difference between any two.
//
// It never does I/O, never starts a goroutine, never reads a clock and holds nothing that can change once another
// goroutine may see it, except for JSON texts that are made on first use and published atomically. Everything here is
// therefore safe for concurrent reads: shards make snapshots, loops read them.
package state

import (
	"errors"
	"iter"
	"slices"
	"strings"
	"sync/atomic"

	"sluice/internal/res"
)

// Errors of edits.
var (
	// ErrWrongType says that the resource is of the other kind: a change of a collection, an add to a model, a
	// difference between the two.
	ErrWrongType = errors.New("state: wrong type of resource")
	// ErrIndex says that an index is outside of the collection.
	ErrIndex = errors.New("state: index out of range")
)

// Snapshot is a model or a collection at one moment (RES.md section 1). It is immutable and safe for concurrent use.
//
// It is a balanced tree whose leaves hold a few dozen entries each: a model by sorted key, a collection by index. An edit
// copies the path from the root to one leaf and shares all else with the snapshot that it was made from, so its
// cost grows with the logarithm of the size.
type Snapshot struct {
	root   *node // nil: see late
	model  bool
	height int // levels above the leaves

	late *late // a step of a long difference: its tree is made when somebody looks into it; else nil

	// Made on first use, then shared by all readers.
	json   atomic.Pointer[[]byte]
	legacy atomic.Pointer[[]byte]
}

// NewModel makes a model of the properties. It does not keep props. Where a key is repeated the last one wins; a delete
// action removes the key.
func NewModel(props []res.Prop) *Snapshot {
	sorted := sortProps(props)
	sorted = slices.DeleteFunc(sorted, func(p res.Prop) bool { return p.Value.Kind == res.Delete })
	return fromProps(sorted)
}

// sortProps returns a copy sorted by key in which each key occurs once, with its last value.
func sortProps(props []res.Prop) []res.Prop {
	sorted := slices.Clone(props)
	slices.SortStableFunc(sorted, func(a, b res.Prop) int { return strings.Compare(a.Key, b.Key) })
	out := sorted[:0]
	for i, p := range sorted {
		if i+1 < len(sorted) && sorted[i+1].Key == p.Key {
			continue
		}
		out = append(out, p)
	}
	return out
}

// fromProps makes a model of properties that are sorted and unique.
func fromProps(props []res.Prop) *Snapshot {
	keys := make([]string, len(props))
	vals := make([]res.Value, len(props))
	for i, p := range props {
		keys[i], vals[i] = p.Key, p.Value
	}
	root, height := build(keys, vals)
	return &Snapshot{root: root, height: height, model: true}
}

// NewCollection makes a collection of the values. It does not keep values.
func NewCollection(values []res.Value) *Snapshot {
	if len(values) <= width {
		values = slices.Clone(values) // build keeps it
	}
	root, height := build(nil, values)
	return &Snapshot{root: root, height: height}
}

// next is the snapshot of the same kind with another tree.
func (s *Snapshot) next(root *node, height int) *Snapshot {
	return &Snapshot{root: root, height: height, model: s.model}
}

// tree is the root.
func (s *Snapshot) tree() *node {
	if s.late != nil {
		return s.late.grow().root
	}
	return s.root
}

// levels is the number of levels above the leaves.
func (s *Snapshot) levels() int {
	if s.late != nil {
		return s.late.grow().height
	}
	return s.height
}

// sums are the totals of all entries, without a look into the tree.
func (s *Snapshot) sums() *totals {
	if s.late != nil {
		return &s.late.totals
	}
	return &s.root.totals
}

// IsModel tells a model from a collection.
func (s *Snapshot) IsModel() bool { return s.model }

// Len is the number of properties or values.
func (s *Snapshot) Len() int { return s.sums().count }

// Bytes is the length of all keys and values, without what JSON puts between them. It is kept with the tree, so asking
// costs nothing.
func (s *Snapshot) Bytes() int { return s.sums().bytes }

// HasRefs tells whether there is a reference that is not soft.
func (s *Snapshot) HasRefs() bool { return s.sums().refs > 0 }

// HasSpecial tells whether there are soft references or data values, which clients below 1.2.1 get in another form
// (RES.md 2.5).
func (s *Snapshot) HasSpecial() bool { return s.sums().special > 0 }

// Get returns a model's property. On a collection it finds nothing.
func (s *Snapshot) Get(key string) (res.Value, bool) {
	if !s.model {
		return res.Value{}, false
	}
	i, found := s.tree().search(key)
	if !found {
		return res.Value{}, false
	}
	_, v := s.tree().at(i)
	return v, true
}

// At returns the value at index i, of a model the one of the i-th key in sorted order. It panics unless 0 <= i < Len.
func (s *Snapshot) At(i int) res.Value {
	if i < 0 || i >= s.Len() {
		panic(ErrIndex)
	}
	_, v := s.tree().at(i)
	return v
}

// All yields all entries in order. The keys of a collection are empty.
func (s *Snapshot) All() iter.Seq2[string, res.Value] {
	return func(yield func(string, res.Value) bool) { s.tree().each(yield) }
}

// Refs yields the rid of each reference that is not soft, in order and as often as it occurs. Parts of the tree without
// references are skipped.
func (s *Snapshot) Refs() iter.Seq[string] {
	return func(yield func(string) bool) { s.tree().eachRef(yield) }
}

// JSON returns the resource as a JSON object or array, in the form for clients below 1.2.1 if legacy is set. The text
// is made once for each form and shared: nobody may change it.
func (s *Snapshot) JSON(legacy bool) []byte {
	at := &s.json
	if legacy && s.HasSpecial() {
		at = &s.legacy
	} else {
		legacy = false
	}
	if p := at.Load(); p != nil {
		return *p
	}
	text := s.appendJSON(legacy)
	// Two readers may get here together; all use the text that came first.
	if !at.CompareAndSwap(nil, &text) {
		text = *at.Load()
	}
	return text
}

func (s *Snapshot) appendJSON(legacy bool) []byte {
	start, end, perEntry := byte('['), byte(']'), 1
	if s.model {
		start, end, perEntry = '{', '}', 4
	}
	dst := make([]byte, 0, s.Bytes()+perEntry*s.Len()+2)
	dst = append(dst, start)
	for key, v := range s.All() {
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		if s.model {
			dst = res.AppendString(dst, key)
			dst = append(dst, ':')
		}
		dst = v.AppendJSON(dst, legacy)
	}
	dst = append(dst, end)
	return dst[:len(dst):len(dst)]
}

// Equal tells whether both are of one kind and have equal entries. What the two share is not looked at.
func (s *Snapshot) Equal(o *Snapshot) bool {
	if s == o || s.model == o.model && s.tree() == o.tree() {
		return true
	}
	if s.model != o.model || s.Len() != o.Len() {
		return false
	}
	same, _ := commonPrefix(newCursor(s, false), newCursor(o, false), s.Len())
	return same == s.Len()
}
