package state

import (
	"slices"
	"sort"

	"sluice/internal/invariants"
	"sluice/internal/res"
)

// The tree is a B-tree: all leaves have the same depth. A leaf holds up to width entries, an inner
// node up to width children; every node except the root holds at least minFill. Edits return new
// nodes and never modify old ones. Slices may be shared between nodes, so they are never appended
// to in place.
const (
	width   = 32
	minFill = width / 4
	fill    = width * 3 / 4 // size of new nodes, with room so that the first inserts do not split them all
)

// totals are aggregates of a node's entries.
type totals struct {
	count   int // entries
	refs    int // references that are not soft
	special int // soft references and data values
	bytes   int // length of keys and values
}

func (t *totals) add(u totals) {
	t.count += u.count
	t.refs += u.refs
	t.special += u.special
	t.bytes += u.bytes
}

func (t *totals) sub(u totals) {
	t.count -= u.count
	t.refs -= u.refs
	t.special -= u.special
	t.bytes -= u.bytes
}

// weigh returns the totals of one entry.
func weigh(key string, v res.Value) totals {
	t := totals{count: 1, bytes: len(key) + len(v.Raw)}
	switch v.Kind {
	case res.Reference:
		t.refs = 1
	case res.SoftReference, res.Data:
		t.special = 1
	}
	return t
}

// node is a leaf, or an inner node if in is set. Models have keys, collections do not.
type node struct {
	totals
	keys []string
	vals []res.Value
	in   *inner
}

type inner struct {
	kids   []*node
	ends   []int    // ends[i] is the number of entries in kids[:i+1]
	firsts []string // models: the smallest key of each kid
}

func newLeaf(keys []string, vals []res.Value) *node {
	n := &node{keys: keys, vals: vals}
	for i, v := range vals {
		n.add(weigh(n.key(i), v))
	}
	return n
}

func newInner(kids []*node) *node {
	in := &inner{kids: kids, ends: make([]int, len(kids))}
	n := &node{in: in}
	for i, k := range kids {
		n.add(k.totals)
		in.ends[i] = n.count
	}
	if model := kids[0].firstKeys(); model != nil {
		in.firsts = make([]string, len(kids))
		for i, k := range kids {
			in.firsts[i] = k.firstKeys()[0]
		}
	}
	return n
}

// firstKeys returns a slice that starts with the node's smallest key; nil in a collection.
func (n *node) firstKeys() []string {
	if n.in != nil {
		return n.in.firsts
	}
	return n.keys
}

// key returns the i-th key of a leaf; empty in a collection.
func (n *node) key(i int) string {
	if n.keys == nil {
		return ""
	}
	return n.keys[i]
}

// size returns the number of entries of a leaf, or of children of an inner node.
func (n *node) size() int {
	if n.in != nil {
		return len(n.in.kids)
	}
	return len(n.vals)
}

// build returns a tree of entries; it may retain the slices. keys is nil for a collection.
func build(keys []string, vals []res.Value) (root *node, height int) {
	if len(vals) <= width {
		return newLeaf(keys, vals), 0
	}
	var level []*node
	for from, to := range parts(len(vals)) {
		var k []string
		if keys != nil {
			k = slices.Clone(keys[from:to])
		}
		// Each leaf gets its own arrays: one leaf that is still shared must not retain the others.
		level = append(level, newLeaf(k, slices.Clone(vals[from:to])))
	}
	for len(level) > width {
		var above []*node
		for from, to := range parts(len(level)) {
			above = append(above, newInner(level[from:to:to]))
		}
		level = above
		height++
	}
	return newInner(level), height + 1
}

// parts splits n > width elements into even parts of about fill.
func parts(n int) func(func(from, to int) bool) {
	return func(yield func(from, to int) bool) {
		count := (n + fill - 1) / fill
		for i := range count {
			if !yield(n*i/count, n*(i+1)/count) {
				return
			}
		}
	}
}

// at returns entry i.
func (n *node) at(i int) (string, res.Value) {
	for n.in != nil {
		k := sort.SearchInts(n.in.ends, i+1)
		if k > 0 {
			i -= n.in.ends[k-1]
		}
		n = n.in.kids[k]
	}
	return n.key(i), n.vals[i]
}

