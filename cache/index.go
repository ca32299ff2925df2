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
	r    *resource // whose name ends here
	list []indexKid
	kids map[string]*indexNode
}

type indexKid struct {
	part string
	n    *indexNode
}

const manyKids = 8

func (n *indexNode) kid(part string) *indexNode {
	if n.kids != nil {
		return n.kids[part]
	}
	for _, k := range n.list {
		if k.part == part {
			return k.n
		}
	}
	return nil
}

func (n *indexNode) addKid(part string) *indexNode {
	kid := &indexNode{}
	if n.kids == nil && len(n.list) == manyKids {
		n.kids = make(map[string]*indexNode, 2*manyKids)
		for _, k := range n.list {
			n.kids[k.part] = k.n
		}
		n.list = nil
	}
	if n.kids != nil {
		n.kids[part] = kid
	} else {
		n.list = append(n.list, indexKid{part, kid})
	}
	return kid
}

func (n *indexNode) removeKid(part string) {
	if n.kids != nil {
		delete(n.kids, part)
		return
	}
	n.list = slices.DeleteFunc(n.list, func(k indexKid) bool { return k.part == part })
}

func (n *indexNode) empty() bool { return n.r == nil && len(n.list) == 0 && len(n.kids) == 0 }

func (n *indexNode) each(f func(*indexNode)) {
	for _, k := range n.list {
		f(k.n)
	}
	for _, k := range n.kids {
		f(k)
	}
}

func (x *index) add(name string, r *resource) {
	n := &x.root
	for part := range strings.SplitSeq(name, ".") {
		kid := n.kid(part)
		if kid == nil {
			kid = n.addKid(part)
		}
		n = kid
	}
	n.r = r
}

func (x *index) remove(name string) { x.root.remove(name) }

func (n *indexNode) remove(name string) {
	part, rest, more := strings.Cut(name, ".")
	kid := n.kid(part)
	if kid == nil {
		return
	}
	if more {
		kid.remove(rest)
	} else {
		kid.r = nil
	}
	if kid.empty() {
		n.removeKid(part)
	}
}

// match calls f for each resource whose name matches the pattern, in no particular order. f must
// not change the index.
func (x *index) match(pattern string, f func(*resource)) { x.root.match(pattern, f) }

func (n *indexNode) match(pattern string, f func(*resource)) {
	part, rest, more := strings.Cut(pattern, ".")
	next := func(kid *indexNode) {
		switch {
		case more:
			kid.match(rest, f)
		case kid.r != nil:
			f(kid.r)
		}
	}
	switch part {
	case ">":
		n.each(func(kid *indexNode) { kid.all(f) })
	case "*":
		n.each(next)
	default:
		if kid := n.kid(part); kid != nil {
			next(kid)
		}
	}
}

// all calls f for each resource at or below n.
func (n *indexNode) all(f func(*resource)) {
	if n.r != nil {
		f(n.r)
	}
	n.each(func(kid *indexNode) { kid.all(f) })
}
