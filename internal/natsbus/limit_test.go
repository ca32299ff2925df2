package natsbus

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/limit"
)

// desk is a service that keeps requests until the test replies to them.
type desk struct {
	h  *harness
	mu sync.Mutex
	in []*nats.Msg // in the order of arrival
	up chan struct{}
}

func limited(t *testing.T, most int, change ...func(*Options)) (*harness, *desk) {
	h := newHarness(t, func(_ *harness, o *Options) {
		o.Services = limit.NewTable(limit.Options{Max: most, Min: most, Parts: 1})
		for _, f := range change {
			f(o)
		}
	})
	d := &desk{h: h, up: make(chan struct{}, 1)}
	for _, subject := range []string{"get.>", "call.>", "access.>"} {
		h.service(subject, func(_ *nats.Conn, m *nats.Msg) {
			d.mu.Lock()
			d.in = append(d.in, m)
			d.mu.Unlock()
			poke(d.up)
		})
	}
	return h, d
}

// await returns the subjects of the requests that are at the service, once there are n.
func (d *desk) await(n int) (subjects []string) {
	d.h.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		d.mu.Lock()
		if len(d.in) >= n {
			for _, m := range d.in {
				subjects = append(subjects, m.Subject)
			}
			d.mu.Unlock()
			return subjects
		}
		d.mu.Unlock()
		select {
		case <-d.up:
		case <-deadline.C:
			d.h.t.Fatalf("waited in vain for %d requests at the service", n)
		}
	}
}

// reply replies to a request and takes it from the desk.
func (d *desk) reply(subject, data string) {
	d.h.t.Helper()
	d.mu.Lock()
	i := slices.IndexFunc(d.in, func(m *nats.Msg) bool { return m.Subject == subject })
	if i < 0 {
		d.mu.Unlock()
		d.h.t.Fatalf("no request %s at the service", subject)
	}
	m := d.in[i]
	if data[0] == '{' { // no pre-response
		d.in = slices.Delete(d.in, i, i+1)
	}
	d.mu.Unlock()
	if err := m.Respond([]byte(data)); err != nil {
		d.h.t.Fatal(err)
	}
}

func (h *harness) ask(subject string, p limit.Priority, client uint64, g *Group) *outcome {
	o := new(outcome)
	h.caller.Request(Request{Name: "s.r", Subject: subject, Priority: p, Client: client, Group: g}, func(data []byte, err error) {
		o.calls++
		o.data, o.err = string(data), err
	})
	return o
}

// handle delivers replies until done, and flushes as an owner does after each turn.
func (h *harness) handle(done func() bool) {
	h.t.Helper()
	h.caller.Flush()
	for !done() {
		h.next("reply")
		h.caller.Flush()
	}
}

// state returns the state of the service's limit.
func (h *harness) state() limit.State {
	s := h.bus.opts.Services.Get("s")
	defer s.Drop()
	return s.State()
}

// No more requests than the limit are at a service; the others follow by priority, clients in turn.
func TestLimit(t *testing.T) {
	h, d := limited(t, 2)
	all := map[string]*outcome{}
	ask := func(subject string, p limit.Priority, client uint64) { all[subject] = h.ask(subject, p, client, nil) }
	ask("get.s.1", limit.Load, 1)
	ask("get.s.2", limit.Load, 2)
	ask("get.s.refresh", limit.Refresh, 0)
	ask("access.s.1.first", limit.Access, 1)
	ask("access.s.1.second", limit.Access, 1)
	ask("access.s.2", limit.Access, 2)
	ask("call.s.r.m", limit.Call, 3)
	h.caller.Flush()
	want := []string{"get.s.1", "get.s.2"}
	finish := func(subject string) {
		d.reply(subject, "{}")
		o := all[subject]
		if h.handle(func() bool { return o.calls > 0 }); o.calls != 1 || o.err != nil {
			t.Fatalf("%s: %d calls, %v", subject, o.calls, o.err)
		}
	}
	for _, next := range []string{"call.s.r.m", "access.s.1.first", "access.s.2", "access.s.1.second", "get.s.refresh"} {
		h.sync() // what is sent has arrived
		if got := d.await(2); !slices.Equal(got, want) {
			t.Fatalf("at the service: %v, want %v", got, want)
		}
		if n := h.state().InFlight; n != 2 {
			t.Fatalf("%d requests in flight", n)
		}
		finish(want[0])
		want = []string{want[1], next}
	}
	d.await(2)
	finish(want[0])
	finish(want[1])
	if s := h.state(); s.InFlight != 0 || s.Waited != 5 || s.Queued != [limit.Priorities]int64{} {
		t.Errorf("%+v at the end", s)
	}
}

