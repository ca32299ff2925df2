package cache

import (
	"slices"
	"strings"
)

// index finds resources by pattern: a tree by the parts of their names. A pattern visits only the
// branches of its literal parts, also below a wildcard.
type index struct{ root indexNode }

// indexNode is one part of names. Most have few children, so these are a list with linear search;
// beyond manyKids they are a map.
type indexNode struct {
	list []indexPart
	kids map[string]indexKid
}

// indexKid is a child of a node. Most names do not go on, and need no node for their last part.
type indexKid struct {
	r *resource  // whose name ends here; nil: none
	n *indexNode // of the names that go on; nil: none
}

type indexPart struct {
	part string
	indexKid
}

const manyKids = 8

// kid returns a child; one that is empty if there is none. n may be nil.
func (n *indexNode) kid(part string) indexKid {
	if n == nil {
		return indexKid{}
	}
	if n.kids != nil {
		return n.kids[part]
	}
	for _, k := range n.list {
		if k.part == part {
			return k.indexKid
		}
	}
	return indexKid{}
}

// setKid adds a child or replaces that of the same part.
func (n *indexNode) setKid(part string, kid indexKid) {
	if n.kids == nil {
		for i := range n.list {
			if n.list[i].part == part {
				n.list[i].indexKid = kid
				return
			}
		}
		if len(n.list) < manyKids {
			n.list = append(n.list, indexPart{part, kid})
			return
		}
		n.kids = make(map[string]indexKid, 2*manyKids)
		for _, k := range n.list {
			n.kids[k.part] = k.indexKid
		}
		n.list = nil
	}
	n.kids[part] = kid
}

func (n *indexNode) removeKid(part string) {
	if n.kids != nil {
		delete(n.kids, part)
		return
	}
	n.list = slices.DeleteFunc(n.list, func(k indexPart) bool { return k.part == part })
}

func (n *indexNode) empty() bool { return len(n.list) == 0 && len(n.kids) == 0 }

// each calls f for each child. n may be nil.
func (n *indexNode) each(f func(indexKid)) {
	if n == nil {
		return
	}
	for _, k := range n.list {
		f(k.indexKid)
	}
	for _, k := range n.kids {
		f(k)
	}
}

func (x *index) add(name string, r *resource) {
	n := &x.root
	for {
		part, rest, more := strings.Cut(name, ".")
		kid := n.kid(part)
		if !more {
			kid.r = r
			n.setKid(part, kid)
			return
		}
		if kid.n == nil {
			kid.n = &indexNode{}
			n.setKid(part, kid)
		}
		n, name = kid.n, rest
	}
}

func (x *index) remove(name string) { x.root.remove(name) }

func (n *indexNode) remove(name string) {
	part, rest, more := strings.Cut(name, ".")
	kid := n.kid(part)
	switch {
	case !more:
		kid.r = nil
	case kid.n == nil:
		return
	default:
		if kid.n.remove(rest); kid.n.empty() {
			kid.n = nil
		}
	}
	if kid.r == nil && kid.n == nil {
		n.removeKid(part)
	} else {
		n.setKid(part, kid)
	}
}

// match calls f for each resource whose name matches the pattern, in no particular order. f must
// not change the index.
func (x *index) match(pattern string, f func(*resource)) { x.root.match(pattern, f) }

// match is that of index. n may be nil.
func (n *indexNode) match(pattern string, f func(*resource)) {
	part, rest, more := strings.Cut(pattern, ".")
	next := func(kid indexKid) {
		switch {
		case more:
			kid.n.match(rest, f)
		case kid.r != nil:
			f(kid.r)
		}
	}
	switch part {
	case ">":
		n.each(func(kid indexKid) { kid.all(f) })
	case "*":
		n.each(next)
	default:
		next(n.kid(part))
	}
}

// all calls f for each resource at or below the child.
func (k indexKid) all(f func(*resource)) {
	if k.r != nil {
		f(k.r)
	}
	k.n.each(func(kid indexKid) { kid.all(f) })
}
