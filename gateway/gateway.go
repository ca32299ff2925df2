// Package gateway assembles a Sluice gateway: it makes the parts from one Config, connects them
// through the small interfaces that they declare, and starts and stops them in order (parts.go).
//
// It never interprets RES: session, cache and fanout do. It never reads or writes a connection:
// netpoll and natsbus do.
package gateway

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"sluice/cache"
	"sluice/fanout"
	"sluice/internal/admin"
	"sluice/internal/alternate"
	"sluice/internal/certs"
	"sluice/internal/collect"
	"sluice/internal/connid"
	"sluice/internal/embednats"
	"sluice/internal/framing"
	"sluice/internal/grace"
	"sluice/internal/httpapi"
	"sluice/internal/httpedge"
	"sluice/internal/httpserver"
	"sluice/internal/jwtauth"
	"sluice/internal/lifecycle"
	"sluice/internal/limit"
	"sluice/internal/memory"
	"sluice/internal/metrics"
	"sluice/internal/metricsserver"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/owners"
	"sluice/internal/presence"
	"sluice/internal/ratelimit"
	"sluice/internal/reload"
	"sluice/internal/res"
	"sluice/internal/servicelog"
	"sluice/internal/session"
	"sluice/internal/tracing"
	"sluice/netpoll"
)

// httpExchange bounds reading a request's body and writing its response.
const httpExchange = 30 * time.Second

// Gateway is a running gateway, or one that can be started. Its methods may be called from any
// goroutine.
type Gateway struct {
	// Fixed after New.
	config    Config
	clock     owner.Clock
	log       *slog.Logger
	metrics   *metrics.Registry
	proxies   []netip.Prefix
	addresses *ratelimit.Addresses
	elsewhere alternate.Rotation // other gateways
	tls       *tls.Config        // nil: plaintext
	certs     *certs.Store       // of tls
	ids       connid.Maker
	http      *httpedge.Edge
	rest      *httpapi.Handler // of http
	tokens    *jwtauth.Auth
	tracer    *tracing.Tracer // nil: off
	owners    *owners.Set
	engine    *netpoll.Engine
	scrape    *httpserver.Server // nil: no metrics port
	admin     *admin.Server      // nil: no admin port
	resets    *owner.Throttle
	budgets   memory.Budgets
	limits    *limit.Table // of requests at services
	memory    *memory.Watch
	life      *lifecycle.Group

	reloader *reload.Reloader

	embedded atomic.Pointer[embednats.Server] // set once by Start; nil: NATS is not embedded
	draining atomic.Bool                      // health checks fail
	left     atomic.Bool                      // see Leave
	cutHTTP  metrics.Counter                  // connections of net/http closed at the deadline of the drain

	faults *owner.Faults // logs and counts contained panics

	// Counters, each shared by all parts of its kind.
	netMetrics     netpoll.Metrics
	limitMetrics   ratelimit.Metrics
	compressions   metrics.Counter // WebSocket messages compressed, by any loop
	fanoutMetrics  fanout.Metrics
	sessionMetrics session.Metrics
	cacheMetrics   cache.Metrics
	busMetrics     natsbus.Metrics
	leafMetrics    embednats.Metrics
	httpMetrics    httpedge.Metrics
	tokenMetrics   jwtauth.Metrics
	traceMetrics   tracing.Metrics
	restMetrics    httpapi.Metrics
	services       *servicelog.Log

	trace framing.Trace
	grace *grace.Period

	presence        *presence.Tracker // nil: off
	presenceMetrics presence.Metrics
	// natsFailed ends the gateway because of NATS. It is set before the first connection.
	natsFailed func(error)
}

