package session

// table finds a session's subscriptions by the resource ID as the client writes it. Most clients
// have few: up to smallTable, a search is linear; above that there is a map.
type table struct {
	few  []*Sub
	many map[string]*Sub
}

const smallTable = 8

func (t *table) len() int { return len(t.few) + len(t.many) }

func (t *table) get(rid string) *Sub {
	if t.many != nil {
		return t.many[rid]
	}
	for _, b := range t.few {
		if b.rid == rid {
			return b
		}
	}
	return nil
}

func (t *table) put(b *Sub) {
	switch {
	case t.many != nil:
		t.many[b.rid] = b
	case len(t.few) < smallTable:
		t.few = append(t.few, b)
	default:
		t.many = make(map[string]*Sub, 2*smallTable)
		for _, f := range t.few {
			t.many[f.rid] = f
		}
		t.many[b.rid] = b
		t.few = nil
	}
}

func (t *table) remove(b *Sub) {
	if t.many != nil {
		delete(t.many, b.rid)
		if len(t.many) == 0 {
			t.many = nil
		}
		return
	}
	for i, f := range t.few {
		if f == b {
			last := len(t.few) - 1
			t.few[i] = t.few[last]
			t.few[last] = nil
			t.few = t.few[:last]
			return
		}
	}
}

// each calls f for every subscription, in no particular order. f must not change the table.
func (t *table) each(f func(*Sub)) {
	for _, b := range t.few {
		f(b)
	}
	for _, b := range t.many {
		f(b)
	}
}

// all returns a copy of the list of subscriptions.
func (t *table) all() []*Sub {
	subs := make([]*Sub, 0, t.len())
	t.each(func(b *Sub) { subs = append(subs, b) })
	return subs
}
