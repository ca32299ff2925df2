package simulation

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sluice/cache"
	"sluice/fanout"
	"sluice/internal/config"
	"sluice/internal/connid"
	"sluice/internal/framing"
	"sluice/internal/grace"
	"sluice/internal/httpedge"
	"sluice/internal/jwtauth"
	"sluice/internal/limit"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/owners"
	"sluice/internal/servicelog"
	"sluice/internal/session"
	"sluice/netpoll"
)

// world is a gateway with its peers. One goroutine owns it and all that is in it.
type world struct {
	chooser
	log *strings.Builder // what happens, as text; nil: it is not wanted

	clock *owner.ManualClock
	gateway
	layout   *layout
	net      *network
	services []*service
	clients  []*client
	browsers []*browser
	streams  []*stream
	actors   []actor
	weighed  [kinds][]int // the actors of each kind

	pool  []string // resource IDs that clients and references choose from
	cids  []string // connection IDs that services have learnt
	calls int
	once  map[string]bool // calls that services have received
	born  map[string]bool // resources that were not there in the beginning

	part     int  // of the pool, which is got by HTTP in the end
	settling bool // the end: no new faults
	lossy    bool // messages of NATS may have been lost
	forgets  bool // the layout drops custom events
	received int
	failure  error
}

// gateway is the gateway, made of the same parts as a program's.
type gateway struct {
	net4   *netpoll.Driven
	bus    *natsbus.Driven
	owners *owners.Set
	grace  *grace.Period
	resets *owner.Throttle
	limits *limit.Table
	faults *owner.Faults

	netMetrics     netpoll.Metrics
	busMetrics     natsbus.Metrics
	cacheMetrics   cache.Metrics
	sessionMetrics session.Metrics
	fanoutMetrics  fanout.Metrics
	compressions   metrics.Counter
}

// errStop ends a world that has failed.
var errStop = errors.New("the world has failed")

func (w *world) logf(format string, args ...any) {
	if w.log != nil {
		fmt.Fprintf(w.log, format+"\n", args...)
	}
}

// note is logf for what happens often. It costs next to nothing if it is not wanted.
func (w *world) note(parts ...string) {
	if w.log == nil {
		return
	}
	for _, p := range parts {
		w.log.WriteString(p)
	}
	w.log.WriteByte('\n')
}

// failf notes a failure, the first one, and ends the world.
func (w *world) failf(format string, args ...any) {
	if w.failure == nil {
		w.failure = fmt.Errorf(format, args...)
	}
	panic(errStop)
}

// decode parses JSON into v, as far as it is that.
func decode(text string, v any) { _ = json.Unmarshal([]byte(text), v) }

// newWorld makes a world. The choices of its layout are those of the chooser.
func newWorld(c chooser, log *strings.Builder) *world {
	w := &world{chooser: c, log: log, clock: owner.NewManualClock(), once: map[string]bool{}, born: map[string]bool{}}
	w.layout = &layouts()[w.pick(len(layouts()))]
	w.forgets = w.layout.forgets
	w.logf("layout: %s", w.layout.name)
	w.net = newNetwork(w, w.layout.config.NATSConnections)
	w.start()
	for _, name := range []string{"a", "b"} {
		w.services = append(w.services, newService(w, name))
	}
	for _, s := range w.services {
		s.fill()
	}
	for i := range 3 {
		c := &client{follower: follower{peer: w.peer("client", i), version: []string{"1.2.3", "1.2.0"}[i/2]}}
		if i == 1 {
			c.room = 4 << 10
		}
		w.clients = append(w.clients, c)
		c.connect()
	}
	for i := range 2 {
		w.browsers = append(w.browsers, &browser{peer: w.peer("browser", i), saw: map[string]string{}, reader: bufio.NewReaderSize(nil, 1<<10)})
		w.streams = append(w.streams, &stream{follower: follower{peer: w.peer("stream", i), version: "1.2.3"}})
	}
	w.streams[1].room = 4 << 10
	w.makeActors()
	return w
}

