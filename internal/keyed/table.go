// Package keyed has tables of items that know their own key. Such a table needs no memory for keys,
// and its index has no pointers, so the garbage collector does not read it.
//
// It never reads a clock, and a table belongs to one owner.
package keyed

import "hash/maphash"

// Item is what a table holds. Its key must not change while the table has it.
type Item interface {
	comparable
	Key() string
}

// Table is a set of items by key, in the order in which they came, but that the last one takes the
// place of one that is removed. The zero value is empty.
type Table[T Item] struct {
	list  []T
	index *index // nil while there are few: a search is linear then
}

// index finds places in the list by the hash of a key: open addressing with linear probing.
type index struct {
	slots []slot // a power of two, at most three quarters in use
	next  int    // place after the one found last
}

type slot struct {
	hash  uint32
	place int32 // in the list, from 1; 0: not in use
}

const (
	few      = 8 // items without an index
	minSlots = 16
)

var seed = maphash.MakeSeed()

func hashOf(key string) uint32 { return uint32(maphash.String(seed, key)) }

// Len returns the number of items.
func (t *Table[T]) Len() int { return len(t.list) }

// List returns the items. It is valid until the table changes, and must not be modified.
func (t *Table[T]) List() []T { return t.list }

// Get returns the item of a key, the zero value if there is none.
func (t *Table[T]) Get(key string) (item T) {
	if i := t.find(key); i >= 0 {
		item = t.list[i]
	}
	return item
}

// find returns the place of a key, -1 if there is none. Items are often searched in the order in
// which they came, as the references of a resource are, so it tries the place after the last one.
func (t *Table[T]) find(key string) int {
	x := t.index
	if x == nil {
		for i, item := range t.list {
			if item.Key() == key {
				return i
			}
		}
		return -1
	}
	if i := x.next; i < len(t.list) && t.list[i].Key() == key {
		x.next++
		return i
	}
	hash := hashOf(key)
	for at := x.home(hash); x.slots[at].place > 0; at = x.after(at) {
		if s := x.slots[at]; s.hash == hash && t.list[s.place-1].Key() == key {
			x.next = int(s.place)
			return x.next - 1
		}
	}
	return -1
}

// Put adds an item; there must be none with its key.
func (t *Table[T]) Put(item T) {
	t.list = append(t.list, item)
	n := len(t.list)
	switch {
	case t.index != nil:
		if 4*n > 3*len(t.index.slots) {
			t.index.grow()
		}
		t.index.put(slot{hashOf(item.Key()), int32(n)})
	case n > few:
		t.index = &index{slots: make([]slot, minSlots)}
		for i, other := range t.list {
			t.index.put(slot{hashOf(other.Key()), int32(i + 1)})
		}
	default:
		return
	}
	t.index.next = n
}

// Remove removes an item. It reports false if the table does not have it.
func (t *Table[T]) Remove(item T) bool {
	last := len(t.list) - 1
	i := last
	if last < 0 {
		return false
	}
	if t.list[last] != item {
		if i = t.find(item.Key()); i < 0 || t.list[i] != item {
			return false
		}
	}
	moved := t.list[last]
	if x := t.index; x != nil {
		x.remove(hashOf(item.Key()), int32(i+1))
		if i != last {
			x.slots[x.find(hashOf(moved.Key()), int32(last+1))].place = int32(i + 1)
		}
	}
	var none T
	t.list[i], t.list[last] = moved, none
	if t.list = t.list[:last]; last == 0 {
		*t = Table[T]{} // after many, their memory goes
	}
	return true
}

// home returns where the search for a hash begins, after the slot that follows another.
func (x *index) home(hash uint32) int { return int(hash) & (len(x.slots) - 1) }
func (x *index) after(at int) int     { return (at + 1) & (len(x.slots) - 1) }

func (x *index) put(s slot) {
	at := x.home(s.hash)
	for x.slots[at].place > 0 {
		at = x.after(at)
	}
	x.slots[at] = s
}

func (x *index) grow() {
	old := x.slots
	x.slots = make([]slot, 2*len(old))
	for _, s := range old {
		if s.place > 0 {
			x.put(s)
		}
	}
}

// find returns the slot of a place, which is in use.
func (x *index) find(hash uint32, place int32) int {
	at := x.home(hash)
	for x.slots[at].place != place {
		at = x.after(at)
	}
	return at
}

// remove frees the slot of a place. What follows without a gap moves up, unless its search begins
// after the slot that is free.
func (x *index) remove(hash uint32, place int32) {
	free := x.find(hash, place)
	mask := len(x.slots) - 1
	for at := x.after(free); x.slots[at].place > 0; at = x.after(at) {
		if (at-x.home(x.slots[at].hash))&mask >= (at-free)&mask {
			x.slots[free] = x.slots[at]
			free = at
		}
	}
	x.slots[free] = slot{}
}
