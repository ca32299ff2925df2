package presence

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/testkit"
)

// message is what a tracker has published.
type message struct {
	subject string
	data    map[string]any
}

// fakeBus is NATS as a tracker sees it. Its fields are guarded by mu.
type fakeBus struct {
	mu        sync.Mutex
	away      bool
	messages  []message
	listening bool
	holder    string // reply to a claim; "": no responders
}

func (b *fakeBus) Publish(subject string, payload []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return natsbus.ErrDisconnected
	}
	m := message{subject: subject}
	if err := json.Unmarshal(payload, &m.data); err != nil {
		panic(fmt.Sprintf("%s: %s: %v", subject, payload, err))
	}
	b.messages = append(b.messages, m)
	return nil
}

func (b *fakeBus) Ask(context.Context, string, []byte) ([]byte, error) {
	if b.holder == "" {
		return nil, natsbus.ErrNoResponders
	}
	return []byte(b.holder), nil
}

func (b *fakeBus) Listen() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listening = true
}

func (b *fakeBus) Do(f func()) { f() }

func (b *fakeBus) set(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

// take returns the messages so far, and forgets them.
func (b *fakeBus) take() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.messages
	b.messages = nil
	return all
}

// fixture is a tracker on a manual clock.
type fixture struct {
	*Tracker
	t        *testing.T
	bus      *fakeBus
	clock    *owner.ManualClock
	metrics  *Metrics
	log      *testkit.Log
	draining bool
}

func newFixture(t *testing.T, change ...func(*Options)) *fixture {
	f := &fixture{t: t, bus: new(fakeBus), clock: owner.NewManualClock(), metrics: new(Metrics), log: new(testkit.Log)}
	o := Options{GID: "one", Instance: "i1", Version: "v", Interval: 5 * time.Second}
	for _, c := range change {
		c(&o)
	}
	wall := func() time.Time { return time.UnixMilli(1000).Add(f.clock.Now()) }
	f.Tracker = New(o, Env{
		Clock: f.clock, Wall: wall, Draining: func() bool { return f.draining }, Metrics: f.metrics,
		Faults: owner.NewFaults(f.clock, f.log.Logger()), Log: f.log.Logger(),
	})
	return f
}

// start starts the tracker and takes the first heartbeat.
func (f *fixture) start() {
	f.t.Helper()
	if err := f.Start(context.Background(), f.bus); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = f.Stop(context.Background()) })
	f.heartbeat()
}

// heartbeat waits for a heartbeat, which must be the only message.
func (f *fixture) heartbeat() message {
	f.t.Helper()
	all := f.until(1)
	if len(all) != 1 || all[0].subject != "gateway.one" {
		f.t.Fatalf("got %v, want a heartbeat", all)
	}
	return all[0]
}

// until waits for n messages.
func (f *fixture) until(n int) (all []message) {
	f.t.Helper()
	testkit.Until(f.t, fmt.Sprintf("%d messages are published", n), func() bool {
		all = append(all, f.bus.take()...)
		return len(all) >= n
	})
	return all
}

// settle makes sure that the tracker's goroutine is at rest, by a question and its answer.
func (f *fixture) settle() {
	f.t.Helper()
	var all []message
	f.Message("gateway.one.connections", "settled", nil)
	testkit.Until(f.t, "the question is answered", func() bool {
		for _, m := range f.bus.take() {
			if m.subject == "settled" {
				return true
			}
			all = append(all, m)
		}
		return false
	})
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	f.bus.messages = append(all, f.bus.messages...)
}

func open(cid string) Change {
	return Change{Kind: Opened, CID: cid, RemoteAddr: "192.0.2.1:1"}
}

func closed(cid string) Change {
	return Change{Kind: Closed, CID: cid, RemoteAddr: "192.0.2.1:1", Reason: "client", Code: 1001}
}

// texts writes messages as "subject seq".
func texts(all []message) string {
	var b strings.Builder
	for _, m := range all {
		fmt.Fprintf(&b, "%s %v\n", m.subject, m.data["seq"])
	}
	return b.String()
}

