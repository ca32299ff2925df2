package restest

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway"
	"sluice/internal/owner"
	"sluice/internal/resmodel"
	"sluice/internal/testkit"
)

var (
	seed   = flag.Uint64("seed", 0, "seed of the chaos test; 0: one by the clock, which is logged")
	rounds = flag.Int("rounds", 7, "rounds of the chaos test, for each of its layouts")
	steps  = flag.Int("steps", 600, "steps of a round of the chaos test")
	most   = flag.Int("upgrades", -1, "upgrades in the chaos test, for each of its layouts, at most; -1: one, in two of the layouts")
	recent = flag.Int("recent", 60, "messages of the client to show when the chaos test fails")
)

// TestChaos runs clients and a service in a random order of requests, replies, events, unannounced
// changes with resets, revocations, disconnects and upgrades. After each round nothing is in
// flight, and then every client's view must equal the service's state. Until then each client folds
// what it gets as strictly as View does. A failure names the seed; -seed replays the same decisions
// (the goroutines' timing is the machine's).
func TestChaos(t *testing.T) {
	for _, layout := range []layout{
		{"one", func(c *gateway.Config) { c.Loops, c.Shards, c.Flush = 1, 1, "write" }},
		{"default", func(c *gateway.Config) {}},
		{"many", func(c *gateway.Config) { c.Loops, c.Shards = 4, 8 }},
		{"throttled", func(c *gateway.Config) { c.ReferenceThrottle, c.ResetThrottle = 1, 1 }},
		{"limited", func(c *gateway.Config) {
			c.MaxServiceRequests, c.ReferenceThrottle, c.ResetThrottle = 1, 1, 1
		}},
		{"limited, several connections", func(c *gateway.Config) {
			c.MaxServiceRequests, c.ResetThrottle, c.Loops, c.Shards, c.NATSConnections = 3, 2, 3, 4, 3
		}},
		{"held", func(c *gateway.Config) { c.HeldEvents = 1 }},
		{"wildcards", func(c *gateway.Config) {
			c.NATSWildcards, c.NATSConnections, c.CacheEviction = []string{"w.list.*", "w.>", ">"}, 2, time.Millisecond
		}},
		{"forgetful", func(c *gateway.Config) { c.CacheEviction = gateway.Off }},
	} {
		t.Run(layout.name, func(t *testing.T) {
			w := newChaos(t, chaosSeed(t), startNATS(t).ClientURL(), layout.change)
			switch {
			case *most >= 0:
				w.most = *most
			case layout.name == "default", layout.name == "held":
				w.most = 1
			}
			w.run(*rounds, func() {})
		})
	}
}

// layout is a way to run the chaos test's gateway.
type layout struct {
	name   string
	change func(*gateway.Config)
}

func chaosSeed(t *testing.T) uint64 {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", s)
	return s
}

// run runs rounds, and rested after each.
func (w *chaos) run(rounds int, rested func()) {
	for w.round = range rounds {
		for range *steps {
			w.step()
		}
		w.rest()
		w.settle()
		w.compare()
		rested()
	}
	w.t.Logf("%d messages to clients, %d requests, %d events, %d upgrades", w.received, w.answered, w.events, w.upgrades)
}

// chaos is the driver. Everything in it belongs to the test's goroutine, except the clients' and
// the service's queues.
type chaos struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	round   int
	store   *resmodel.Store
	service *Service
	gateway Gateway
	start   func(also func(*gateway.Config)) (Gateway, error) // starts another gateway
	moving  *succession                                       // nil: the clients stay where they are
	movedAt time.Time                                         // when the last upgrade ended
	most    int                                               // upgrades, at most
	limited bool                                              // the service has a low limit
	trips   *sockets                                          // for round trips only
	clients []*chaosClient
	pool    []string // resource IDs that clients and references choose from
	names   []string // all resource names
	open    []*Request
	ticks   map[string]int
	deletes []string // resources that may still be deleted

	sent []string    // what the service sent lately: answers and events, in order
	log  testkit.Log // the gateways' errors

	received, answered, events, upgrades int
}

