package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jirenius/go-res"
)

const (
	serviceName = "lib"
	// group makes go-res run the handlers one at a time, so the data needs no lock.
	group = "lib"
)

type item struct {
	ID    int
	Name  string
	Owner string // a person's ID, or ""
}

// model returns the item as a model, with the owner as a reference.
func (i *item) model() map[string]any {
	return map[string]any{"id": i.ID, "name": i.Name, "owner": ownerRef(i.Owner)}
}

func (i *item) rid() string { return fmt.Sprintf("lib.item.%d", i.ID) }

func ownerRef(person string) any {
	if person == "" {
		return nil
	}
	return res.Ref("lib.person." + person)
}

// library is the data. The group owns it.
type library struct {
	svc    *res.Service
	info   map[string]any
	notes  []any
	items  []*item
	people map[string]map[string]any
	temps  map[string]bool
	lastID int
}

func newLibrary(svc *res.Service) *library {
	l := &library{
		svc: svc,
		info: map[string]any{
			"title": "Library", "count": 3, "ratio": 0.5, "open": true, "nothing": nil,
			"tags": res.NewDataValue([]string{"a", "b"}), "see": res.SoftRef("lib.person.ada"), "head": res.Ref("lib.person.ada"),
		},
		notes: []any{"one", 2, true, nil, "five"},
		// Ada and Bea are each other's friends: a cycle.
		people: map[string]map[string]any{
			"ada": {"name": "Ada", "friend": res.Ref("lib.person.bea")},
			"bea": {"name": "Bea", "friend": res.Ref("lib.person.ada")},
			"cyd": {"name": "Cyd", "friend": res.Ref("lib.person.nobody")}, // a reference that cannot be loaded
			"dan": {"name": "Dan", "friend": nil},
			"eve": {"name": "Eve", "friend": nil},
			"fay": {"name": "Fay", "friend": nil},
		},
		temps: map[string]bool{},
	}
	for _, name := range []string{"Emma", "Dune", "Ulysses"} {
		l.insert(name, len(l.items))
	}
	open := res.Access(res.AccessGranted)
	handle := func(pattern string, options ...res.Option) {
		svc.Handle(pattern, append(options, res.Group(group))...)
	}
	handle("info", open, res.GetModel(func(r res.ModelRequest) { r.Model(l.info) }),
		res.Call("set", l.setInfo), res.Call("drop", l.dropInfo), res.Call("shout", l.shout))
	handle("notes", open, res.GetCollection(func(r res.CollectionRequest) { r.Collection(l.notes) }),
		res.Call("add", l.addNote), res.Call("remove", l.removeNote))
	handle("items", open, res.GetCollection(func(r res.CollectionRequest) { r.Collection(l.itemRefs(l.items)) }),
		res.Call("new", l.newItem), res.Call("remove", l.removeItem), res.Call("move", l.moveItem))
	handle("item.$id", open, res.GetModel(l.getItem), res.Call("set", l.setItem))
	handle("person.$id", open, res.GetModel(l.getPerson), res.Call("set", l.setPerson))
	handle("temp.$id", open, res.GetModel(l.getTemp), res.Call("destroy", l.destroyTemp), res.Call("make", l.makeTemp))
	handle("control", open, res.Call("state", l.state), res.Call("scramble", l.scramble))
	handle("mute", res.GetModel(func(r res.ModelRequest) { r.Model(l.info) })) // it never replies to an access request
	handle("faulty", open, res.GetModel(func(r res.ModelRequest) { r.Error(&res.Error{Code: "lib.broken", Message: "Out of order"}) }),
		res.Call("custom", func(r res.CallRequest) {
			r.Error(&res.Error{Code: "lib.teapot", Message: "Short and stout", Data: map[string]any{"handle": "here", "spouts": 1}})
		}),
		res.Call("params", func(r res.CallRequest) { r.InvalidParams("no such thing") }),
		res.Call("panic", func(res.CallRequest) { panic("on purpose") }),
		res.Call("echo", func(r res.CallRequest) { r.OK(r.RawParams()) }))
	// A separate group, since it blocks a worker.
	svc.Handle("slow", open, res.Call("wait", func(r res.CallRequest) {
		r.Timeout(10 * time.Second)
		var p struct{ MS int }
		r.ParseParams(&p)
		<-time.After(time.Duration(p.MS) * time.Millisecond)
		r.OK("at last")
	}))
	l.handleAuth(handle)
	l.handleSearch(handle)
	return l
}

