package session

import (
	"testing"

	"sluice/fanout"
	"sluice/internal/invariants"
	"sluice/internal/limit"
	"sluice/internal/res"
	"sluice/internal/state"
)

// held is a Bus that keeps the callback of the newest request.
type held struct{ done func([]byte, *res.Error) }

func (h *held) Request(_ limit.Priority, _, _ string, _ []byte, done func([]byte, *res.Error)) {
	h.done = done
}

func (h *held) RequestSubscribed(string, string, []byte, func([]byte, *res.Error)) {
	panic("the topic is loaded")
}

func (h *held) Ahead(string, string, []byte, func([]byte, *res.Error)) func() {
	panic("the topic is loaded")
}

// TestAllocConnect: of a client that connects and subscribes to a resource that its loop has, three
// objects stay, and none dies: its session, its subscription, and the list of these.
func TestAllocConnect(t *testing.T) {
	w := newWorld(t, 1, Limits{DirectPerRID: 256})
	w.service["r.a"] = state.NewModel([]res.Prop{{Key: "x", Value: res.Value{Raw: "1"}}})
	w.clients[0].request("subscribe", "r.a") // keeps the topic on the loop
	w.finish()
	bus := new(held)
	w.env.Bus = bus
	version, subscribe := []byte(`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`), []byte(`{"id":2,"method":"subscribe.r.a"}`)
	reply := []byte(`{"result":{"get":true}}`)
	if n := testing.AllocsPerRun(1000, func() {
		s := New(w.env, w.clients[0], sink{}, fanout.Message, "bench")
		s.Message(version)
		s.Message(subscribe)
		bus.done(reply, nil)
		if b := s.subs.Get("r.a"); b == nil || b.state != subSent {
			t.Fatal("it is not subscribed")
		}
		s.Close()
		w.env.Hub.EndTurn()
	}); n > 3 && !raceEnabled && !invariants.Enabled {
		t.Errorf("%v allocations", n)
	}
}

// TestLateAccess: a reply that arrives when its client has closed reaches no other client, though
// the next request uses the same memory.
func TestLateAccess(t *testing.T) {
	w := newWorld(t, 1, Limits{DirectPerRID: 256})
	w.service["r.a"] = state.NewModel(nil)
	w.clients[0].request("subscribe", "r.a")
	w.finish()
	bus := new(held)
	w.env.Bus = bus
	connect := func() (*Session, func([]byte, *res.Error)) {
		s := New(w.env, w.clients[0], sink{}, fanout.Message, "late")
		s.Message([]byte(`{"id":2,"method":"subscribe.r.a"}`))
		return s, bus.done
	}
	granted := []byte(`{"result":{"get":true}}`)
	first, reply := connect()
	first.Close()
	second, own := connect() // its request is in flight beside that of the first
	reply(granted, nil)
	if b := second.subs.Get("r.a"); b.state == subSent {
		t.Fatal("a client is granted what another has asked for")
	}
	third, denied := connect() // in the memory of the first
	denied(nil, res.ErrAccessDenied)
	if third.subs.Len() != 0 {
		t.Error("a client has what it was denied")
	}
	own(granted, nil)
	if b := second.subs.Get("r.a"); b.state != subSent {
		t.Errorf("the second is %v", b.state)
	}
}
