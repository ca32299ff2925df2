package session

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/fanout"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

func model(props ...res.Prop) *state.Snapshot { return state.NewModel(props) }

func prop(key string, v res.Value) res.Prop { return res.Prop{Key: key, Value: v} }

func number(n int) res.Value { return res.Value{Raw: fmt.Sprint(n)} }

// quiet returns a pair whose resources are models without references.
func quiet(t *testing.T) *pair {
	p := newPair(t, 1, Limits{DirectPerRID: 3, HeldEvents: 2})
	for i := range resources {
		p.worlds[0].service[rid(i)] = model(prop("n", number(i)))
	}
	for _, w := range p.worlds {
		clear(w.view)
		for name, snap := range w.service {
			w.view[name] = snap
		}
	}
	p.slow = 2
	return p
}

// set sets a property of a model.
func (p *pair) set(rid, key string, v res.Value) {
	p.worlds[0].set(rid, prop(key, v))
}

func (p *pair) ping(rid string) {
	w := p.worlds[0]
	w.pings[rid]++
	p.emit(rid, state.Update{Kind: state.Applied, Event: state.NewCustom("ping", fmt.Appendf(nil, `{"n":%d}`, w.pings[rid]), w.service[rid])})
}

func (p *pair) remove(rid string) {
	w := p.worlds[0]
	snap := w.service[rid]
	w.service[rid] = nil
	p.emit(rid, state.Update{Kind: state.Applied, Event: state.NewDelete(snap)})
}

// do has a client send requests, each a method and a resource ID.
func (p *pair) do(c *testClient, requests ...string) {
	for _, r := range requests {
		method, rid, _ := strings.Cut(r, " ")
		c.request(method, rid)
		p.rest()
	}
}

// plain returns a description without the numbers that each process chooses, its subscriptions in
// order.
func plain(m Moved) Moved {
	m.Subs = slices.Clone(m.Subs)
	for i := range m.Subs {
		m.Subs[i].Topic, m.Subs[i].Snapshot = 0, min(m.Subs[i].Snapshot, 1)
	}
	slices.SortFunc(m.Subs, func(a, b MovedSub) int { return cmp.Compare(a.RID, b.RID) })
	return m
}