type chaosClient struct {
	*Client
	view    *resmodel.View
	version string
	nextID  int
	ticks   map[string]int // the last tick event seen, by resource ID
	trace   []string       // the latest messages in both directions
}

// newChaos starts a service at the NATS server of that URL, and a gateway there unless change names
// another.
func newChaos(t *testing.T, seed uint64, url string, change func(*gateway.Config)) *chaos {
	w := &chaos{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), store: resmodel.NewStore(), ticks: map[string]int{}}
	w.trips = newSockets(&shared{env: Env{Watchdog: time.Minute}, clock: owner.NewManualClock(), wake: make(chan struct{}, 1), nextID: hiddenIDs})
	var err error
	if w.service, err = NewService(url, w.trips.notify); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.service.Close)
	w.start = func(also func(*gateway.Config)) (Gateway, error) {
		admin, err := net.Listen("tcp", "127.0.0.1:0") // for stuck
		if err != nil {
			return nil, err
		}
		return startGateway(Start{NATS: url, Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelError}))}, func(c *gateway.Config) {
			c.RequestTimeout = 5 * time.Minute // the service answers when it likes
			c.CacheEviction, c.CacheEvictionMost = 20*time.Millisecond, 100*time.Millisecond
			c.MinServiceRequests = 1000 // what the service leaves without an answer is no sign of a queue
			c.AdminPort, c.AdminListener = gateway.FreePort, admin
			change(c)
			also(c)
			w.limited = c.MaxServiceRequests > 0
		})
	}
	if w.gateway, err = w.start(func(*gateway.Config) {}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.gateway.Stop)
	for i := range 8 {
		w.pool = append(w.pool, fmt.Sprintf("w.model.%d", i), fmt.Sprintf("w.list.%d", i))
	}
	w.deletes = []string{"w.mortal.0", "w.mortal.1", "w.mortal.2", "w.mortal.3"}
	w.pool = append(w.pool, w.deletes...)
	w.names = append(w.names, w.pool...)
	w.names = append(w.names, "w.query.0", "w.query.1", "w.broken")
	w.pool = append(w.pool, "w.broken", "w.query.0?from=0&count=3", "w.query.0?count=3&from=0", "w.query.0?from=2", "w.query.1?from=1&count=2", "w.query.1")
	for _, rid := range w.names[:20] {
		if strings.HasPrefix(rid, "w.list") {
			w.store.Set(rid, []any{w.value(), w.value()})
		} else {
			w.store.Set(rid, map[string]any{"a": w.value(), "b": w.value()})
		}
	}
	w.store.SetSliced("w.query.0", []any{1, 2, 3, 4})
	w.store.SetSliced("w.query.1", []any{})
	for i := range 14 {
		w.clients = append(w.clients, w.dial(fmt.Sprintf("c%d", i), []string{"1.2.3", "1.2.3", "1.2.3", "1.2.0"}[i%4]))
	}
	return w
}

func pick[T any](w *chaos, from []T) T { return from[w.rng.IntN(len(from))] }

// value makes a value of any kind.
func (w *chaos) value() any {
	switch w.rng.IntN(10) {
	case 0, 1, 2, 3:
		return map[string]any{"rid": pick(w, w.pool)}
	case 4:
		return map[string]any{"rid": pick(w, w.pool), "soft": true}
	case 5:
		return map[string]any{"data": map[string]any{"n": w.rng.IntN(3)}}
	case 6:
		return fmt.Sprintf("s%d", w.rng.IntN(3))
	}
	return w.rng.IntN(5)
}

func (w *chaos) dial(name, version string) *chaosClient {
	c, err := Dial(name, w.gateway.URL(), w.trips.notify)
	if err != nil {
		w.t.Fatal(err)
	}
	cc := &chaosClient{Client: c, view: resmodel.NewView(), version: version, ticks: map[string]int{}}
	w.t.Cleanup(c.Cut)
	w.send(cc, "version", `,"params":{"protocol":"`+version+`"}`)
	return cc
}

