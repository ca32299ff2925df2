package session

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/fanout"
	"sluice/internal/intern"
	"sluice/internal/limit"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
	"sluice/pool"
)

var (
	seed   = flag.Uint64("seed", 0, "replay the random test with this seed only")
	rounds = flag.Int("rounds", 400, "how many seeds the random test tries")
)

// world is one loop with a few clients, and a service. All that takes time in reality is queued
// until the test picks it.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	env     *Env
	fanout  fanout.Metrics
	service map[string]*state.Snapshot // the truth; nil: not found
	subs    map[uint64]string          // refs that have been answered
	updates []func()                   // shard to loop, in order
	answers []func()                   // services' answers to the loop, in any order
	clients []*testClient
	denied  map[string]bool
	known   map[accessKey]bool // an answer is there that the session must keep
	outdate map[accessKey]int  // how often access was to be asked again
	ended   map[accessKey]bool // the client may have yet to get the end of the resource: no answer lasts
	away    bool               // no service answers
	pauses  []time.Duration
	log     *strings.Builder
	next    int
	pings   map[string]int             // custom events so far, by resource
	pinged  map[string]int             // of a pair: those that this process has handled
	pair    *pair                      // nil: it is the only process
	view    map[string]*state.Snapshot // of a pair: what the events so far have made of service
}

type testClient struct {
	w       *world
	name    string
	s       *Session
	holds   *holdings
	waiting map[int]testRequest
	inOrder map[string][]int // requests by resource that must be answered in this order
	pings   map[string]int   // the newest custom event of each resource held
	before  map[string]int   // the newest that its process had handled when it got the resource
	behind  map[string]int   // the newest that its process had handled when it came there with it
	err     error
}

type testRequest struct{ method, rid string }

// accessKey is a client's access to a resource.
type accessKey struct{ client, rid string }

// again allows one more access request for a client and resource.
func (w *world) again(k accessKey) {
	w.outdate[k]++
	delete(w.known, k)
}

// askAccess checks an access request and returns the function to call at its reply. While the
// client holds the resource, there must be no access request without a reason.
func (w *world) askAccess(name string, payload []byte) func() {
	for _, c := range w.clients {
		if !bytes.Contains(payload, []byte(`"cid":"`+c.name+`"`)) {
			continue
		}
		k := accessKey{c.name, name}
		if w.known[k] {
			c.fail(fmt.Errorf("access request for %s although access is known", name))
		}
		at, held := w.outdate[k], c.holds.has(name)
		return func() {
			if held && w.outdate[k] == at && c.holds.has(name) && !w.ended[k] {
				w.known[k] = true
			}
		}
	}
	return func() {}
}

func (w *world) logf(format string, args ...any) { fmt.Fprintf(w.log, format+"\n", args...) }

// Subscribe implements fanout.Source.
func (w *world) Subscribe(ref uint64, name, _ string, first func()) {
	if first != nil {
		first()
	}
	w.updates = append(w.updates, func() {
		snap := w.service[name]
		if w.view != nil {
			snap = w.view[name]
		}
		if snap == nil {
			w.logf("  load %s: not found", name)
			w.env.Hub.Apply(state.Update{Ref: ref, Kind: state.Failed, Err: res.ErrNotFound})
			return
		}
		// The shard answers in the order of its queue: events that come from now on follow.
		w.subs[ref] = name
		w.logf("  load %s", name)
		w.env.Hub.Apply(state.Update{Ref: ref, Kind: state.Loaded, Snapshot: snap})
	})
}

func (w *world) Refetch(string) {}

func (w *world) Unsubscribe(ref uint64, name, _ string) { delete(w.subs, ref) }

// Request implements Bus.
func (w *world) Request(_ limit.Priority, name, subject string, payload []byte, done func([]byte, *res.Error)) {
	answered := func() {}
	if strings.HasPrefix(subject, "access.") {
		answered = w.askAccess(name, payload)
	}
	w.answers = append(w.answers, func() {
		if w.away {
			w.logf("  no answer to %s", subject)
			done(nil, res.ErrNotFound)
			return
		}
		if method, ok := strings.CutPrefix(subject, "call."); ok {
			r := rid(w.rng.IntN(resources))
			w.logf("  answer %s: %s", method, r)
			done(fmt.Appendf(nil, `{"resource":{"rid":"%s"}}`, r), nil)
			return
		}
		ok := !w.denied[name]
		w.logf("  answer %s: %v", subject, ok)
		answered()
		done([]byte(map[bool]string{true: `{"result":{"get":true,"call":"*"}}`, false: `{"result":{"get":false}}`}[ok]), nil)
	})
}

