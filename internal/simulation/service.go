package simulation

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/resmodel"
)

// service is a service with the resources whose names begin with its own. All that it says leaves
// in one order.
type service struct {
	w       *world
	name    string
	store   *resmodel.Store
	names   []string // of its resources
	deletes []string // resources that may be deleted yet
	ticks   map[string]int
	open    []*request // requests without a reply
	out     []toServer
	renewed int
	resets  []string // patterns of all resets
	away    bool     // it has ended: NATS has no responders for its requests
	left    bool     // it was away
}

type request struct {
	subject, reply, data string
	extended             bool // a pre-response was sent

	// Of data.
	cid   string
	query string
	n     int // of the parameters
}

// read reads what of the data a service needs.
func (r *request) read() {
	if r.data == "" {
		return
	}
	v, _ := resmodel.Decode(r.data)
	data, _ := v.(map[string]any)
	r.cid, _ = data["cid"].(string)
	r.query, _ = data["query"].(string)
	if params, ok := data["params"].(map[string]any); ok {
		n, _ := params["n"].(json.Number)
		r.n, _ = strconv.Atoi(n.String())
	}
}

func newService(w *world, name string) *service {
	s := &service{w: w, name: name, store: resmodel.NewStore(), ticks: map[string]int{}}
	for i := range 2 {
		s.names = append(s.names, fmt.Sprintf("%s.model.%d", name, i), fmt.Sprintf("%s.list.%d", name, i))
	}
	s.deletes = []string{name + ".mortal"}
	s.names = append(s.names, name+".mortal", name+".broken", name+".query")
	w.pool = append(w.pool, s.names[:6]...)
	w.pool = append(w.pool, name+".query?from=0&count=3", name+".query?count=3&from=0", name+".query?from=1")
	return s
}

// fill makes the resources. All services exist: resources refer to each other.
func (s *service) fill() {
	for _, name := range s.names[:5] {
		if strings.Contains(name, ".list") {
			s.store.Set(name, []any{s.w.value(), s.w.value()})
		} else {
			s.store.Set(name, map[string]any{"a": s.w.value(), "b": s.w.value()})
		}
	}
	s.store.SetSliced(s.name+".query", []any{1, 2, 3})
}

func (s *service) say(subject, payload string) {
	s.w.note(s.name, " says ", subject, " ", payload)
	s.out = append(s.out, toServer{subject: subject, data: []byte(payload)})
}

func (s *service) event(rid, event, payload string) { s.say("event."+rid+"."+event, payload) }

// change does one thing that services do of their own accord.
func (s *service) change() {
	w := s.w
	switch n := w.pick(20); {
	case n < 9:
		rid := pickOf(&w.chooser, s.store.RIDs())
		event, payload := s.store.Mutate(w.random(), rid, w.value)
		s.event(rid, event, payload)
		if event == "change" && w.one(8) {
			s.event(rid, event, payload) // said twice, it changes nothing
		}
	case n < 12:
		name := s.name + ".query"
		_, payload := s.store.ChangeSliced(name, s.store.Vary(w.random(), name, w.value))
		s.event(name, "query", payload)
	case n < 15:
		s.tick(pickOf(&w.chooser, s.store.RIDs()))
	case n < 17:
		s.reset()
	case n < 18:
		name := pickOf(&w.chooser, s.names)
		s.store.Deny(name, !s.store.Denied(name))
		if w.one(3) {
			s.say("system.reset", `{"access":["`+name+`"]}`)
		} else {
			s.event(name, "reaccess", "")
		}
	case n < 19:
		if name := s.name + ".broken"; !w.born[name] && w.one(4) {
			w.born[name] = true // clients that have failed to load it learn nothing of that
			s.store.Set(name, map[string]any{"a": w.value()})
			w.logf("%s has made %s", s.name, name)
		} else if len(s.deletes) > 0 && w.one(3) {
			rid := s.deletes[0]
			s.deletes = s.deletes[1:]
			s.store.Delete(rid)
			s.event(rid, "delete", "")
		}
	default:
		s.token()
	}
}

func (s *service) tick(rid string) {
	s.ticks[rid]++
	s.event(rid, "tick", fmt.Sprint(s.ticks[rid]))
}

// reset changes resources without a word and then resets what covers them.
func (s *service) reset() {
	w := s.w
	pattern := s.name + pickOf(&w.chooser, []string{".>", ".model.*", ".list.*", ".query", ".list.0"})
	for _, rid := range s.store.RIDs() {
		if covers(pattern, rid) && w.one(3) {
			s.store.Mutate(w.random(), rid, w.value)
		}
	}
	if name := s.name + ".query"; covers(pattern, name) && w.one(2) {
		s.store.SetSliced(name, s.store.Vary(w.random(), name, w.value))
	}
	s.resets = append(s.resets, pattern)
	s.say("system.reset", `{"resources":["`+pattern+`"]}`)
}

