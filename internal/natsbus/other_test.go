package natsbus

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"sluice/internal/testkit"
)

// otherHarness is a bus with further subjects, and what arrives on them.
func otherHarness(t *testing.T) (*harness, chan string) {
	t.Helper()
	got := make(chan string, 64)
	h := newHarness(t, func(_ *harness, o *Options) {
		o.Subjects = []string{"other.>"}
		o.Message = func(subject, reply string, data []byte) { got <- subject + " " + reply + " " + string(data) }
	})
	return h, got
}

// What Do calls keeps its place among the requests of its owner.
func TestDoInOrder(t *testing.T) {
	h, _ := otherHarness(t)
	subjects := make(chan string, 8)
	h.service("*.x", func(_ *nats.Conn, m *nats.Msg) {
		subjects <- m.Subject
		if m.Reply != "" {
			_ = m.Respond([]byte("{}"))
		}
	})
	publish := func(subject string) func() {
		return func() {
			if err := h.bus.Publish(subject, nil); err != nil {
				t.Error(err)
			}
		}
	}
	h.caller.Do(publish("first.x"))
	h.request("x", "get.x", "")
	h.caller.Do(publish("second.x"))
	h.request("x", "access.x", "")
	h.caller.Flush()
	h.bus.Do(publish("third.x"))
	for _, want := range []string{"first.x", "get.x", "second.x", "access.x", "third.x"} {
		if got := testkit.Await(t, subjects, want); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// The further subjects are subscribed to by Listen, and again after a loss of the connection.
func TestListen(t *testing.T) {
	h, got := otherHarness(t)
	nc := h.nats.Client()
	if _, err := nc.Request("other.a", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("before Listen: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := h.bus.Ask(ctx, "other.a", nil); !errors.Is(err, ErrNoResponders) {
		t.Fatalf("Ask: %v", err)
	}
	h.bus.Listen()
	h.sync()
	if err := nc.PublishRequest("other.a", "to", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if s := testkit.Await(t, got, "the message"); s != "other.a to 1" {
		t.Error(s)
	}
	h.nats.Stop()
	h.want("signal", "signal 0 disconnected")
	if err := h.bus.Publish("other.b", nil); err != ErrDisconnected {
		t.Errorf("Publish without a connection: %v", err)
	}
	h.nats.Start()
	h.want("signal", "signal 0 connected")
	h.sync()
	if err := h.bus.Publish("other.b", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if s := testkit.Await(t, got, "the message"); s != "other.b  2" {
		t.Error(s)
	}
	for _, subject := range []string{"", "a b", "a.*", "a..b", "a\r\nPUB x 0"} {
		if err := h.bus.Publish(subject, nil); !errors.Is(err, ErrBadSubject) {
			t.Errorf("Publish to %q: %v", subject, err)
		}
	}
	if err := h.bus.Publish("big", make([]byte, 2<<20)); !errors.Is(err, ErrPayloadTooLarge) {
		t.Errorf("a large payload: %v", err)
	}
}
