package natsbus

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/limit"
	"sluice/internal/natstest"
	"sluice/internal/owner"
	"sluice/internal/secret"
)

// patience bounds every wait of these tests. It is reached only when something is broken.
const patience = 30 * time.Second

// item is one thing that a bus handed up, in the order in which it did.
type item struct {
	kind  string // event, system, token, reply, signal
	name  string // resource name, cid, or "" for the rest
	event string // event or signal
	data  string
	reply Reply
	conn  int
}

func (i item) String() string {
	switch i.kind {
	case "reply":
		return fmt.Sprintf("reply %q %v", i.data, i.reply.Err)
	case "signal":
		return fmt.Sprintf("signal %d %s", i.conn, i.event)
	}
	return fmt.Sprintf("%s %s.%s %s", i.kind, i.name, i.event, i.data)
}

// harness is a bus whose owner is the test's goroutine, with its own clock and wheel.
type harness struct {
	t      *testing.T
	nats   *natstest.Server
	bus    *Bus
	caller *Caller
	clock  *owner.ManualClock
	wheel  *owner.Wheel

	items chan item
	gate  chan struct{} // when not nil, the dispatcher waits for one token before each event it hands up
}

const itemRoom = 1 << 18

func (h *harness) put(i item) {
	select {
	case h.items <- i:
	default:
		panic("the harness has no room for what the bus hands up")
	}
}

func (h *harness) Event(name, event string, data []byte, _ time.Duration) {
	if h.gate != nil {
		<-h.gate
	}
	h.put(item{kind: "event", name: name, event: event, data: string(data)})
}

func (h *harness) System(event string, data []byte) {
	h.put(item{kind: "system", event: event, data: string(data)})
}

func (h *harness) Token(cid string, data []byte) {
	h.put(item{kind: "token", name: cid, data: string(data)})
}

func (h *harness) Reply(r Reply) { h.put(item{kind: "reply", data: string(r.Data), reply: r}) }

func (h *harness) Refused(name string, err error) {
	h.put(item{kind: "refused", name: name, data: err.Error()})
}

func (h *harness) Missed(name string) { h.put(item{kind: "missed", name: name}) }

func (h *harness) signal(conn int, s Signal) {
	h.put(item{kind: "signal", conn: conn, event: s.String()})
}

// newHarness connects a bus to a server of its own. Each change may alter the options first.
func newHarness(t *testing.T, change ...func(*harness, *Options)) *harness {
	t.Helper()
	h := &harness{t: t, nats: natstest.Start(t)}
	h.connect(change...)
	return h
}

func (h *harness) connect(change ...func(*harness, *Options)) {
	h.t.Helper()
	h.items = make(chan item, itemRoom)
	h.clock = owner.NewManualClock()
	h.wheel = owner.NewWheel(time.Millisecond, h.clock.Now())
	o := Options{Receiver: h, Signal: h.signal, Clock: h.clock, retryMin: time.Millisecond, retryMax: 20 * time.Millisecond}
	if h.nats != nil {
		o.URL = secret.URLs(h.nats.URL())
	}
	for _, f := range change {
		f(h, &o)
	}
	bus, err := Connect(context.Background(), o)
	if err != nil {
		h.t.Fatalf("connecting: %v", err)
	}
	h.bus = bus
	h.t.Cleanup(bus.Close)
	h.caller = bus.NewCaller(7, h.wheel, h.clock.Now)
	for conn := range bus.opts.Conns {
		h.want("signal", fmt.Sprintf("signal %d connected", conn))
	}
}

// next waits for the next item of a kind, delivering replies to the caller on the way.
func (h *harness) next(kinds ...string) item {
	h.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		select {
		case i := <-h.items:
			if i.kind == "reply" && h.caller != nil {
				h.caller.Deliver(i.reply)
			}
			for _, k := range kinds {
				if i.kind == k {
					return i
				}
			}
		case <-deadline.C:
			h.t.Fatalf("waited in vain for %v", kinds)
		}
	}
}

func (h *harness) want(kind, s string) {
	h.t.Helper()
	if i := h.next(kind); i.String() != s {
		h.t.Fatalf("got %q, want %q", i, s)
	}
}

// advance moves the owner's time and lets its timers fire, each at its own time. The ends of
// requests that this brings are on their way then: see expired.
func (h *harness) advance(d time.Duration) {
	for end := h.clock.Now() + d; ; {
		at, ok := h.wheel.Next()
		now := h.clock.Now()
		h.clock.Advance(min(max(at, now), end) - now)
		if !ok || at > end {
			h.clock.Advance(end - h.clock.Now())
		}
		h.wheel.Advance(h.clock.Now())
		h.wheel.Judge(h.clock.Now(), false)
		if !ok || at > end {
			return
		}
	}
}

// outcome collects what a request ended with.
type outcome struct {
	calls int
	data  string
	err   error
}

func (h *harness) request(name, subject, payload string) *outcome {
	o := new(outcome)
	h.caller.Request(Request{Name: name, Subject: subject, Payload: []byte(payload), Priority: limit.Access}, func(data []byte, err error) {
		o.calls++
		o.data, o.err = string(data), err
	})
	if o.calls != 0 {
		h.t.Errorf("request to %s ended inside Request", subject)
	}
	return o
}

// finish handles replies until o has its outcome.
func (h *harness) finish(o *outcome) {
	h.t.Helper()
	for o.calls == 0 {
		h.next("reply")
	}
	if o.calls != 1 {
		h.t.Fatalf("done was called %d times", o.calls)
	}
}

// sync returns when everything that the caller has flushed and that NATS has for the bus so far was
// handed up.
func (h *harness) sync() {
	h.t.Helper()
	nc := h.service("sync.>", func(nc *nats.Conn, m *nats.Msg) { _ = m.Respond([]byte("{}")) })
	for i := range h.bus.opts.Conns {
		name := fmt.Sprint("sync", i)
		for n := 0; h.bus.ConnOf(name) != i; n++ {
			name = fmt.Sprint("sync", i, "-", n)
		}
		o := h.request(name, "sync."+name, "")
		h.caller.Flush()
		h.finish(o)
		if o.err != nil {
			h.t.Fatalf("sync: %v", o.err)
		}
	}
	nc.Close()
}

// service answers on a connection of its own until the test ends.
func (h *harness) service(subject string, handle func(nc *nats.Conn, m *nats.Msg)) *nats.Conn {
	h.t.Helper()
	nc := h.nats.Client()
	if _, err := nc.Subscribe(subject, func(m *nats.Msg) { handle(nc, m) }); err != nil {
		h.t.Fatal(err)
	}
	h.flush(nc)
	return nc
}

func (h *harness) flush(nc *nats.Conn) {
	h.t.Helper()
	if err := nc.FlushTimeout(patience); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) publish(nc *nats.Conn, subject, data string) {
	h.t.Helper()
	if err := nc.Publish(subject, []byte(data)); err != nil {
		h.t.Error(err)
	}
}
