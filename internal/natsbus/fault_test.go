//go:build !invariants

package natsbus

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"sluice/internal/owner"
)

// bomber is a receiver that panics at what a test names, each name once.
type bomber struct {
	*harness
	bombs chan string
}

func (b bomber) at(what string) {
	select {
	case bomb := <-b.bombs:
		if what == bomb {
			panic("bomb: " + what)
		}
		b.bombs <- bomb
	default:
	}
}

func (b bomber) Event(name, event string, data []byte, at time.Duration) {
	b.at("event")
	b.harness.Event(name, event, data, at)
}

func (b bomber) System(event string, data []byte) {
	b.at("system")
	b.harness.System(event, data)
}

func (b bomber) Reply(r Reply) {
	b.at("reply")
	b.harness.Reply(r)
}

func newBomber(t *testing.T) (*harness, bomber, *owner.Faults) {
	faults := owner.NewFaults(owner.SystemClock(), slog.New(slog.DiscardHandler))
	var b bomber
	h := newHarness(t, func(h *harness, o *Options) {
		b = bomber{h, make(chan string, 1)}
		o.Receiver, o.Faults = b, faults
	})
	return h, b, faults
}

// A dispatcher goes on behind a message that panics. Since it may have been anything, a Gap
// follows.
func TestDispatcherSurvives(t *testing.T) {
	h, b, faults := newBomber(t)
	nc := h.nats.Client()
	for _, what := range []string{"event", "system"} {
		b.bombs <- what
		if err := h.caller.Subscribe("a"); err != nil {
			t.Fatal(err)
		}
		h.caller.Flush()
		h.sync()
		subject := map[string]string{"event": "event.a.x", "system": "system.x"}[what]
		h.publish(nc, subject, "1")
		h.publish(nc, subject, "2")
		if i := h.next(what); i.data != "2" {
			t.Errorf("%s: got %s", what, i)
		}
		h.want("signal", "signal 0 gap")
	}
	if n := faults.Count(owner.Dispatcher); n != 2 {
		t.Errorf("%d panics are counted", n)
	}
}

// A publisher goes on behind an operation that panics; that request fails, all others of its batch
// are sent.
func TestPublisherSurvives(t *testing.T) {
	h, b, faults := newBomber(t)
	h.sync()
	large := strings.Repeat("x", int(h.bus.links[0].nc.Load().MaxPayload())+1)
	h.bus.links[0].maxPayload.Store(1 << 40) // so that only the publisher finds out
	b.bombs <- "reply"                       // which the publisher gives for what NATS would not take
	bad := h.request("a", "get.a", large)
	good := h.request("a", "nobody.listens", "{}")
	h.caller.Flush()
	h.finish(good)
	if bad.calls != 1 || bad.err != errFault || good.err != ErrNoResponders {
		t.Errorf("the request at fault: %d calls, %v; the next one: %v", bad.calls, bad.err, good.err)
	}
	if n := faults.Count(owner.Publisher); n != 1 {
		t.Errorf("%d panics are counted", n)
	}
	h.sync()
	if l := h.bus.links[0]; l.queued.Load() != 0 || l.queuedBytes.Load() != 0 || h.caller.pending != 0 {
		t.Errorf("%d operations and %d bytes are queued, %d requests pending", l.queued.Load(), l.queuedBytes.Load(), h.caller.pending)
	}
}

// A callback of nats.go that panics ends no goroutine of nats.go, and a Gap makes up for what it
// may have missed.
func TestCallbackSurvives(t *testing.T) {
	h, _, faults := newBomber(t)
	h.sync()
	contained(h.bus.links[0], func() { panic("bomb: callback") })
	h.want("signal", "signal 0 gap")
	if n := faults.Count(owner.Dispatcher); n != 1 {
		t.Errorf("%d panics are counted", n)
	}
}
