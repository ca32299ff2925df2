package state

import (
	"slices"

	"sluice/internal/res"
)

// cursor iterates over a snapshot's entries, forwards or backwards, and can skip whole subtrees.
// Two cursors walk two trees side by side without reading what the trees share: all leaves of a
// tree have the same depth, so nodes of two trees correspond by their height above the leaves.
type cursor struct {
	back bool
	path []step // from root to leaf; empty at the end
}

// step is a node on the path, with the number of its children, or entries, already passed.
type step struct {
	n    *node
	done int
}

func newCursor(s *Snapshot, back bool) *cursor {
	c := &cursor{back: back, path: make([]step, 0, s.levels()+1)}
	if root := s.tree(); root.count > 0 {
		c.down(root)
	}
	return c
}

func (c *cursor) clone() *cursor { return &cursor{back: c.back, path: slices.Clone(c.path)} }

func (c *cursor) ended() bool { return len(c.path) == 0 }

// down extends the path from n to its first leaf.
func (c *cursor) down(n *node) {
	c.path = append(c.path, step{n: n})
	for n.in != nil {
		n = n.in.kids[c.place(n, 0)]
		c.path = append(c.path, step{n: n})
	}
}

// place returns the index in n of the child or entry after done others.
func (c *cursor) place(n *node, done int) int {
	if c.back {
		return n.size() - 1 - done
	}
	return done
}

// entry returns the entry at the cursor.
func (c *cursor) entry() (string, *res.Value) {
	top := &c.path[len(c.path)-1]
	i := c.place(top.n, top.done)
	return top.n.key(i), &top.n.vals[i]
}

// next advances by one entry.
func (c *cursor) next() {
	c.path[len(c.path)-1].done++
	c.climb()
}

// climb leaves finished nodes and descends into the next one.
func (c *cursor) climb() {
	for len(c.path) > 0 {
		top := &c.path[len(c.path)-1]
		if top.done < top.n.size() {
			if top.n.in != nil {
				n := top.n.in.kids[c.place(top.n, top.done)]
				c.down(n)
			}
			return
		}
		c.path = c.path[:len(c.path)-1]
		if len(c.path) > 0 {
			c.path[len(c.path)-1].done++
		}
	}
}

// starts returns the greatest height at which a node starts at the cursor, -1 if none does.
func (c *cursor) starts() int {
	h := -1
	for i := len(c.path) - 1; i >= 0 && c.path[i].done == 0; i-- {
		h++
	}
	return h
}

// skipShared advances both cursors past the largest shared node of at most limit entries that
// starts at both. It returns the node's number of entries, 0 if there is no such node.
func skipShared(a, b *cursor, limit int) int {
	for h := min(a.starts(), b.starts()); h >= 0; h-- {
		n := a.path[len(a.path)-1-h].n
		if n != b.path[len(b.path)-1-h].n || n.count > limit {
			continue
		}
		a.over(h)
		b.over(h)
		return n.count
	}
	return 0
}

// over advances past the node of the given height on the path.
func (c *cursor) over(height int) {
	c.path = c.path[:len(c.path)-height]
	top := &c.path[len(c.path)-1]
	top.done = top.n.size()
	c.climb()
}

// commonPrefix counts the equal entries from the cursors on, at most limit, and leaves the cursors
// after them. shared reports whether the trees have a node in common there.
func commonPrefix(a, b *cursor, limit int) (same int, shared bool) {
	for same < limit && !a.ended() && !b.ended() {
		if n := skipShared(a, b, limit-same); n > 0 {
			same += n
			shared = true
			continue
		}
		ka, va := a.entry()
		kb, vb := b.entry()
		if ka != kb || !va.Equal(*vb) {
			break
		}
		a.next()
		b.next()
		same++
	}
	return same, shared
}
