package restest

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/natstest"
	"sluice/internal/relay"
	"sluice/internal/testkit"
)

// edgeSide is a plain NATS client behind a relay. It keeps what it hears, in order.
type edgeSide struct {
	t    *testing.T
	nc   *nats.Conn
	mu   sync.Mutex
	news []string // subject and payload; replies as "NAME < PAYLOAD"
}

func newEdgeSide(r *relayed) *edgeSide {
	r.t.Helper()
	e := &edgeSide{t: r.t, nc: r.edge.Client()}
	in := make(chan *nats.Msg, 10_000) // one, for the order
	for _, s := range []string{"event.>", "system.>", "conn.*.token", "answers.>"} {
		if _, err := e.nc.ChanSubscribe(s, in); err != nil {
			e.t.Fatal(err)
		}
	}
	done := make(chan struct{})
	e.t.Cleanup(func() { close(done) })
	go func() {
		for {
			select {
			case m := <-in:
				e.take(m)
			case <-done:
				return
			}
		}
	}()
	if err := e.nc.Flush(); err != nil {
		e.t.Fatal(err)
	}
	return e
}

func (e *edgeSide) take(m *nats.Msg) {
	text := m.Subject + " " + string(m.Data)
	if name, ok := strings.CutPrefix(m.Subject, "answers."); ok {
		text = name + " < " + m.Header.Get("Status") + string(m.Data)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.news = append(e.news, text)
}

// ask sends a request whose reply is heard as "NAME < PAYLOAD".
func (e *edgeSide) ask(name, subject, payload string) {
	e.t.Helper()
	if err := e.nc.PublishRequest(subject, "answers."+name, []byte(payload)); err != nil {
		e.t.Fatal(err)
	}
}

func (e *edgeSide) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.news)
}

// hears waits until all texts are heard, one after the other.
func (e *edgeSide) hears(texts ...string) {
	e.t.Helper()
	testkit.Until(e.t, fmt.Sprintf("%q are heard", texts), func() bool {
		left := texts
		for _, n := range e.heard() {
			if len(left) > 0 && strings.HasPrefix(n, left[0]) {
				left = left[1:]
			}
		}
		return len(left) == 0
	})
}

// count returns how many messages begin with a text.
func (e *edgeSide) count(prefix string) (n int) {
	for _, m := range e.heard() {
		if strings.HasPrefix(m, prefix) {
			n++
		}
	}
	return n
}

// homeSide is a service that answers everything immediately.
type homeSide struct {
	t      *testing.T
	nc     *nats.Conn
	mu     sync.Mutex
	states map[string]string // results of gets, by name
	gets   map[string]int
}

func newHomeSide(r *relayed, states map[string]string) *homeSide {
	r.t.Helper()
	h := &homeSide{t: r.t, nc: r.home.Client(), states: states, gets: map[string]int{}}
	if _, err := h.nc.Subscribe("get.>", func(m *nats.Msg) {
		h.mu.Lock()
		defer h.mu.Unlock()
		name := strings.TrimPrefix(m.Subject, "get.")
		h.gets[name]++
		if state, ok := h.states[name]; ok {
			_ = m.Respond([]byte(`{"result":` + state + `}`))
			return
		}
		_ = m.Respond([]byte(`{"error":{"code":"system.notFound","message":"Not found"}}`))
	}); err != nil {
		r.t.Fatal(err)
	}
	if _, err := h.nc.Subscribe("access.>", func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":{"get":true,"call":"*"}}`)) }); err != nil {
		r.t.Fatal(err)
	}
	h.flush()
	return h
}

