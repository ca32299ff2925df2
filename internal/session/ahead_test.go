package session

import (
	"fmt"
	"strings"
	"testing"

	"sluice/fanout"
	"sluice/internal/overlap"
	"sluice/internal/res"
	"sluice/internal/state"
)

func movable(s *Session) bool { return Waits(s) == "" }

// moves takes the client's session out of its loop, and has it arrive there again. ahead is what
// the client has had of a resource, and the loop has not.
func (c *testClient) moves(ahead map[string][]overlap.Mark) error {
	return c.movesWhile(ahead, func() {})
}

// movesWhile is moves; meanwhile is called when the client has left, and has not arrived.
func (c *testClient) movesWhile(ahead map[string][]overlap.Mark, meanwhile func()) error {
	var a Arrival
	numbers := map[*fanout.Topic]int{}
	topic := func(t *fanout.Topic) int {
		if _, ok := numbers[t]; !ok {
			numbers[t] = len(a.Seams)
			theirs := append(t.Marks(nil, 0), ahead[t.RID()]...)
			a.Seams = append(a.Seams, &fanout.Seam{Topic: t, Theirs: theirs, Began: t.Since(), Taken: c.w.env.Hub.Now() + 2*overlap.Apart})
		}
		return numbers[t]
	}
	a.Snapshots = map[int]*state.Snapshot{}
	old := c.s
	m := Move(old, topic, func(s *state.Snapshot) int {
		a.Snapshots[len(a.Snapshots)+1] = s
		return len(a.Snapshots)
	})
	for _, seam := range a.Seams {
		k := new(keeper)
		seam.Topic.Join(k, nil, fanout.VariantOf(fanout.Message, false))
		defer c.w.env.Hub.Leave(&k.Member)
	}
	CloseMoved(old)
	meanwhile()
	err := Arrive(new(Session), c.w.env, c, c, fanout.Message, &m, &a, func(s *Session) { c.s = s }, nil)
	c.w.logf("%s has moved", c.name)
	return err
}

// TestMoveAheadOfALostResource: a custom event that the client has had before it came is not sent
// again, even if the client loses the resource and gets it again before the event comes here.
func TestMoveAheadOfALostResource(t *testing.T) {
	for _, kept := range []string{"disposed", "unsent"} {
		t.Run(kept, func(t *testing.T) {
			w := newWorld(t, 1, Limits{DirectPerRID: 3})
			fanout.Remember(w.env.Hub, true)
			c := w.clients[0]
			w.service["r.a"] = state.NewModel([]res.Prop{{Key: "x", Value: refTo("r.c")}})
			w.service["r.c"] = state.NewModel(nil)
			c.request("subscribe", "r.a")
			w.clients[1].request("subscribe", "r.c")
			if err := w.settle(); err != nil {
				t.Fatal(err)
			}
			ping := func(n int) *state.Event {
				return state.NewCustom("ping", fmt.Appendf(nil, `{"n":%d}`, n), w.service["r.c"])
			}
			if err := c.moves(map[string][]overlap.Mark{"r.c": {{Sum: ping(1).Sum()}}}); err != nil {
				t.Fatal(err)
			}
			if Waits(c.s) == "" {
				t.Error("the client can move on while an event is awaited")
			}
			if kept == "unsent" {
				c.request("get", "r.c") // a request needs it while the client has lost it
			}
			w.set("r.a", res.Prop{Key: "x", Value: res.DeleteValue})
			w.set("r.a", res.Prop{Key: "x", Value: refTo("r.c")})
			w.emit("r.c", state.Update{Kind: state.Applied, Event: ping(1)})
			w.emit("r.c", state.Update{Kind: state.Applied, Event: ping(2)})
			if err := w.settle(); err != nil {
				t.Error(err)
			}
			log := w.log.String()
			if strings.Contains(log, `A < {"event":"r.c.ping","data":{"n":1}}`) || strings.Count(log, `A < {"event":"r.c.ping","data":{"n":2}}`) != 1 {
				t.Errorf("want one event, with 2:\n%s", log)
			}
		})
	}
}

// TestEndAhead: what has not come, and does not wait in a shard, is not awaited any more.
func TestEndAhead(t *testing.T) {
	w, c := subscribed(t)
	fanout.Remember(w.env.Hub, true)
	ping := state.NewCustom("ping", nil, w.service["r.a"])
	if err := c.moves(map[string][]overlap.Mark{"r.a": {{Sum: ping.Sum()}}}); err != nil {
		t.Fatal(err)
	}
	if !EndAhead(c.s, map[string]bool{"r.a": true}) || Waits(c.s) == "" {
		t.Error("an event that waits in a shard is given up")
	}
	if EndAhead(c.s, nil) || Waits(c.s) != "" || w.env.ahead != nil {
		t.Errorf("the client waits for %q", Waits(c.s))
	}
	w.emit("r.a", state.Update{Kind: state.Applied, Event: ping})
	if log := w.log.String(); strings.Count(log, `A < {"event":"r.a.ping"}`) != 1 {
		t.Errorf("want one event:\n%s", log)
	}
	if err := c.moves(map[string][]overlap.Mark{"r.a": {{Sum: ping.Sum() + 2}}}); err != nil {
		t.Fatal(err)
	}
	if c.s.Close(); w.env.ahead != nil {
		t.Error("a closed session is kept")
	}
}