// New returns a gateway for a configuration, or an error that says what is wrong with it. It opens
// no connection and no port; Start does.
func New(c Config) (*Gateway, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.WithDefaults()
	ids := connid.New()
	g := &Gateway{
		config:  c,
		clock:   c.Clock,
		log:     c.Log,
		metrics: c.Metrics,
		ids:     ids,
		trace:   framing.Trace{Log: c.Log, IDs: ids},
		resets:  owner.NewThrottle(c.ResetThrottle),
		budgets: memory.NewBudgets(c.CacheBytes, c.BacklogBytes),
	}
	if g.clock == nil {
		g.clock = owner.SystemClock()
	}
	g.elsewhere.Set(c.Alternates)
	g.limits = limit.NewTable(c.ServiceLimits())
	g.reloader = g.newReloader(c)
	g.services = servicelog.New(c.Log, g.clock)
	g.faults = owner.NewFaults(g.clock, g.log)
	if g.metrics == nil {
		g.metrics = metrics.New(c.Version, Protocol)
	}
	if c.EmbeddedNATS {
		if err := embednats.Check(c.EmbeddedNATSOptions(c.Log)); err != nil {
			return nil, err
		}
	}
	networks, err := c.Networks()
	if err != nil {
		return nil, err
	}
	g.proxies = networks.Proxies
	limits := c.AddressLimits(&networks)
	limits.Metrics = &g.limitMetrics
	g.addresses = ratelimit.New(limits)
	if c.TLS {
		files, keys := c.CertificateFiles()
		g.certs, err = certs.New(certs.Options{Certs: files, Keys: keys, Log: c.Log, Clock: g.clock})
		if err != nil {
			return nil, err
		}
		g.tls = g.certs.Config("h2", "http/1.1")
	}
	g.grace = grace.New(grace.Options{
		Length:  max(c.NATSGrace, 0),
		Clock:   g.clock,
		Log:     c.Log,
		Expired: g.natsLost,
	})
	if c.ConnectionEvents {
		g.presence = presence.New(c.Presence(ids.Prefix()), presence.Env{Clock: g.clock, Wall: g.clock.Wall, Draining: func() bool { return g.draining.Load() || g.left.Load() }, Metrics: &g.presenceMetrics, Faults: g.faults, Log: g.log})
	}
	g.tokens = jwtauth.New(c.JWT(), jwtauth.Env{Clock: g.clock, Wall: g.clock.Wall, Metrics: &g.tokenMetrics, Faults: g.faults, Log: g.log})
	g.tracer = tracing.New(c.Tracing(), tracing.Env{Clock: g.clock, Wall: g.clock.Wall, Metrics: &g.traceMetrics, Faults: g.faults, Log: g.log})
	g.http = httpedge.New(g.httpOptions(&g.config, networks.Trusted))
	g.rest = g.http.API()
	g.owners = owners.New(g.ownersOptions())
	if g.engine, err = netpoll.New(g.engineOptions()); err != nil {
		return nil, err
	}
	g.memory = memory.NewWatch(g.watchOptions(memory.Current()))
	if port := c.MetricsPort; port != 0 || c.MetricsListener != nil {
		host, _, _ := net.SplitHostPort(c.ListenAddr())
		g.scrape = metricsserver.New(metricsserver.Options{
			Addr:     net.JoinHostPort(host, strconv.Itoa(max(port, 0))),
			Listener: c.MetricsListener,
			Registry: g.metrics,
			Profiles: c.Profiles,
			NotFound: http.HandlerFunc(NotFound),
			Reload:   g.reloadHandler(),
			Health:   g.http.Health(),
			Log:      g.log,
		})
	}
	if c.AdminPort != 0 {
		if g.admin, err = admin.New(g.adminOptions()); err != nil {
			return nil, err
		}
	}
	if err := collect.Register(g.metrics, g.counters()); err != nil {
		return nil, err
	}
	g.life = lifecycle.New(g.parts()...)
	return g, nil
}

// Start connects to NATS, retrying with back-off for Config.NATSTimeout, and then listens for
// clients. When it returns without an error, clients are served until Stop, or until a part fails.
// ctx ends the attempts. A gateway can be started once.
func (g *Gateway) Start(ctx context.Context) error {
	if err := g.life.Start(ctx); err != nil {
		return err
	}
	for _, w := range g.config.Warnings() {
		g.log.Warn(w)
	}
	g.log.Info("listening", "addr", g.config.ListeningOn(g.engine.Addr()), "loops", g.config.LoopCount(), "shards", g.config.ShardCount(), "flush", g.engine.Flush(), "nats", g.NATSURL())
	return nil
}

// Stop drains the clients (see drain), then closes the connections to NATS. It also aborts a
// running Start. When ctx ends, Stop closes what is left immediately and returns ctx's error. When
// it returns, nothing of the gateway runs.
func (g *Gateway) Stop(ctx context.Context) error { return g.life.Stop(ctx) }

// Alive returns nil once every event loop and cache shard has handled a message, or ctx's error. It
// is for a watchdog: an owner that hangs keeps it waiting.
func (g *Gateway) Alive(ctx context.Context) error {
	if g.owners.Bus() == nil {
		return nil // it starts: there is no owner yet
	}
	return g.owners.Each(ctx, func(*owners.Loop) {})
}

// Done returns a channel that yields the error of a part that failed after Start, if one does,
// which stops the gateway. It is closed when the gateway has stopped.
func (g *Gateway) Done() <-chan error { return g.life.Done() }

// Registry returns the gateway's metrics.
func (g *Gateway) Registry() *metrics.Registry { return g.metrics }

// counters returns the counters of all parts.
func (g *Gateway) counters() *collect.Sources {
	var expiry func() time.Time
	if g.certs != nil {
		expiry = g.certs.Expiry
	}
	return &collect.Sources{
		Net: &g.netMetrics, Fanout: &g.fanoutMetrics, Session: &g.sessionMetrics, Cache: &g.cacheMetrics,
		NATS: &g.busMetrics, Leaf: &g.leafMetrics, Limits: &g.limitMetrics, HTTP: &g.httpMetrics, API: &g.restMetrics,
		Compressions: &g.compressions, CutHTTP: &g.cutHTTP, InvalidAnswers: &g.services.Invalid,
		Faults: g.faults, Draining: g.draining.Load, Services: g.limits, Memory: g.memory, Tokens: &g.tokenMetrics, Traces: &g.traceMetrics, Presence: &g.presenceMetrics,
		Owners: &collect.Owners{Loops: g.engine.Measured, Now: g.clock.Now, Mailboxes: g.owners.Waiting},
		Status: &collect.Status{Ready: g.ready, Connected: g.healthy, CertExpiry: expiry, Reloads: &g.reloader.Metrics, Memory: memory.Read, MemoryLimit: g.memory.Limit()},
	}
}

