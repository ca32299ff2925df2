// Package state owns the form of a resource's value: immutable snapshots that share structure with
// each other, the events that lead from one snapshot to the next, and the difference between any
// two.
//
// It never does I/O, never starts a goroutine, never reads a clock and holds nothing that can
// change once another goroutine may see it, except for JSON texts that are made on first use and
// published atomically. Everything here is therefore safe for concurrent reads: shards make
// snapshots, loops read them.
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
	// ErrWrongType reports an edit of the other type of resource: a change of a collection, an add
	// to a model, or a diff between the two.
	ErrWrongType = errors.New("state: wrong type of resource")
	// ErrIndex reports an index outside the collection.
	ErrIndex = errors.New("state: index out of range")
)

// Snapshot is one version of a model or a collection (RES.md section 1). It is immutable and safe
// for concurrent use.
//
// It is a persistent balanced tree whose leaves hold a few dozen entries each: a model sorted by
// key, a collection by index. An edit copies the path from the root to one leaf and shares all
// other nodes with the snapshot it was made from, so its cost is logarithmic in the size.
type Snapshot struct {
	root   *node // nil if lazy is set
	past   int   // bytes that versions before it had and later ones have not, see Retains
	height uint8 // levels above the leaves
	model  bool
	read   atomic.Bool // AppendJSON has encoded it once

	lazy *lazyTree // a step of an edit script: the tree is built on first access; else nil

	// Encoded on first use, then shared by all readers.
	json   atomic.Pointer[[]byte]
	legacy atomic.Pointer[[]byte]
}

// NewModel returns a model with the given properties. It does not retain props. The last value of a
// repeated key wins; a delete action removes the key.
func NewModel(props []res.Prop) *Snapshot {
	if sortedAndSet(props) {
		return fromProps(props)
	}
	sorted := sortProps(props)
	sorted = slices.DeleteFunc(sorted, func(p res.Prop) bool { return p.Value.Kind == res.Delete })
	return fromProps(sorted)
}