// repeat repeats the resets. A get that follows a reset and is answered too late leaves the old
// state (RES.md 3.2), and no other one follows.
func (s *service) repeat() {
	for _, pattern := range s.resets {
		s.say("system.reset", `{"resources":["`+pattern+`"]}`)
	}
}

func covers(pattern, rid string) bool {
	if prefix, ok := strings.CutSuffix(pattern, ">"); ok {
		return strings.HasPrefix(rid, prefix)
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(rid, prefix)
	}
	return rid == pattern
}

// token gives a client another token, or has all renew theirs.
func (s *service) token() {
	w := s.w
	if w.one(3) {
		tids, _ := json.Marshal(w.cids) // cannot fail
		s.say("system.tokenReset", `{"tids":`+string(tids)+`,"subject":"auth.`+s.name+`.model.0.renew"}`)
		return
	}
	if len(w.cids) > 0 {
		// No two clients have the same token ID: they renew their tokens in no particular order.
		cid := pickOf(&w.chooser, w.cids)
		s.say("conn."+cid+".token", pickOf(&w.chooser, []string{
			`{"token":{"n":1},"tid":"` + cid + `"}`, `{"token":{"n":2},"tid":"` + cid + `"}`, `{"token":null}`,
		}))
	}
}

// leave ends the service's program, which loses the requests that it has.
func (s *service) leave() {
	s.w.logf("%s ends", s.name)
	s.away, s.left, s.open = true, true, nil
}

// come starts it again. As programs do, it then resets what it has.
func (s *service) come() {
	s.w.logf("%s starts", s.name)
	s.away = false
	s.resets = []string{s.name + ".>"}
	s.say("system.reset", `{"resources":["`+s.name+`.>"],"access":["`+s.name+`.>"]}`)
}

// answer replies to an open request. Only the state of a query resource is told in the order in
// which it was asked for: answers with events build on the answers before them.
func (s *service) answer() {
	w := s.w
	i := w.pick(len(s.open))
	if s.open[i].queried() {
		i = slices.IndexFunc(s.open, (*request).queried)
	}
	r := s.open[i]
	if !r.extended && !w.settling && w.one(24) {
		r.extended = true
		s.say(r.reply, `timeout:"2000"`)
		return
	}
	s.open = slices.Delete(s.open, i, i+1)
	payload := s.replyTo(r)
	w.note(s.name, " answers ", r.subject, " ", r.data)
	s.say(r.reply, payload)
	if !w.settling {
		s.follow(r.subject)
	}
	if !w.settling && w.one(32) {
		s.say(r.reply, payload) // the second one is late
	}
}

// follow has an event follow a reply immediately: nothing that depends on the reply's state may
// miss it.
func (s *service) follow(subject string) {
	w := s.w
	switch verb, name, _ := strings.Cut(subject, "."); {
	case verb == "access" && w.one(12):
		s.store.Deny(name, !s.store.Denied(name))
		s.event(name, "reaccess", "")
	case verb == "get" && w.one(6):
		if _, ok := s.store.Value(name); ok && !strings.HasSuffix(name, ".query") {
			event, payload := s.store.Mutate(w.random(), name, w.value)
			s.event(name, event, payload)
		}
	}
}

// queried reports whether the request asks for the state of the query resource.
func (r *request) queried() bool {
	return strings.HasPrefix(r.subject, "_EVENT_.") || strings.HasPrefix(r.subject, "get.") && strings.HasSuffix(r.subject, ".query")
}

func (s *service) replyTo(r *request) string {
	w := s.w
	verb, name, _ := strings.Cut(r.subject, ".")
	switch verb {
	case "access":
		return s.store.Access(name)
	case "get":
		return s.store.Get(name, r.query)
	case "call":
		return `{"resource":{"rid":"` + pickOf(&w.chooser, w.pool) + `"}}`
	case "auth":
		if strings.HasSuffix(name, ".login") && r.cid != "" {
			s.renewed++
			s.say("conn."+r.cid+".token", fmt.Sprintf(`{"token":{"n":%d},"tid":"%s"}`, s.renewed, r.cid))
		}
		return `{"result":null}`
	}
	name = name[:strings.LastIndexByte(name, '.')]
	return s.store.Query(r.subject, name, r.query, w.one(2))
}

// send has the server take the oldest message of the service.
func (s *service) send() {
	m := s.out[0]
	s.out = s.out[1:]
	s.w.net.route(m.subject, m.data)
}