// Addr returns the address that clients are served on, with the port that was chosen if Config.Port
// is FreePort. It is nil before Start.
func (g *Gateway) Addr() net.Addr { return g.engine.Addr() }

// MetricsAddr returns the address that metrics are served on; nil before Start, and if they are not
// served.
func (g *Gateway) MetricsAddr() net.Addr { return g.scrape.Addr() }

// Embedded returns the NATS server in this process once it runs; nil: there is none.
func (g *Gateway) Embedded() *embednats.Server { return g.embedded.Load() }

// NATSURL returns Config.NATSURL, or the address of the embedded NATS server once it runs.
func (g *Gateway) NATSURL() NATSURL {
	if e := g.embedded.Load(); e != nil {
		return NATSURL(e.URL())
	}
	return g.config.NATSURL
}

// engineOptions returns the options of the event loops.
func (g *Gateway) engineOptions() netpoll.Options {
	c := &g.config
	return netpoll.Options{
		Addr:       c.ListenAddr(),
		Loops:      c.LoopCount(),
		WSPath:     httpedge.EscapedPath(c.WSPath),
		Handler:    g.owners.Handler(),
		Holder:     g.held(),
		Others:     g.rest.Waiting,
		HTTP:       func(c net.Conn) { g.http.Handover(c) },
		Clock:      g.clock,
		Metrics:    &g.netMetrics,
		Log:        g.log,
		Flush:      netpoll.Flush(c.Flush),
		Listeners:  c.Listeners,
		ProxyFrom:  g.proxies,
		Addresses:  g.addresses,
		TLS:        g.tls,
		InputEnded: httpedge.InputEnded,
		Alternates: &g.elsewhere,
		Elsewhere:  httpedge.SendAway,

		ResponseHeader:  g.rest.Origins().Lines(),
		TooManyRequests: string(res.TooActive("too many connections from this address").AppendJSON(nil)),

		Faults:     g.faults,
		AfterPanic: g.owners.Mend,
		Limits:     c.NetLimits(httpExchange, g.budgets.Backlog),
	}
}

// ownersOptions returns the options of the event loops' and shards' glue.
func (g *Gateway) ownersOptions() owners.Options {
	return owners.Options{
		Config: &g.config, UnusedBytes: g.budgets.Cache, IDs: g.ids, HTTP: g.http, Tokens: g.tokens, Grace: g.grace,
		Resets: g.resets, Services: g.services, Trace: g.trace, Faults: g.faults, Clock: g.clock, Log: g.log, Presence: g.presence,
		Compressions: &g.compressions, Fanout: &g.fanoutMetrics, Session: &g.sessionMetrics, Cache: &g.cacheMetrics,
	}
}

// httpOptions returns the options of the HTTP side. c has its defaults.
func (g *Gateway) httpOptions(c *Config, trusted []netip.Prefix) httpedge.Options {
	return httpedge.Options{
		API:         g.restOptions(c),
		HeaderAuth:  c.HeaderAuth,
		WSPath:      c.WSPath,
		Pages:       c.Pages,
		HideHealth:  c.HideHealth,
		Trusted:     trusted,
		Loops:       c.LoopCount(),
		MaxHead:     c.MaxHead,
		HeadTimeout: c.HeadTimeout,
		Exchange:    httpExchange,
		Addresses:   g.addresses,
		Tokens:      g.tokens,
		Clock:       g.clock,
		IdleTimeout: c.HTTPIdleTimeout,
		Heartbeat:   c.HeartbeatInterval,
		Gateway: httpedge.Gateway{
			IDs:      g.ids,
			Healthy:  g.healthy,
			Draining: g.draining.Load,
			Ready:    g.ready,
			Alive:    g.Alive,
			Closed:   g.grace.Over,
			Adopt:    g.adopt,

			Elsewhere: g.goElsewhere,
		},
		Metrics: &g.httpMetrics,
		Faults:  g.faults,
		Log:     g.log,
	}
}

// adopt moves a connection with a WebSocket upgrade from net/http to a loop.
func (g *Gateway) adopt(c net.Conn, head []byte) {
	if err := g.engine.Adopt(c, head); err != nil {
		g.log.Debug("cannot move a WebSocket upgrade from net/http to an event loop", "remote", c.RemoteAddr(), "error", err)
	}
}

// restOptions returns the options of the HTTP API of resources.
func (g *Gateway) restOptions(c *Config) httpapi.Options {
	o := c.HTTPOptions()
	o.Backlog, o.Metrics, o.Log, o.Clock = g.netMetrics.ResponseBytes.Load, &g.restMetrics, g.log, g.clock
	o.Shed = func(bytes int64, cut func(int64) int) {
		defer g.faults.Contain(owner.Alarms)
		g.engine.ShedOthers(bytes, cut)
	}
	return o
}