func (w *chaos) send(c *chaosClient, method, params string) {
	c.nextID++
	m := fmt.Sprintf(`{"id":%d,"method":"%s"%s}`, c.nextID, method, params)
	c.view.Sent(m)
	c.note("> " + m)
	if err := c.Send(m); err != nil {
		w.fail(c, "sending: %v", err)
	}
}

func (c *chaosClient) note(m string) {
	if c.trace = append(c.trace, m); len(c.trace) > 2**recent {
		c.trace = slices.Clone(c.trace[*recent:])
	}
}

func (w *chaos) fail(c *chaosClient, format string, a ...any) {
	w.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, round %d, client %s (%s): %s\n", w.seed, w.round, c.Name, c.version, fmt.Sprintf(format, a...))
	for _, m := range c.trace[max(0, len(c.trace)-*recent):] {
		fmt.Fprintf(&b, "  %s\n", clip(m))
	}
	w.t.Fatal(b.String() + w.log.String())
}

// say remembers what the service sends.
func (w *chaos) say(format string, a ...any) {
	if w.sent = append(w.sent, fmt.Sprintf(format, a...)); len(w.sent) > 20**recent {
		w.sent = slices.Clone(w.sent[10**recent:])
	}
}

// differs fails with the service's side of the story of one resource.
func (w *chaos) differs(c *chaosClient, rid, format string, a ...any) {
	w.t.Helper()
	name, _, _ := strings.Cut(rid, "?")
	about := slices.DeleteFunc(slices.Clone(w.sent), func(m string) bool {
		return !strings.Contains(m, "."+name) && !strings.HasPrefix(m, "system.")
	})
	for _, m := range about[max(0, len(about)-*recent):] {
		c.note("service: " + m)
	}
	w.fail(c, format, a...)
}