func (l *library) with(rid string) res.Resource {
	r, err := l.svc.Resource(rid)
	if err != nil {
		panic(err)
	}
	return r
}

// Info: a model with every kind of value.

func (l *library) setInfo(r res.CallRequest) {
	var p map[string]json.RawMessage
	r.ParseParams(&p)
	changed := map[string]any{}
	for key, value := range p {
		l.info[key] = value
		changed[key] = value
	}
	r.ChangeEvent(changed)
	r.OK(nil)
}

func (l *library) dropInfo(r res.CallRequest) {
	var p struct{ Key string }
	r.ParseParams(&p)
	delete(l.info, p.Key)
	r.ChangeEvent(map[string]any{p.Key: res.DeleteAction})
	r.OK(nil)
}

// shout sends a custom event with a payload, and one without.
func (l *library) shout(r res.CallRequest) {
	r.Event("shout", r.RawParams())
	r.Event("bell", nil)
	r.OK(nil)
}

// Notes: a collection of primitives.

func (l *library) addNote(r res.CallRequest) {
	var p struct {
		Value any
		Idx   int
	}
	r.ParseParams(&p)
	if p.Idx < 0 || p.Idx > len(l.notes) {
		r.InvalidParams("")
		return
	}
	l.notes = slices.Insert(l.notes, p.Idx, p.Value)
	r.AddEvent(p.Value, p.Idx)
	r.OK(nil)
}

func (l *library) removeNote(r res.CallRequest) {
	var p struct{ Idx int }
	r.ParseParams(&p)
	if p.Idx < 0 || p.Idx >= len(l.notes) {
		r.InvalidParams("")
		return
	}
	l.notes = slices.Delete(l.notes, p.Idx, p.Idx+1)
	r.RemoveEvent(p.Idx)
	r.OK(nil)
}

// Items: a collection of references.

func (l *library) itemRefs(items []*item) []res.Ref {
	refs := make([]res.Ref, len(items))
	for i, it := range items {
		refs[i] = res.Ref(it.rid())
	}
	return refs
}

func (l *library) insert(name string, idx int) *item {
	l.lastID++
	it := &item{ID: l.lastID, Name: name}
	l.items = slices.Insert(l.items, idx, it)
	return it
}

func (l *library) find(id int) int {
	return slices.IndexFunc(l.items, func(it *item) bool { return it.ID == id })
}

// newItem inserts an item at the requested index, or at the end if the list has become shorter.
func (l *library) newItem(r res.CallRequest) {
	var p struct {
		Name  string
		Owner string
		Idx   int
	}
	r.ParseParams(&p)
	idx := min(max(p.Idx, 0), len(l.items))
	it := l.insert(p.Name, idx)
	it.Owner = p.Owner
	r.AddEvent(res.Ref(it.rid()), idx)
	l.searched()
	r.Resource(it.rid())
}

func (l *library) removeItem(r res.CallRequest) {
	var p struct{ ID int }
	r.ParseParams(&p)
	i := l.find(p.ID)
	if i < 0 {
		r.NotFound()
		return
	}
	it := l.items[i]
	l.items = slices.Delete(l.items, i, i+1)
	r.RemoveEvent(i)
	l.searched()
	l.with(it.rid()).DeleteEvent()
	r.OK(nil)
}