// TestMoveKeeps: what a session has goes over, is there in the other process, and goes on.
func TestMoveKeeps(t *testing.T) {
	granted := &MovedAccess{Get: true, Call: "*"}
	for name, c := range map[string]struct {
		before func(p *pair, c *testClient)
		want   Moved // but for what all have
		after  func(p *pair, c *testClient)
		log    []string // what follows, in order
	}{
		"nothing": {func(p *pair, c *testClient) {}, Moved{}, func(p *pair, c *testClient) {
			p.do(c, "subscribe r.a")
		}, []string{`A < {"id":`, `"result":{"models":{"r.a":{"n":0}}}}`}},

		"direct subscriptions": {func(p *pair, c *testClient) {
			p.do(c, "subscribe r.a", "subscribe r.a", "subscribe r.b")
		}, Moved{Subs: []MovedSub{
			{RID: "r.a", State: "sent", Direct: 2, Snapshot: 1, Access: granted},
			{RID: "r.b", State: "sent", Direct: 1, Snapshot: 1, Access: granted},
		}}, func(p *pair, c *testClient) {
			p.do(c, "unsubscribe r.a", "unsubscribe r.a", "unsubscribe r.b")
			p.set("r.a", "n", number(5))
			p.do(c, "unsubscribe r.a")
		}, []string{`A < {"id":1}`, `A < {"id":2}`, `A < {"id":3}`, `A < {"error":{"code":"system.noSubscription"`}},

		"references and circles": {func(p *pair, c *testClient) {
			p.set("r.a", "ref", refTo("r.b"))
			p.set("r.b", "ref", refTo("r.c"))
			p.set("r.c", "ref", refTo("r.b"))
			p.set("r.d", "ref", refTo("r.d"))
			p.rest()
			p.do(c, "subscribe r.a", "subscribe r.d")
		}, Moved{Subs: []MovedSub{
			{RID: "r.a", State: "sent", Direct: 1, Snapshot: 1, Access: granted},
			{RID: "r.b", State: "sent", Snapshot: 1},
			{RID: "r.c", State: "sent", Snapshot: 1},
			{RID: "r.d", State: "sent", Direct: 1, Snapshot: 1, Access: granted},
		}}, func(p *pair, c *testClient) {
			p.set("r.c", "n", number(7))
			p.rest()
			p.set("r.a", "ref", number(1)) // the circle is garbage now
			p.rest()
			p.set("r.c", "n", number(8))
			p.do(c, "unsubscribe r.d")
		}, []string{`A < {"event":"r.c.change","data":{"values":{"n":7}}}`, `A < {"event":"r.a.change"`, `A < {"id":1}`}},

		"a slow consumer": {func(p *pair, c *testClient) {
			c.s.tellLost = true
			p.do(c, "subscribe r.a")
			c.s.Lag(true)
			p.set("r.a", "n", number(1))
			for range 5 {
				p.ping("r.a")
			}
			p.rest()
		}, Moved{TellLost: true, Lagging: true, Subs: []MovedSub{
			{RID: "r.a", State: "sent", Direct: 1, Snapshot: 1, Access: granted, Lost: 1, Held: []MovedEvent{
				{Name: "ping", Payload: `{"n":2}`}, {Name: "ping", Payload: `{"n":3}`}, {Name: "ping", Payload: `{"n":4}`}, {Name: "ping", Payload: `{"n":5}`},
			}},
		}}, func(p *pair, c *testClient) {
			p.set("r.a", "n", number(2))
			p.rest()
			c.w.logf("it reads")
			c.s.Lag(false)
		}, []string{
			"it reads", `A < {"event":"r.a.change","data":{"values":{"n":2}}}`, `A < {"event":"r.a.eventsLost","data":{"count":1}}`,
			`A < {"event":"r.a.ping","data":{"n":2}}`, `A < {"event":"r.a.ping","data":{"n":5}}`,
		}},

		"a report of lost events": {func(p *pair, c *testClient) {
			c.s.tellLost = true
			p.do(c, "subscribe r.a")
			c.s.Lag(true)
			p.emit("r.a", state.Update{Kind: state.Applied, Event: state.NewCustom("bare", nil, p.worlds[0].service["r.a"])})
			p.emit("r.a", state.Update{Kind: state.Applied, Event: state.NewLost(7, p.worlds[0].service["r.a"])})
			p.rest()
		}, Moved{TellLost: true, Lagging: true, Subs: []MovedSub{
			{RID: "r.a", State: "sent", Direct: 1, Snapshot: 1, Access: granted, Held: []MovedEvent{{Name: "bare"}, {Name: "eventsLost", Payload: `{"count":7}`, Lost: 7}}},
		}}, func(p *pair, c *testClient) { c.s.Lag(false) }, []string{`A < {"event":"r.a.bare"}`, `A < {"event":"r.a.eventsLost","data":{"count":7}}`}},

		"a token of a service": {func(p *pair, c *testClient) {
			p.do(c, "subscribe r.a")
			c.s.SetToken(`{"user":"one"}`, "tid")
			p.worlds[0].again(accessKey{"A", "r.a"})
			p.rest()
		}, Moved{Token: `{"user":"one"}`, TID: "tid", Subs: []MovedSub{{RID: "r.a", State: "sent", Direct: 1, Snapshot: 1, Access: granted}}}, func(p *pair, c *testClient) {
			p.worlds[0].env.ResetToken([]string{"tid"}, "auth.renew")
			p.rest()
			p.worlds[0].denied["r.a"] = true
			p.worlds[0].again(accessKey{"A", "r.a"})
			c.s.SetToken("", "")
		}, []string{"answer auth.renew", `A < {"event":"r.a.unsubscribe","data":{"reason":{"code":"system.accessDenied"`}},

		"a token that ends": {func(p *pair, c *testClient) {
			p.do(c, "subscribe r.a")
			c.s.Grant(`"claims"`, "", time.Hour)
		}, Moved{Token: `"claims"`, TokenEnds: time.Hour, Subs: []MovedSub{{RID: "r.a", State: "sent", Direct: 1, Snapshot: 1, Access: granted}}}, func(p *pair, c *testClient) {
			p.pass(59 * time.Minute)
			if c.s.token() == "" {
				c.fail(fmt.Errorf("the token has ended early"))
			}
			p.worlds[0].denied["r.a"] = true
			p.worlds[0].again(accessKey{"A", "r.a"})
			p.pass(2 * time.Minute)
			if c.s.token() != "" {
				c.fail(fmt.Errorf("the token has not ended"))
			}
		}, []string{`A < {"event":"r.a.unsubscribe","data":{"reason":{"code":"system.accessDenied"`}},

		"access that was denied to what is held by reference": {func(p *pair, c *testClient) {
			p.set("r.a", "ref", refTo("r.b"))
			p.worlds[0].denied["r.b"] = true
			p.rest()
			p.do(c, "subscribe r.a", "subscribe r.b")
		}, Moved{Subs: []MovedSub{
			{RID: "r.a", State: "sent", Direct: 1, Snapshot: 1, Access: granted},
			{RID: "r.b", State: "sent", Snapshot: 1, Access: &MovedAccess{}},
		}}, func(p *pair, c *testClient) { p.do(c, "subscribe r.b") }, []string{`A < {"error":{"code":"system.accessDenied"`}},

		"a copy of what is deleted": {func(p *pair, c *testClient) {
			p.set("r.a", "ref", refTo("r.b"))
			p.rest()
			p.do(c, "subscribe r.a")
			p.remove("r.b")
			p.rest()
		}, Moved{Subs: []MovedSub{
			{RID: "r.a", State: "sent", Direct: 1, Snapshot: 1, Access: granted},
			{RID: "r.b", State: "deleted", Snapshot: 1},
		}}, func(p *pair, c *testClient) {
			p.worlds[0].service["r.b"] = model(prop("n", number(9)))
			for _, w := range p.worlds {
				w.view["r.b"] = w.service["r.b"]
			}
			p.do(c, "subscribe r.b")
		}, []string{`"result":{"models":{"r.b":{"n":9}}}}`}},

		"a reference that has failed, and a copy of what could not be loaded again": {func(p *pair, c *testClient) {
			p.set("r.a", "x", refTo("r.b"))
			p.set("r.a", "y", refTo("r.z"))
			p.set("r.b", "ref", refTo("r.c"))
			p.rest()
			p.do(c, "subscribe r.a")
			p.remove("r.b")
			p.set("r.a", "z", refTo("r.b"))
			p.rest()
		}, Moved{Subs: []MovedSub{
			{RID: "r.a", State: "sent", Direct: 1, Snapshot: 1, Access: granted},
			{RID: "r.b", State: "failed", Snapshot: 1, Error: res.ErrNotFound},
			{RID: "r.c", State: "sent", Snapshot: 1},
			{RID: "r.z", State: "failed", Error: res.ErrNotFound},
		}}, func(p *pair, c *testClient) {
			p.set("r.c", "n", number(5))
			p.rest()
			p.set("r.a", "x", number(1))
			p.set("r.a", "z", number(1)) // with the copy goes what it refers to
			p.rest()
			p.set("r.c", "n", number(6))
		}, []string{`A < {"event":"r.c.change","data":{"values":{"n":5}}}`, `A < {"event":"r.a.change"`, `A < {"event":"r.a.change"`}},

		"a reference that has failed and is there by now": {func(p *pair, c *testClient) {
			w := p.worlds[0]
			p.remove("r.b")
			p.set("r.a", "x", refTo("r.b"))
			w.denied["r.b"] = true
			p.rest()
			p.do(c, "subscribe r.a")
			for _, w := range p.worlds {
				w.service["r.b"] = model(prop("ref", refTo("r.c")))
				w.view["r.b"] = w.service["r.b"]
			}
			p.do(c, "subscribe r.b")
		}, Moved{Subs: []MovedSub{
			{RID: "r.a", State: "sent", Direct: 1, Snapshot: 1, Access: granted},
			{RID: "r.b", State: "failed", Error: res.ErrNotFound},
		}}, func(p *pair, c *testClient) {
			p.worlds[0].denied["r.b"] = false
			p.do(c, "subscribe r.b")
		}, []string{`"result":{"models":{"r.b":{"ref":{"rid":"r.c"}},"r.c":{"n":2}}}}`}},

		"an old protocol": {func(p *pair, c *testClient) {
			c.s.version, c.s.versioned = res.V1_1_1, false
			p.set("r.a", "ref", res.Value{Kind: res.SoftReference, Raw: `{"rid":"r.b","soft":true}`, RID: "r.b"})
			p.rest()
			p.do(c, "subscribe r.a")
		}, Moved{Protocol: "1.1.1", Subs: []MovedSub{{RID: "r.a", State: "sent", Direct: 1, Snapshot: 1, Access: granted}}}, func(p *pair, c *testClient) {
			p.set("r.a", "x", res.Value{Kind: res.SoftReference, Raw: `{"rid":"r.c","soft":true}`, RID: "r.c"})
		}, []string{`A < {"event":"r.a.change","data":{"values":{"x":"r.c"}}}`}},
	} {
		t.Run(name, func(t *testing.T) {
			p := quiet(t)
			a := p.worlds[0].clients[0]
			c.before(p, a)
			want := c.want
			want.CID = "A"
			if want.Protocol == "" {
				want.Protocol, want.Versioned = "1.2.3", true
			}
			asked := p.worlds[0].log.Len()
			for range 2 { // there, and from there to a third one
				if err := p.upgrade(); err != nil {
					t.Fatal(err)
				}
				got := plain(p.last[a])
				if got.TokenEnds != 0 {
					got.TokenEnds = got.TokenEnds.Round(5 * time.Minute)
				}
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("it moves as\n%s, want\n%s", text(got), text(want))
				}
			}
			if log := p.worlds[0].log.String()[asked:]; strings.Contains(log, "answer") || strings.Contains(log, "A < ") {
				t.Errorf("the move is noticed\n%s", log)
			}
			if a.w != p.worlds[0] || a.s.cid != "A" {
				t.Fatal("it has not arrived")
			}
			before := p.worlds[0].log.Len()
			c.after(p, a)
			if err := p.settle(); err != nil && want.Protocol != "1.1.1" {
				t.Fatalf("%v\n%s", err, p.worlds[0].log)
			}
			rest := p.worlds[0].log.String()[before:]
			for _, line := range c.log {
				i := strings.Index(rest, line)
				if i < 0 {
					t.Fatalf("%s is missing in\n%s", line, p.worlds[0].log.String()[before:])
				}
				rest = rest[i+len(line):]
			}
			if strings.Contains(rest, "A < ") {
				t.Errorf("more follows:\n%s", rest)
			}
		})
	}
}