// search returns the index of key in a model, or the index it would be inserted at.
func (n *node) search(key string) (index int, found bool) {
	for n.in != nil {
		k := sort.Search(len(n.in.firsts), func(i int) bool { return n.in.firsts[i] > key }) - 1
		if k < 0 {
			return index, false // before the first key of the whole tree
		}
		if k > 0 {
			index += n.in.ends[k-1]
		}
		n = n.in.kids[k]
	}
	i, found := slices.BinarySearch(n.keys, key)
	return index + i, found
}

// each yields all entries. It reports false if yield did.
func (n *node) each(yield func(string, res.Value) bool) bool {
	if n.in != nil {
		for _, k := range n.in.kids {
			if !k.each(yield) {
				return false
			}
		}
		return true
	}
	for i, v := range n.vals {
		if !yield(n.key(i), v) {
			return false
		}
	}
	return true
}

func (n *node) eachRef(yield func(string) bool) bool {
	if n.refs == 0 {
		return true
	}
	if n.in != nil {
		for _, k := range n.in.kids {
			if !k.eachRef(yield) {
				return false
			}
		}
		return true
	}
	for i := range n.vals {
		if v := &n.vals[i]; v.Kind == res.Reference && !yield(v.RID) {
			return false
		}
	}
	return true
}

// set returns the node with the value at i replaced.
func (n *node) set(i int, v res.Value) *node {
	m := &node{totals: n.totals, keys: n.keys}
	if n.in == nil {
		m.sub(weigh(n.key(i), n.vals[i]))
		m.add(weigh(n.key(i), v))
		m.vals = slices.Clone(n.vals)
		m.vals[i] = v
		return m.checked()
	}
	k := sort.SearchInts(n.in.ends, i+1)
	if k > 0 {
		i -= n.in.ends[k-1]
	}
	old := n.in.kids[k]
	kid := old.set(i, v)
	m.sub(old.totals)
	m.add(kid.totals)
	m.in = &inner{kids: slices.Clone(n.in.kids), ends: n.in.ends, firsts: n.in.firsts}
	m.in.kids[k] = kid
	return m.checked()
}

// insert returns the node with an entry inserted before index i, or at the end. If the node had to
// be split, right is its second half.
func (n *node) insert(i int, key string, v res.Value) (left, right *node) {
	if n.in == nil {
		m := &node{totals: n.totals, vals: inserted(n.vals, i, v)}
		m.add(weigh(key, v))
		if n.keys != nil {
			m.keys = inserted(n.keys, i, key)
		}
		return m.checked().split()
	}
	// At a boundary the entry goes to the end of the left child: only a new first entry of the
	// whole tree is ever inserted before a child's first key.
	k := sort.SearchInts(n.in.ends, i)
	if k > 0 {
		i -= n.in.ends[k-1]
	}
	a, b := n.in.kids[k].insert(i, key, v)
	if b == nil {
		return n.withKids(k, 1, a), nil
	}
	return n.withKids(k, 1, a, b).split()
}

// remove returns the node without the entry at i. The result may be underfull or empty; the parent
// rebalances.
func (n *node) remove(i int) *node {
	if n.in == nil {
		m := &node{totals: n.totals, vals: removed(n.vals, i)}
		m.sub(weigh(n.key(i), n.vals[i]))
		if n.keys != nil {
			m.keys = removed(n.keys, i)
		}
		return m.checked()
	}
	k := sort.SearchInts(n.in.ends, i+1)
	if k > 0 {
		i -= n.in.ends[k-1]
	}
	kid := n.in.kids[k].remove(i)
	if kid.size() >= minFill {
		return n.withKids(k, 1, kid)
	}
	// Underfull: join with a sibling, and split again if the result is too large.
	var a, b *node
	if k > 0 {
		k--
		a, b = join(n.in.kids[k], kid)
	} else {
		a, b = join(kid, n.in.kids[1])
	}
	if b == nil {
		return n.withKids(k, 2, a)
	}
	return n.withKids(k, 2, a, b)
}