func TestEvents(t *testing.T) {
	f := newFixture(t)
	f.Put(open("a")) // before the start: published with it
	if err := f.Start(context.Background(), f.bus); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Stop(context.Background()) }()
	f.until(2)
	f.Put(Change{Kind: Opened, CID: "b", RemoteAddr: "198.51.100.2:3", Stream: true, Protocol: "1.2.3", TokenID: "t\"1"})
	f.Flush()
	m := f.until(1)[0]
	if got, want := fmt.Sprint(m), `{conn.b.connect map[gid:one instance:i1 protocol:1.2.3 remoteAddr:198.51.100.2:3 seq:2 tid:t"1 transport:sse]}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	f.Put(Change{Kind: Changed, CID: "a", TokenID: "t2"})
	f.Put(Change{Kind: Changed, CID: "unknown"})
	c := closed("a")
	c.TokenID = "t2"
	f.Put(c)
	f.Put(closed("unknown"))
	f.Put(Change{Kind: Opened, CID: "c", TokenID: strings.Repeat("x", maxTokenID+1)})
	f.Flush()
	all := f.until(2)
	if got, want := fmt.Sprint(all[0]), `{conn.a.disconnect map[code:1001 gid:one instance:i1 reason:client remoteAddr:192.0.2.1:1 seq:3 tid:t2 transport:websocket]}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, has := all[1].data["tid"]; has || len(all) != 2 {
		t.Errorf("got %v", all)
	}
	if f.metrics.Connects.Load() != 3 || f.metrics.Disconnects.Load() != 1 || f.metrics.Queued.Load() != 0 {
		t.Error(f.metrics)
	}
}

func TestHeartbeats(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.Put(open("a"))
	f.Flush()
	f.until(1)
	for range 3 {
		testkit.Advance(t, f.clock, 5*time.Second)
		if got, want := fmt.Sprint(f.heartbeat().data), "map[connections:1 draining:false gid:one instance:i1 interval:5000 seq:1 started:3.601e+06 version:v]"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		f.settle() // the alarm is set again before the heartbeat
	}
	// Services may ask for one, but not for a flood.
	f.clock.Advance(time.Second)
	f.Message(wake, "", nil)
	f.heartbeat()
	for range 10 {
		f.Message(wake, "", nil)
	}
	f.settle()
	if all := f.bus.take(); len(all) > 0 {
		t.Errorf("got %v", all)
	}
	f.clock.Advance(askedEvery)
	f.heartbeat()
	f.draining = true
	f.Put(closed("a"))
	if err := f.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	all := f.bus.take()
	if len(all) != 2 || all[0].subject != "conn.a.disconnect" || all[1].subject != "gateway.one" || all[1].data["stopped"] != true || all[1].data["draining"] != true ||
		all[1].data["connections"] != 0.0 || all[1].data["seq"] != 2.0 {
		t.Errorf("got %v", all)
	}
}

// While NATS is away, only the net changes are kept.
func TestNetChanges(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.Put(open("stays"))
	f.Put(open("goes"))
	f.Flush()
	f.until(2)
	f.bus.set(true)
	f.Link(false)
	if !f.Down() {
		t.Error("NATS is up")
	}
	f.Put(closed("goes"))
	for i := range 1000 {
		cid := fmt.Sprint("short", i)
		f.Put(open(cid))
		f.Put(closed(cid))
	}
	f.Put(open("new"))
	f.Put(Change{Kind: Changed, CID: "new", TokenID: "later"})
	f.Flush()
	if f.metrics.Coalesced.Load() != 1000 || f.metrics.Queued.Load() != 2 {
		t.Errorf("%d coalesced, %d queued", f.metrics.Coalesced.Load(), f.metrics.Queued.Load())
	}
	f.bus.set(false)
	f.Link(true)
	all := f.until(3)
	if got, want := texts(all), "conn.goes.disconnect 3\nconn.new.connect 4\ngateway.one 4\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if all[1].data["tid"] != "later" {
		t.Errorf("got %v", all[1])
	}
}

