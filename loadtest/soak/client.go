//go:build linux

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/resmodel"
	"sluice/loadtest/soak/service"
)

// newerVersion is the protocol version that most clients state.
const newerVersion = "1.2.3"

// kind is what a client speaks.
type kind int

const (
	socket kind = iota // WebSocket
	stream             // server-sent events
	poller             // GET requests
	caller             // POST requests
	kinds
)

var kindNames = [kinds]string{"WebSocket", "SSE", "GET", "POST"}

// phase is what clients may do.
type phase int32

const (
	connecting phase = iota // connect and subscribe
	acting                  // also subscribe to other things, call, leave, stop reading
	calm                    // only get and keep what they want; verdicts are due
	leaving                 // end
)

// env is what all parts of a soak share.
type env struct {
	opt      Options
	journal  *journal
	cluster  *cluster
	gateways []*gateway
	services []*svc
	clients  []*client

	phase     atomic.Int32
	round     atomic.Pointer[round]
	connected atomic.Int64 // clients whose connection is open and subscribed
	storm     atomic.Int64 // counts the times that half of the clients leave together
	still     atomic.Int64 // until when slow clients do not read, in nanoseconds since 1970

	// Of the goroutine of Run.
	rounds    int64
	base      []footprint // of the gateways, without clients
	reference []footprint // of the gateways at the last checkpoint
	last      *truth      // of the last exact round
	result    Result

	fresh [gateways][]atomic.Int64 // when the youngest custom event of each service was published that came through a gateway
}

func (e *env) in(p phase) bool { return phase(e.phase.Load()) == p }

// round is one comparison of all clients with the truth.
type round struct {
	n     int64
	truth *truth
}

// verdict is a client's result of a round: "" if it is exact.
type verdict struct {
	round int64
	text  string
	story string // the client's latest messages, if it is not
}

// client is one client. Its goroutine owns it but for the verdict.
type client struct {
	env     *env
	id      int
	kind    kind
	gateway int
	version string
	slow    bool // stops reading now and then, and has a small receive buffer
	rng     *rand.Rand
	wants   []string // resource IDs that it subscribes to, or polls

	verdict atomic.Pointer[verdict]

	// Of the connection.
	opened   time.Time
	view     *resmodel.View
	feeds    map[string]*feed
	nextID   int
	retry    map[string]time.Time // of wants that failed: when to try again
	lastRead time.Time            // when it last began to read again
	stormed  int64
	trace    []string // the latest messages in both directions
	complete bool     // counted in connected

	called  uint64         // the number of its last call
	pending map[int]uint64 // calls without a response: request ID → number
}

// slowOf is which client of a hundred is a slow reader.
const slowOf = 19

// newClient decides by the seed what a client is and wants.
func newClient(e *env, id int) *client {
	c := &client{env: e, id: id, rng: rand.New(rand.NewPCG(e.opt.Seed, uint64(id)<<8|7)), version: newerVersion}
	switch n := id % 20; {
	case n < 9:
	case n < 14:
		c.gateway = secured
	case n < 16:
		c.kind, c.gateway = stream, n%gateways
	case n < 18:
		c.kind, c.gateway = poller, n%gateways
	case n < 19:
		c.kind, c.gateway = caller, id/20%gateways
	default:
		c.slow = id%100 == slowOf // few: each has megabytes in the kernel
	}
	if c.kind == socket && c.rng.IntN(5) == 0 {
		c.version = olderVersion
	}
	switch c.kind {
	case stream:
		c.wants = []string{c.anything()}
		if c.rng.IntN(2) == 0 {
			c.wants[0] = c.feed()
		}
	case caller:
	default:
		c.wants = []string{c.feed(), c.anything(), c.anything()}
		if c.slow {
			c.wants[0] = service.Bulk(c.service())
		}
	}
	return c
}

func (c *client) name() string {
	return fmt.Sprintf("client %d (%s, %s)", c.id, kindNames[c.kind], gatewayNames[c.gateway])
}

func (c *client) service() string { return service.Name(c.rng.IntN(services)) }

func (c *client) feed() string { return service.Feed(c.service(), c.rng.IntN(c.env.opt.feeds())) }

// anything chooses a resource ID that is not a feed.
func (c *client) anything() string {
	s := c.service()
	switch c.rng.IntN(10) {
	case 0:
		return service.Leaf(s, c.rng.IntN(service.Leaves))
	case 1:
		return service.Mortal(s, c.rng.IntN(service.Mortals))
	case 2, 3:
		// The same part of the collection has several spellings.
		return service.Query(s, c.rng.IntN(service.Queries)) + "?" +
			[]string{"from=0&count=3", "count=3&from=0", "from=2", "count=4&from=1"}[c.rng.IntN(4)]
	}
	group := service.Group(s, c.rng.IntN(c.env.opt.groups()))
	return group[c.rng.IntN(len(group))]
}

// run connects again and again until the context ends or the phase says so.
func (c *client) run(ctx context.Context) {
	for first := true; ctx.Err() == nil && !c.env.in(leaving); first = false {
		if !first {
			c.pause(ctx, time.Duration(50+c.rng.IntN(1000))*time.Millisecond)
		}
		c.view, c.feeds, c.retry = resmodel.NewView(), map[string]*feed{}, map[string]time.Time{}
		c.pending, c.nextID, c.trace = map[int]uint64{}, 0, nil
		c.opened, c.lastRead, c.stormed = time.Now(), time.Time{}, c.env.storm.Load()
		switch c.kind {
		case socket:
			c.socket(ctx)
		case stream:
			c.stream(ctx)
		case poller, caller:
			c.requests(ctx)
		}
		c.setComplete(false)
	}
}

