//go:build linux

package differential

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/resmodel"
)

// world is the service of one conversation at one gateway. Its state depends on the steps only.
type world struct {
	conn *nats.Conn
	name string

	mu    sync.Mutex
	store *resmodel.Store
	cids  []string // of the clients that have logged in, in the order of the logins
	last  time.Time
}

const natsWait = 10 * time.Second

// newWorld starts the service.
func newWorld(url, name string) (*world, error) {
	conn, err := nats.Connect(url, nats.Timeout(natsWait), nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	w := &world{conn: conn, name: name, store: resmodel.NewStore(), last: time.Now()}
	ref := func(to string) any { return map[string]any{"rid": name + "." + to} }
	w.store.Set(w.rid("m0"), map[string]any{"a": json.Number("1"), "b": "text", "c": nil})
	w.store.Set(w.rid("m1"), map[string]any{"a": ref("m2"), "b": ref("c1")})
	w.store.Set(w.rid("m2"), map[string]any{"a": ref("m1"), "b": true})
	w.store.Set(w.rid("m3"), map[string]any{"a": ref("missing"), "b": ref("denied"), "c": map[string]any{"data": map[string]any{"x": []any{json.Number("1")}}}})
	w.store.Set(w.rid("c0"), []any{"x", json.Number("2"), ref("m0")})
	w.store.Set(w.rid("c1"), []any{ref("m3"), map[string]any{"rid": name + ".m1", "soft": true}})
	w.store.SetSliced(w.rid("q"), []any{"r", "s", "t", "u"})
	subscribe := func(subject string, reply func(subject string, request map[string]any) string) {
		if err != nil {
			return
		}
		_, err = conn.Subscribe(subject, func(m *nats.Msg) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.last = time.Now()
			var request map[string]any
			_ = json.Unmarshal(m.Data, &request)
			_ = m.Respond([]byte(reply(m.Subject, request)))
		})
	}
	subscribe("access."+name+".>", func(subject string, r map[string]any) string { return w.access(subject, r) })
	subscribe("get."+name+".>", func(subject string, r map[string]any) string { return w.get(subject, r) })
	subscribe("call."+name+".>", func(subject string, r map[string]any) string { return w.call(subject, r) })
	subscribe("auth."+name+".>", func(subject string, r map[string]any) string { return w.auth(subject, r) })
	subscribe("_EVENT_."+name+".>", func(subject string, r map[string]any) string {
		query, _ := r["query"].(string)
		return w.store.Query(subject, w.rid("q"), query, false)
	})
	if err == nil {
		err = conn.FlushTimeout(natsWait)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return w, nil
}

func (w *world) rid(name string) string { return w.name + "." + name }

// short returns a subject's resource without the service's name.
func (w *world) short(subject, kind string) string {
	return strings.TrimPrefix(strings.TrimPrefix(subject, kind+"."), w.name+".")
}

func (w *world) access(subject string, r map[string]any) string {
	switch name := w.short(subject, "access"); {
	case name == "denied" || w.store.Denied(w.rid(name)):
		return `{"result":{"get":false}}`
	case name == "accessfails":
		return `{"error":{"code":"` + w.name + `.custom","message":"No access today","data":{"x":1}}}`
	case name == "calls":
		return `{"result":{"get":false,"call":"echo,set"}}`
	case name == "member":
		token, _ := r["token"].(map[string]any)
		return fmt.Sprintf(`{"result":{"get":%v}}`, token["name"] != nil)
	}
	return `{"result":{"get":true,"call":"*"}}`
}

func (w *world) get(subject string, r map[string]any) string {
	switch name := w.short(subject, "get"); name {
	case "broken":
		return `{"error":{"code":"` + w.name + `.broken","message":"Out of order"}}`
	case "odd":
		return `{"result":{"model":[1,2]}}`
	case "member", "denied", "calls", "accessfails":
		return `{"result":{"model":{"name":"` + name + `"}}}`
	default:
		query, _ := r["query"].(string)
		return w.store.Get(w.rid(name), query)
	}
}

func (w *world) call(subject string, r map[string]any) string {
	name := w.short(subject, "call")
	method := name[strings.LastIndexByte(name, '.')+1:]
	switch method {
	case "echo":
		return `{"result":` + resmodel.Encode(r["params"]) + `}`
	case "fail":
		return `{"error":{"code":"` + w.name + `.fail","message":"It failed","data":{"why":"so"}}}`
	case "failplain":
		return `{"error":{"code":"system.invalidParams","message":"Invalid parameters"}}`
	case "resource":
		return `{"resource":{"rid":"` + w.rid("m1") + `"}}`
	case "new":
		return `{"result":{"rid":"` + w.rid("m0") + `"}}`
	case "odd":
		return `{"result":`
	}
	return `{"result":null}`
}

func (w *world) auth(subject string, r map[string]any) string {
	cid, _ := r["cid"].(string)
	switch name := w.short(subject, "auth"); name {
	case "session.login":
		w.cids = append(w.cids, cid)
		w.publish("conn."+cid+".token", `{"token":{"name":"jane"},"tid":"`+w.name+`"}`)
	case "session.logout":
		w.publish("conn."+cid+".token", `{"token":null}`)
	case "session.fail":
		return `{"error":{"code":"system.accessDenied","message":"Access denied"}}`
	case "session.resource":
		return `{"resource":{"rid":"` + w.rid("m0") + `"}}`
	}
	return `{"result":{"ok":true}}`
}

func (w *world) publish(subject, payload string) { _ = w.conn.Publish(subject, []byte(payload)) }

func (w *world) event(name, event, payload string) {
	w.publish("event."+w.rid(name)+"."+event, payload)
}

// act does what a step says. Whatever is random about it comes from the step's seed.
func (w *world) act(s Step) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
	rng := rand.New(rand.NewPCG(s.Seed, 3))
	rid := w.rid(s.Name)
	_, exists := w.store.Value(rid)
	switch s.Act {
	case "mutate":
		if exists {
			event, payload := w.store.Mutate(rng, rid, w.values(rng))
			w.event(s.Name, event, payload)
		}
	case "silent": // a change that only a reset shows
		if exists {
			w.store.Mutate(rng, rid, w.values(rng))
		}
	case "custom":
		w.event(s.Name, "happened", []string{`{"n":1}`, `null`, `"x"`, ``}[rng.IntN(4)])
	case "query":
		_, payload := w.store.ChangeSliced(rid, w.store.Vary(rng, rid, w.values(rng)))
		w.event(s.Name, "query", payload)
	case "reset":
		w.publish("system.reset", `{"resources":["`+rid+`"]}`)
	case "resetaccess":
		w.publish("system.reset", `{"access":["`+rid+`"]}`)
	case "reaccess":
		w.event(s.Name, "reaccess", "")
	case "deny":
		w.store.Deny(rid, !w.store.Denied(rid))
		w.publish("system.reset", `{"access":["`+rid+`"]}`)
	case "delete":
		if exists {
			w.store.Delete(rid)
			w.event(s.Name, "delete", "")
		}
	case "create":
		if !exists {
			var value any = map[string]any{"a": "again"}
			if strings.HasPrefix(s.Name, "c") {
				value = []any{"again"}
			}
			w.store.Set(rid, value)
			w.event(s.Name, "create", "")
			w.publish("system.reset", `{"resources":["`+rid+`"]}`)
		}
	case "oddevent":
		odd := []struct{ event, payload string }{
			{"change", `{"values":`}, {"change", `{"values":{"a":{"rid":1}}}`}, {"change", `[]`}, {"change", `{"values":{"a":{"action":"destroy"}}}`}, {"change", `{"values":{}}`},
			{"add", `{"idx":-1,"value":1}`}, {"add", `{"idx":99,"value":1}`}, {"add", `{"value":1}`}, {"remove", `{"idx":99}`}, {"remove", `{}`}, {"remove", ``}, {"unsubscribe", `{}`},
		}
		o := odd[rng.IntN(len(odd))]
		w.event(s.Name, o.event, o.payload)
	case "token":
		for _, cid := range w.cids {
			w.publish("conn."+cid+".token", map[string]string{"member": `{"token":{"name":"joe"},"tid":"` + w.name + `"}`, "none": `{"token":null}`, "odd": `{"token":`}[s.Name])
		}
	case "tokenreset":
		w.publish("system.tokenReset", `{"tids":["`+w.name+`"],"subject":"auth.`+w.name+`.session.login"}`)
	default:
		return fmt.Errorf("unknown act %q", s.Act)
	}
	return w.conn.Flush()
}

// value returns a copy of the state of a resource.
func (w *world) value(rid string) (any, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.store.Value(rid)
	if !ok {
		return nil, false
	}
	v, err := resmodel.Decode(resmodel.Encode(v))
	return v, err == nil
}

// values returns what makes values of properties and elements: now and then references.
func (w *world) values(rng *rand.Rand) func() any {
	return func() any {
		switch rng.IntN(8) {
		case 0:
			return map[string]any{"rid": w.rid([]string{"m0", "m1", "m2", "c0", "missing"}[rng.IntN(5)])}
		case 1:
			return map[string]any{"data": map[string]any{"n": json.Number("1")}}
		case 2:
			return map[string]any{"rid": w.rid("m2"), "soft": true}
		case 3:
			return nil
		}
		return json.Number(fmt.Sprint(rng.IntN(100)))
	}
}

// quiet reports whether the service has had nothing to do for a time.
func (w *world) quiet(d time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.last) >= d
}

func (w *world) close() error {
	err := w.conn.LastError()
	w.conn.Close()
	if errors.Is(err, nats.ErrConnectionClosed) {
		return nil
	}
	return err
}
