package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"sluice/cache"
	"sluice/internal/downlink"
	"sluice/internal/grace"
	"sluice/internal/limit"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/secret"
	"sluice/internal/servicelog"
	"sluice/internal/state"
	"sluice/internal/upstream"
)

// Side is the address and credentials of a NATS server.
type Side struct {
	URL       secret.URLs
	Creds     string
	Nkey      string
	Cert, Key string
	RootCAs   []string
}

// Options of a Relay. All without a default in parentheses are required.
type Options struct {
	Home, Edge Side

	CacheBytes     int           // memory of the resources that edges may hold
	MaxResource    int           // bytes of a resource
	RequestTimeout time.Duration // of a request at home
	QueueTimeout   time.Duration // of a request that waits for its service's limit
	ResetThrottle  int           // re-gets in flight after a reset; 0: no limit
	Services       *limit.Table  // limits of requests at services; nil: none
	Grace          time.Duration // how long edges are served while home is unreachable
	Lease          time.Duration // a standby takes over that long after an active relay was heard last
	ConnectTimeout time.Duration // of the first connections
	Rest           time.Duration // how long a name is kept at least after an edge has asked for it
	Ping           time.Duration // interval of pings to both servers
	Beat           time.Duration // interval of beats through the other servers of home's cluster; negative: off

	Clock    owner.Clock       // (owner.SystemClock)
	Log      *slog.Logger      // (none)
	Registry *metrics.Registry // where the metrics are registered; nil: nowhere
	Metrics  *Metrics          // (its own)
	Cache    *cache.Metrics    // (its own)
	Bus      *natsbus.Metrics  // (its own)
	Link     *downlink.Metrics // (its own)
	Faults   *owner.Faults     // (its own)
}

// backlog bounds the edges' requests that wait for the shard.
const backlog = 8192

// Relay is an origin shield. Any goroutine may call its methods.
type Relay struct {
	// Fixed after New.
	o      Options
	id     string
	log    *slog.Logger
	shard  *upstream.Shard
	front  *front
	grace  *grace.Period
	system *upstream.SystemEvents
	keeper *keeper
	path   *path

	// Fixed after Start.
	bus *natsbus.Bus

	admitted chan struct{} // a place for each of the edges' requests that wait for the shard
	stopped  atomic.Bool
	done     chan error
}

