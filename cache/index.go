package cache

import (
	"strings"

	"sluice/internal/keyed"
)

// index finds resources by pattern: a tree by the parts of their names. A pattern visits only the
// branches of its literal parts, also below a wildcard.
type index struct{ root indexNode }

// indexNode is the names with the same first parts: those that end with one part more, and those
// that go on.
type indexNode struct {
	ends keyed.Table[indexEnd]
	kids keyed.Table[indexKid]
}

// indexKid is the names that go on with a part.
type indexKid struct {
	part string
	*indexNode
}

// Key implements keyed.Item.
func (k indexKid) Key() string { return k.part }

// indexEnd is a resource by the last part of its name.
type indexEnd struct{ *resource }

// Key implements keyed.Item.
func (e indexEnd) Key() string { return e.name[strings.LastIndexByte(e.name, '.')+1:] }

func (n *indexNode) empty() bool { return n.ends.Len() == 0 && n.kids.Len() == 0 }

// add adds a resource; there is none of its name.
func (x *index) add(r *resource) {
	n := &x.root
	for name := r.name; ; {
		part, rest, more := strings.Cut(name, ".")
		if !more {
			n.ends.Put(indexEnd{r})
			return
		}
		kid := n.kids.Get(part)
		if kid.indexNode == nil {
			kid = indexKid{strings.Clone(part), &indexNode{}}
			n.kids.Put(kid)
		}
		n, name = kid.indexNode, rest
	}
}

func (x *index) remove(name string) { x.root.remove(name) }

func (n *indexNode) remove(name string) {
	part, rest, more := strings.Cut(name, ".")
	if !more {
		if e := n.ends.Get(part); e.resource != nil {
			n.ends.Remove(e)
		}
		return
	}
	kid := n.kids.Get(part)
	if kid.indexNode == nil {
		return
	}
	if kid.remove(rest); kid.empty() {
		n.kids.Remove(kid)
	}
}

// match calls f for each resource whose name matches the pattern, in no particular order. f must
// not change the index.
func (x *index) match(pattern string, f func(*resource)) { x.root.match(pattern, f) }

func (n *indexNode) match(pattern string, f func(*resource)) {
	part, rest, more := strings.Cut(pattern, ".")
	switch {
	case part == ">":
		n.all(f)
	case part == "*" && more:
		for _, kid := range n.kids.List() {
			kid.match(rest, f)
		}
	case part == "*":
		for _, e := range n.ends.List() {
			f(e.resource)
		}
	case more:
		if kid := n.kids.Get(part); kid.indexNode != nil {
			kid.match(rest, f)
		}
	default:
		if e := n.ends.Get(part); e.resource != nil {
			f(e.resource)
		}
	}
}

// all calls f for each resource of the node.
func (n *indexNode) all(f func(*resource)) {
	for _, e := range n.ends.List() {
		f(e.resource)
	}
	for _, kid := range n.kids.List() {
		kid.all(f)
	}
}