// step does one random thing.
func (w *chaos) step() {
	switch n := w.rng.IntN(100); {
	case n < 32:
		w.collect()
		w.answer(1 + w.rng.IntN(4))
	case n < 55:
		w.mutate(pick(w, w.store.RIDs()))
	case n < 58:
		name := pick(w, []string{"w.query.0", "w.query.1"})
		_, payload := w.store.ChangeSliced(name, w.store.Vary(w.rng, name, w.value))
		w.publish(name, "query", payload)
	case n < 60:
		w.reset()
	case n < 62:
		w.tick(pick(w, w.store.RIDs()))
	case n < 63:
		w.revoke()
	case n < 64:
		w.remove()
	case n < 80:
		w.act(pick(w, w.clients))
	case n < 81:
		w.reconnect(w.rng.IntN(len(w.clients)))
	case n == 81 && w.upgrades < w.most && w.rng.IntN(10) == 0: // each costs a second of rest
		w.upgrade()
	case n < 90:
		w.fold(pick(w, w.clients))
	default:
		// A round trip to NATS: time in which the gateway gets to do its part.
		if err := w.service.Flush(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *chaos) publish(rid, event, payload string) {
	w.events++
	w.say("event.%s.%s %s", rid, event, payload)
	if err := w.service.Publish("event."+rid+"."+event, payload); err != nil {
		w.t.Fatal(err)
	}
}

// mutate changes a resource and publishes the event.
func (w *chaos) mutate(rid string) {
	if event, payload := w.store.Mutate(w.rng, rid, w.value); event != "" {
		w.publish(rid, event, payload)
	}
}

// reset changes resources without a word and then resets what covers them.
func (w *chaos) reset() {
	pattern := pick(w, []string{"w.model.*", "w.list.*", "w.>", ">", "w.query.*", "w.list.0", "w.query.0"})
	for _, rid := range w.store.RIDs() {
		covered := pattern == rid || pattern == "w.>" || pattern == ">" || strings.HasPrefix(rid, strings.TrimSuffix(pattern, "*")) && strings.HasSuffix(pattern, "*")
		if covered && w.rng.IntN(3) == 0 {
			w.store.Mutate(w.rng, rid, w.value)
		}
	}
	for _, name := range []string{"w.query.0", "w.query.1"} {
		if (pattern == name || pattern == "w.query.*" || strings.HasSuffix(pattern, ">")) && w.rng.IntN(2) == 0 {
			w.store.SetSliced(name, w.store.Vary(w.rng, name, w.value))
		}
	}
	w.say("system.reset %s", pattern)
	if err := w.service.Publish("system.reset", `{"resources":["`+pattern+`"]}`); err != nil {
		w.t.Fatal(err)
	}
}

func (w *chaos) tick(rid string) {
	w.ticks[rid]++
	w.publish(rid, "tick", fmt.Sprint(w.ticks[rid]))
}

func (w *chaos) revoke() {
	name := pick(w, w.names)
	w.store.Deny(name, !w.store.Denied(name))
	w.publish(name, "reaccess", "")
}

func (w *chaos) remove() {
	if len(w.deletes) > 0 && w.rng.IntN(10) == 0 {
		rid := w.deletes[0]
		w.deletes = w.deletes[1:]
		w.store.Delete(rid)
		w.publish(rid, "delete", "")
	}
}

// act lets a client do something.
func (w *chaos) act(c *chaosClient) {
	switch n := w.rng.IntN(20); {
	case n < 9:
		w.send(c, "subscribe."+pick(w, w.pool), "")
	case n < 16:
		if direct := c.view.Subscribed(); len(direct) > 0 {
			w.send(c, "unsubscribe."+pick(w, direct), "")
		}
	case n < 18:
		w.send(c, "get."+pick(w, w.pool), "")
	default:
		w.send(c, "call."+pick(w, w.names)+".pick", "")
	}
}

func (w *chaos) reconnect(i int) {
	old := w.clients[i]
	w.fold(old)
	old.Cut()
	w.clients[i] = w.dial(old.Name, old.version)
}

// collect takes the requests that were received.
func (w *chaos) collect() {
	for r := w.service.TakeAny(""); r != nil; r = w.service.TakeAny("") {
		w.open = append(w.open, r)
	}
}

// answer answers up to n of the open requests, in a random order. Only the state of one query
// resource is told in the order in which it was asked for, as a service does that gives each
// resource a worker: answers with events build on the answers before them.
func (w *chaos) answer(n int) {
	for ; n > 0 && len(w.open) > 0; n-- {
		i := w.rng.IntN(len(w.open))
		if name := queried(w.open[i]); name != "" {
			i = slices.IndexFunc(w.open, func(r *Request) bool { return queried(r) == name })
		}
		r := w.open[i]
		w.open = slices.Delete(w.open, i, i+1)
		w.answered++
		payload := w.answerTo(r)
		w.say("%s %s answered %s", r.Subject, r.Data, payload)
		if err := w.service.Answer(r, payload); err != nil {
			w.t.Fatal(err)
		}
	}
}

// queried returns the name whose query state a request asks for, or "".
func queried(r *Request) string {
	verb, name, _ := strings.Cut(r.Subject, ".")
	switch {
	case verb == "_EVENT_":
		return name[:strings.LastIndexByte(name, '.')]
	case verb == "get" && strings.HasPrefix(name, "w.query."):
		return name
	}
	return ""
}

func (w *chaos) answerTo(r *Request) string {
	var p struct{ Query string }
	if v, err := resmodel.Decode(r.Data); err == nil {
		if m, ok := v.(map[string]any); ok {
			p.Query, _ = m["query"].(string)
		}
	}
	verb, name, _ := strings.Cut(r.Subject, ".")
	switch verb {
	case "access":
		return w.store.Access(name)
	case "get":
		return w.store.Get(name, p.Query)
	case "call":
		return `{"resource":{"rid":"` + pick(w, w.pool) + `"}}`
	}
	name = name[:strings.LastIndexByte(name, '.')]
	return w.store.Query(r.Subject, name, p.Query, w.rng.IntN(2) == 0)
}

// fold hands a client's messages to its view.
func (w *chaos) fold(c *chaosClient) (any bool) {
	for m, ok := c.Next(); ok; m, ok = c.Next() {
		any = true
		w.received++
		c.note("< " + m)
		if err := c.view.Received(m); err != nil {
			w.fail(c, "cannot follow: %v", err)
		}
		w.checkTick(c, m)
	}
	if code, closed := c.Closed(); closed {
		w.fail(c, "closed with %d", code)
	}
	return any
}

// checkTick: tick events carry a number that only grows.
func (w *chaos) checkTick(c *chaosClient, m string) {
	v, _ := resmodel.Decode(m)
	e, _ := v.(map[string]any)
	rid, ok := strings.CutSuffix(fmt.Sprint(e["event"]), ".tick")
	if !ok {
		return
	}
	var n int
	if _, err := fmt.Sscan(fmt.Sprint(e["data"]), &n); err != nil || n <= c.ticks[rid] {
		w.fail(c, "tick %v of %s after %d", e["data"], rid, c.ticks[rid])
	}
	c.ticks[rid] = n
}

// rest answers and folds until nothing moves any more.
func (w *chaos) rest() {
	w.upgraded()
	still := 0
	for range 500 {
		w.collect()
		moved := len(w.open) > 0
		w.answer(len(w.open))
		connections := make([]*Client, len(w.clients))
		for i, c := range w.clients {
			connections[i] = c.Client
		}
		moved = w.roundTrip(connections) || moved
		pending := 0
		for _, c := range w.clients {
			moved = w.fold(c) || moved
			pending += c.view.Pending()
		}
		if w.collect(); moved || len(w.open) > 0 {
			still = 0
			continue
		}
		if still++; still > 2 && pending == 0 {
			return
		}
		if still > 20 {
			for _, c := range w.clients {
				if c.view.Pending() > 0 {
					w.fail(c, "requests without a response: %v", c.view.Open())
				}
			}
		}
	}
	w.t.Fatalf("seed %d, round %d: messages are still in flight", w.seed, w.round)
}

// roundTrip lets everything that was sent arrive. Its own requests wait behind others where the
// service's limit is low, so the service goes on answering. It reports whether it had to.
func (w *chaos) roundTrip(connections []*Client) (answered bool) {
	done := make(chan error, 1)
	go func() {
		done <- w.trips.roundTrip(connections, w.names, func(name, id string) string { return "auth." + name + "." + quietMethod + id })
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				w.t.Fatalf("seed %d, round %d: %v", w.seed, w.round, err)
			}
			return answered
		case <-time.After(time.Millisecond):
			if w.limited {
				w.collect()
				answered = answered || len(w.open) > 0
				w.answer(len(w.open))
			}
		}
	}
}