func text(m Moved) string {
	t, _ := json.Marshal(m)
	return string(t)
}

// TestMovable: a session stays where it is while anything of it is in progress, and can go after.
func TestMovable(t *testing.T) {
	for name, busy := range map[string]func(p *pair, c *testClient){
		"a request":              func(p *pair, c *testClient) { c.request("call", "r.a.pick") },
		"a subscribe":            func(p *pair, c *testClient) { c.request("subscribe", "r.b") },
		"an unsubscribe waits":   func(p *pair, c *testClient) { c.request("subscribe", "r.b"); c.request("unsubscribe", "r.b") },
		"a recheck of access":    func(p *pair, c *testClient) { c.w.env.Hub.ResetAccess(fanout.Changed, everything) },
		"one that is to be done": func(p *pair, c *testClient) { c.w.env.Hub.ResetAccess(fanout.Reset, everything) },
		"services are away": func(p *pair, c *testClient) {
			c.w.env.Hub.ResetAccess(fanout.Gap, everything)
			c.w.away = true
			for len(c.w.answers) > 0 {
				c.w.answer(0)
			}
			c.w.away = false
		},
		"a reference loads": func(p *pair, c *testClient) {
			p.set("r.a", "ref", refTo("r.b"))
			p.handle(0)
		},
		"a long difference": func(p *pair, c *testClient) {
			c.w.env.Hub.Portion = 10
			w := p.worlds[0]
			p.emit("r.b", state.Update{Kind: state.Synced, Snapshot: state.NewCollection(primitives(100, 140))})
			w.service["r.b"] = state.NewCollection(primitives(100, 140))
			p.handle(0)
		},
		"an event of before has yet to come": func(p *pair, c *testClient) {
			p.set("r.a", "n", number(5))
			p.begin(c)
			p.end(p.trips[0])
			p.end(p.trips[0])
			if p.at[1] == len(p.events) {
				panic("it has come")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := quiet(t)
			for _, w := range p.worlds {
				w.service["r.b"] = state.NewCollection(primitives(0, 30))
				w.view["r.b"] = w.service["r.b"]
				w.env.Reset = owner.NewThrottle(1)
			}
			c := p.worlds[0].clients[0]
			p.do(c, "subscribe r.a")
			if name == "a long difference" {
				p.do(c, "subscribe r.b")
			}
			p.worlds[0].again(accessKey{"A", "r.a"})
			p.worlds[0].again(accessKey{"A", "r.b"})
			if !movable(c.s) {
				t.Fatal("it cannot move at rest")
			}
			busy(p, c)
			if movable(c.s) {
				t.Error("it can move")
			}
			if err := p.settle(); err != nil {
				t.Fatal(err)
			}
			if !movable(c.s) {
				t.Error("it cannot move afterwards")
			}
			c.s.Close()
			if movable(c.s) {
				t.Error("it can move when it is closed")
			}
		})
	}
	p := quiet(t)
	if movable(NewHTTP(p.worlds[0].env, p.worlds[0].clients[0], "H")) {
		t.Error("an HTTP request can move")
	}
}