func (h *homeSide) flush() {
	h.t.Helper()
	if err := h.nc.Flush(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *homeSide) set(name, state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[name] = state
}

func (h *homeSide) publish(subject, payload string) {
	h.t.Helper()
	if err := h.nc.Publish(subject, []byte(payload)); err != nil {
		h.t.Fatal(err)
	}
	h.flush()
}

// asked returns how many gets there were, in all and at most for one name.
func (h *homeSide) asked() (all, most int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.gets {
		all += n
		most = max(most, n)
	}
	return all, most
}

var (
	relayGateways  = flag.Int("relay-gateways", 4, "gateways of TestRelayOneGet")
	relayResources = flag.Int("relay-resources", 60, "resources that a client of each subscribes to")
)

// TestRelayOneGet: behind a relay, a service sees one get for each resource, however many gateways
// have clients that subscribe to it, and one more after its system.reset. Without a relay it sees
// one from each gateway. docs/relay.md has a run with 20 gateways and 1,000 resources.
func TestRelayOneGet(t *testing.T) {
	for _, direct := range []bool{false, true} {
		name, gets := "relay", *relayResources
		if direct {
			name, gets = "direct", *relayResources**relayGateways
		}
		t.Run(name, func(t *testing.T) { countGets(t, direct, gets) })
	}
}

// countGets has a client of each gateway subscribe to all resources, and demands a number of gets
// for that, and again for a system.reset.
func countGets(t *testing.T, direct bool, gets int) {
	gateways, resources := *relayGateways, *relayResources
	r := newRelayed(t)
	h := newHomeSide(r, map[string]string{})
	for i := range resources {
		h.set(fmt.Sprintf("test.model.%d", i), fmt.Sprintf(`{"model":{"n":%d}}`, i))
	}
	url := r.edge.URL()
	if direct {
		url = r.home.URL()
	}
	var clients []*Client
	for i := range gateways {
		g, err := startGateway(Start{NATS: url}, func(c *gateway.Config) {
			r.behind(c)
			c.NATSURL = gateway.NATSURL(url)
			c.RequestTimeout = testkit.Patience // a busy machine may need long
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Stop)
		c, err := Dial(fmt.Sprintf("c%d", i), g.URL(), func() {})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Cut)
		clients = append(clients, c)
	}
	began := time.Now()
	for i := range resources {
		for _, c := range clients {
			if err := c.Send(fmt.Sprintf(`{"id":%d,"method":"subscribe.test.model.%d"}`, i+1, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range clients {
		expectMessages(t, c, resources, `"result"`)
	}
	most := gets / resources
	if all, worst := h.asked(); all != gets || worst != most {
		t.Errorf("%d gets for %d resources, up to %d for one; want %d and %d", all, resources, worst, gets, most)
	}
	subscribed := time.Now()
	for i := range resources {
		h.set(fmt.Sprintf("test.model.%d", i), fmt.Sprintf(`{"model":{"n":%d}}`, i+1))
	}
	h.publish("system.reset", `{"resources":["test.>"]}`)
	for _, c := range clients {
		expectMessages(t, c, resources, `.change"`)
	}
	all, worst := h.asked()
	if all != 2*gets || worst != 2*most {
		t.Errorf("%d gets for %d resources after a reset, up to %d for one; want %d and %d", all, resources, worst, 2*gets, 2*most)
	}
	t.Logf("%d gateways, %d resources: %d gets for the subscriptions (%v), %d for the system.reset (%v)",
		gateways, resources, gets, subscribed.Sub(began).Round(time.Millisecond), all-gets, time.Since(subscribed).Round(time.Millisecond))
}

// expectMessages waits for n messages of a client, each with the text.
func expectMessages(t *testing.T, c *Client, n int, text string) {
	t.Helper()
	testkit.Until(t, fmt.Sprintf("client %s has all messages with %s", c.Name, text), func() bool {
		for m, ok := c.Next(); ok; m, ok = c.Next() {
			if !strings.Contains(m, text) {
				t.Fatalf("client %s got %s, not %s", c.Name, m, text)
			}
			if n--; n == 0 {
				return true
			}
		}
		return false
	})
}

// TestRelayPasses: everything but gets passes as it is.
func TestRelayPasses(t *testing.T) {
	r := newRelayed(t)
	e := newEdgeSide(r)
	h := newHomeSide(r, map[string]string{"test.a": `{"model":{"n":1}}`})
	calls := make(chan *nats.Msg, 10)
	for _, s := range []string{"call.>", "auth.>", "renew.it"} {
		if _, err := h.nc.ChanSubscribe(s, calls); err != nil {
			t.Fatal(err)
		}
	}
	h.flush()
	e.ask("get", "get.test.a", `{}`)
	e.hears(`get < {"result":{"model":{"n":1}}}`)

	// A call: pre-responses, and events before the reply.
	e.ask("call", "call.test.a.set", `{"params":{"x":1},"cid":"abc","token":null}`)
	m := testkit.Await(t, calls, "a call")
	if m.Subject != "call.test.a.set" || string(m.Data) != `{"params":{"x":1},"cid":"abc","token":null}` {
		t.Errorf("the service got %s %s", m.Subject, m.Data)
	}
	for _, reply := range []string{`timeout:"60000"`, `{"result":{"ok":true},"meta":{"status":303,"header":{"X":["y"]}}}`} {
		if reply[0] == '{' {
			h.publish("event.test.a.change", `{"values":{"n":2}}`)
			h.publish("event.test.a.bang", `[1]`)
		}
		if err := h.nc.Publish(m.Reply, []byte(reply)); err != nil {
			t.Fatal(err)
		}
	}
	e.hears(`call < timeout:"60000"`, `event.test.a.change {"values":{"n":2}}`, `event.test.a.bang [1]`,
		`call < {"result":{"ok":true},"meta":{"status":303,"header":{"X":["y"]}}}`)

	// A token, its reset to a subject outside of auth, and an error.
	h.publish("conn.abc.token", `{"token":{"u":1},"tid":"t"}`)
	e.hears(`conn.abc.token {"token":{"u":1},"tid":"t"}`)
	h.publish("system.tokenReset", `{"tids":["t"],"subject":"renew.it"}`)
	e.hears(`system.tokenReset {"tids":["t"],"subject":"renew.it"}`)
	e.ask("renew", "renew.it", `{"cid":"abc"}`)
	m = testkit.Await(t, calls, "the request of a token reset")
	_ = m.Respond([]byte(`{"error":{"code":"x.y","message":"No","data":{"a":1}}}`))
	e.hears(`renew < {"error":{"code":"x.y","message":"No","data":{"a":1}}}`)

	// Resets of access, and reaccess events also of what is not loaded.
	h.publish("system.reset", `{"access":["test.>"]}`)
	e.hears(`system.reset {"access":["test.>"]}`)
	e.ask("access", "access.test.b", `{"cid":"abc"}`)
	e.hears(`access < {"result":{"get":true,"call":"*"}}`)
	h.publish("event.test.b.reaccess", ``)
	e.hears(`event.test.b.reaccess `)
	h.publish("system.other", `{"a":1}`)
	e.hears(`system.other {"a":1}`)

	// Nobody there: as NATS says it.
	e.ask("none", "lost.and.found", `{}`)
	e.hears("none < 503")
	e.ask("missing", "get.test.missing", `{}`)
	e.hears(`missing < {"error":{"code":"system.notFound","message":"Not found"}}`)
	for _, bad := range []string{`{`, `[]`, `{"query":1}`} {
		e.ask("bad", "get.test.a", bad)
	}
	testkit.Until(t, "bad requests get errors", func() bool { return e.count(`bad < {"error":`) == 3 })
}

// TestRelayTraces: the trace of a request is that of the request home. Several gets of one resource
// share a request, which is part of the first one's trace. Other headers end at the relay.
func TestRelayTraces(t *testing.T) {
	const (
		first  = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		second = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	)
	r := newRelayed(t)
	e := newEdgeSide(r)
	service, seen := r.home.Client(), make(chan *nats.Msg, 20)
	for _, s := range []string{"get.>", "access.>", "call.>", "auth.>"} {
		if _, err := service.ChanSubscribe(s, seen); err != nil {
			t.Fatal(err)
		}
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	ask := func(name, subject string, header nats.Header) {
		t.Helper()
		m := nats.Msg{Subject: subject, Reply: "answers." + name, Data: []byte(`{}`), Header: header}
		if err := e.nc.PublishMsg(&m); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		subject string
		header  nats.Header
		want    nats.Header
	}{
		{"access.test.a", nats.Header{"traceparent": {first}, "tracestate": {"v=1"}, "Other": {"x"}}, nats.Header{"traceparent": {first}, "tracestate": {"v=1"}}},
		{"call.test.a.set", nats.Header{"traceparent": {second}}, nats.Header{"traceparent": {second}}},
		{"auth.test.a.login", nats.Header{"traceparent": {first}}, nats.Header{"traceparent": {first}}},
		{"call.test.b.set", nats.Header{"traceparent": {"00-0-0-01"}, "Other": {"x"}}, nil},
		{"call.test.c.set", nil, nil},
	} {
		ask("it", c.subject, c.header)
		m := testkit.Await(t, seen, c.subject)
		if m.Subject != c.subject || !reflect.DeepEqual(m.Header, c.want) {
			t.Errorf("%s with %v: the service got %s with %v", c.subject, c.header, m.Subject, m.Header)
		}
		_ = m.Respond([]byte(`{"result":null}`)) // a relay that stops waits for replies
	}
	ask("one", "get.test.a", nats.Header{"traceparent": {first}})
	ask("two", "get.test.a", nats.Header{"traceparent": {second}})
	ask("three", "get.test.b", nil)
	for _, want := range []string{first, ""} {
		m := testkit.Await(t, seen, "a get")
		if parent := m.Header.Get("traceparent"); parent != want {
			t.Errorf("%s: the service got %q, want %q", m.Subject, parent, want)
		}
		_ = m.Respond([]byte(`{"result":{"model":{"n":1}}}`))
	}
	for _, name := range []string{"one", "two", "three"} {
		e.hears(name + ` < {"result":{"model":{"n":1}}}`)
	}
}

// TestRelayWithoutService: a get that finds no service says so, but not right after a reset by the
// relay itself, when edges would delete what they hold. Then the reset is repeated.
func TestRelayWithoutService(t *testing.T) {
	r := newRelayed(t)
	e := newEdgeSide(r)
	e.ask("early", "get.test.a", `{}`)
	e.hears(`early < {"error":{"code":"system.timeout"`)
	r.pass(6 * time.Second)
	e.hears(`system.reset {"resources":["test.a"]}`)
	// The reset makes the name doubtful again, and nothing else.
	e.ask("again", "get.test.a", `{}`)
	e.hears(`again < {"error":{"code":"system.timeout"`)
	r.pass(65 * time.Second)
	e.ask("late", "get.test.b", `{}`)
	e.hears(`late < 503`)
}

// TestRelayStandby: a standby takes over when the active relay stops, and gateways get one reset.
func TestRelayStandby(t *testing.T) {
	r := newRelayed(t)
	e := newEdgeSide(r)
	h := newHomeSide(r, map[string]string{"test.a": `{"model":{"n":1}}`})
	e.ask("first", "get.test.a", `{}`)
	e.hears(`first < {"result"`)
	m := new(relay.Metrics)
	standby, clock := newRelay(t, r.home.URL(), r.edge.URL(), r.log, func(o *relay.Options) { o.Metrics = m })
	if err := standby.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 30 { // three leases
		before := m.Others.Load()
		r.renew()
		testkit.Until(t, "the standby hears the active relay", func() bool { return m.Others.Load() > before })
		testkit.Advance(t, clock, relayLease/10)
	}
	if standby.Active() {
		t.Fatal("two relays are active")
	}
	if all, _ := h.asked(); all != 1 {
		t.Errorf("%d gets", all)
	}
	first := r.relay
	r.stop()
	if first.Active() {
		t.Error("a stopped relay is active")
	}
	r.relay, r.clock = standby, clock
	activate(t, standby, clock)
	e.hears(`system.reset {"resources":[">"],"access":[">"]}`)
	h.set("test.a", `{"model":{"n":2}}`)
	e.ask("second", "get.test.a", `{}`)
	e.hears(`second < {"result":{"model":{"n":2}}}`)
	if n := e.count("system.reset"); n != 1 {
		t.Errorf("%d resets", n)
	}
}

// TestRelayPause: a relay whose time jumps beyond its lease, as after a pause of the process, sends
// nothing before it has the lease again.
func TestRelayPause(t *testing.T) {
	r := newRelayed(t)
	e := newEdgeSide(r)
	newHomeSide(r, map[string]string{"test.a": `{"model":{"n":1}}`})
	e.ask("first", "get.test.a", `{}`)
	e.hears(`first < {"result"`)
	testkit.Advance(t, r.clock, relayLease)
	if r.relay.Active() {
		t.Fatal("active after the lease is over")
	}
	e.ask("lost", "get.test.a", `{}`)
	testkit.Until(t, "the relay has noticed", func() bool { return r.log.Count("the lease is lost") == 1 })
	if n := e.count("lost <"); n > 0 {
		t.Error("answered without the lease")
	}
	activate(t, r.relay, r.clock)
	e.ask("second", "get.test.a", `{}`)
	e.hears(`system.reset {"resources":[">"]`, `second < {"result"`)
}

// TestRelayEviction: beyond its memory, a relay drops what was asked for least recently, and says
// so.
func TestRelayEviction(t *testing.T) {
	r := &relayed{t: t, home: natstest.Start(t), edge: natstest.Start(t), log: &testkit.Log{}}
	r.start(func(o *relay.Options) { o.CacheBytes, o.Rest = 100_000, time.Second })
	t.Cleanup(r.stop)
	e, m := newEdgeSide(r), r.m
	big := `{"model":{"text":"` + strings.Repeat("x", 12_000) + `"}}` // takes up twice as much with its encoding
	h := newHomeSide(r, map[string]string{})
	for i := range 40 {
		h.set(fmt.Sprintf("test.%d", i), big)
	}
	get := func(i int) {
		name := fmt.Sprintf("get%d", i)
		before := e.count(name + " < {")
		e.ask(name, fmt.Sprintf("get.test.%d", i), `{}`)
		testkit.Until(t, name+" is answered", func() bool { return e.count(name+" < {") > before })
	}
	for i := range 4 {
		get(i)
	}
	r.pass(2 * time.Second)
	get(0) // asked again: not the least recent any more
	get(4)
	e.hears(`system.reset {"resources":["test.1"`)
	for _, n := range e.heard() {
		if strings.HasPrefix(n, "system.reset") && strings.Contains(n, `"test.0"`) {
			t.Errorf("%s: asked recently", n)
		}
	}
	// More than fits, all of it wanted now: the rest is rejected, and reset when there is room.
	for i := 5; i < 40; i++ {
		e.ask(fmt.Sprintf("many%d", i), fmt.Sprintf("get.test.%d", i), `{}`)
	}
	testkit.Until(t, "all are answered", func() bool { return e.count("many") == 35 })
	refused := 0
	for _, n := range e.heard() {
		if strings.HasPrefix(n, "many") && strings.Contains(n, "system.internalError") {
			refused++
		}
	}
	if refused == 0 || m.Refused.Load() != uint64(refused) {
		t.Errorf("%d get requests were rejected, %d counted", refused, m.Refused.Load())
	}
	r.pass(7 * time.Second)
	e.hears(`system.reset {"resources":["test.1"`, `system.reset {"resources":["test.`)
	if m.Evictions.Load() == 0 || m.Bytes.Load() > 200_000 {
		t.Errorf("%d evictions, %d bytes", m.Evictions.Load(), m.Bytes.Load())
	}
}

// TestRelayLosses: what a service changes while home is lost arrives as events afterwards, and
// gateways get a reset after edge was lost.
func TestRelayLosses(t *testing.T) {
	r := newRelayed(t)
	h := newHomeSide(r, map[string]string{"test.a": `{"collection":[1,2,3]}`})
	e := newEdgeSide(r)
	e.ask("first", "get.test.a", `{}`)
	e.hears(`first < {"result":{"collection":[1,2,3]}}`)

	h.set("test.a", `{"collection":[1,3,4]}`)
	r.home.Restart()
	e.hears(`event.test.a.remove {"idx":1}`, `event.test.a.add {"idx":2,"value":4}`)
	if n := e.count(`system.reset {"access":[">"]}`); n == 0 {
		t.Error("access is not rechecked")
	}
	if n := e.count(`system.reset {"resources"`); n > 0 {
		t.Error("edges were reset")
	}

	r.edge.Restart()
	testkit.Until(t, "the relay is back at edge", func() bool { return r.log.Count("NATS downstream connected") >= 2 })
	testkit.Until(t, "the edge is back", e.nc.IsConnected)
	// One reset of everything per pause: the first was that of the start.
	testkit.Until(t, "edges are reset", func() bool {
		activate(t, r.relay, r.clock)
		r.renew()
		return e.count(`system.reset {"resources":[">"]`) > 0
	})
	e.ask("second", "get.test.a", `{}`)
	e.hears(`second < {"result":{"collection":[1,3,4]}}`)
}

// TestRelayQueries: a query event at home is one at edge, with the relay's own subject, and edges
// get the events of exactly that one.
func TestRelayQueries(t *testing.T) {
	r := newRelayed(t)
	h := r.home.Client()
	var mu sync.Mutex
	asked := map[string]int{}
	reply := `{"result":{"events":[{"event":"add","data":{"idx":0,"value":7}},{"event":"note","data":{"a":1}}]}}`
	serve := func(subject string, answer func(query string) string) {
		if _, err := h.Subscribe(subject, func(m *nats.Msg) {
			mu.Lock()
			defer mu.Unlock()
			var p struct{ Query string }
			_ = json.Unmarshal(m.Data, &p)
			asked[m.Subject+"?"+p.Query]++
			_ = m.Respond([]byte(answer(p.Query)))
		}); err != nil {
			t.Fatal(err)
		}
	}
	serve("get.test.list", func(string) string { return `{"result":{"collection":[1,2],"query":"a=1&b=2"}}` })
	serve("_EVENT_.x", func(string) string { return reply })
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	e := newEdgeSide(r)
	for i, q := range []string{"b=2&a=1", "a=1&b=2", "b=2&a=1"} {
		e.ask(fmt.Sprintf("get%d", i), "get.test.list", `{"query":"`+q+`"}`)
		e.hears(fmt.Sprintf(`get%d < {"result":{"collection":[1,2],"query":"a=1&b=2"}}`, i))
	}
	publish := func() (subject string) {
		t.Helper()
		before := e.count("event.test.list.query ")
		if err := h.Publish("event.test.list.query", []byte(`{"subject":"_EVENT_.x"}`)); err != nil {
			t.Fatal(err)
		}
		testkit.Until(t, "a query event arrives", func() bool { return e.count("event.test.list.query ") > before })
		for _, n := range e.heard() {
			if data, ok := strings.CutPrefix(n, "event.test.list.query "); ok {
				var p struct{ Subject string }
				if err := json.Unmarshal([]byte(data), &p); err != nil || strings.HasPrefix(p.Subject, "_EVENT_.x") {
					t.Fatalf("query event %s, %v", data, err)
				}
				subject = p.Subject
			}
		}
		return subject
	}
	first, second := publish(), publish()
	e.ask("q1", first, `{"query":"a=1&b=2"}`)
	e.ask("q2", second, `{"query":"a=1&b=2"}`)
	e.ask("q3", second, `{"query":"other"}`)
	e.hears(`q1 < `+reply, `q2 < `+reply, `q3 < {"result":{"events":[]}}`)
	e.ask("now", "get.test.list", `{"query":"b=2&a=1"}`)
	e.hears(`now < {"result":{"collection":[7,7,1,2],"query":"a=1&b=2"}}`)
	mu.Lock()
	defer mu.Unlock()
	if asked["get.test.list?b=2&a=1"] != 1 || asked["_EVENT_.x?a=1&b=2"] != 2 || len(asked) > 3 {
		t.Errorf("the service was asked %v", asked)
	}
	for _, bad := range []string{"x", "1.", "999999.test.list", "999999.other"} {
		e.ask("bad", first[:strings.LastIndex(strings.TrimSuffix(first, ".test.list"), ".")+1]+bad, `{"query":"a=1&b=2"}`)
	}
	testkit.Until(t, "all are answered", func() bool { return e.count("bad < ") == 4 })
}

// TestRelayDenied: an edge server that does not let the relay listen ends it.
func TestRelayDenied(t *testing.T) {
	home := natstest.Start(t)
	edge := natstest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "r", Password: "p", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Deny: []string{"call.>"}}}}}
	})
	log := &testkit.Log{}
	url := strings.Replace(edge.URL(), "nats://", "nats://r:p@", 1)
	r, clock := newRelay(t, home.URL(), url, log, func(*relay.Options) {})
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Stop(context.Background()) })
	var failure error
	testkit.Until(t, "the relay fails", func() bool {
		clock.Advance(relayLease / 20)
		select {
		case failure = <-r.Done():
			return true
		default:
			return false
		}
	})
	if text := fmt.Sprint(failure); !strings.Contains(text, "call.>") || strings.Contains(text, "r:p@") {
		t.Error(text)
	}
}
