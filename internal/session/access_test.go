package session

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/fanout"
	"sluice/internal/res"
	"sluice/internal/state"
)

// subscribed returns a world in which one client is subscribed to a model.
func subscribed(t *testing.T) (*world, *testClient) {
	w := newWorld(t, 1, Limits{DirectPerRID: 3})
	w.service["r.a"] = state.NewModel([]res.Prop{{Key: "x", Value: res.Value{Raw: "1"}}})
	c := w.clients[0]
	c.request("subscribe", "r.a")
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	w.log.Reset()
	return w, c
}

func everything(string) bool { return true }

// TestAccessAfterGap: while services are unreachable after a gap, a client keeps its subscriptions.
// Its events are held until a service replies, and are then sent in one batch.
func TestAccessAfterGap(t *testing.T) {
	w, _ := subscribed(t)
	w.away = true
	w.env.Hub.ResetAccess(fanout.Gap, everything)
	for range 3 {
		w.answer(0) // no reply
		if len(w.answers) != 1 {
			t.Fatal("no retry is scheduled")
		}
		w.answer(0) // the pause is over
	}
	if want := []time.Duration{retryFirst, 2 * retryFirst, 4 * retryFirst}; !slices.Equal(w.pauses, want) {
		t.Errorf("paused %v, want %v", w.pauses, want)
	}
	w.set("r.a", res.Prop{Key: "x", Value: res.Value{Raw: "2"}})
	if log := w.log.String(); strings.Contains(log, "A <") {
		t.Errorf("the client got an event while its events are held:\n%s", log)
	}
	w.away = false
	w.answer(0)
	if log := w.log.String(); !strings.Contains(log, `A < {"event":"r.a.change","data":{"values":{"x":2}}}`) || strings.Contains(log, "unsubscribe") {
		t.Errorf("the client did not get the held events:\n%s", log)
	}
	if err := w.settle(); err != nil {
		t.Error(err)
	}
}

// TestAccessAfterGapAsked: a request of the client that is in flight when a retry is due does not
// replace the retry.
func TestAccessAfterGapAsked(t *testing.T) {
	w, c := subscribed(t)
	w.away = true
	w.env.Hub.ResetAccess(fanout.Gap, everything)
	w.answer(0) // no reply
	c.request("subscribe", "r.a")
	w.answer(0) // the pause is over
	w.away = false
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	w.set("r.a", res.Prop{Key: "x", Value: res.Value{Raw: "2"}})
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	if log := w.log.String(); !strings.Contains(log, `A < {"event":"r.a.change","data":{"values":{"x":2}}}`) {
		t.Errorf("the client's events stay held:\n%s", log)
	}
}

// TestAccessAfterGapDenied: a service's reply takes effect immediately.
func TestAccessAfterGapDenied(t *testing.T) {
	w, _ := subscribed(t)
	w.away = true
	w.env.Hub.ResetAccess(fanout.Gap, everything)
	w.answer(0)
	w.away, w.denied["r.a"] = false, true
	w.answer(0)
	w.answer(0)
	if log := w.log.String(); !strings.Contains(log, `A < {"event":"r.a.unsubscribe","data":{"reason":{"code":"system.accessDenied"`) {
		t.Errorf("the client keeps a subscription to which access was denied:\n%s", log)
	}
	if err := w.settle(); err != nil {
		t.Error(err)
	}
}

// TestAccessUnansweredWithoutGap: without a gap, a missing reply revokes access.
func TestAccessUnansweredWithoutGap(t *testing.T) {
	for _, why := range []fanout.Reason{fanout.Changed, fanout.Reset} {
		w, c := subscribed(t)
		w.away = true
		for _, b := range c.s.subs.all() {
			b.Reaccess(why)
		}
		w.answer(0)
		if log := w.log.String(); !strings.Contains(log, `A < {"event":"r.a.unsubscribe","data":{"reason":{"code":"system.notFound"`) {
			t.Errorf("%d: the client keeps a subscription without access:\n%s", why, log)
		}
		if err := w.settle(); err != nil {
			t.Error(err)
		}
	}
}