// RequestSubscribed implements Bus.
func (w *world) RequestSubscribed(name, subject string, payload []byte, done func([]byte, *res.Error)) {
	w.Request(limit.Access, name, subject, payload, done)
}

// Ahead implements Bus.
func (w *world) Ahead(name, subject string, payload []byte, done func([]byte, *res.Error)) func() {
	payload = bytes.Clone(payload)
	return func() { w.Request(limit.Access, name, subject, payload, done) }
}

func (c *testClient) Describe(*res.AuthRequest) {}

// Send implements fanout.Outbox; a frame is the plain message.
func (c *testClient) Send(frames []byte) {
	for d := json.NewDecoder(bytes.NewReader(frames)); d.More(); {
		var frame json.RawMessage
		if err := d.Decode(&frame); err != nil {
			c.fail(err)
			return
		}
		c.take(frame)
	}
}

func (c *testClient) take(frame []byte) {
	c.w.logf("%s < %s", c.name, frame)
	var m struct {
		ID     *int
		Result json.RawMessage
		Error  *struct{ Code string }
		Event  string
		Data   json.RawMessage
	}
	if err := json.Unmarshal(frame, &m); err != nil {
		c.fail(err)
		return
	}
	if m.ID == nil {
		c.fail(c.holds.event(m.Event, m.Data))
		if rid, ok := strings.CutSuffix(m.Event, ".ping"); ok && m.Data != nil {
			c.fail(c.pinged(rid, m.Data))
		}
		return
	}
	r, ok := c.waiting[*m.ID]
	if !ok {
		c.fail(fmt.Errorf("response %d without a request", *m.ID))
		return
	}
	delete(c.waiting, *m.ID)
	if sent := c.inOrder[r.rid]; len(sent) > 0 && r.method != "call" {
		if sent[0] != *m.ID {
			c.fail(fmt.Errorf("response %d about %s before %d", *m.ID, r.rid, sent[0]))
			return
		}
		c.inOrder[r.rid] = sent[1:]
	}
	if m.Error != nil {
		if r.method == "unsubscribe" && c.holds.direct[r.rid] > 0 {
			c.fail(fmt.Errorf("unsubscribe of %s failed, although the client is subscribed", r.rid))
		}
		return
	}
	switch r.method {
	case "call":
		var r struct{ RID string }
		c.fail(json.Unmarshal(m.Result, &r))
		if r.RID == "" {
			return
		}
		var s set
		c.fail(json.Unmarshal(m.Result, &s))
		_, failed := s.Errors[r.RID]
		delete(s.Errors, r.RID) // says that it is not subscribed; it may be held
		c.fail(c.holds.take(s))
		if failed {
			return
		}
		c.has(r.RID)
		c.holds.direct[r.RID]++
		c.fail(c.holds.tidy())
	case "subscribe":
		var s set
		c.fail(json.Unmarshal(m.Result, &s))
		c.fail(c.holds.take(s))
		c.has(r.rid)
		c.holds.direct[r.rid]++
		c.fail(c.holds.tidy())
	case "get":
		// The client keeps what it holds a reference to, and drops the rest.
		var s set
		c.fail(json.Unmarshal(m.Result, &s))
		c.fail(c.holds.take(s))
		c.has(r.rid)
		c.fail(c.holds.tidy())
	case "unsubscribe":
		if c.holds.direct[r.rid]--; c.holds.direct[r.rid] < 0 {
			c.fail(fmt.Errorf("unsubscribe of %s succeeded without a subscription", r.rid))
		}
		c.fail(c.holds.tidy())
	}
}

// has checks that a response leaves the client with the resource that it asked for.
func (c *testClient) has(rid string) {
	if !c.holds.has(rid) {
		c.fail(fmt.Errorf("the response lacks %s, which is not held", rid))
	}
}

func (c *testClient) fail(err error) {
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("%s: %w", c.name, err)
	}
}

func (c *testClient) request(method, rid string) {
	c.w.next++
	c.waiting[c.w.next] = testRequest{method, rid}
	if method != "call" {
		c.inOrder[rid] = append(c.inOrder[rid], c.w.next)
	}
	c.w.logf("%s > %s.%s", c.name, method, rid)
	c.s.Message(fmt.Appendf(nil, `{"id":%d,"method":"%s.%s"}`, c.w.next, method, rid))
}

const resources = 14

func rid(i int) string { return fmt.Sprintf("r.%c", 'a'+i) }

func refTo(rid string) res.Value {
	return res.Value{Kind: res.Reference, Raw: `{"rid":"` + rid + `"}`, RID: rid}
}