// TestMoveAfterGivenUpRecheck: a recheck of access that its subscription has outlived leaves
// nothing that a client would wait for.
func TestMoveAfterGivenUpRecheck(t *testing.T) {
	w, c := subscribed(t)
	w.service["r.c"] = state.NewModel([]res.Prop{{Key: "x", Value: refTo("r.a")}})
	c.request("subscribe", "r.c")
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	w.away = true
	w.env.Hub.ResetAccess(fanout.Gap, func(name string) bool { return name == "r.a" })
	w.answer(0) // no reply: it is to be tried again
	c.request("call", "r.a.pick")
	w.set("r.c", res.Prop{Key: "x", Value: res.DeleteValue})
	c.request("unsubscribe", "r.a")
	w.away = false
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}

	w, c = subscribed(t)
	w.service["r.c"] = state.NewModel([]res.Prop{{Key: "x", Value: refTo("r.a")}})
	c.request("subscribe", "r.c")
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	b := c.s.subs.Get("r.a")
	b.dropAccess()
	c.request("call", "r.a.pick") // its access request is in flight
	b.Reaccess(fanout.Gap)
	w.emit("r.a", state.Update{Kind: state.Applied, Event: state.NewDelete(w.service["r.a"])})
	w.service["r.a"] = nil
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	if b.state != subDeleted || b.reaccess || b.retryAccess {
		t.Errorf("r.a is %s, and is to be rechecked: %v, %v", b.state, b.reaccess, b.retryAccess)
	}
}

// TestMoveOfALostResource: what has happened to a resource on the way counts also if the client
// loses the resource when it arrives, and needs it again: access is asked for again, and a custom
// event that the client has had is not sent again.
func TestMoveOfALostResource(t *testing.T) {
	w := newWorld(t, 1, Limits{DirectPerRID: 3})
	fanout.Remember(w.env.Hub, true)
	c := w.clients[0]
	w.service["r.a"] = state.NewModel([]res.Prop{{Key: "x", Value: refTo("r.c")}})
	for _, name := range []string{"r.b", "r.c", "r.d", "r.e"} {
		w.service[name] = state.NewModel(nil)
	}
	for _, name := range []string{"r.b", "r.a", "r.c", "r.d"} {
		c.request("subscribe", name)
		w.clients[1].request("subscribe", name)
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	c.request("unsubscribe", "r.c")
	ping := state.NewCustom("ping", nil, w.service["r.c"])
	err := c.movesWhile(map[string][]overlap.Mark{"r.c": {{Sum: ping.Sum()}}}, func() {
		w.set("r.b", res.Prop{Key: "x", Value: refTo("r.c")}, res.Prop{Key: "y", Value: refTo("r.e")})
		w.set("r.a", res.Prop{Key: "x", Value: res.DeleteValue})
		w.denied["r.c"] = true
		for _, c := range w.clients {
			w.again(accessKey{c.name, "r.c"})
		}
		w.apply("r.c", state.Update{Kind: state.Reaccess})
	})
	if err != nil {
		t.Fatal(err)
	}
	if b := c.s.subs.Get("r.c"); b == nil || b.state != subReady || b.acc != nil {
		t.Errorf("r.c is %v, want one that is ready, with access unknown", b)
	}
	w.emit("r.c", state.Update{Kind: state.Applied, Event: ping})
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	c.request("subscribe", "r.c")
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	if b := c.s.subs.Get("r.c"); b.direct > 0 {
		t.Error("the client is subscribed to what it has no access to")
	}
	if strings.Contains(w.log.String(), `A < {"event":"r.c.ping"}`) {
		t.Error("an event is sent that the client has had")
	}
}

// TestMoveOfAnEndedResource: a request about a resource that has ended on the way is not granted by
// what was known of access to it, although the client does not read and has yet to get the end.
func TestMoveOfAnEndedResource(t *testing.T) {
	for method, rid := range map[string]string{"call": "r.a.pick", "get": "r.a"} {
		w, c := subscribed(t)
		fanout.Remember(w.env.Hub, true)
		c.s.Lag(true)
		if err := c.movesWhile(nil, func() { w.remove("r.a") }); err != nil {
			t.Fatal(err)
		}
		w.denied["r.a"] = true
		c.request(method, rid)
		if err := w.settle(); err != nil {
			t.Fatal(err)
		}
		if log := w.log.String(); !strings.Contains(log, `A < {"error":{"code":"system.accessDenied","message":"Access denied"}`) || !strings.Contains(log, `A < {"event":"r.a.delete"}`) {
			t.Errorf("%s: want an error, and the end:\n%s", method, log)
		}
	}
}
