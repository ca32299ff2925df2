//go:build linux

package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/resmodel"
	"sluice/internal/restest"
	"sluice/internal/testkit"
)

// world is a service whose resources change all the time, and clients that must have them exactly.
type world struct {
	t  *testing.T
	l  *lineage
	nc *nats.Conn

	mu     sync.Mutex // the service's
	store  *resmodel.Store
	rng    *rand.Rand
	ticks  map[string]int // custom events, by resource
	values int
	bigN   int            // the newest number of a large resource
	access map[string]int // requests, by resource
	cid    string         // of the newest
	asks   map[string]int // access requests, by connection ID
	hold   chan struct{}  // not nil: calls are answered when it is closed
	calls  []string       // payloads
	mayEnd bool           // clients may be disconnected

	every  time.Duration // between changes
	secure *tls.Config   // of HTTP clients; nil: they use no TLS

	dial    func(name string, arrived func()) (*restest.Client, error)
	clients []*follower
	streams []*listener
	end     chan struct{}
	ended   chan struct{}
}

// follower is a client that folds what it gets, and counts custom events.
type follower struct {
	*restest.Client
	view  *resmodel.View
	rids  []string
	cid   string
	ticks map[string]int // the newest, by resource
	ids   int
	log   []string
}

// rids are the world's resources.
func rids() (all []string) {
	for i := range 6 {
		all = append(all, fmt.Sprintf("test.m%d", i), fmt.Sprintf("test.c%d", i))
	}
	return all
}