func (w *world) value() res.Value {
	if w.rng.IntN(3) == 0 {
		return res.Value{Kind: res.Primitive, Raw: fmt.Sprint(w.rng.IntN(100))}
	}
	r := rid(w.rng.IntN(resources))
	return refTo(r)
}

func (w *world) snapshot(i int) *state.Snapshot {
	n := w.rng.IntN(4)
	if i%2 == 0 {
		var props []res.Prop
		for k := range n {
			props = append(props, res.Prop{Key: string(rune('a' + k)), Value: w.value()})
		}
		return state.NewModel(props)
	}
	var values []res.Value
	for range n {
		values = append(values, w.value())
	}
	return state.NewCollection(values)
}

// change makes the service change a resource.
func (w *world) change(i int) {
	name := rid(i)
	snap := w.service[name]
	if snap == nil {
		w.service[name] = w.snapshot(i)
		return
	}
	var e *state.Event
	var err error
	switch n := w.rng.IntN(13); {
	case n == 12: // as after a reset: a difference of several events
		if next := w.snapshot(i); next.IsModel() == snap.IsModel() {
			u := state.Update{Kind: state.Synced, Snapshot: next}
			if events, err := state.Diff(snap, next); err != nil {
				w.t.Fatal(err)
			} else if len(events) > 0 && w.rng.IntN(2) == 0 {
				u.Steps, u.Snapshot = events, events[len(events)-1].Next
			}
			w.service[name] = u.Snapshot
			w.logf("service: %s is another", name)
			w.emit(name, u)
		}
		return
	case n == 0:
		e = state.NewDelete(snap)
		w.service[name] = nil
		for _, c := range w.clients {
			k := accessKey{c.name, name}
			w.again(k)
			w.ended[k] = true
		}
	case n == 1:
		w.pings[name]++
		e = state.NewCustom("ping", fmt.Appendf(nil, `{"n":%d}`, w.pings[name]), snap)
	case snap.IsModel():
		var props []res.Prop
		for _, k := range w.rng.Perm(4)[:1+w.rng.IntN(3)] {
			v := w.value()
			if w.rng.IntN(4) == 0 {
				v = res.DeleteValue
			}
			props = append(props, res.Prop{Key: string(rune('a' + k)), Value: v})
		}
		e, err = snap.Change(props)
	case snap.Len() > 0 && w.rng.IntN(2) == 0:
		e, err = snap.Remove(w.rng.IntN(snap.Len()))
	default:
		e, err = snap.Add(w.rng.IntN(snap.Len()+1), w.value())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if e == nil {
		return
	}
	if e.Kind != state.Delete {
		w.service[name] = e.Next
	}
	w.logf("service: %s on %s", e.Kind, name)
	w.emit(name, state.Update{Kind: state.Applied, Event: e})
}

// set makes the service change some properties of a model.
func (w *world) set(rid string, props ...res.Prop) {
	w.t.Helper()
	e, err := w.service[rid].Change(props)
	if err != nil || e == nil {
		w.t.Fatal(e, err)
	}
	w.service[rid] = e.Next
	w.emit(rid, state.Update{Kind: state.Applied, Event: e})
}

// emit queues an update for every ref that is loaded. It is delivered to those that are still
// subscribed.
func (w *world) emit(name string, u state.Update) {
	if w.pair != nil {
		w.pair.emit(name, u)
		return
	}
	w.apply(name, u)
}

// apply is emit for one process.
func (w *world) apply(name string, u state.Update) {
	for _, pending := range w.refsOf(name) {
		u := u
		u.Ref = pending
		w.env.Hub.Apply(u)
		if u.Kind == state.Applied && u.Event.Kind == state.Delete {
			delete(w.subs, pending)
		}
	}
}

func (w *world) refsOf(name string) []uint64 {
	var refs []uint64
	for ref, n := range w.subs {
		if n == name {
			refs = append(refs, ref)
		}
	}
	return refs
}

func newWorld(t *testing.T, seed uint64, limits Limits) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), service: map[string]*state.Snapshot{}, subs: map[uint64]string{}, denied: map[string]bool{}, known: map[accessKey]bool{}, outdate: map[accessKey]int{}, ended: map[accessKey]bool{}, pings: map[string]int{}, log: new(strings.Builder)}
	w.env = &Env{
		Bus: w, Parser: &res.Parser{Interned: new(intern.Cache)}, Limits: limits, Metrics: new(Metrics),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Post: func(f func()) { w.answers = append(w.answers, f) },
		Warn: func(string) {}, Invalid: func(string, *res.Error) {},
		Now: func() time.Duration { return 0 },
		After: func(d time.Duration, f func()) {
			w.pauses = append(w.pauses, d)
			w.answers = append(w.answers, f)
		},
	}
	w.env.Hub = fanout.NewHub(w, fanout.Framers{fanout.Message: func(dst, m []byte) []byte { return append(dst, m...) }}, new(pool.Arena), &w.fanout)
	w.env.Hub.Portion = 1 + int(seed%4)
	for i := range resources {
		w.service[rid(i)] = w.snapshot(i)
	}
	for i := range 3 {
		c := &testClient{w: w, name: string(rune('A' + i))}
		w.clients = append(w.clients, c)
		c.connect()
	}
	return w
}

