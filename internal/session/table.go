package session

// table finds a session's subscriptions by the resource ID as the client writes it. Most clients
// have few: up to smallTable, a search is linear; above that there is an index.
type table struct {
	list  []*Sub
	index map[string]int32 // places in list; nil: there is none
}

const smallTable = 8

func (t *table) len() int { return len(t.list) }

func (t *table) get(rid string) *Sub {
	if i := t.find(rid); i >= 0 {
		return t.list[i]
	}
	return nil
}

// find returns the place of a subscription; -1 if there is none.
func (t *table) find(rid string) int {
	if t.index != nil {
		if i, ok := t.index[rid]; ok {
			return int(i)
		}
		return -1
	}
	for i, b := range t.list {
		if b.rid == rid {
			return i
		}
	}
	return -1
}

func (t *table) put(b *Sub) {
	t.list = append(t.list, b)
	switch {
	case t.index != nil:
		t.index[b.rid] = int32(len(t.list) - 1)
	case len(t.list) > smallTable:
		t.index = make(map[string]int32, 2*smallTable)
		for i, f := range t.list {
			t.index[f.rid] = int32(i)
		}
	}
}

func (t *table) remove(b *Sub) {
	i := t.find(b.rid)
	if i < 0 || t.list[i] != b {
		return
	}
	last := len(t.list) - 1
	moved := t.list[last]
	t.list[i], t.list[last] = moved, nil
	t.list = t.list[:last]
	if t.index != nil {
		t.index[moved.rid] = int32(i)
		delete(t.index, b.rid)
	}
	if last == 0 && t.index != nil {
		*t = table{}
	}
}

// each calls f for every subscription, in an order that follows from how they came and went. f must
// not change the table.
func (t *table) each(f func(*Sub)) {
	for _, b := range t.list {
		f(b)
	}
}

// all returns a copy of the list of subscriptions.
func (t *table) all() []*Sub { return append([]*Sub(nil), t.list...) }