// peer returns a client's side of a connection.
func (w *world) peer(kind string, i int) peer {
	return peer{w: w, name: fmt.Sprint(kind, " ", i), loop: i % w.layout.config.LoopCount(), room: 256 << 10}
}

// begin has clients hold resources, in most worlds, before anything is at random.
func (w *world) begin() {
	w.part = w.pick(parts)
	if w.pick(4) == 0 {
		return
	}
	w.logf("-- begin")
	for _, c := range w.clients {
		for range w.pick(4) {
			c.request("subscribe."+pickOf(&w.chooser, w.pool), "")
		}
	}
	w.drain()
}

// start starts the gateway.
func (w *world) start() {
	c := &w.layout.config
	ids, log := connid.WithPrefix("c"), c.Log
	g := &w.gateway
	g.resets = owner.NewThrottle(c.ResetThrottle)
	g.limits = limit.NewTable(c.ServiceLimits())
	g.faults = owner.NewFaults(w.clock, log)
	g.grace = grace.New(grace.Options{Length: c.NATSGrace, Clock: w.clock, Log: log, Expired: func() { w.failf("the grace period is over") }})
	api := c.HTTPOptions()
	api.Backlog, api.Log, api.Clock = g.netMetrics.ResponseBytes.Load, log, w.clock
	edge := httpedge.New(httpedge.Options{
		API: api, WSPath: c.WSPath, Loops: c.LoopCount(), Heartbeat: c.HeartbeatInterval, Clock: w.clock, Faults: g.faults, Log: log,
		Gateway: httpedge.Gateway{IDs: ids, Healthy: func() bool { return true }, Draining: func() bool { return false }, Closed: g.grace.Over},
	})
	g.owners = owners.New(owners.Options{
		Config: c, UnusedBytes: 1 << 20, IDs: ids, HTTP: edge, Tokens: new(jwtauth.Auth), Grace: g.grace, Resets: g.resets,
		Services: servicelog.New(log, w.clock), Trace: framing.Trace{Log: log, IDs: ids}, Faults: g.faults, Clock: w.clock, Log: log,
		Compressions: &g.compressions, Fanout: &g.fanoutMetrics, Session: &g.sessionMetrics, Cache: &g.cacheMetrics,
	})
	o := natsbus.Options{
		Log: log, Metrics: &g.busMetrics, Faults: g.faults, Services: g.limits, Clock: w.clock, Timeouts: owners.Timeouts(c),
		Conns: c.NATSConnections, PendingLimit: w.layout.pending,
	}
	err := g.owners.Attach(o, func(o natsbus.Options) (*natsbus.Bus, error) {
		g.bus = natsbus.NewDriven(o, w.net)
		return g.bus.Bus, nil
	})
	if err != nil {
		panic(err) // a driven bus is made without errors
	}
	for i, l := range g.bus.Links {
		w.net.links[i].driven = l
	}
	g.net4, err = netpoll.NewDriven(netpoll.Options{
		Loops: c.LoopCount(), Handler: g.owners.Handler(), Holder: httpedge.Held{Sessions: &g.sessionMetrics, Fanout: &g.fanoutMetrics}, Clock: w.clock,
		Metrics: &g.netMetrics, Log: log, Limits: c.NetLimits(time.Minute, 1<<30), Faults: g.faults, AfterPanic: g.owners.Mend,
	})
	if err != nil {
		panic(err) // the layouts are valid
	}
}

// close releases what the garbage collector cannot.
func (w *world) close() { w.bus.Close() }

// of returns the service of a resource.
func (w *world) of(name string) *service {
	for _, s := range w.services {
		if strings.HasPrefix(name, s.name+".") {
			return s
		}
	}
	return w.services[0]
}