// The timeout of a request counts from when it is sent, and one that is not sent has another.
func TestQueueTimeout(t *testing.T) {
	h, d := limited(t, 1, func(o *Options) { o.RequestTimeout, o.QueueTimeout = time.Minute, 9*time.Minute })
	slow := h.ask("get.s.1", limit.Load, 1, nil)
	sent := h.ask("get.s.2", limit.Load, 2, nil)
	late := h.ask("get.s.3", limit.Load, 3, nil)
	refresh := h.ask("get.s.4", limit.Refresh, 4, nil)
	h.caller.Flush()
	d.await(1)
	d.reply("get.s.1", `timeout:"3600000"`)
	h.handle(func() bool { return h.bus.opts.Metrics.PreResponses.Load() == 1 })
	h.advance(5 * time.Minute)
	h.sync()
	if slow.calls+sent.calls+late.calls+refresh.calls != 0 {
		t.Fatalf("%v, %v, %v, %v after 5 min", slow.err, sent.err, late.err, refresh.err)
	}
	d.reply("get.s.1", "{}")
	h.handle(func() bool { return slow.calls > 0 })
	d.await(1)
	h.advance(59 * time.Second)
	h.sync()
	if sent.calls != 0 {
		t.Fatalf("it ended 59 s after it was sent: %v", sent.err)
	}
	h.advance(2 * time.Second)
	h.handle(func() bool { return sent.calls > 0 })
	if sent.err != ErrTimeout {
		t.Fatal(sent.err)
	}
	h.advance(2 * time.Minute) // the lost request still has the place
	if late.calls != 0 {
		t.Fatalf("it ended before its time: %v", late.err)
	}
	h.advance(time.Minute)
	h.handle(func() bool { return late.calls > 0 })
	if late.err != ErrQueueTimeout || !errors.Is(late.err, ErrTimeout) {
		t.Fatal(late.err)
	}
	if s := h.state(); s.Expired != 1 || s.Silent != 1 {
		t.Errorf("%+v", s)
	}
	h.advance(65 * time.Second) // it is lost for good
	if got := d.await(2); got[1] != "get.s.4" {
		t.Fatalf("at the service: %v", got)
	}
	d.reply("get.s.4", "{}")
	h.handle(func() bool { return refresh.calls > 0 })
	if refresh.err != nil {
		t.Fatal(refresh.err)
	}
}

// New bounds of the limits and new timeouts hold for requests that are there.
func TestAdjust(t *testing.T) {
	h, d := limited(t, 1, func(o *Options) { o.RequestTimeout, o.QueueTimeout = time.Minute, time.Hour })
	var all []*outcome
	for i := range 6 {
		all = append(all, h.ask(fmt.Sprintf("get.s.%d", i), limit.Load, uint64(i), nil))
	}
	h.caller.Flush()
	h.sync()
	if got := d.await(1); len(got) != 1 {
		t.Fatalf("at the service: %v", got)
	}
	timeouts := Timeouts{RequestTimeout: time.Minute, QueueTimeout: time.Hour}
	h.bus.Adjust(timeouts, limit.Options{Max: 3, Min: 3})
	if got := d.await(3); len(got) != 3 {
		t.Fatalf("at the service: %v", got)
	}
	h.bus.Adjust(timeouts, limit.Options{})
	d.await(6)
	timeouts.RequestTimeout = 3 * time.Minute
	h.bus.Adjust(timeouts, limit.Options{})
	h.caller.Adjust(timeouts)
	h.advance(2 * time.Minute)
	h.sync()
	for i, o := range all {
		if o.calls != 0 {
			t.Errorf("request %d has ended: %v", i, o.err)
		}
	}
	free := h.ask("get.s.free", limit.Load, 9, nil) // it has no limit
	h.caller.Flush()
	d.await(7)
	h.advance(61 * time.Second)
	h.handle(func() bool { return all[5].calls > 0 })
	if all[5].err != ErrTimeout || free.calls != 0 {
		t.Errorf("%v, %v", all[5].err, free.err)
	}
}