// withKids returns n with the children k..k+drop-1 replaced.
func (n *node) withKids(k, drop int, kids ...*node) *node {
	old := n.in
	m := &node{totals: n.totals, in: &inner{}}
	for _, kid := range old.kids[k : k+drop] {
		m.sub(kid.totals)
	}
	for _, kid := range kids {
		m.add(kid.totals)
	}
	m.in.kids = replaced(old.kids, k, drop, kids)
	size := len(m.in.kids)
	m.in.ends = make([]int, size)
	copy(m.in.ends, old.ends[:k])
	for i := k; i < size; i++ {
		before := 0
		if i > 0 {
			before = m.in.ends[i-1]
		}
		// After the new children the distances are unchanged, so the children need not be read.
		if j := i - len(kids) + drop; i >= k+len(kids) {
			m.in.ends[i] = before + old.ends[j] - old.ends[j-1]
		} else {
			m.in.ends[i] = before + m.in.kids[i].count
		}
	}
	if old.firsts == nil {
		return m.checked()
	}
	if drop == 1 && len(kids) == 1 && kids[0].size() > 0 && kids[0].firstKeys()[0] == old.firsts[k] {
		m.in.firsts = old.firsts
		return m.checked()
	}
	firsts := make([]string, len(kids), width)
	for i, kid := range kids {
		firsts[i] = kid.firstKeys()[0]
	}
	m.in.firsts = replaced(old.firsts, k, drop, firsts)
	return m.checked()
}

// checked returns n. Builds with assertions first recompute the aggregates that the edit carried
// over.
func (n *node) checked() *node {
	if !invariants.Enabled {
		return n
	}
	var sum totals
	for i, v := range n.vals {
		sum.add(weigh(n.key(i), v))
		invariants.Check(i == 0 || n.keys == nil || n.keys[i-1] < n.keys[i], "keys out of order at %d", i)
	}
	if n.in != nil {
		for i, k := range n.in.kids {
			sum.add(k.totals)
			invariants.Check(n.in.ends[i] == sum.count, "kid %d ends at %d, not %d", i, sum.count, n.in.ends[i])
			invariants.Check(n.in.firsts == nil || n.in.firsts[i] == k.firstKeys()[0], "kid %d starts with another key", i)
		}
	}
	invariants.Check(n.totals == sum, "totals are %+v, not %+v", sum, n.totals)
	return n
}

// split halves a node that exceeds width.
func (n *node) split() (left, right *node) {
	size := n.size()
	if size <= width {
		return n, nil
	}
	return n.slice(0, size/2), n.slice(size/2, size)
}

// slice returns the node of the entries, or children, from..to-1.
func (n *node) slice(from, to int) *node {
	if n.in != nil {
		return newInner(n.in.kids[from:to:to])
	}
	var keys []string
	if n.keys != nil {
		keys = n.keys[from:to:to]
	}
	return newLeaf(keys, n.vals[from:to:to])
}

// join merges two siblings into one node, or into two of even size if one would be nearly full.
func join(a, b *node) (left, right *node) {
	var n *node
	if a.in != nil {
		n = newInner(slices.Concat(a.in.kids, b.in.kids))
	} else {
		var keys []string
		if a.keys != nil {
			keys = slices.Concat(a.keys, b.keys)
		}
		n = newLeaf(keys, slices.Concat(a.vals, b.vals))
	}
	if size := n.size(); size > fill {
		return n.slice(0, size/2), n.slice(size/2, size)
	}
	return n, nil
}

func inserted[T any](s []T, i int, v T) []T {
	out := make([]T, len(s)+1)
	copy(out, s[:i])
	out[i] = v
	copy(out[i+1:], s[i:])
	return out
}

func removed[T any](s []T, i int) []T {
	out := make([]T, len(s)-1)
	copy(out, s[:i])
	copy(out[i:], s[i+1:])
	return out
}

func replaced[T any](s []T, at, drop int, by []T) []T {
	out := make([]T, len(s)-drop+len(by))
	copy(out, s[:at])
	copy(out[at:], by)
	copy(out[at+len(by):], s[at+drop:])
	return out
}