// sortedAndSet reports whether keys are sorted and unique, and none is deleted.
func sortedAndSet(props []res.Prop) bool {
	for i := range props {
		if props[i].Value.Kind == res.Delete || i > 0 && props[i-1].Key >= props[i].Key {
			return false
		}
	}
	return true
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

// fromProps returns a model of properties that are sorted and unique. It does not retain props.
func fromProps(props []res.Prop) *Snapshot {
	vals := make([]res.Value, len(props))
	for i := range props {
		vals[i] = props[i].Value
	}
	root, height := build(keysOf(props), vals)
	return &Snapshot{root: root, height: uint8(height), model: true}
}

// NewCollection returns a collection of the values. It does not retain values.
func NewCollection(values []res.Value) *Snapshot {
	if len(values) <= width {
		values = slices.Clone(values) // build retains it
	}
	root, height := build(nil, values)
	return &Snapshot{root: root, height: uint8(height)}
}

// next returns a snapshot of the same type with another tree: s's but for one path and text bytes
// of keys and values.
func (s *Snapshot) next(root *node, height, text int) *Snapshot {
	n := &Snapshot{root: root, height: uint8(height), model: s.model}
	n.past = s.past + n.pathBytes() + text
	return n
}

// tree returns the root, building a lazy tree first.
func (s *Snapshot) tree() *node {
	if s.lazy != nil {
		return s.lazy.build().root
	}
	return s.root
}

// levels returns the number of levels above the leaves.
func (s *Snapshot) levels() int {
	if s.lazy != nil {
		return s.lazy.build().height
	}
	return int(s.height)
}

// sums returns the totals of all entries. It never builds a lazy tree.
func (s *Snapshot) sums() *totals {
	if s.lazy != nil {
		return &s.lazy.totals
	}
	return &s.root.totals
}

// IsModel reports whether the resource is a model; otherwise it is a collection.
func (s *Snapshot) IsModel() bool { return s.model }

// Len returns the number of properties or values.
func (s *Snapshot) Len() int { return s.sums().count }

// Bytes returns the total length of all keys and values in bytes, without JSON punctuation. The
// tree maintains it, so the call is O(1).
func (s *Snapshot) Bytes() int { return s.sums().bytes }

// Size returns about how many bytes the resource has as JSON, in O(1).
func (s *Snapshot) Size() int {
	perEntry := 1
	if s.model {
		perEntry = 4
	}
	return s.Bytes() + perEntry*s.Len() + 2
}

// Footprint returns about how many bytes of memory the snapshot holds, in O(1): the tree and the
// texts encoded so far. What it shares with other snapshots counts in full.
func (s *Snapshot) Footprint() int {
	n := s.TreeBytes()
	for _, text := range []*[]byte{s.json.Load(), s.legacy.Load()} {
		if text != nil {
			n += len(*text)
		}
	}
	return n
}

// HasRefs reports whether the resource contains a reference that is not soft.
func (s *Snapshot) HasRefs() bool { return s.sums().refs > 0 }

// HasSpecial reports whether the resource contains soft references or data values, which clients
// below protocol 1.2.1 receive in another form (RES.md section 2.5).
func (s *Snapshot) HasSpecial() bool { return s.sums().special > 0 }

// Get returns the value of a model's property. On a collection it reports false.
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

// At returns the value at index i; in a model, the value of the i-th key in sorted order. It panics
// unless 0 <= i < Len.
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

// Refs yields the rid of each reference that is not soft, in order, once per occurrence. Subtrees
// without references are skipped.
func (s *Snapshot) Refs() iter.Seq[string] {
	return func(yield func(string) bool) { s.tree().eachRef(yield) }
}

// JSON returns the resource as a JSON object or array; with legacy, in the form for clients below
// protocol 1.2.1. Each form is encoded once and shared: callers must not modify it.
func (s *Snapshot) JSON(legacy bool) []byte {
	at, legacy := s.text(legacy)
	if p := at.Load(); p != nil {
		return *p
	}
	text := s.encode(make([]byte, 0, s.Size()), legacy)
	text = text[:len(text):len(text)]
	// Two readers may encode concurrently; all use the text that was stored first, unless it has
	// been dropped again.
	if !at.CompareAndSwap(nil, &text) {
		if p := at.Load(); p != nil {
			text = *p
		}
	}
	return text
}

// onceBytes is the size up to which AppendJSON encodes a snapshot twice before it keeps the text.
const onceBytes = 1 << 10

// AppendJSON appends JSON(legacy) to dst. Most small resources have one reader, and change before
// they have another: the first to read a small snapshot leaves no text of it.
func (s *Snapshot) AppendJSON(dst []byte, legacy bool) []byte {
	if at, special := s.text(legacy); at.Load() == nil && s.Size() <= onceBytes && !s.read.Swap(true) {
		return s.encode(dst, special)
	}
	return append(dst, s.JSON(legacy)...)
}

// text returns where the text for clients of a kind is kept, and whether it is that for clients
// below protocol 1.2.1.
func (s *Snapshot) text(legacy bool) (at *atomic.Pointer[[]byte], special bool) {
	if legacy && s.HasSpecial() {
		return &s.legacy, true
	}
	return &s.json, false
}

// encode appends the text.
func (s *Snapshot) encode(dst []byte, legacy bool) []byte {
	start, end := byte('['), byte(']')
	if s.model {
		start, end = '{', '}'
	}
	dst = append(dst, start)
	first := true
	for key, v := range s.All() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if s.model {
			dst = res.AppendString(dst, key)
			dst = append(dst, ':')
		}
		dst = v.AppendJSON(dst, legacy)
	}
	return append(dst, end)
}

// Equal reports whether both snapshots have the same type and equal entries. Shared nodes are not
// compared.
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