// A request that timed out is still queued at its service, and so keeps its place: until it is
// replied to, or a later one is.
func TestLostRequests(t *testing.T) {
	h, d := limited(t, 2, func(o *Options) { o.RequestTimeout, o.QueueTimeout = time.Minute, time.Hour })
	first := h.ask("get.s.1", limit.Load, 1, nil)
	h.caller.Flush()
	d.await(1)
	h.advance(30 * time.Second)
	second := h.ask("get.s.2", limit.Load, 1, nil)
	third := h.ask("get.s.3", limit.Load, 1, nil)
	fourth := h.ask("get.s.4", limit.Load, 1, nil)
	h.caller.Flush()
	d.await(2)
	h.advance(31 * time.Second)
	h.handle(func() bool { return first.calls > 0 })
	h.sync()
	if got := d.await(2); len(got) != 2 || first.err != ErrTimeout {
		t.Fatalf("at the service: %v; %v", got, first.err)
	}
	d.reply("get.s.1", "{}") // late
	h.handle(func() bool { return h.bus.opts.Metrics.LateReplies.Load() == 1 })
	if got := d.await(2); !slices.Equal(got, []string{"get.s.2", "get.s.3"}) {
		t.Fatalf("at the service: %v", got)
	}
	h.advance(30 * time.Second)
	h.handle(func() bool { return second.calls > 0 }) // timed out, and is lost
	d.reply("get.s.3", "{}")
	h.handle(func() bool { return third.calls > 0 })
	if got := d.await(2); !slices.Equal(got, []string{"get.s.2", "get.s.4"}) {
		t.Fatalf("at the service: %v", got)
	}
	h.advance(2 * time.Second) // it is noticed that a later request was replied to
	if n := h.state().InFlight; n != 1 {
		t.Fatalf("%d requests in flight", n)
	}
	d.reply("get.s.4", "{}")
	h.handle(func() bool { return fourth.calls > 0 })
	if n := h.state().InFlight; n != 0 || first.calls+second.calls+third.calls+fourth.calls != 4 {
		t.Fatalf("%d requests in flight at the end", n)
	}
}

// The requests of a client that has gone keep their places until they are replied to, and those
// that are queued leave the queue; a call is sent all the same.
func TestAbandonedRequests(t *testing.T) {
	h, d := limited(t, 1)
	var g Group
	h.ask("access.s.1", limit.Access, 1, &g)
	h.ask("access.s.2", limit.Access, 1, &g)
	h.ask("call.s.r.m", limit.Access, 1, &g)
	other := h.ask("access.s.3", limit.Access, 2, nil)
	h.caller.Flush()
	d.await(1)
	h.caller.Abandon(&g)
	h.caller.Flush()
	h.sync()
	if got := d.await(1); len(got) != 1 {
		t.Fatalf("at the service: %v", got)
	}
	for _, subject := range []string{"access.s.1", "access.s.3", "call.s.r.m"} {
		if got := d.await(1); got[0] != subject {
			t.Fatalf("at the service: %v, want %s", got, subject)
		}
		d.reply(subject, "{}")
		h.handle(func() bool { return h.state().InFlight == 0 || len(d.await(0)) > 0 })
	}
	h.handle(func() bool { return other.calls > 0 && h.state().InFlight == 0 })
	if h.bus.opts.Metrics.Unsent.Load() != 1 {
		t.Errorf("%d requests were not sent", h.bus.opts.Metrics.Unsent.Load())
	}
}

// A lost connection frees the places of what was sent on it, and nothing keeps a place after a
// request for which no service subscribes.
func TestPlacesAreFreed(t *testing.T) {
	h, d := limited(t, 3)
	get := h.ask("get.s.1", limit.Load, 1, nil)
	call := h.ask("call.s.r.m", limit.Call, 1, nil)
	nobody := h.ask("auth.s.r.m", limit.Call, 1, nil)
	h.caller.Flush()
	h.handle(func() bool { return nobody.calls > 0 })
	if nobody.err != ErrNoResponders || h.state().InFlight != 2 {
		t.Fatalf("%v, %d in flight", nobody.err, h.state().InFlight)
	}
	d.await(2)
	h.nats.Stop()
	h.want("signal", "signal 0 disconnected")
	h.caller.Cut(0)
	if get.err != ErrCut || call.calls != 0 || h.state().InFlight != 0 {
		t.Fatalf("%v, %d calls, %d in flight", get.err, call.calls, h.state().InFlight)
	}
	h.advance(4 * time.Second)
	h.handle(func() bool { return call.calls > 0 })
	if h.state().InFlight != 0 {
		t.Fatalf("%d in flight", h.state().InFlight)
	}
}

// Places of several connections are those of one limit, and none of them is forgotten.
func TestLimitOfSeveralConnections(t *testing.T) {
	h, d := limited(t, 3, func(o *Options) { o.Conns = 4 })
	const requests = 200
	ended := 0
	for i := range requests {
		name := fmt.Sprint("s.", i)
		h.caller.Request(Request{Name: name, Subject: "get." + name, Client: uint64(i)}, func(_ []byte, err error) {
			if ended++; err != nil {
				t.Error(err)
			}
		})
	}
	h.caller.Flush()
	for ended < requests {
		at := d.await(1)
		if len(at) > 3 || h.state().InFlight > 3 {
			t.Fatalf("%d at the service, %d in flight", len(at), h.state().InFlight)
		}
		d.reply(at[0], "{}")
		before := ended
		h.handle(func() bool { return ended > before })
	}
}

// Requests below the limit cost no allocation.
func TestLimitDoesNotAllocate(t *testing.T) {
	a := newAsker()
	a.limit(1000)
	if n := testing.AllocsPerRun(1000, a.turn); n != 0 && !poolForgets {
		t.Errorf("%v allocations in a turn of %d requests", n, perTurn)
	}
}
