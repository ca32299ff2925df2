package resmodel

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Store is the state of a service: models and collections by resource ID, slices of collections as
// query resources, and access. It returns the payloads of replies and events, and sends nothing
// itself. One goroutine owns it.
type Store struct {
	resources map[string]any             // resource ID → map[string]any or []any; values as on the wire, decoded
	sliced    map[string][]any           // names whose queries show a part of a collection
	denied    map[string]bool            // names that may not be got
	asked     map[string]bool            // normalised queries that were asked for, as "name?query"
	pending   map[string]map[string]slot // query event subject → normalised query → what happened
	subjects  int
}

// slot is what a query event did to one query: the events that lead from before it to after it, and
// that state.
type slot struct {
	events []json.RawMessage
	after  []any
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{resources: map[string]any{}, sliced: map[string][]any{}, denied: map[string]bool{},
		asked: map[string]bool{}, pending: map[string]map[string]slot{}}
}

// Set creates or replaces a resource, without an event.
func (s *Store) Set(rid string, value any) { s.resources[rid] = value }

// SetSliced creates or replaces a collection whose queries "from=N&count=N" are slices, without an
// event.
func (s *Store) SetSliced(name string, values []any) { s.sliced[name] = values }

// Sliced returns the whole collection of a name with queries. It must not be changed.
func (s *Store) Sliced(name string) []any { return s.sliced[name] }

// Delete removes a resource, without an event.
func (s *Store) Delete(rid string) { delete(s.resources, rid) }

// Deny sets whether access to a name is denied.
func (s *Store) Deny(name string, denied bool) { s.denied[name] = denied }

// Denied reports whether access to a name is denied.
func (s *Store) Denied(name string) bool { return s.denied[name] }

// RIDs returns the resource IDs of models and collections, sorted.
func (s *Store) RIDs() []string { return slices.Sorted(maps.Keys(s.resources)) }

// Value returns the current state of a client's resource ID; ok is false if there is none.
func (s *Store) Value(rid string) (value any, ok bool) {
	name, query, _ := strings.Cut(rid, "?")
	if base, ok := s.sliced[name]; ok {
		return slice(base, query), true
	}
	value, ok = s.resources[rid]
	return value, ok
}

// parameters reads "from" and "count" of a query in any order; others are ignored.
func parameters(query string) (from, count int) {
	count = 10
	for p := range strings.SplitSeq(query, "&") {
		k, v, _ := strings.Cut(p, "=")
		n, err := strconv.Atoi(v)
		if err != nil {
			continue
		}
		switch k {
		case "from":
			from = n
		case "count":
			count = n
		}
	}
	return from, count
}

// Normalise returns the normal form of a query of a sliced collection.
func Normalise(query string) string {
	from, count := parameters(query)
	return fmt.Sprintf("count=%d&from=%d", count, from)
}

func slice(base []any, query string) []any {
	from, count := parameters(query)
	from = min(from, len(base))
	return append([]any{}, base[from:min(len(base), from+count)]...)
}

// Access returns the reply to an access request.
func (s *Store) Access(name string) string {
	if s.denied[name] {
		return `{"result":{"get":false}}`
	}
	return `{"result":{"get":true,"call":"*"}}`
}

// Get returns the reply to a get request.
func (s *Store) Get(name, query string) string {
	norm := ""
	value, ok := s.resources[name]
	if base, sliced := s.sliced[name]; sliced {
		norm = Normalise(query)
		value, ok = slice(base, norm), true
		s.asked[name+"?"+norm] = true
	}
	if !ok {
		return `{"error":{"code":"system.notFound","message":"Not found"}}`
	}
	result := map[string]any{kind(value): value}
	if norm != "" {
		result["query"] = norm
	}
	return `{"result":` + Encode(result) + `}`
}

func kind(value any) string {
	if _, ok := value.([]any); ok {
		return "collection"
	}
	return "model"
}

// Query returns the reply to a query request: the events of that query event, or the whole
// collection in its state after that event. It is not the current state, since replies to later
// query events build on it.
func (s *Store) Query(subject, name, norm string, whole bool) string {
	sl, ok := s.pending[subject][norm]
	if !ok {
		return `{"result":{"collection":` + Encode(slice(s.sliced[name], norm)) + `}}`
	}
	if whole {
		return `{"result":{"collection":` + Encode(sl.after) + `}}`
	}
	events, err := json.Marshal(sl.events)
	if err != nil {
		panic(err)
	}
	return `{"result":{"events":` + string(events) + `}}`
}