// An event that NATS does not get stays in the queue, with its number.
func TestDisconnectedInBetween(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.bus.set(true)
	f.Put(open("a"))
	f.Flush()
	f.Put(open("b"))
	f.Put(closed("a"))
	f.Flush()
	f.bus.set(false)
	f.Flush()
	if got, want := texts(f.bus.take()), "conn.b.connect 1\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A queue that is full is emptied, and a number skipped.
func TestQueueIsBounded(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Queue = 100 })
	f.start()
	f.Put(open("early"))
	f.Flush()
	f.until(1)
	f.bus.set(true)
	f.Link(false)
	for i := range 250 {
		f.Put(open(fmt.Sprint("c", i)))
	}
	f.Put(closed("c0"))
	f.Put(closed("early"))
	f.Flush()
	if q, d := f.metrics.Queued.Load(), f.metrics.Dropped.Load(); q > 100 || d != 202 {
		t.Errorf("%d queued, %d dropped", q, d)
	}
	f.bus.set(false)
	f.Link(true)
	all := f.until(51)
	if last := all[len(all)-1]; len(all) != 51 || last.subject != "gateway.one" || last.data["seq"] != 52.0 || last.data["connections"] != 249.0 {
		t.Errorf("%d messages, the last is %v", len(all), last)
	}
	if first := all[0]; first.data["seq"] != 3.0 {
		t.Errorf("no number was skipped: %v", first)
	}
	// Without a further event, the heartbeat tells.
	f.bus.set(true)
	f.Link(false)
	for i := range 101 {
		f.Put(open(fmt.Sprint("d", i)))
	}
	f.Flush()
	f.bus.set(false)
	f.Link(true)
	if m := f.heartbeat(); m.data["seq"] != 53.0 {
		t.Errorf("got %v", m)
	}
}

// A client that another process goes on with makes no event here. One that has come from another
// process is in the list, which a skipped number has services read; it goes with an event.
func TestMoved(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.Put(open("a"))
	f.Put(open("b"))
	f.Flush()
	f.until(2)
	f.Put(Change{Kind: Left, CID: "a"})
	f.Put(Change{Kind: Left, CID: "a"})
	f.bus.set(true)
	f.Put(open("unknown to NATS"))
	f.Put(Change{Kind: Left, CID: "unknown to NATS"})
	f.Flush()
	f.bus.set(false)
	f.Flush()
	if all := f.bus.take(); len(all) > 0 || f.metrics.Queued.Load() != 0 {
		t.Errorf("got %v", all)
	}
	f.Link(false) // so that all arrive between two heartbeats
	for i := range 3 {
		f.Put(Change{Kind: Arrived, CID: fmt.Sprint("m", i), RemoteAddr: "192.0.2.1:1", TokenID: "t"})
	}
	f.Flush()
	f.settle()
	f.Link(true)
	if m := f.heartbeat(); m.data["seq"] != 3.0 || m.data["connections"] != 4.0 {
		t.Errorf("got %v", m)
	}
	result := f.ask("")["result"].(map[string]any)
	if n := len(result["connections"].([]any)); n != 4 || result["seq"] != 3.0 {
		t.Errorf("got %v", result)
	}
	f.Put(closed("m1"))
	f.Flush()
	f.Put(Change{Kind: Arrived, CID: "m3"}) // soon after the heartbeat
	f.Put(closed("m3"))
	f.Flush()
	f.settle()
	if got, want := texts(f.bus.take()), "conn.m1.disconnect 4\nconn.m3.disconnect 6\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	f.clock.Advance(askedEvery)
	if m := f.heartbeat(); m.data["seq"] != 6.0 || m.data["connections"] != 3.0 {
		t.Errorf("got %v", m)
	}
}

// ask returns the tracker's reply to a request for the list.
func (f *fixture) ask(request string) map[string]any {
	f.t.Helper()
	f.Message("gateway.one.connections", "reply", []byte(request))
	for {
		for _, m := range f.until(1) {
			if m.subject == "reply" {
				return m.data
			}
		}
	}
}