func newWorld(t *testing.T, settings string, environ ...string) *world {
	t.Helper()
	l := startLineage(t, settings, environ...)
	w := &world{
		t: t, l: l, store: resmodel.NewStore(), rng: rand.New(rand.NewPCG(1, 2)), ticks: map[string]int{}, access: map[string]int{}, asks: map[string]int{},
		every: time.Millisecond, end: make(chan struct{}), ended: make(chan struct{}),
	}
	for i, rid := range rids() {
		if strings.Contains(rid, "c") {
			w.store.Set(rid, []any{float64(i)})
		} else {
			w.store.Set(rid, map[string]any{"a": float64(i)})
		}
	}
	w.dial = func(name string, arrived func()) (*restest.Client, error) {
		return restest.Dial(name, "ws://"+l.addr+"/", arrived)
	}
	var err error
	if w.nc, err = nats.Connect(l.nats); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.nc.Close)
	for subject, answer := range map[string]func(name string, m *nats.Msg) string{
		"get.>": func(name string, _ *nats.Msg) string { return w.store.Get(name, "") },
		"access.>": func(name string, m *nats.Msg) string {
			var r struct{ CID string }
			_ = json.Unmarshal(m.Data, &r)
			w.cid = r.CID
			w.access[name]++
			w.asks[r.CID]++
			return w.store.Access(name)
		},
	} {
		prefix := strings.TrimSuffix(subject, ">")
		if _, err := w.nc.Subscribe(subject, func(m *nats.Msg) {
			w.mu.Lock()
			defer w.mu.Unlock()
			_ = m.Respond([]byte(answer(strings.TrimPrefix(m.Subject, prefix), m)))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.nc.Subscribe("call.>", func(m *nats.Msg) {
		w.mu.Lock()
		w.calls = append(w.calls, string(m.Data))
		hold := w.hold
		w.mu.Unlock()
		if hold == nil {
			_ = m.Respond([]byte(`{"result":null}`))
			return
		}
		go func() {
			<-hold
			_ = m.Respond([]byte(`{"result":null}`))
		}()
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return w
}

// value is a new value, sometimes a reference.
func (w *world) value() any {
	w.values++
	if w.rng.IntN(4) == 0 {
		return map[string]any{"rid": fmt.Sprintf("test.m%d", w.rng.IntN(6))}
	}
	return float64(w.values)
}

// step changes a resource, or sends a custom event.
func (w *world) step() {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := rids()
	rid := all[w.rng.IntN(len(all))]
	if w.rng.IntN(2) == 0 {
		w.tick(rid)
		return
	}
	w.mutate(rid)
}

// tick sends the next custom event of a resource. The caller has the lock.
func (w *world) tick(rid string) {
	w.ticks[rid]++
	_ = w.nc.Publish("event."+rid+".tick", []byte(fmt.Sprintf(`{"n":%d}`, w.ticks[rid])))
}

// mutate changes a resource. The caller has the lock.
func (w *world) mutate(rid string) {
	event, payload := w.store.Mutate(w.rng, rid, w.value)
	_ = w.nc.Publish("event."+rid+"."+event, []byte(payload))
}

// begin has the resources change until rest.
func (w *world) begin() {
	ticker := time.NewTicker(w.every)
	go func() {
		defer close(w.ended)
		defer ticker.Stop()
		for {
			select {
			case <-w.end:
				return
			case <-ticker.C:
				w.step()
			}
		}
	}()
}

// client opens a WebSocket and subscribes to resources.
func (w *world) client(rids ...string) *follower {
	w.t.Helper()
	c, err := w.dial(fmt.Sprint("c", len(w.clients)), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Cut)
	f := &follower{Client: c, view: resmodel.NewView(), rids: rids, ticks: map[string]int{}}
	w.clients = append(w.clients, f)
	f.ask(w.t, "version", `{"protocol":"1.2.3"}`)
	for _, rid := range rids {
		f.ask(w.t, "subscribe."+rid, "")
	}
	w.until(f, "it has its resources", func() bool { return f.view.Pending() == 0 })
	w.mu.Lock()
	f.cid = w.cid
	w.mu.Unlock()
	return f
}

func (f *follower) ask(t *testing.T, method, params string) {
	t.Helper()
	f.ids++
	if params != "" {
		params = `,"params":` + params
	}
	m := fmt.Sprintf(`{"id":%d,"method":%q%s}`, f.ids, method, params)
	f.view.Sent(m)
	if err := f.Send(m); err != nil {
		t.Fatal(err)
	}
}

// fold takes what a client has received.
func (w *world) fold(f *follower) {
	w.t.Helper()
	for {
		m, ok := f.Next()
		if !ok {
			break
		}
		f.log = append(f.log, m)
		if err := f.view.Received(m); err != nil {
			w.t.Fatalf("client %s: %v\n%s", f.Name, err, strings.Join(f.log[max(len(f.log)-40, 0):], "\n"))
		}
		var e struct {
			Event string
			Data  struct{ N int }
		}
		if json.Unmarshal([]byte(m), &e) != nil {
			continue
		}
		if rid, ok := strings.CutSuffix(e.Event, ".tick"); ok {
			if last := f.ticks[rid]; f.direct(rid) && last > 0 && e.Data.N != last+1 {
				w.t.Fatalf("client %s: custom event %d of %s follows %d\n%s", f.Name, e.Data.N, rid, last, strings.Join(f.log[max(len(f.log)-40, 0):], "\n"))
			}
			f.ticks[rid] = e.Data.N
		}
	}
	if code, closed := f.Closed(); closed && !w.mayEnd {
		w.t.Fatalf("client %s is closed with %d", f.Name, code)
	}
}

// direct reports whether the client has subscribed to a resource itself, and so always has it.
func (f *follower) direct(rid string) bool {
	for _, r := range f.rids {
		if r == rid {
			return true
		}
	}
	return false
}

func (w *world) until(f *follower, what string, cond func() bool) {
	w.t.Helper()
	testkit.Until(w.t, "client "+f.Name+": "+what, func() bool {
		w.fold(f)
		return cond()
	})
}

// rest ends the changes, and waits until each client has all of them.
func (w *world) rest() {
	w.t.Helper()
	w.halt()
	w.same()
}

// halt ends the changes.
func (w *world) halt() {
	w.t.Helper()
	close(w.end)
	testkit.Await(w.t, w.ended, "the end of the changes")
}

// same waits until each client has what the service has.
func (w *world) same() {
	w.t.Helper()
	for _, f := range w.clients {
		w.until(f, "it has all changes", func() bool { return w.differs(f) == "" })
	}
}

func (w *world) differs(f *follower) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, rid := range f.rids {
		want, _ := w.store.Value(rid)
		if got, _ := f.view.Value(rid); got != resmodel.Encode(want) {
			return fmt.Sprintf("%s: %s, not %s", rid, got, resmodel.Encode(want))
		}
		if f.ticks[rid] != w.ticks[rid] && f.ticks[rid] > 0 {
			return fmt.Sprintf("%s: %d custom events, not %d", rid, f.ticks[rid], w.ticks[rid])
		}
	}
	for _, rid := range f.view.Held() { // also by reference
		want, ok := w.store.Value(rid)
		if got, _ := f.view.Value(rid); !ok || got != resmodel.Encode(want) {
			return fmt.Sprintf("%s, which it holds: %s, not %s", rid, got, resmodel.Encode(want))
		}
	}
	return ""
}

func (w *world) asked() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.access {
		n += k
	}
	return n
}

// upgrade has a new process take over, and waits until the old one has ended.
func (w *world) upgrade(round int) string {
	w.t.Helper()
	code, stdout, stderr := w.l.upgrade()
	if code != 0 {
		w.t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	w.l.until("msg=stopped", round)
	return stdout
}

// fill connects so many clients, with two resources each.
func (w *world) fill(clients int) {
	w.t.Helper()
	all := rids()
	for i := range clients {
		w.client(all[i%len(all)], all[(i*5+3)%len(all)])
	}
}

// While everything changes, WebSocket clients go over to new processes. They miss nothing, get
// nothing twice, and nothing is asked again for them.
func TestWebSocketsMove(t *testing.T) {
	w := newWorld(t, "loops: 2\n")
	w.begin()
	w.fill(24)
	asked := w.asked()
	for round := range 3 {
		if out := w.upgrade(round + 1); !strings.Contains(out, "24 WebSockets have moved") {
			t.Errorf("round %d: %s", round, out)
		}
		for _, f := range w.clients {
			w.fold(f)
		}
	}
	w.rest()
	if n := w.asked(); n != asked {
		t.Errorf("%d access requests after an upgrade", n-asked)
	}
}

// A client that has moved is known to services by the same ID, and has its token. What it had asked
// for before is answered first. Access is asked again only if a service wants that.
func TestMovedClientsAreTheSame(t *testing.T) {
	w := newWorld(t, "loops: 2\n")
	f := w.client("test.m0")
	w.mu.Lock()
	cid := w.cid
	w.hold = make(chan struct{})
	w.mu.Unlock()
	publish := func(subject, payload string) {
		t.Helper()
		if err := w.nc.Publish(subject, []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	called := func() (last string, n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if n = len(w.calls); n > 0 {
			last = w.calls[n-1]
		}
		return last, n
	}
	publish("conn."+cid+".token", `{"token":{"user":"one"}}`)
	testkit.Until(t, "access is asked with the token", func() bool {
		f.ask(t, "call.test.m0.set", "")
		last, _ := called()
		w.fold(f)
		return strings.Contains(last, `"one"`)
	})
	upgraded := make(chan int, 1)
	go func() {
		code, _, _ := w.l.upgrade()
		upgraded <- code
	}()
	w.l.until("msg=listening", 2) // its calls are in progress, so it cannot move
	w.mu.Lock()
	close(w.hold)
	w.hold = nil
	w.mu.Unlock()
	if code := testkit.Await(t, upgraded, "the upgrade"); code != 0 {
		t.Fatal(code)
	}
	w.l.until("msg=stopped", 1)
	w.until(f, "all is answered", func() bool { return f.view.Pending() == 0 })
	_, before := called()
	f.ask(t, "call.test.m0.set", "")
	w.until(f, "the call is answered", func() bool { return f.view.Pending() == 0 })
	if last, n := called(); n != before+1 || !strings.Contains(last, `"one"`) || !strings.Contains(last, cid) {
		t.Errorf("%d calls, the last one %s", n-before, last)
	}
	asked := w.asked()
	publish("conn."+cid+".token", `{"token":{"user":"two"}}`)
	w.until(f, "access is asked anew", func() bool { return w.asked() == asked+1 })
	f.ask(t, "call.test.m0.set", "")
	w.until(f, "the call is answered", func() bool { return f.view.Pending() == 0 })
	if last, _ := called(); !strings.Contains(last, `"two"`) {
		t.Error(last)
	}
	w.mu.Lock()
	w.store.Deny("test.m0", true)
	w.mu.Unlock()
	publish("event.test.m0.reaccess", "")
	w.until(f, "its subscription has ended", func() bool { return len(f.view.Subscribed()) == 0 })
}

// Services that follow connection events do not take clients that have moved for gone, and learn
// from the new process when they go.
func TestMovedClientsStayConnected(t *testing.T) {
	w := newWorld(t, "loops: 2\nconnectionEvents: true\ngatewayId: one\n")
	wire := make(chan *nats.Msg, 1<<12)
	for _, subject := range []string{"conn.*.connect", "conn.*.disconnect", "gateway.*"} {
		if _, err := w.nc.ChanSubscribe(subject, wire); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	type about struct {
		CID, Instance, Protocol, Reason string
		Seq, Connections                int
		Stopped, TakesOver, Draining    bool
	}
	// next returns the next event or heartbeat.
	next := func() (kind string, m about) {
		t.Helper()
		msg := testkit.Await(t, wire, "a message about connections")
		if err := json.Unmarshal(msg.Data, &m); err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(msg.Subject, "conn.")
		if !ok {
			return "heartbeat", m
		}
		m.CID, kind, _ = strings.Cut(name, ".")
		return kind, m
	}
	here := map[string]bool{}
	var old string
	for range 3 {
		w.client("test.m0")
	}
	for len(here) < 3 {
		if kind, m := next(); kind == "connect" {
			here[m.CID], old = true, m.Instance
		}
	}
	if code, stdout, stderr := w.l.upgrade(); code != 0 || !strings.Contains(stdout, "3 WebSockets have moved") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	newest := 0 // of the new process's numbers
	for stopped := false; !stopped; {
		switch kind, m := next(); {
		case kind != "heartbeat":
			t.Fatalf("a client that moves makes an event: %s %v", kind, m)
		case m.Instance == old:
			stopped = m.Stopped
			if stopped && !m.Draining {
				t.Error("the last heartbeat does not say draining")
			}
		case !m.TakesOver:
			t.Errorf("the new process does not say that it takes over: %v", m)
		default:
			newest = m.Seq
		}
	}
	// What a service does then, and at the gap in the new process's numbers: read the list.
	var list struct {
		Result struct {
			about
			Connections []about
		}
	}
	testkit.Until(t, "the list is read", func() bool {
		m, err := w.nc.Request("gateway.one.connections", nil, time.Second)
		return err == nil && json.Unmarshal(m.Data, &list) == nil
	})
	successor := list.Result.Instance
	if successor == old || len(list.Result.Connections) != 3 || list.Result.Seq == 0 {
		t.Fatalf("got %+v", list.Result)
	}
	for _, c := range list.Result.Connections {
		if !here[c.CID] || c.Protocol != "1.2.3" {
			t.Errorf("got %+v, had %v", c, here)
		}
	}
	for newest < list.Result.Seq { // the heartbeat that shows the gap
		kind, m := next()
		if kind != "heartbeat" || m.Instance != successor {
			t.Fatalf("%s %v", kind, m)
		}
		newest = m.Seq
	}
	w.clients[0].Cut()
	for {
		kind, m := next()
		if kind == "heartbeat" {
			continue
		}
		if kind != "disconnect" || m.Instance != successor || !here[m.CID] || m.Reason != "client" || m.Seq != list.Result.Seq+1 {
			t.Errorf("%s %+v", kind, m)
		}
		return
	}
}