// step runs one random step.
func (w *world) step() {
	c := w.clients[w.rng.IntN(len(w.clients))]
	name := rid(w.rng.IntN(resources))
	switch n := w.rng.IntN(20); {
	case n < 3:
		c.request("subscribe", name)
	case n < 5:
		if c.holds.direct[name] > 0 || len(c.inOrder[name]) > 0 || w.rng.IntN(8) == 0 {
			c.request("unsubscribe", name)
		}
	case n < 6:
		c.request("get", name)
	case n < 10:
		w.change(w.rng.IntN(resources))
	case n < 11:
		w.denied[name] = !w.denied[name] && w.rng.IntN(3) == 0
		for _, c := range w.clients {
			w.again(accessKey{c.name, name})
		}
		if w.rng.IntN(2) == 0 {
			for _, r := range w.refsOf(name) {
				w.env.Hub.Apply(state.Update{Ref: r, Kind: state.Reaccess})
			}
		} else {
			w.env.Hub.ResetAccess(fanout.Reset, func(n string) bool { return n == name })
		}
	case n < 12:
		switch w.rng.IntN(5) {
		case 4:
			for i := range resources {
				w.again(accessKey{c.name, rid(i)})
			}
			c.s.SetToken([]string{"", `"one"`, `"two"`}[w.rng.IntN(3)], "")
		case 0:
			c.s.Lag(false)
		case 1:
			c.s.Lag(true)
		case 2:
			c.request("call", name+".pick")
		case 3:
			if w.rng.IntN(4) == 0 {
				c.connect()
			}
		}
	case n < 14:
		if len(w.updates) > 0 {
			w.deliver(w.rng.IntN(len(w.updates))) // shards are not in step
		}
	default:
		if len(w.answers) > 0 {
			w.answer(w.rng.IntN(len(w.answers)))
		}
	}
	w.env.Hub.EndTurn()
}

// connect connects the client, or reconnects it.
func (c *testClient) connect() {
	if c.s != nil {
		c.s.Close()
		c.w.logf("%s reconnects", c.name)
	}
	c.holds, c.waiting, c.inOrder = newHoldings(), map[int]testRequest{0: {}}, map[string][]int{}
	c.pings, c.before = map[string]int{}, map[string]int{}
	c.holds.held = func(rid string) {
		c.before[rid] = c.w.pinged[rid]
		delete(c.behind, rid)
	}
	c.holds.dropped = func(rid string) {
		delete(c.pings, rid)
		delete(c.before, rid)
		c.w.again(accessKey{c.name, rid})
		delete(c.w.ended, accessKey{c.name, rid})
	}
	for i := range resources {
		c.holds.dropped(rid(i))
	}
	c.s = New(c.w.env, c, c, fanout.Message, c.name)
	c.s.Message([]byte(`{"id":0,"method":"version","params":{"protocol":"1.2.3"}}`))
}

func (w *world) deliver(i int) {
	if len(w.updates) > 0 {
		f := w.updates[i]
		w.updates = append(w.updates[:i], w.updates[i+1:]...)
		f()
	}
}

func (w *world) answer(i int) {
	f := w.answers[i]
	w.answers = append(w.answers[:i], w.answers[i+1:]...)
	f()
}

