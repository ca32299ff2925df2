package cache

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"sluice/internal/res"
	"sluice/internal/state"
)

// service has the resources that shards are compared with. It announces changes in all ways of the
// protocol: emit sends events, answer replies to requests. Both belong to one goroutine.
type service struct {
	rnd  *rand.Rand
	emit func(name, event string, payload []byte)
	// reset sends system.reset.
	reset func(pattern string)
	names []string
	truth map[string]map[string]*state.Snapshot // by name and normalised query; nil: not found
	steps map[string]step                       // by subject: what a query event is about
	count int
}

// step is a change of a name's query resources.
type step map[string]struct{ before, after *state.Snapshot }

const queryForms = 3

// normal returns the normalised query of a client's query. Names "only.…" have no plain resource,
// names "plain.…" no other.
func normal(name, query string) string {
	switch {
	case strings.HasPrefix(name, "plain."):
		return ""
	case query == "" && strings.HasPrefix(name, "only."):
		return "q=0"
	case query == "":
		return ""
	}
	q, _, _ := strings.Cut(query[strings.Index(query, "q="):], "&")
	return q
}

// clientQuery picks a query as clients may write it.
func (v *service) clientQuery() string {
	q := fmt.Sprintf("q=%d", v.rnd.IntN(queryForms))
	switch v.rnd.IntN(4) {
	case 0:
		return ""
	case 1:
		return q
	case 2:
		return q + "&x"
	}
	return "x&" + q
}

func newService(rnd *rand.Rand) *service {
	v := &service{rnd: rnd, truth: map[string]map[string]*state.Snapshot{}, steps: map[string]step{}}
	for _, kind := range []string{"plain", "only", "both"} {
		for _, form := range []string{"model", "list"} {
			for i := range 2 {
				name := fmt.Sprintf("%s.%s.%d", kind, form, i)
				v.names = append(v.names, name)
				v.truth[name] = map[string]*state.Snapshot{}
				v.create(name)
			}
		}
	}
	return v
}

func (v *service) create(name string) {
	for _, q := range []string{"", "q=0", "q=1", "q=2"} {
		if q == normal(name, q) {
			v.truth[name][q] = v.fresh(name)
		}
	}
}

func (v *service) value() res.Value {
	n := v.rnd.IntN(30)
	if n < 8 {
		rid := fmt.Sprintf("other.%d", n)
		return res.Value{Kind: res.Reference, Raw: `{"rid":"` + rid + `"}`, RID: rid}
	}
	return res.Value{Kind: res.Primitive, Raw: fmt.Sprint(n)}
}

func (v *service) fresh(name string) *state.Snapshot {
	if strings.Contains(name, "model") {
		var props []res.Prop
		for range v.rnd.IntN(6) {
			props = append(props, res.Prop{Key: fmt.Sprint("k", v.rnd.IntN(9)), Value: v.value()})
		}
		return state.NewModel(props)
	}
	var vals []res.Value
	for range v.rnd.IntN(12) {
		vals = append(vals, v.value())
	}
	return state.NewCollection(vals)
}

// edit makes one change; the event may be nil.
func (v *service) edit(s *state.Snapshot) *state.Event {
	var e *state.Event
	switch {
	case s.IsModel():
		val := v.value()
		if v.rnd.IntN(4) == 0 {
			val = res.DeleteValue
		}
		e, _ = s.Change([]res.Prop{{Key: fmt.Sprint("k", v.rnd.IntN(9)), Value: val}})
	case s.Len() > 0 && v.rnd.IntN(2) == 0:
		e, _ = s.Remove(v.rnd.IntN(s.Len()))
	default:
		e, _ = s.Add(v.rnd.IntN(s.Len()+1), v.value())
	}
	return e
}

func payload(e *state.Event) []byte { return append(e.AppendData(nil, false), '}') }

// act runs one random step.
func (v *service) act() {
	name := v.names[v.rnd.IntN(len(v.names))]
	plain := v.truth[name][""]
	gone := true
	for _, s := range v.truth[name] {
		gone = gone && s == nil
	}
	switch n := v.rnd.IntN(40); {
	case gone:
		v.create(name)
	case n < 14:
		if plain == nil {
			v.queryEvent(name, false)
		} else if e := v.edit(plain); e != nil {
			v.truth[name][""] = e.Next
			v.emit(name, e.Kind.String(), payload(e))
		}
	case n < 26:
		v.queryEvent(name, false)
	case n < 30:
		for q, s := range v.truth[name] {
			if s == nil {
				continue
			}
			if v.rnd.IntN(5) == 0 {
				v.truth[name][q] = v.fresh(name)
			} else if e := v.edit(s); e != nil {
				v.truth[name][q] = e.Next
			}
		}
		parts := strings.Split(name, ".")
		parts[v.rnd.IntN(3)] = "*"
		v.reset(strings.Join(parts, "."))
	case n < 33:
		v.emit(name, "custom", []byte(`{"n":1}`))
	case n < 34:
		v.emit(name, "reaccess", nil)
	case n < 36:
		v.emit(name, "add", []byte(`{"idx":-1}`))
	case n < 37:
		v.queryEvent(name, true)
		if plain != nil {
			v.truth[name][""] = nil
			v.emit(name, "delete", nil)
		}
	}
}

// queryEvent changes, or deletes, the query resources of a name.
func (v *service) queryEvent(name string, remove bool) {
	st := step{}
	for q, s := range v.truth[name] {
		if q == "" || s == nil {
			continue
		}
		after := s
		if remove {
			after = nil
		} else if e := v.edit(s); e != nil {
			after = e.Next
		}
		v.truth[name][q] = after
		st[q] = struct{ before, after *state.Snapshot }{s, after}
	}
	v.count++
	subject := fmt.Sprintf("_QUERY.%d", v.count)
	v.steps[subject] = st
	v.emit(name, "query", []byte(`{"subject":"`+subject+`"}`))
}

const answerNotFound = `{"error":{"code":"system.notFound","message":"Not found"}}`

func result(s *state.Snapshot, query string) []byte {
	kind := "collection"
	if s.IsModel() {
		kind = "model"
	}
	text := fmt.Sprintf(`{"result":{"%s":%s`, kind, s.JSON(false))
	if query != "" {
		text += `,"query":"` + query + `"`
	}
	return []byte(text + "}}")
}

// answer replies to a request.
func (v *service) answer(name, subject, request string) []byte {
	query, _ := strings.CutPrefix(request, `{"query":"`)
	query = strings.TrimSuffix(strings.TrimSuffix(query, `"}`), "{}")
	st, isStep := v.steps[subject]
	if !isStep {
		q := normal(name, query)
		if s := v.truth[name][q]; s != nil {
			return result(s, q)
		}
		return []byte(answerNotFound)
	}
	change, known := st[query]
	switch {
	case !known || change.before.Equal(orSame(change.after, change.before)) && change.after != nil:
		return []byte(`{"result":{"events":[]}}`)
	case change.after == nil:
		return []byte(answerNotFound)
	case v.rnd.IntN(3) == 0:
		return result(change.after, "")
	}
	events, _ := state.Diff(change.before, change.after)
	var parts []string
	for _, e := range events {
		parts = append(parts, fmt.Sprintf(`{"event":"%v","data":%s}`, e.Kind, payload(e)))
	}
	return []byte(`{"result":{"events":[` + strings.Join(parts, ",") + `]}}`)
}

func orSame(s, other *state.Snapshot) *state.Snapshot {
	if s == nil {
		return other
	}
	return s
}