// moveItem removes an item and inserts it again: clients receive a remove and an add event.
func (l *library) moveItem(r res.CallRequest) {
	var p struct{ ID, Idx int }
	r.ParseParams(&p)
	from := l.find(p.ID)
	if from < 0 {
		r.NotFound()
		return
	}
	it := l.items[from]
	l.items = slices.Delete(l.items, from, from+1)
	r.RemoveEvent(from)
	to := min(max(p.Idx, 0), len(l.items))
	l.items = slices.Insert(l.items, to, it)
	r.AddEvent(res.Ref(it.rid()), to)
	r.OK(nil)
}

func (l *library) itemOf(r res.Resource) *item {
	for _, it := range l.items {
		if it.rid() == r.ResourceName() {
			return it
		}
	}
	return nil
}

func (l *library) getItem(r res.ModelRequest) {
	if it := l.itemOf(r); it != nil {
		r.Model(it.model())
		return
	}
	r.NotFound()
}

func (l *library) setItem(r res.CallRequest) {
	it := l.itemOf(r)
	if it == nil {
		r.NotFound()
		return
	}
	var p struct{ Name, Owner *string }
	r.ParseParams(&p)
	changed := map[string]any{}
	if p.Name != nil {
		it.Name = *p.Name
		changed["name"] = it.Name
	}
	if p.Owner != nil {
		it.Owner = *p.Owner
		changed["owner"] = ownerRef(it.Owner)
	}
	r.ChangeEvent(changed)
	l.searched()
	r.OK(nil)
}

// People: models that refer to each other.

func (l *library) getPerson(r res.ModelRequest) {
	if p := l.people[r.PathParam("id")]; p != nil {
		r.Model(p)
		return
	}
	r.NotFound()
}

func (l *library) setPerson(r res.CallRequest) {
	p := l.people[r.PathParam("id")]
	if p == nil {
		r.NotFound()
		return
	}
	var to struct{ Name, Friend *string }
	r.ParseParams(&to)
	changed := map[string]any{}
	if to.Name != nil {
		changed["name"] = *to.Name
	}
	if to.Friend != nil {
		changed["friend"] = ownerRef(*to.Friend)
	}
	for k, v := range changed {
		p[k] = v
	}
	r.ChangeEvent(changed)
	r.OK(nil)
}

// Temps: models that get deleted.

func (l *library) makeTemp(r res.CallRequest) {
	l.temps[r.PathParam("id")] = true
	r.Resource(r.ResourceName())
}

func (l *library) getTemp(r res.ModelRequest) {
	if !l.temps[r.PathParam("id")] {
		r.NotFound()
		return
	}
	r.Model(map[string]any{"id": r.PathParam("id")})
}

func (l *library) destroyTemp(r res.CallRequest) {
	delete(l.temps, r.PathParam("id"))
	r.DeleteEvent()
	r.OK(nil)
}

// state returns all items, notes and people, for comparison with the state of clients.
func (l *library) state(r res.CallRequest) {
	type plain struct {
		ID    int    `json:"id"`
		Name  string `json:"name"`
		Owner string `json:"owner"`
	}
	items := make([]plain, len(l.items))
	for i, it := range l.items {
		items[i] = plain{it.ID, it.Name, it.Owner}
	}
	people := map[string]map[string]string{}
	for id, p := range l.people {
		friend, _ := p["friend"].(res.Ref) // nobody is nil, and ""
		people[id] = map[string]string{"name": p["name"].(string), "friend": string(friend)}
	}
	r.OK(map[string]any{"items": items, "notes": l.notes, "people": people})
}

// scramble changes much data without events, as an edit of a database does, and then sends a
// system.reset.
func (l *library) scramble(r res.CallRequest) {
	if len(l.items) > 1 {
		l.items = slices.Delete(l.items, 1, 2)
	}
	l.insert("Fresh", len(l.items)/2)
	for _, it := range l.items {
		it.Name += "!"
	}
	slices.Reverse(l.notes)
	l.notes = append(l.notes, "scrambled")
	l.info["count"] = 99
	l.svc.Reset([]string{"lib.items", "lib.item.*", "lib.notes", "lib.info", "lib.search", "lib.total"}, nil)
	r.OK(nil)
}
