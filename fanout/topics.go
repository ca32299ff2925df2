package fanout

import (
	"iter"

	"sluice/internal/keyed"
)

// topics finds topics by key. Topics with the same resource ID and another name or query are rare,
// as only {cid} makes them. So the table has the resource ID only, and such topics are in a list.
type topics struct {
	byRID keyed.Table[sameRID] // the first of the list that Topic.next continues
	len   int
}

// sameRID is the first of the topics with a resource ID.
type sameRID struct{ *Topic }

// Key implements keyed.Item.
func (s sameRID) Key() string { return s.key.rid }

func (m *topics) find(key topicKey) *Topic {
	t := m.byRID.Get(key.rid).Topic
	for t != nil && t.key != key {
		t = t.next
	}
	return t
}

// add adds a topic; there is none with its key.
func (m *topics) add(t *Topic) {
	if first := m.byRID.Get(t.key.rid).Topic; first != nil {
		t.next, first.next = first.next, t
	} else {
		m.byRID.Put(sameRID{t})
	}
	m.len++
}

func (m *topics) remove(t *Topic) {
	first := m.byRID.Get(t.key.rid).Topic
	if first != t {
		before := first
		for before.next != t {
			before = before.next
		}
		before.next = t.next
	} else if m.byRID.Remove(sameRID{t}); t.next != nil {
		m.byRID.Put(sameRID{t.next})
	}
	t.next = nil
	m.len--
}

// all yields all topics. None may be added meanwhile.
func (m *topics) all() iter.Seq[*Topic] {
	return func(yield func(*Topic) bool) {
		for _, first := range m.byRID.List() {
			for t := first.Topic; t != nil; t = t.next {
				if !yield(t) {
					return
				}
			}
		}
	}
}
