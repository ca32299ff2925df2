package cache

import (
	"iter"
	"time"

	"sluice/internal/owner"
)

// entries are a resource's entries by query. Most resources are used without queries only: these
// need no map.
type entries struct {
	plain   *entry // of the query ""; nil: there is none
	queries map[string]*entry
}

func (m *entries) len() int {
	n := len(m.queries)
	if m.plain != nil {
		n++
	}
	return n
}

func (m *entries) get(query string) *entry {
	if query == "" {
		return m.plain
	}
	return m.queries[query]
}

// put files an entry under its query.
func (m *entries) put(e *entry) {
	if e.query == "" {
		m.plain = e
		return
	}
	if m.queries == nil {
		m.queries = make(map[string]*entry)
	}
	m.queries[e.query] = e
}

func (m *entries) remove(query string) {
	if query == "" {
		m.plain = nil
		return
	}
	delete(m.queries, query)
}

// all yields each query with its entry, in no particular order of the queries. The entry may be
// removed meanwhile.
func (m *entries) all() iter.Seq2[string, *entry] {
	return func(yield func(string, *entry) bool) {
		if m.plain != nil && !yield("", m.plain) {
			return
		}
		for query, e := range m.queries {
			if !yield(query, e) {
				return
			}
		}
	}
}

// rareTimer is a timer that takes memory only from schedule until cancel: few of those that there
// are at a time are armed.
type rareTimer struct{ t *owner.Timer }

func (r *rareTimer) armed() bool { return r.t != nil && r.t.Armed() }

func (r *rareTimer) schedule(w *owner.Wheel, at time.Duration, e owner.Expirer) {
	if r.t == nil {
		r.t = new(owner.Timer)
	}
	w.Schedule(r.t, at, e)
}

func (r *rareTimer) cancel(w *owner.Wheel) {
	if r.t != nil {
		w.Cancel(r.t)
		r.t = nil
	}
}