// TestAccessOutdatedInFlight: the reply to an access request serves only what was asked for before
// anything that the resource's events do not tell, or have told, could have changed it. Access is
// revoked right after the reply, without an event that reaches the client's subscription.
func TestAccessOutdatedInFlight(t *testing.T) {
	model := state.NewModel(nil)
	// rechecked is a client with a subscription whose access is asked for again.
	rechecked := func(w *world, c *testClient) {
		c.request("subscribe", "r.a")
		w.deliver(0)
		w.answer(0)
		w.env.Hub.ResetAccess(fanout.Reset, everything)
	}
	for name, outdate := range map[string]func(w *world, c *testClient){
		"the resource failed to load": func(w *world, c *testClient) {
			w.service["r.a"] = nil
			c.request("subscribe", "r.a")
			w.deliver(0)
			w.service["r.a"] = model
		},
		"a get failed to load": func(w *world, c *testClient) {
			w.service["r.a"] = nil
			c.request("get", "r.a")
			w.deliver(0)
			w.service["r.a"] = model
		},
		"access was revoked for a get": func(w *world, c *testClient) {
			w.clients[1].request("subscribe", "r.a")
			w.deliver(0)
			w.answer(0)
			c.request("get", "r.a")
			w.env.Hub.ResetAccess(fanout.Changed, everything)
			w.answers[0], w.answers[1] = w.answers[1], w.answers[0]
			w.answer(0) // that of the other client
		},
		"the resource was deleted during a recheck": func(w *world, c *testClient) {
			rechecked(w, c)
			w.remove("r.a")
			w.service["r.a"] = model
		},
		"the resource is deleted after the request": rechecked,
	} {
		for _, method := range []string{"subscribe", "get", "call"} {
			if method == "call" && strings.Contains(name, "after") {
				continue // the service gets it: access was granted when it was made
			}
			t.Run(name+", then "+method, func(t *testing.T) {
				w := newWorld(t, 1, Limits{DirectPerRID: 3})
				w.service["r.a"] = model
				c := w.clients[0]
				outdate(w, c)
				if len(w.answers) != 1 {
					t.Fatalf("%d requests are in flight, want one for access", len(w.answers))
				}
				w.next = 100
				c.request(method, "r.a"+map[string]string{"call": ".pick"}[method])
				if strings.Contains(name, "after") {
					w.remove("r.a")
					w.service["r.a"] = model
				}
				w.answer(0)
				w.denied["r.a"] = true
				if err := w.settle(); err != nil {
					t.Fatal(err)
				}
				if log := w.log.String(); c.holds.direct["r.a"] > 0 || !strings.Contains(log, `A < {"error":{"code":"system.accessDenied","message":"Access denied"},"id":101}`) {
					t.Errorf("a client without access is subscribed, or its request was granted:\n%s", log)
				}
			})
		}
	}
}

// remove makes the service delete a resource.
func (w *world) remove(rid string) {
	e := state.NewDelete(w.service[rid])
	w.service[rid] = nil
	w.emit(rid, state.Update{Kind: state.Applied, Event: e})
}

// TestAccessOfEndedResource: what was granted before a resource has ended is not valid for what
// comes after, although the client has yet to get the end.
func TestAccessOfEndedResource(t *testing.T) {
	model := func(refs ...string) *state.Snapshot {
		var props []res.Prop
		for _, rid := range refs {
			props = append(props, res.Prop{Key: rid[2:], Value: refTo(rid)})
		}
		return state.NewModel(props)
	}
	for name, run := range map[string]func(w *world, c *testClient) (grants int){
		"a call of a client that does not read": func(w *world, c *testClient) int {
			c.request("subscribe", "r.a")
			w.deliver(0)
			w.answer(0)
			c.s.Lag(true)
			w.remove("r.a")
			c.request("call", "r.a.pick")
			return 0
		},
		"a subscribe while access is asked for a call": func(w *world, c *testClient) int {
			w.service["r.a"] = nil
			w.service["r.b"] = model("r.a")
			c.request("subscribe", "r.b")
			w.deliver(0)
			w.answer(0)
			w.deliver(0) // the reference has failed
			c.request("call", "r.a.pick")
			w.service["r.a"] = model()
			c.request("subscribe", "r.a")
			return 1
		},
		"a subscribe that waits for references": func(w *world, c *testClient) int {
			w.service["r.a"], w.service["r.b"], w.service["r.c"] = model("r.b"), model(), model()
			c.request("subscribe", "r.c")
			w.deliver(0)
			w.answer(0)
			w.set("r.c", res.Prop{Key: "a", Value: refTo("r.a")}) // this brings the client r.a first
			c.request("subscribe", "r.a")
			w.answer(0)
			w.deliver(0)
			w.remove("r.a")
			w.service["r.a"] = model()
			return 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, Limits{DirectPerRID: 3})
			w.service["r.a"] = model()
			c := w.clients[0]
			grants := run(w, c)
			for range grants {
				w.answer(0)
			}
			w.denied["r.a"] = true
			if err := w.settle(); err != nil {
				t.Fatal(err)
			}
			log := w.log.String()
			if c.holds.direct["r.a"] > 0 || grants == 0 && strings.Contains(log, "answer r.a.pick") || !strings.Contains(log, "system.accessDenied") {
				t.Errorf("a client without access is subscribed, or its call was sent:\n%s", log)
			}
		})
	}
}
