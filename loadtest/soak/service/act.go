//go:build linux

package service

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
)

// create makes the first state of all resources.
func (w *worker) create() {
	for g := range w.cfg.Groups {
		w.groups = append(w.groups, Group(w.name, g)...)
	}
	for i := range Mortals {
		w.names = append(w.names, Mortal(w.name, i))
	}
	for i := range Leaves {
		w.names = append(w.names, Leaf(w.name, i))
	}
	w.names = append(w.names, w.groups...)
	for _, rid := range w.names {
		w.fill(rid)
	}
	w.store.Set(Bulk(w.name), map[string]any{"bulk": true})
	for i := range w.cfg.Feeds {
		w.store.Set(Feed(w.name, i), map[string]any{"feed": i})
	}
	for i := range Queries {
		name := Query(w.name, i)
		w.store.SetSliced(name, []any{})
		w.store.SetSliced(name, w.store.Vary(w.rng, name, w.plain))
		w.groups = append(w.groups, name)
	}
}

// fill sets a resource to random values.
func (w *worker) fill(rid string) {
	value := w.valueFor(rid)
	if _, last, _ := strings.Cut(strings.TrimPrefix(rid, w.name+"."), "."); strings.HasPrefix(last, "l") {
		w.store.Set(rid, []any{value(), value()})
		return
	}
	w.store.Set(rid, map[string]any{"a": value(), "b": value()})
}

// valueFor returns what makes values for a resource. Only groups have references: to resources of
// the same group, with cycles, and to leaves and mortals.
func (w *worker) valueFor(rid string) func() any {
	var g int
	if _, err := fmt.Sscanf(strings.TrimPrefix(rid, w.name+"."), "g%d.", &g); err != nil {
		return w.plain
	}
	group := Group(w.name, g)
	return func() any {
		ref := func(rid string) any { return map[string]any{"rid": rid} }
		switch n := w.rng.IntN(20); {
		case n < 6:
			return ref(group[w.rng.IntN(len(group))])
		case n < 8:
			return ref(Leaf(Name(w.rng.IntN(w.cfg.Services)), w.rng.IntN(Leaves)))
		case n < 9:
			return ref(Mortal(w.name, w.rng.IntN(Mortals)))
		case n < 11:
			return map[string]any{"rid": group[w.rng.IntN(len(group))], "soft": true}
		}
		return w.plain()
	}
}

// plain makes a value without a reference.
func (w *worker) plain() any {
	switch w.rng.IntN(4) {
	case 0:
		return map[string]any{"data": map[string]any{"n": w.rng.IntN(3)}}
	case 1:
		return fmt.Sprintf("s%d", w.rng.IntN(3))
	}
	return w.rng.IntN(5)
}

// act does one random thing to the resources.
func (w *worker) act() {
	switch n := w.rng.IntN(100); {
	case n < 78:
		rid := w.names[w.rng.IntN(len(w.names))]
		if slices.Contains(w.dead, rid) {
			return
		}
		event, payload := w.store.Mutate(w.rng, rid, w.valueFor(rid))
		w.publish("event."+rid+"."+event, payload)
	case n < 88:
		w.query()
	case n < 93:
		w.silently()
	case n < 97:
		w.revoke()
	default:
		w.mortal()
	}
}

// query changes a collection of queries. The subject of its query event names the generation:
// another process does not know what the event did.
func (w *worker) query() {
	name := Query(w.name, w.rng.IntN(Queries))
	subject, _ := w.store.ChangeSliced(name, w.store.Vary(w.rng, name, w.plain))
	w.publish("event."+name+".query", `{"subject":"`+w.wire(subject)+`"}`)
	if w.events = append(w.events, subject); len(w.events) > queryMemory {
		w.store.Forget(w.events[0])
		w.events = slices.Delete(w.events, 0, 1)
	}
}

// wire returns the subject under which the gateways see a query event's subject.
func (w *worker) wire(subject string) string { return fmt.Sprintf("%s-%d", subject, w.cfg.Gen) }

// silently changes resources without an event, and resets what covers them.
func (w *worker) silently() {
	pattern := fmt.Sprintf("%s.g%d.>", w.name, w.rng.IntN(w.cfg.Groups))
	if w.rng.IntN(4) == 0 {
		pattern = w.name + ".leaf.*"
	}
	prefix := strings.TrimRight(pattern, ">*")
	for _, rid := range w.names {
		if strings.HasPrefix(rid, prefix) && w.rng.IntN(3) == 0 {
			w.store.Mutate(w.rng, rid, w.valueFor(rid))
		}
	}
	w.publish("system.reset", `{"resources":["`+pattern+`"]}`)
}

// revoke denies access to a resource, or gives it back; at most one in eight is denied.
func (w *worker) revoke() {
	name := w.groups[w.rng.IntN(len(w.groups))]
	if !w.denied[name] && len(w.denied) > len(w.groups)/8 {
		name = slices.Sorted(maps.Keys(w.denied))[0]
	}
	denied := !w.denied[name]
	if w.store.Deny(name, denied); denied {
		w.denied[name] = true
	} else {
		delete(w.denied, name)
	}
	if w.rng.IntN(2) == 0 {
		w.publish("system.reset", `{"access":["`+name+`"]}`)
	} else {
		w.publish("event."+name+".reaccess", "")
	}
}

// mortal deletes a resource, or creates a deleted one again.
func (w *worker) mortal() {
	rid := Mortal(w.name, w.rng.IntN(Mortals))
	if i := slices.Index(w.dead, rid); i >= 0 {
		w.dead = slices.Delete(w.dead, i, i+1)
		w.fill(rid)
		return
	}
	w.dead = append(w.dead, rid)
	w.store.Delete(rid)
	w.publish("event."+rid+".delete", "")
}

const noResult = `{"result":null}`

// request replies to a request, unless the service is dying.
func (w *worker) request(m *nats.Msg) {
	w.stats.Requests++
	if w.dying > 0 {
		if w.dying--; w.dying == 0 {
			_ = w.conn.FlushTimeout(flushLimit)
			die()
		}
	}
	if payload := w.reply(m.Subject, m.Data); payload != "" {
		w.publish(m.Reply, payload)
	}
}

// reply returns the reply to a request; "" for none.
func (w *worker) reply(subject string, data []byte) string {
	var p struct {
		Query  string
		Params json.RawMessage
	}
	_ = json.Unmarshal(data, &p) // without a query then
	verb, name, _ := strings.Cut(subject, ".")
	switch verb {
	case "access":
		return w.store.Access(name)
	case "get":
		return w.store.Get(name, p.Query)
	case "call":
		return w.call(p.Params)
	}
	subject, ok := strings.CutSuffix(subject, w.wire(""))
	if !ok {
		return `{"error":{"code":"system.notFound","message":"Not found"}}`
	}
	name = name[:strings.LastIndexByte(name, '.')]
	return w.store.Query(subject, name, p.Query, w.rng.IntN(2) == 0)
}

// call executes add.
func (w *worker) call(params json.RawMessage) string {
	var c Call
	if json.Unmarshal(params, &c) != nil || c.N == 0 {
		return noResult
	}
	calls := w.calls[c.Client]
	if calls == nil {
		calls = &window{}
		w.calls[c.Client] = calls
	}
	w.stats.Calls++
	if !calls.execute(c.N) {
		w.stats.Repeated++
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return `{"result":` + string(b) + `}`
}