// compare holds every client's view against the service's state.
func (w *chaos) compare() {
	if c, rid, text := w.wrong(); c != nil {
		w.differs(c, rid, "%s", text)
	}
}

// wrong returns a client whose view of a resource is not as the service's state, and how it
// differs; nil: there is none.
func (w *chaos) wrong() (c *chaosClient, rid, text string) {
	for _, c := range w.clients {
		for _, rid := range c.view.Held() {
			if c.view.Deleted(rid) {
				continue
			}
			want, ok := w.store.Value(rid)
			got, _ := c.view.Value(rid)
			switch {
			case ok && c.view.Failed(rid):
				return c, rid, fmt.Sprintf("%s failed with %s, but it is there", rid, got)
			case !ok && !c.view.Failed(rid):
				return c, rid, fmt.Sprintf("%s is %s, but it is not there", rid, got)
			case ok && got != resmodel.Encode(resmodel.AsSeenBy(want, c.version)):
				return c, rid, fmt.Sprintf("%s is\n%s, want\n%s", rid, got, resmodel.Encode(resmodel.AsSeenBy(want, c.version)))
			}
		}
		for _, rid := range c.view.Subscribed() {
			if name, _, _ := strings.Cut(rid, "?"); w.store.Denied(name) {
				return c, rid, fmt.Sprintf("%s is subscribed, but access is denied", rid)
			}
		}
	}
	return nil, "", ""
}