// settle delivers everything in flight, then compares all clients with the service.
func (w *world) settle() error {
	for _, c := range w.clients {
		c.s.Lag(false)
	}
	for len(w.updates)+len(w.answers) > 0 {
		for len(w.updates) > 0 {
			w.deliver(0)
		}
		for len(w.answers) > 0 {
			w.answer(0)
		}
	}
	for _, c := range w.clients {
		if err := c.check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *testClient) check() error {
	if c.err != nil {
		return c.err
	}
	if len(c.waiting) > 0 {
		return fmt.Errorf("%s: requests without a response: %v", c.name, c.waiting)
	}
	if why := Waits(c.s); why != "" {
		return fmt.Errorf("%s: cannot move although nothing is in progress: it waits for %s", c.name, why)
	}
	for r, v := range c.holds.resources {
		if c.holds.deleted[r] {
			continue
		}
		if snap := c.w.service[r]; snap != nil {
			var want any
			if err := json.Unmarshal(snap.JSON(false), &want); err != nil {
				return err
			}
			if p, ok := v.(*[]any); ok {
				v = *p
				if len(*p) == 0 {
					v = []any{}
				}
			}
			if !reflect.DeepEqual(v, want) {
				return fmt.Errorf("%s: %s is %v, want %v", c.name, r, v, want)
			}
		}
	}
	return c.consistent()
}

// consistent compares the session's edge counts with its graph, and its records of requests with
// their number.
func (c *testClient) consistent() error {
	n := 0
	EachRequest(c.s, 1<<30, func(RequestInfo) { n++ })
	if n != c.s.Requests() {
		return fmt.Errorf("%s: %d requests are recorded of %d in progress", c.name, n, c.s.Requests())
	}
	in, inSent := map[*Sub]int32{}, map[*Sub]int32{}
	for _, b := range c.s.subs.all() {
		c.s.targets(b, false, func(t *Sub) { in[t]++ })
		c.s.targets(b, true, func(t *Sub) { inSent[t]++ })
	}
	held := 0
	for _, b := range c.s.subs.all() {
		switch {
		case b.in != in[b] || b.inSent != inSent[b]:
			return fmt.Errorf("%s: %s has %d edges, %d sent; counted %d, %d", c.name, b.rid, in[b], inSent[b], b.in, b.inSent)
		case b.pins != 0 || b.pending != 0 || b.holds != 0:
			return fmt.Errorf("%s: %s is busy: %+v", c.name, b.rid, b)
		case int(b.direct) != c.holds.direct[b.rid]:
			return fmt.Errorf("%s: %s is held %d times, the client says %d", c.name, b.rid, b.direct, c.holds.direct[b.rid])
		}
		if b.direct > 0 {
			held++
		}
		if b.seen() {
			if _, ok := c.holds.resources[b.rid]; !ok {
				return fmt.Errorf("%s: %s counts as sent, but the client has dropped it", c.name, b.rid)
			}
		}
	}
	for r := range c.holds.resources {
		if b := c.s.subs.Get(r); b == nil || !b.seen() {
			return fmt.Errorf("%s: the client holds %s, but it does not count as sent", c.name, r)
		}
	}
	if held == 0 && c.s.subs.Len() > 0 {
		return fmt.Errorf("%s: there is no direct subscription, but %d subscriptions are left", c.name, c.s.subs.Len())
	}
	return nil
}

// TestRandom runs random steps of clients, services and time. In any order, a client library must
// be able to apply each message, and in the end every client must have the service's state.
func TestRandom(t *testing.T) {
	run := func(seed uint64) {
		limits := Limits{DirectPerRID: 3, HeldEvents: []int{0, 1, 3}[seed%3], References: []int{0, 1, 2}[seed/3%3]}
		w := newWorld(t, seed, limits)
		if seed/9%2 == 0 {
			w.env.Reset = owner.NewThrottle(1)
		}
		var err error
		for range 6 {
			for range 60 {
				w.step()
				for _, c := range w.clients {
					if c.err != nil && err == nil {
						err = c.err
					}
				}
				if err != nil {
					break
				}
			}
			if err == nil {
				err = w.settle()
			}
			if err != nil {
				log := w.log.String()
				if lines := bytes.Count([]byte(log), []byte("\n")); lines > 120 {
					log = strings.Join(strings.Split(log, "\n")[lines-120:], "\n")
				}
				t.Fatalf("seed %d: %v\n%s", seed, err, log)
			}
		}
		for _, c := range w.clients {
			c.s.Close()
		}
		if n, shares := w.env.Metrics.HeldBytes.Load(), w.env.Metrics.HeldShares.Load(); n != 0 || shares != 0 {
			t.Fatalf("seed %d: %d bytes of events are held after all clients have disconnected, in shares %d", seed, n, shares)
		}
		if n, shares := w.fanout.VersionBytes.Load(), w.fanout.VersionShares.Load(); n != 0 || shares != 0 {
			t.Fatalf("seed %d: %d bytes of old states are kept after all clients have disconnected, in shares %d", seed, n, shares)
		}
		if n := w.env.Hub.Len(); n != 0 {
			t.Fatalf("seed %d: %d topics are left after all clients have disconnected", seed, n)
		}
	}
	if *seed != 0 {
		run(*seed)
		return
	}
	for i := range *rounds {
		run(uint64(i + 1))
	}
}
