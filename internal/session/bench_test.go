package session

import (
	"fmt"
	"strings"
	"testing"

	"sluice/fanout"
	"sluice/internal/res"
	"sluice/internal/state"
)

// sink is an outbox that drops frames.
type sink struct{}

func (sink) Send([]byte) {}

// benchmarkClient returns a world with one more client, whose messages are not checked.
func benchmarkClient(b *testing.B) (*world, *Session) {
	w := newWorld(nil, 1, Limits{DirectPerRID: 256})
	s := New(w.env, w.clients[0], sink{}, fanout.Message, "bench")
	s.Message([]byte(`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`))
	b.ReportAllocs()
	return w, s
}

// finish delivers all updates and replies in flight.
func (w *world) finish() {
	for len(w.updates)+len(w.answers) > 0 {
		w.deliver(0)
		if len(w.answers) > 0 {
			w.answer(0)
		}
	}
	w.log.Reset()
}

// BenchmarkSubscribe: a client subscribes to a resource that its loop has, is granted access, and
// unsubscribes.
func BenchmarkSubscribe(b *testing.B) {
	w, s := benchmarkClient(b)
	w.service["r.a"] = state.NewModel([]res.Prop{{Key: "x", Value: res.Value{Raw: "1"}}})
	w.clients[0].request("subscribe", "r.a") // keeps the topic on the loop
	w.finish()
	for b.Loop() {
		s.Message([]byte(`{"id":2,"method":"subscribe.r.a"}`))
		w.finish()
		s.Message([]byte(`{"id":3,"method":"unsubscribe.r.a"}`))
		w.env.Hub.EndTurn()
	}
}

// BenchmarkConnect: a client connects, subscribes to a resource that its loop has, and disconnects.
func BenchmarkConnect(b *testing.B) {
	w, _ := benchmarkClient(b)
	w.service["r.a"] = state.NewModel([]res.Prop{{Key: "x", Value: res.Value{Raw: "1"}}})
	w.clients[0].request("subscribe", "r.a") // keeps the topic on the loop
	w.finish()
	for b.Loop() {
		s := New(w.env, w.clients[0], sink{}, fanout.Message, "bench")
		s.Message([]byte(`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`))
		s.Message([]byte(`{"id":2,"method":"subscribe.r.a"}`))
		w.finish()
		s.Close()
		w.env.Hub.EndTurn()
	}
}

// BenchmarkReferenceChange: an event changes a reference and thus goes through the session.
func BenchmarkReferenceChange(b *testing.B) {
	w, s := benchmarkClient(b)
	to := func(rid string) []res.Prop {
		return []res.Prop{{Key: "next", Value: res.Value{Kind: res.Reference, Raw: `{"rid":"` + rid + `"}`, RID: rid}}}
	}
	w.service["r.a"] = state.NewModel(to("r.b"))
	w.service["r.b"], w.service["r.c"] = state.NewModel(nil), state.NewModel(nil)
	for _, rid := range []string{"r.b", "r.c"} {
		w.clients[0].request("subscribe", rid) // keeps the topics on the loop
	}
	s.Message([]byte(`{"id":2,"method":"subscribe.r.a"}`))
	w.finish()
	i := 0
	for b.Loop() {
		i++
		e, err := w.service["r.a"].Change(to([]string{"r.b", "r.c"}[i%2]))
		if err != nil {
			b.Fatal(err)
		}
		w.service["r.a"] = e.Next
		w.emit("r.a", state.Update{Kind: state.Applied, Event: e})
		w.finish()
		w.env.Hub.EndTurn()
	}
	if n := s.subs.Len(); n != 2 {
		b.Errorf("holds %d resources: the references are not followed", n)
	}
}

// BenchmarkLoadGraph: the first subscription to a list of models, each of which has a chain of
// references.
func BenchmarkLoadGraph(b *testing.B) {
	w, s := benchmarkClient(b)
	var refs []res.Value
	ref := func(rid string) res.Value {
		return res.Value{Kind: res.Reference, Raw: `{"rid":"` + rid + `"}`, RID: rid}
	}
	for i := range 50 {
		refs = append(refs, ref(fmt.Sprintf("g.%d.0", i)))
		for j := range 4 {
			w.service[fmt.Sprintf("g.%d.%d", i, j)] = state.NewModel([]res.Prop{{Key: "next", Value: ref(fmt.Sprintf("g.%d.%d", i, j+1))}})
		}
		w.service[fmt.Sprintf("g.%d.4", i)] = state.NewModel(nil)
	}
	w.service["g"] = state.NewCollection(refs)
	for b.Loop() {
		s.Message([]byte(`{"id":2,"method":"subscribe.g"}`))
		w.finish()
		if n := s.subs.Len(); n != 251 {
			b.Fatalf("holds %d resources\n%s", n, strings.TrimSpace(w.log.String()))
		}
		s.Message([]byte(`{"id":3,"method":"unsubscribe.g"}`))
		w.env.Hub.EndTurn()
	}
}
