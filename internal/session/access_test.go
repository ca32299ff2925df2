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

// TestAccessOutdatedInFlight: a subscription that is granted by the reply to a request from before
// access may have changed is checked again.
func TestAccessOutdatedInFlight(t *testing.T) {
	for name, outdate := range map[string]func(w *world, c *testClient){
		"the resource was left": func(w *world, c *testClient) {
			snap := w.service["r.a"]
			w.service["r.a"] = nil
			c.request("subscribe", "r.a")
			w.deliver(0) // it failed to load: from now on nobody gets its events
			w.service["r.a"] = snap
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
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, Limits{DirectPerRID: 3})
			w.service["r.a"] = state.NewModel(nil)
			c := w.clients[0]
			outdate(w, c)
			if len(w.answers) != 1 {
				t.Fatalf("%d requests are in flight, want one for access", len(w.answers))
			}
			c.request("subscribe", "r.a")
			w.answer(0)
			w.denied["r.a"] = true
			if err := w.settle(); err != nil {
				t.Fatal(err)
			}
			if c.holds.direct["r.a"] > 0 || !strings.Contains(w.log.String(), `A < {"event":"r.a.unsubscribe"`) {
				t.Errorf("a client without access is subscribed:\n%s", w.log.String())
			}
		})
	}
}
