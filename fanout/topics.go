package fanout

import "iter"

// topics finds topics by key. Topics with the same resource ID and another name or query are rare,
// as only {cid} makes them. So the map has the resource ID only, and such topics are in a list.
type topics struct {
	byRID map[string]*Topic // the first of the list that Topic.next continues
	len   int
}

func (m *topics) find(key topicKey) *Topic {
	t := m.byRID[key.rid]
	for t != nil && t.key != key {
		t = t.next
	}
	return t
}

// add adds a topic; there is none with its key.
func (m *topics) add(t *Topic) {
	t.next = m.byRID[t.key.rid]
	m.byRID[t.key.rid] = t
	m.len++
}

func (m *topics) remove(t *Topic) {
	first := m.byRID[t.key.rid]
	switch {
	case first != t:
		before := first
		for before.next != t {
			before = before.next
		}
		before.next = t.next
	case t.next != nil:
		// The key's string is that of the topic which made the entry; it must not stay for another.
		delete(m.byRID, t.key.rid)
		m.byRID[t.next.key.rid] = t.next
	default:
		delete(m.byRID, t.key.rid)
	}
	t.next = nil
	m.len--
}

// all yields all topics, in no particular order. None may be added meanwhile.
func (m *topics) all() iter.Seq[*Topic] {
	return func(yield func(*Topic) bool) {
		for _, t := range m.byRID {
			for ; t != nil; t = t.next {
				if !yield(t) {
					return
				}
			}
		}
	}
}