func TestPages(t *testing.T) {
	f := newFixture(t)
	f.start()
	const n = 2500
	for i := range n {
		f.Put(open(fmt.Sprint("c", i)))
	}
	for i := range n {
		if i%5 != 0 {
			f.Put(closed(fmt.Sprint("c", i)))
		}
	}
	f.Flush()
	f.bus.take()
	var cids []string
	pages, request := 0, `{"limit":60,"instance":"i1"}`
	for request != "" {
		result := f.ask(request)["result"].(map[string]any)
		for _, c := range result["connections"].([]any) {
			cids = append(cids, c.(map[string]any)["cid"].(string))
		}
		request = ""
		if next, more := result["next"]; more {
			request = fmt.Sprintf(`{"limit":60,"after":%.0f}`, next)
		}
		if result["gid"] != "one" || result["instance"] != "i1" || result["seq"] == 0.0 {
			t.Fatal(result)
		}
		if pages++; pages == 1 {
			f.Put(closed("c1000")) // on a later page
			f.Put(open("late"))
		}
	}
	if len(cids) != n/5 || cids[0] != "c0" || cids[len(cids)-1] != "late" {
		t.Errorf("%d connections: %v", len(cids), cids)
	}
	if pages != 9 {
		t.Errorf("%d pages", pages)
	}
	for request, want := range map[string]int{"": n / 5, "{}": n / 5, `{"after":99999999}`: 0, `{"limit":99999999}`: n / 5, `{"limit":1}`: 1} {
		result := f.ask(request)["result"].(map[string]any)
		if got := len(result["connections"].([]any)); got != want {
			t.Errorf("%s: %d connections, want %d", request, got, want)
		}
	}
	for _, request := range []string{"x", `{"limit":-1}`, `{"after":"x"}`, `[]`} {
		if e, ok := f.ask(request)["error"].(map[string]any); !ok || e["code"] != "system.invalidParams" {
			t.Errorf("%s: no error", request)
		}
	}
	if member := f.ask(`{"limit":1}`)["result"].(map[string]any)["connections"].([]any)[0]; fmt.Sprint(member) != "map[cid:c0 remoteAddr:192.0.2.1:1 since:3.601e+06 transport:websocket]" {
		t.Errorf("got %v", member)
	}
}

// A page ends before it is too long for NATS.
func TestPageBytes(t *testing.T) {
	f := newFixture(t)
	f.start()
	for i := range 600 {
		c := open(fmt.Sprint("c", i))
		c.TokenID = strings.Repeat("x", maxTokenID)
		f.Put(c)
	}
	f.Flush()
	f.bus.take()
	result := f.ask("")["result"].(map[string]any)
	if n := len(result["connections"].([]any)); n < 200 || n > 300 || result["next"] == nil {
		t.Errorf("%d connections", n)
	}
}

// Replies go nowhere that a message of the protocol goes, and requests for another instance get
// none.
func TestNoReply(t *testing.T) {
	f := newFixture(t)
	f.start()
	for _, subject := range []string{"", "conn.x.token", "event.a.change", "system.reset", "call.a.b", "get.a", "access.a", "auth.a.b", "gateway.one", "gateways.heartbeat", "$SYS.REQ"} {
		f.Message("gateway.one.connections", subject, nil)
	}
	f.Message("gateway.one.connections", "reply", []byte(`{"instance":"other"}`))
	f.settle()
	if all := f.bus.take(); len(all) > 0 {
		t.Errorf("got %v", all)
	}
}

// beat is the heartbeat of another gateway.
func beat(instance string, started int, more string) string {
	return fmt.Sprintf(`{"gid":"one","instance":%q,"version":"w","started":%d,"interval":5000,"draining":false%s}`, instance, started, more)
}

func TestConflict(t *testing.T) {
	const mine = 3_601_000
	for _, tc := range []struct {
		name, other         string
		takesOver, draining bool
		conflict, notReady  bool
	}{
		{name: "own", other: beat("i1", mine, "")},
		{name: "earlier", other: beat("i2", mine-1, ""), conflict: true, notReady: true},
		{name: "later", other: beat("i2", mine+1, ""), conflict: true},
		{name: "same time", other: beat("i0", mine, ""), conflict: true, notReady: true},
		{name: "same time, later name", other: beat("i2", mine, ""), conflict: true},
		{name: "successor", other: beat("i2", mine+1, `,"takesOver":true`)},
		{name: "predecessor", other: beat("i2", mine-1, ""), takesOver: true},
		{name: "later than a successor", other: beat("i2", mine+1, ""), takesOver: true, conflict: true},
		{name: "draining", other: beat("i2", mine-1, `,"draining":true`)},
		{name: "while draining", other: beat("i2", mine-1, ""), draining: true},
		{name: "stopped", other: beat("i2", mine-1, `,"stopped":true`)},
		{name: "nonsense", other: `{"gid":1}`},
		{name: "too long", other: beat("i2", mine-1, `,"x":"`+strings.Repeat("x", maxHeartbeat)+`"`)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, func(o *Options) { o.TakesOver = tc.takesOver })
			f.start()
			f.draining = tc.draining
			f.Message("gateway.one", "", []byte(tc.other))
			f.settle()
			if got := f.metrics.Conflict.Load() == 1; got != tc.conflict {
				t.Errorf("conflict: %v", got)
			}
			if got := f.Problem() != nil; got != tc.notReady {
				t.Errorf("not ready: %v", got)
			}
			if n := f.log.Count("same gatewayId"); n > 0 != tc.conflict {
				t.Errorf("log:\n%s", f.log)
			}
			if !tc.conflict {
				return
			}
			f.Message("gateway.one", "", []byte(beat("i2", 0, `,"stopped":true`)))
			f.Message("gateway.one", "", []byte(beat("i0", 0, `,"stopped":true`)))
			f.settle()
			if f.metrics.Conflict.Load() != 0 || f.Problem() != nil {
				t.Error("the conflict goes on after its end")
			}
		})
	}
}