// New returns a relay that is not started.
func New(o Options) (*Relay, error) {
	if o.Clock == nil {
		o.Clock = owner.SystemClock()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Faults == nil {
		o.Faults = owner.NewFaults(o.Clock, o.Log)
	}
	setDefault(&o.Metrics)
	setDefault(&o.Cache)
	setDefault(&o.Bus)
	setDefault(&o.Link)
	r := &Relay{o: o, id: rand.Text(), log: o.Log, admitted: make(chan struct{}, backlog), done: make(chan error, 1)}
	r.system = &upstream.SystemEvents{Log: o.Log, Clock: o.Clock}
	r.shard = upstream.NewShard(cache.Options{
		UnusedBytes:   max(o.CacheBytes/16, 1),
		MaxResource:   o.MaxResource,
		ResetThrottle: owner.NewThrottle(o.ResetThrottle),
		Clock:         o.Clock,
		Log:           o.Log,
		Metrics:       o.Cache,
		Invalid:       servicelog.New(o.Log, o.Clock).InvalidReply,
		Faults:        o.Faults,
	}, loops{r})
	r.front = newFront(r.shard, &r.o, r.id)
	r.shard.EndTurn = r.front.endTurn
	r.grace = grace.New(grace.Options{Length: o.Grace, Clock: o.Clock, Log: o.Log, Expired: func() { r.keeper.home(false) }})
	r.keeper = newKeeper(r)
	r.path = &path{r: r}
	if o.Registry != nil {
		if err := o.Metrics.register(o.Registry, o.Link); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func setDefault[T any](p **T) {
	if *p == nil {
		*p = new(T)
	}
}

// loops passes the shard's updates to the front, which is made after the shard.
type loops struct{ r *Relay }

func (l loops) Post(loop int, u state.Update) { l.r.front.Post(loop, u) }
func (l loops) Backlog(loop int) int          { return l.r.front.Backlog(loop) }

// Start connects to both sides. When it returns without an error, the relay is a standby, which
// begins to serve edges when no other relay does. The error says what is wrong: a side that cannot
// be reached, or a loop of relays.
func (r *Relay) Start(ctx context.Context) (err error) {
	bus := natsbus.Options{
		URL: r.o.Home.URL, Name: "sluice-relay", Creds: r.o.Home.Creds, Nkey: r.o.Home.Nkey, Cert: r.o.Home.Cert, Key: r.o.Home.Key, RootCAs: r.o.Home.RootCAs,
		Receiver: receiver{r}, Signal: r.signal, Log: r.log, Metrics: r.o.Bus, Faults: r.o.Faults, Services: r.o.Services, Clock: r.o.Clock,
		Timeouts:       natsbus.Timeouts{RequestTimeout: r.o.RequestTimeout, QueueTimeout: r.o.QueueTimeout},
		ConnectTimeout: r.o.ConnectTimeout, Ping: r.o.Ping, Beat: r.o.Beat,
	}
	if r.bus, err = natsbus.Connect(ctx, bus); err != nil {
		r.grace.Stop()
		return fmt.Errorf("home: %w", err)
	}
	r.shard.Start(r.bus, 0)
	if err = r.keeper.start(ctx); err == nil {
		err = r.path.check(ctx)
	}
	if err != nil {
		if !r.stopped.Swap(true) { // otherwise Stop has ended it
			r.keeper.stop(ctx)
			r.close()
		}
		return err
	}
	r.keeper.run()
	return nil
}

// Stop ends serving edges: requests in flight get their replies until ctx ends, then the lease is
// released, so that a standby takes over. When it returns, nothing of the relay runs.
func (r *Relay) Stop(ctx context.Context) error {
	if r.stopped.Swap(true) {
		return nil
	}
	if r.bus != nil {
		r.keeper.stop(ctx)
		r.close()
	}
	return ctx.Err()
}

func (r *Relay) close() {
	r.grace.Stop()
	r.bus.Close()
	r.shard.Cache.Stop()
}

// Done returns a channel that yields the error because of which the relay cannot go on.
func (r *Relay) Done() <-chan error { return r.done }

// fail reports an error because of which the relay cannot go on.
func (r *Relay) fail(err error) {
	select {
	case r.done <- err:
	default:
	}
}

// Alive returns nil once the shard has handled a message, or ctx's error.
func (r *Relay) Alive(ctx context.Context) error {
	alive := make(chan struct{})
	r.shard.Cache.Run(func() { close(alive) })
	select {
	case <-alive:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ready returns nil if the relay serves edges or could; otherwise why not.
func (r *Relay) Ready() error {
	switch {
	case r.bus == nil:
		return errors.New("the relay is starting")
	case r.grace.Over():
		return errors.New("home cannot be reached")
	case !r.keeper.connected():
		return errors.New("edge cannot be reached")
	}
	if err := r.bus.Ready(); err != nil {
		return fmt.Errorf("home: %w", err)
	}
	return nil
}

// Active reports whether the relay serves edges; otherwise it is a standby.
func (r *Relay) Active() bool { return r.keeper.serving.Load() != nil && r.keeper.holds() }

// receiver passes on what arrives from home (natsbus.Receiver). Everything passes the shard, which
// keeps the order.
type receiver struct{ r *Relay }

func (c receiver) Event(name, event string, data []byte, at time.Duration) {
	shard := c.r.shard.Cache
	if event == "reaccess" && shard.Pending() < backlog {
		// The shard would drop it if the name has no state, but an edge may be about to get access.
		shard.Run(func() { c.r.front.reaccess(name) })
		return
	}
	shard.Event(name, event, data, at)
}

func (c receiver) System(event string, data []byte) {
	r := c.r
	if event != "reset" {
		r.shard.Cache.Run(func() { passage{r.front}.system(event, data) })
		return
	}
	resources, access := r.system.Reset(data)
	if len(resources) > 0 {
		r.shard.Cache.Reset(resources)
	}
	if len(access) > 0 {
		r.shard.Cache.Run(func() { passage{r.front}.resetAccess(access) })
	}
}

func (c receiver) Token(cid string, data []byte) {
	c.r.shard.Cache.Run(func() { passage{c.r.front}.token(cid, data) })
}

func (c receiver) Reply(reply natsbus.Reply) {
	c.r.shard.Cache.Run(func() { c.r.shard.Caller.Deliver(reply) })
}

func (c receiver) Refused(name string, err error) {
	c.r.shard.Cache.Refused(name, upstream.Error(err))
}

func (c receiver) Missed(name string) { c.r.shard.Cache.Missed(name) }

// signal handles changes of the connection to home.
func (r *Relay) signal(conn int, s natsbus.Signal) {
	switch s {
	case natsbus.Disconnected:
		r.grace.Lost(conn)
		r.shard.Cache.Run(func() { r.shard.Caller.Cut(conn) })
	case natsbus.Connected:
		r.grace.Restored(conn)
		r.keeper.home(true)
	case natsbus.Gap:
		r.shard.Cache.Run(func() { r.shard.Caller.Recheck(conn) })
		r.log.Warn("messages from home may have been missed; refetching everything cached, access is rechecked")
		r.shard.Cache.ResetAll()
		r.shard.Cache.Run(func() { passage{r.front}.system("reset", []byte(`{"access":[">"]}`)) })
	}
}

// edge takes what arrives on the connection that serves edges (downlink.Handler).
type edge struct{ r *Relay }

func (e edge) Take(m downlink.Message) {
	r := e.r
	r.admitted <- struct{}{} // waits while the shard has enough to do
	r.shard.Cache.Run(func() {
		defer func() { <-r.admitted }()
		passage{r.front}.request(m)
	})
}

func (e edge) Lost() {}

func (e edge) Restored() {
	e.r.shard.Cache.Run(func() {
		defer e.r.front.contain()
		e.r.front.resets.all()
	})
}

func (e edge) Failed(err error) {
	if e.r.keeper.holds() {
		e.r.fail(err)
	}
}