// value makes a value of any kind.
func (w *world) value() any {
	switch w.pick(10) {
	case 0, 1, 2, 3:
		return w.pick(4)
	case 4, 5, 6:
		return map[string]any{"rid": pickOf(&w.chooser, w.pool)}
	case 7:
		return map[string]any{"rid": pickOf(&w.chooser, w.pool), "soft": true}
	case 8:
		return map[string]any{"data": map[string]any{"n": w.pick(3)}}
	}
	return fmt.Sprint("s", w.pick(3))
}

// requested has the service of a request receive it.
func (w *world) requested(l *natsLink, m toServer) {
	_, name, _ := strings.Cut(m.subject, ".")
	s := w.of(name)
	if s.away {
		w.logf("NATS: no responders for %s", m.subject)
		l.in = append(l.in, fromServer{subscription: m.reply[:strings.LastIndexByte(m.reply, '.')] + ".*", subject: m.reply, none: true})
		return
	}
	r := &request{subject: m.subject, reply: m.reply, data: string(m.data)}
	r.read()
	if verb, _, _ := strings.Cut(m.subject, "."); r.n > 0 && (verb == "call" || verb == "auth") {
		key := fmt.Sprint(r.cid, " ", r.n)
		if w.once[key] {
			w.failf("%s receives a call twice: %s %s", s.name, m.subject, m.data)
		}
		w.once[key] = true
	}
	if r.cid != "" && !slices.Contains(w.cids, r.cid) {
		w.cids = append(w.cids, r.cid)
	}
	w.note(s.name, " is asked ", m.subject, " ", r.data)
	s.open = append(s.open, r)
	if most := w.layout.config.MaxServiceRequests; most > 0 && !w.lossy && len(s.open) > most {
		w.failf("%s has %d requests, of at most %d", s.name, len(s.open), most)
	}
}

// layout is a configuration of the gateway.
type layout struct {
	name    string
	config  config.Config
	pending int  // see natsbus.Options.PendingLimit
	forgets bool // custom events may be dropped
}

var allLayouts []layout

func layouts() []layout { return allLayouts }

func init() {
	add := func(name string, pending int, change func(l *layout, c *config.Config)) {
		c := config.Config{
			Loops: 2, Shards: 2, NATSConnections: 1, Log: slog.New(slog.DiscardHandler), CacheEviction: 20 * time.Millisecond,
			NATSGrace: time.Hour, Flush: "write", HeartbeatInterval: time.Minute,
		}
		l := layout{name: name, pending: pending}
		change(&l, &c)
		l.config = c.WithDefaults()
		allLayouts = append(allLayouts, l)
	}
	add("usual", 1<<10, func(*layout, *config.Config) {})
	add("one", 1<<10, func(_ *layout, c *config.Config) { c.Loops, c.Shards = 1, 1 })
	add("throttled", 1<<10, func(_ *layout, c *config.Config) { c.ReferenceThrottle, c.ResetThrottle = 1, 1 })
	add("limited", 1<<10, func(_ *layout, c *config.Config) {
		c.MaxServiceRequests, c.ReferenceThrottle, c.ResetThrottle = 1, 1, 1
	})
	add("several connections", 1<<10, func(_ *layout, c *config.Config) {
		c.MaxServiceRequests, c.ResetThrottle, c.Loops, c.Shards, c.NATSConnections = 3, 2, 3, 4, 3
	})
	add("held", 1<<10, func(l *layout, c *config.Config) { c.HeldEvents, l.forgets = 1, true })
	add("forgetful", 1<<10, func(_ *layout, c *config.Config) { c.CacheEviction = config.Off })
	add("overrun", 4, func(*layout, *config.Config) {})
	add("asks little", 1<<10, func(_ *layout, c *config.Config) { c.MaxPending = 2 })
}

// seeded returns the chooser of a world by its number.
func seeded(seed, number uint64) chooser {
	return chooser{rng: rand.New(rand.NewPCG(seed, number))}
}