// TestCheckRefuses: what a session cannot be is refused, with what is wrong and without what may be
// a secret. Nothing has been taken then.
func TestCheckRefuses(t *testing.T) {
	good := func() Moved {
		return Moved{CID: "c1", Protocol: "1.2.3", Token: `{"secret":1}`, TokenEnds: time.Hour, Subs: []MovedSub{
			{RID: "r.a?secret", State: "sent", Direct: 1, Topic: 1, Snapshot: 1, Access: &MovedAccess{Get: true}, Held: []MovedEvent{{Name: "ping", Payload: `[1]`}, {Name: "bare"}}, Lost: 2},
			{RID: "r.b", State: "deleted", Snapshot: 2},
			{RID: "r.c", State: "failed", Snapshot: 2, Error: &res.Error{Code: "x", Data: `{}`}},
			{RID: "r.d", State: "sent", Snapshot: 2, Access: &MovedAccess{Error: res.ErrAccessDenied}},
		}}
	}
	snapshots := map[int]*state.Snapshot{1: model(prop("x", refTo("r.b")), prop("y", refTo("r.c"))), 2: state.NewCollection(nil)}
	topics := []string{"r.d", "r.a?secret"}
	var parser res.Parser
	if m := good(); m.Check(&parser, snapshots, topics) != nil {
		t.Fatal(m.Check(&parser, snapshots, topics))
	}
	for name, c := range map[string]struct {
		harm func(m *Moved)
		want string
	}{
		"no connection ID":           {func(m *Moved) { m.CID = "" }, "the connection ID of a client is none"},
		"a wildcard":                 {func(m *Moved) { m.CID = "a.>" }, "the connection ID of a client is none"},
		"no version":                 {func(m *Moved) { m.Protocol = "one" }, "the protocol version of a client is none"},
		"another version":            {func(m *Moved) { m.Protocol = "2.0.0" }, "the protocol version of a client is none"},
		"half a token":               {func(m *Moved) { m.Token = `{"secret":` }, "the token of a client is not JSON"},
		"a token and more":           {func(m *Moved) { m.Token = `1,"cid":"secret"` }, "the token of a client is not JSON"},
		"a token has ended":          {func(m *Moved) { m.TokenEnds = -1 }, "the end of a client's token is out of range"},
		"a token never ends":         {func(m *Moved) { m.TokenEnds = 1<<63 - 1 }, "the end of a client's token is out of range"},
		"no resource ID":             {func(m *Moved) { m.Subs[1].RID = "" }, "the resource ID of subscription 1 is none"},
		"a subject":                  {func(m *Moved) { m.Subs[1].RID = "r.*" }, "the resource ID of subscription 1 is none"},
		"a resource twice":           {func(m *Moved) { m.Subs[3].RID = "r.b" }, "subscription 3 is there twice"},
		"no state":                   {func(m *Moved) { m.Subs[1].State = "" }, "subscription 1: its state is none of a client at rest"},
		"a state in progress":        {func(m *Moved) { m.Subs[1].State = "loading" }, "subscription 1: its state is none of a client at rest"},
		"what is sent is nothing":    {func(m *Moved) { m.Subs[0].Snapshot = 0 }, "subscription 0: there is no snapshot 0"},
		"an unknown snapshot":        {func(m *Moved) { m.Subs[1].Snapshot = -3 }, "subscription 1: there is no snapshot -3"},
		"an unknown stale copy":      {func(m *Moved) { m.Subs[2].Snapshot = 3 }, "subscription 2: there is no snapshot 3"},
		"an unknown reference":       {func(m *Moved) { m.Subs = slices.Delete(m.Subs, 1, 2) }, "subscription 0 refers to a resource that the client does not have"},
		"no error":                   {func(m *Moved) { m.Subs[2].Error = nil }, "subscription 2: it has failed without a valid error"},
		"an error without a code":    {func(m *Moved) { m.Subs[2].Error = new(res.Error) }, "subscription 2: it has failed without a valid error"},
		"half an error":              {func(m *Moved) { m.Subs[2].Error.Data = `{"secret` }, "subscription 2: it has failed without a valid error"},
		"fewer than none":            {func(m *Moved) { m.Subs[0].Direct = -1 }, "subscription 0: a count is out of range"},
		"more than 32 bits":          {func(m *Moved) { m.Subs[0].Direct = 1 << 31 }, "subscription 0: a count is out of range"},
		"less than nothing is lost":  {func(m *Moved) { m.Subs[0].Lost = -1 }, "subscription 0: a count is out of range"},
		"more is lost than there is": {func(m *Moved) { m.Subs[0].Lost = 1 << 62 }, "subscription 0: a count is out of range"},
		"no topic":                   {func(m *Moved) { m.Subs[0].Topic = -1 }, "subscription 0: there is no topic -1"},
		"an unknown topic":           {func(m *Moved) { m.Subs[0].Topic = 2 }, "subscription 0: there is no topic 2"},
		"another's topic":            {func(m *Moved) { m.Subs[0].Topic = 0 }, "subscription 0: topic 0 is of another resource"},
		"access that nobody renews":  {func(m *Moved) { m.Subs[1].Access = &MovedAccess{Get: true} }, "subscription 1: it has access or events, and no topic"},
		"access that may pass":       {func(m *Moved) { m.Subs[0].Access.Error = res.ErrTimeout }, "subscription 0: its access is an error that does not last"},
		"events of what is deleted":  {func(m *Moved) { m.Subs[1].Held = []MovedEvent{{Name: "x"}} }, "subscription 1: it has access or events, and no topic"},
		"lost events of a failure":   {func(m *Moved) { m.Subs[2].Lost = 1 }, "subscription 2: it has access or events, and no topic"},
		"an event of state":          {func(m *Moved) { m.Subs[0].Held[1].Name = "change" }, "subscription 0: its event 1 is not valid"},
		"an end of the subscription": {func(m *Moved) { m.Subs[0].Held[0].Name = "unsubscribe" }, "subscription 0: its event 0 is not valid"},
		"an event without a name":    {func(m *Moved) { m.Subs[0].Held[0].Name = "" }, "subscription 0: its event 0 is not valid"},
		"an event of another":        {func(m *Moved) { m.Subs[0].Held[0].Name = "b.change" }, "subscription 0: its event 0 is not valid"},
		"an event and more":          {func(m *Moved) { m.Subs[0].Held[0].Payload = `1},{"id":1` }, "subscription 0: its event 0 is not valid"},
		"an event of less than none": {func(m *Moved) { m.Subs[0].Held[0].Lost = -1 }, "subscription 0: its event 0 is not valid"},
	} {
		m := good()
		c.harm(&m)
		if err := m.Check(&parser, snapshots, topics); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// TestArriveRefuses: a session whose resources are not there any more is not taken, and nothing of
// it is left.
func TestArriveRefuses(t *testing.T) {
	w := newWorld(t, 1, Limits{})
	before, subs := w.env.Metrics.Sessions.Load(), w.env.Metrics.Subscriptions.Load()
	a := Arrival{Snapshots: map[int]*state.Snapshot{1: model()}, Seams: make([]*fanout.Seam, 1)}
	for want, m := range map[error]Moved{
		errTopic:   {CID: "X", Protocol: "1.2.3", TID: "tid", Subs: []MovedSub{{RID: "r.a", State: "sent", Snapshot: 1}}},
		errVersion: {CID: "X", Protocol: "3.0.0", TID: "tid"},
	} {
		if err := Arrive(new(Session), w.env, w.clients[0], w.clients[0], fanout.Message, &m, &a, func(*Session) { t.Error("it is ready") }, nil); err != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if n, subs2 := w.env.Metrics.Sessions.Load(), w.env.Metrics.Subscriptions.Load(); n != before || subs2 != subs || len(w.env.tokens) > 0 || w.env.Current() != nil {
		t.Errorf("%d sessions of %d, %d subscriptions, %d tokens", n, before, subs2, len(w.env.tokens))
	}
}

// watcher notes the calls that it gets.
type watcher struct{ said []string }

func (w *watcher) Opened(s *Session)  { w.said = append(w.said, "opened "+s.cid) }
func (w *watcher) Changed(s *Session) { w.said = append(w.said, "changed "+ClientOf(s).Protocol) }
func (w *watcher) Arrived(s *Session) { w.said = append(w.said, "arrived "+s.cid) }
func (w *watcher) Left(s *Session)    { w.said = append(w.said, "left "+s.cid) }
func (w *watcher) Closed(s *Session)  { w.said = append(w.said, "closed "+s.cid) }

// TestStreamMoves: a stream of events goes on, and ends with its subscription. Those who follow
// clients learn that it has gone over, and no more.
func TestStreamMoves(t *testing.T) {
	p := quiet(t)
	w := p.worlds[0]
	from, to := new(watcher), new(watcher)
	w.env.Watcher, p.worlds[1].env.Watcher = from, to
	c := &testClient{w: w, name: "S", holds: newHoldings(), pings: map[string]int{}, waiting: map[int]testRequest{}, inOrder: map[string][]int{}}
	c.holds.dropped = func(string) {}
	var got []string
	out := outbox(func(frame []byte) { got = append(got, string(frame)) })
	ended := 0
	c.s = NewStream(w.env, c, out, "S", false)
	if movable(c.s) {
		t.Error("it can move before it has begun")
	}
	c.s.Stream("r.a", func([]byte, *res.Meta, *res.Error) {}, func() { t.Error("it has ended here") })
	p.rest()
	if !movable(c.s) {
		t.Fatal("it cannot move")
	}
	k := new(keeper)
	k.topic = p.worlds[1].env.Hub.Join(k, nil, fanout.VariantOf(fanout.Message, false), "r.a", "r.a", "", nil)
	p.rest()
	a := Arrival{Snapshots: map[int]*state.Snapshot{}, Seams: []*fanout.Seam{{Topic: k.topic}}}
	m := Move(c.s, func(*fanout.Topic) int { return 0 }, func(s *state.Snapshot) int { a.Snapshots[1] = s; return 1 })
	CloseMoved(c.s)
	if err := m.Check(w.env.Parser, a.Snapshots, []string{"r.a"}); err != nil || !m.Stream {
		t.Fatal(err, m.Stream)
	}
	c.w = p.worlds[1]
	if err := Arrive(new(Session), c.w.env, c, out, fanout.Message, &m, &a, func(s *Session) { c.s = s }, func() { ended++ }); err != nil {
		t.Fatal(err)
	}
	c.w.env.Hub.Leave(&k.Member)
	p.set("r.a", "n", number(5))
	p.rest()
	if ended > 0 || len(got) != 1 || !InfoOf(c.s).HTTP {
		t.Errorf("ended %d times, got %q", ended, got)
	}
	p.remove("r.a")
	p.rest()
	if ended != 1 || !strings.Contains(got[len(got)-1], "unsubscribe") {
		t.Errorf("ended %d times, got %q", ended, got)
	}
	c.s.Close()
	if fmt.Sprint(from.said, to.said) != "[opened S left S] [arrived S closed S]" {
		t.Error(from.said, to.said)
	}
}

// outbox is a function as one.
type outbox func(frame []byte)

func (o outbox) Send(frame []byte) { o(frame) }