// pause waits, unless the context ends.
func (c *client) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (c *client) setComplete(complete bool) {
	if c.complete != complete {
		c.complete = complete
		c.env.connected.Add(map[bool]int64{true: 1, false: -1}[complete])
	}
}

// traced is how many messages a failure shows.
const traced = 60

func (c *client) note(m string) {
	if c.trace = append(c.trace, m); len(c.trace) > 4*traced {
		c.trace = slices.Clone(c.trace[len(c.trace)-traced:])
	}
}

// fail reports that the gateway did something wrong to the client.
func (c *client) fail(format string, args ...any) {
	c.env.journal.fail("%s: %s%s", c.name(), fmt.Sprintf(format, args...), c.story())
}

// story is the latest messages, for texts of failures.
func (c *client) story() string {
	var b strings.Builder
	for _, m := range c.trace[max(0, len(c.trace)-traced):] {
		fmt.Fprintf(&b, "\n      %.400s", m)
	}
	return b.String()
}

// fold takes a message of a stream or WebSocket. It returns false if the client could not follow:
// then the connection is of no use.
func (c *client) fold(m string, fold func(string) error) bool {
	c.env.journal.messages.Add(1)
	if !strings.Contains(m, `.tick","data":`) { // the most, and they change no state
		c.note("< " + m)
	}
	if err := fold(m); err != nil {
		c.fail("cannot follow: %v", err)
		return false
	}
	if !strings.HasPrefix(m, `{"event":"`) {
		return true
	}
	var e struct {
		Event string
		Data  json.RawMessage
	}
	if json.Unmarshal([]byte(m), &e) != nil {
		return true
	}
	dot := strings.LastIndexByte(e.Event, '.')
	rid, name := e.Event[:dot], e.Event[dot+1:]
	switch name {
	case "tick":
		c.tick(rid, e.Data)
	case "unsubscribe":
		delete(c.feeds, rid)
		c.retry[rid] = time.Now().Add(time.Duration(300+c.rng.IntN(1500)) * time.Millisecond)
	}
	return true
}

// tick checks the number of a custom event.
func (c *client) tick(rid string, data json.RawMessage) {
	var t service.Tick
	if err := json.Unmarshal(data, &t); err != nil || t.N == 0 {
		c.fail("tick of %s has the data %s", rid, data)
		return
	}
	j := c.env.journal
	j.ticks.Add(1)
	of, at := service.Of(rid), time.Unix(0, t.Time)
	if of < 0 || of >= services {
		c.fail("tick of %s, which is no feed", rid)
		return
	}
	fresh := &c.env.fresh[c.gateway][of]
	for old := fresh.Load(); t.Time > old && !fresh.CompareAndSwap(old, t.Time); old = fresh.Load() {
	}
	f := c.feeds[rid]
	if f == nil {
		f = &feed{}
		c.feeds[rid] = f
	}
	before := f.at
	switch o, missing := f.take(t); o {
	case skipping, delayed:
		g := gap{gateway: c.gateway, service: of, count: missing, from: before, until: at, who: c.name() + " " + rid, late: o == delayed,
			slow: c.lastRead.After(before)}
		if o == delayed {
			g.from, g.until = at, before
		}
		j.missed(g)
	case repeated:
		j.do(func() { j.repeated++ })
		c.fail("tick %d of %s, generation %d, came twice", t.N, rid, t.Gen)
	default:
		if !c.slow {
			j.late(time.Since(at))
		}
	}
}

// judge compares what the client has with the truth, once a round. ready is "" unless something
// that the client waits for is missing.
func (c *client) judge(r *round, ready string, compare func(*truth) string) {
	if v := c.verdict.Load(); v != nil && v.round == r.n && v.text == "" {
		return
	}
	text := ready
	if text == "" {
		text = compare(r.truth)
	}
	if text != "" {
		text = c.name() + ": " + text
	}
	v := &verdict{round: r.n, text: text}
	if text != "" {
		v.story = c.story()
	}
	c.verdict.Store(v)
}

// compare holds the view against the truth.
func (c *client) compare(t *truth) string {
	for _, rid := range c.view.Held() {
		if c.view.Deleted(rid) {
			continue
		}
		want, ok := t.value(rid, c.version)
		got, _ := c.view.Value(rid)
		switch {
		case ok && c.view.Failed(rid):
			return fmt.Sprintf("%s failed with %s, but it is there", rid, got)
		case !ok && !c.view.Failed(rid):
			return fmt.Sprintf("%s is %s, but it is not there", rid, got)
		case ok && got != want:
			return fmt.Sprintf("%s is\n      %s, want\n      %s", rid, got, want)
		}
	}
	subscribed := c.view.Subscribed()
	for _, rid := range subscribed {
		if name, _, _ := strings.Cut(rid, "?"); t.store.Denied(name) {
			return rid + " is subscribed, but its access is denied"
		}
	}
	for _, rid := range c.wants {
		name, _, _ := strings.Cut(rid, "?")
		if _, ok := t.store.Value(rid); ok && !t.store.Denied(name) && !slices.Contains(subscribed, rid) {
			return rid + " is not subscribed"
		}
	}
	for _, rid := range subscribed {
		want, ok := t.ticks[rid]
		if f := c.feeds[rid]; ok && (f == nil || f.n != want) {
			return fmt.Sprintf("of %s, %d ticks were sent; it has %+v", rid, want, f)
		}
	}
	return ""
}