// A conflict ends when the other gateway is silent.
func TestConflictExpires(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.Message("gateway.one", "", []byte(beat("i2", 1, "")))
	f.settle()
	for i := range 3 {
		if f.Problem() == nil {
			t.Fatalf("ready after %d intervals", i)
		}
		testkit.Advance(t, f.clock, 5*time.Second)
		f.heartbeat()
		f.settle()
	}
	if err := f.Problem(); err != nil {
		t.Error(err)
	}
}

// A gateway does not start with the ID of another, which notices.
func TestClaim(t *testing.T) {
	f := newFixture(t)
	f.bus.holder = beat("i2", 1, "")
	err := f.Start(context.Background(), f.bus)
	if err == nil || !strings.Contains(err.Error(), `gatewayId "one" is that of another gateway`) || f.metrics.Conflicts.Load() != 1 {
		t.Fatalf("got %v", err)
	}
	if err := f.Stop(context.Background()); err != nil || len(f.bus.take()) > 0 || f.bus.listening {
		t.Error("it has started")
	}
	f.bus.holder = beat("i2", 1, `,"draining":true`)
	f.bus.holder = strings.Replace(f.bus.holder, `"draining":false,`, "", 1)
	f.start()
	f.Message("gateway.one.claim", "reply", []byte(beat("i3", 9, "")))
	if m := f.until(1)[0]; m.subject != "reply" || m.data["instance"] != "i1" {
		t.Errorf("got %v", m)
	}
	if f.log.Count("it was refused") != 1 || f.Problem() != nil {
		t.Errorf("log:\n%s", f.log)
	}
	random := newFixture(t, func(o *Options) { o.GID = o.Instance })
	random.bus.holder = f.bus.holder
	if err := random.Start(context.Background(), random.bus); err != nil {
		t.Error(err)
	}
	_ = random.Stop(context.Background())
}

// TestStorm lets loops put their changes at the same time: each client's events are in order.
func TestStorm(t *testing.T) {
	f := newFixture(t)
	f.start()
	const loops, clients = 4, 2000
	var all sync.WaitGroup
	for loop := range loops {
		all.Go(func() {
			for i := range clients {
				cid := fmt.Sprintf("c%d-%d", loop, i)
				f.Put(open(cid))
				if i%64 == 0 {
					f.Flush()
				}
				if i%2 == 0 {
					f.Put(closed(cid))
				}
			}
		})
	}
	all.Wait()
	f.Flush()
	here, seq := map[string]bool{}, 0.0
	for _, m := range f.bus.take() {
		_, rest, _ := strings.Cut(m.subject, ".")
		cid, what, _ := strings.Cut(rest, ".")
		if m.data["seq"] != seq+1 {
			t.Fatalf("%v follows %v", m.data["seq"], seq)
		}
		seq++
		if here[cid] == (what == "connect") {
			t.Fatalf("%s: %s", cid, what)
		}
		here[cid] = what == "connect"
	}
	n := 0
	for _, h := range here {
		if h {
			n++
		}
	}
	if n != loops*clients/2 || uint64(seq)+2*f.metrics.Coalesced.Load() != loops*clients*3/2 {
		t.Errorf("%d clients are left after %v events, %d coalesced", n, seq, f.metrics.Coalesced.Load())
	}
}

// A change that is put wakes the tracker, also if another goroutine has drained those before it.
func TestPutWakes(t *testing.T) {
	f := newFixture(t)
	f.start()
	for i := range 300 {
		ended := make(chan struct{})
		go func() {
			f.Flush()
			close(ended)
		}()
		f.Put(open(fmt.Sprint("a", i)))
		<-ended
		f.Put(open(fmt.Sprint("b", i)))
		if all := f.until(2); len(all) != 2 {
			t.Fatalf("got %v", all)
		}
	}
}