// ChangeSliced replaces a sliced collection and returns the query event's subject and payload. The
// events per query are those from before to after.
func (s *Store) ChangeSliced(name string, next []any) (subject, payload string) {
	s.subjects++
	subject = fmt.Sprintf("_EVENT_.%s.%d", name, s.subjects)
	slots := map[string]slot{}
	for asked := range s.asked {
		if norm, ok := strings.CutPrefix(asked, name+"?"); ok {
			before, after := slice(s.sliced[name], norm), slice(next, norm)
			slots[norm] = slot{difference(before, after), after}
		}
	}
	s.pending[subject] = slots
	s.sliced[name] = next
	return subject, `{"subject":"` + subject + `"}`
}

// difference returns remove and add events that change a to b.
func difference(a, b []any) []json.RawMessage {
	events := []json.RawMessage{}
	from := 0
	for from < len(a) && from < len(b) && Encode(a[from]) == Encode(b[from]) {
		from++
	}
	tail := 0
	for tail < len(a)-from && tail < len(b)-from && Encode(a[len(a)-1-tail]) == Encode(b[len(b)-1-tail]) {
		tail++
	}
	for i := len(a) - tail - 1; i >= from; i-- {
		events = append(events, json.RawMessage(fmt.Sprintf(`{"event":"remove","data":{"idx":%d}}`, i)))
	}
	for i := from; i < len(b)-tail; i++ {
		events = append(events, json.RawMessage(fmt.Sprintf(`{"event":"add","data":{"idx":%d,"value":%s}}`, i, Encode(b[i]))))
	}
	return events
}

// Change sets properties of a model (nil deletes) and returns the change event's payload.
func (s *Store) Change(rid string, values map[string]any) string {
	m := s.resources[rid].(map[string]any)
	sent := map[string]any{}
	for k, v := range values {
		if v == nil {
			delete(m, k)
			sent[k] = map[string]any{"action": "delete"}
			continue
		}
		m[k] = v
		sent[k] = v
	}
	return `{"values":` + Encode(sent) + `}`
}

// Add inserts into a collection and returns the add event's payload.
func (s *Store) Add(rid string, idx int, value any) string {
	s.resources[rid] = slices.Insert(s.resources[rid].([]any), idx, value)
	return fmt.Sprintf(`{"idx":%d,"value":%s}`, idx, Encode(value))
}

// Remove removes from a collection and returns the remove event's payload.
func (s *Store) Remove(rid string, idx int) string {
	s.resources[rid] = slices.Delete(s.resources[rid].([]any), idx, idx+1)
	return fmt.Sprintf(`{"idx":%d}`, idx)
}

// Mutate changes a resource at random: one or two of the properties a, b and c of a model, or one
// element of a collection, which stays short. value makes new values. It returns the event.
func (s *Store) Mutate(rng *rand.Rand, rid string, value func() any) (event, payload string) {
	list, ok := s.resources[rid].([]any)
	if !ok {
		values := map[string]any{}
		for range 1 + rng.IntN(2) {
			key := []string{"a", "b", "c"}[rng.IntN(3)]
			if values[key] = value(); rng.IntN(5) == 0 {
				values[key] = nil
			}
		}
		return "change", s.Change(rid, values)
	}
	if len(list) > 0 && (len(list) > 5 || rng.IntN(2) == 0) {
		return "remove", s.Remove(rid, rng.IntN(len(list)))
	}
	return "add", s.Add(rid, rng.IntN(len(list)+1), value())
}

// Vary returns the values of a sliced collection with a few random differences, for ChangeSliced or
// SetSliced.
func (s *Store) Vary(rng *rand.Rand, name string, value func() any) []any {
	base := slices.Clone(s.sliced[name])
	for range 1 + rng.IntN(3) {
		if len(base) > 0 && (len(base) > 8 || rng.IntN(2) == 0) {
			i := rng.IntN(len(base))
			base = slices.Delete(base, i, i+1)
		} else {
			base = slices.Insert(base, rng.IntN(len(base)+1), value())
		}
	}
	return base
}

// Forget drops what Query needs to reply about a query event.
func (s *Store) Forget(subject string) { delete(s.pending, subject) }

// AsSeenBy returns a value in the form for a client of the version (RES.md 1 and 2.5).
func AsSeenBy(value any, version string) any {
	one := func(v any) any {
		m, ok := v.(map[string]any)
		if !ok {
			return v
		}
		if data, ok := m["data"]; ok {
			switch data.(type) {
			case map[string]any, []any:
				if version < "1.2.1" {
					return "[Data]"
				}
				return v
			}
			return data
		}
		if m["soft"] == true && version < "1.2.1" {
			return m["rid"]
		}
		return v
	}
	switch t := value.(type) {
	case map[string]any:
		seen := map[string]any{}
		for k, v := range t {
			seen[k] = one(v)
		}
		return seen
	case []any:
		seen := make([]any, len(t))
		for i, v := range t {
			seen[i] = one(v)
		}
		return seen
	}
	return value
}
