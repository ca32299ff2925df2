package natsbus

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
)

// A client that has gone holds no slots: its requests end, those of others go on, and late replies
// are dropped.
func TestAbandonFreesSlots(t *testing.T) {
	h := newHarness(t)
	asked := make(chan *nats.Msg, 4)
	h.service("get.>", func(_ *nats.Conn, m *nats.Msg) { asked <- m })
	h.service("call.>", func(_ *nats.Conn, m *nats.Msg) { asked <- m })
	var g Group
	var ended []error
	for _, subject := range []string{"get.a", "call.a.m", "get.b"} {
		h.caller.Request(Request{Name: "a", Subject: subject, Group: &g}, func(_ []byte, err error) { ended = append(ended, err) })
	}
	other := h.request("a", "get.other", "")
	h.caller.Flush()
	sent := []*nats.Msg{<-asked, <-asked, <-asked, <-asked}
	h.sync()
	h.caller.Abandon(&g)
	if !g.Empty() || len(ended) != 3 || h.caller.Pending() != 1 {
		t.Fatalf("%d ended, %d pending", len(ended), h.caller.Pending())
	}
	for _, err := range ended {
		if !errors.Is(err, ErrAbandoned) {
			t.Errorf("ended with %v", err)
		}
	}
	next := h.request("a", "get.next", "") // takes a slot that is free again
	for _, m := range sent {
		_ = m.Respond([]byte("=" + m.Subject))
	}
	h.caller.Flush()
	_ = (<-asked).Respond([]byte("=next"))
	h.finish(next)
	if next.data != "=next" || other.data != "=get.other" || len(ended) != 3 {
		t.Errorf("next: %+v, other: %+v", next, other)
	}
	m := h.bus.Metrics()
	for m.LateReplies.Load() < 3 { // the services have connections of their own
		h.next("reply")
	}
	if m.Abandoned.Load() != 3 || m.LateReplies.Load() != 3 {
		t.Errorf("abandoned %d, late %d", m.Abandoned.Load(), m.LateReplies.Load())
	}
}

// A call is sent though its client goes in the same turn: it has been made. Its slot is free once
// it is sent.
func TestAbandonSendsCalls(t *testing.T) {
	h := newHarness(t)
	asked := make(chan *nats.Msg, 4)
	for _, s := range []string{"get.>", "call.>"} {
		h.service(s, func(_ *nats.Conn, m *nats.Msg) { asked <- m })
	}
	var g Group
	calls := 0
	done := func([]byte, error) { calls++ }
	h.caller.Request(Request{Name: "a", Subject: "get.a", Group: &g}, done)
	h.caller.Request(Request{Name: "a", Subject: "call.a.m", Group: &g}, done)
	h.caller.Abandon(&g)
	if calls != 2 || h.caller.Pending() != 1 {
		t.Fatalf("%d ended, %d pending", calls, h.caller.Pending())
	}
	h.caller.Flush()
	if m := <-asked; m.Subject != "call.a.m" {
		t.Fatalf("%s was sent", m.Subject)
	}
	h.sync()
	h.caller.Flush()
	if h.caller.Pending() != 0 || calls != 2 {
		t.Errorf("%d pending, %d ended", h.caller.Pending(), calls)
	}
}
