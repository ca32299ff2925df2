// Package gateway puts a Sluice gateway together: it makes the parts from one
// Config, joins them through the small interfaces that they declare, and starts
// and stops them in order. It also holds the HTTP side's routes.
//
// It decides who talks to whom. It never decides what RES means: that is up to
// session, cache and fanout; nor how bytes travel: netpoll and natsbus.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/cache"
	"sluice/fanout"
	"sluice/internal/certs"
	"sluice/internal/config"
	"sluice/internal/embednats"
	"sluice/internal/httpapi"
	"sluice/internal/httpedge"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/session"
	"sluice/netpoll"
)

// minPending is how many messages of a NATS connection may wait for its
// dispatcher, at least, whatever bufferSize says: its default is Resgate's 8192,
// and files written by Resgate hold it. When thousands of clients reconnect, that
// many answers come at once; and what does not fit is a gap, after which
// everything cached is fetched anew. A place in the queue costs a pointer.
const minPending = 1 << 16

const (
	// httpIdle is how long a kept-alive HTTP connection may be silent.
	httpIdle = 60 * time.Second
	// httpExchange bounds reading a request's body and writing its answer.
	httpExchange = 30 * time.Second
)

// Gateway is a running gateway, or one that can be started. Its methods may be
// called from any goroutine.
type Gateway struct {
	// Fixed after New.
	config  Config
	clock   owner.Clock
	log     *slog.Logger
	metrics *metrics.Registry
	proxies []netip.Prefix
	tls     *tls.Config // nil: plaintext
	cids    cids
	http    *httpedge.Edge
	rest    *httpapi.Handler // of http

	// Fixed after Start.
	embedded *embednats.Server
	bus      *natsbus.Bus
	engine   *netpoll.Engine
	scrape   *metricsServer
	resets   *owner.Throttle

	owners

	faults *owner.Faults // panics that were contained

	// Counters that the parts of a kind share.
	netMetrics     netpoll.Metrics
	compressions   metrics.Counter // WebSocket messages compressed, by any loop
	fanoutMetrics  fanout.Metrics
	sessionMetrics session.Metrics
	cacheMetrics   cache.Metrics
	busMetrics     natsbus.Metrics
	httpMetrics    httpedge.Metrics
	restMetrics    httpapi.Metrics
	deprecated     deprecations
	badAnswers     badAnswers

	watch watch

	mu      sync.Mutex
	started bool
	stopped bool
	done    chan error
}

// New returns a gateway for a configuration, or what is wrong with it. Nothing
// is opened before Start.
func New(c Config) (*Gateway, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.WithDefaults()
	g := &Gateway{
		config:     c,
		clock:      c.Clock,
		log:        c.Log,
		metrics:    c.Metrics,
		cids:       newCIDs(),
		owners:     owners{loops: make([]atomic.Pointer[loop], c.LoopCount())},
		resets:     owner.NewThrottle(c.ResetThrottle),
		done:       make(chan error, 1),
		deprecated: deprecations{log: c.Log},
	}
	if g.clock == nil {
		g.clock = owner.SystemClock()
	}
	g.badAnswers.log, g.badAnswers.clock = c.Log, g.clock
	g.faults = owner.NewFaults(g.clock, g.log)
	if g.metrics == nil {
		g.metrics = metrics.New(c.Version, Protocol)
	}
	trusted, err := config.ParseNetworks(c.TrustForwardedFrom)
	if err != nil {
		return nil, err
	}
	if g.proxies, err = config.ParseNetworks(c.ProxyProtocolFrom); err != nil {
		return nil, err
	}
	if c.TLS {
		files, keys := c.CertificateFiles()
		store, err := certs.New(certs.Options{Certs: files, Keys: keys, Log: c.Log, Clock: g.clock})
		if err != nil {
			return nil, err
		}
		g.tls = store.Config("h2", "http/1.1")
	}
	g.http = httpedge.New(g.httpOptions(trusted))
	g.rest = g.http.API()
	g.watch.init(g)
	if err := g.register(); err != nil {
		return nil, err
	}
	return g, nil
}

// Start connects to NATS, retrying with back-off for Config.NATSTimeout, and
// then listens for clients. When it returns without an error, clients are
// served until Stop. ctx ends the attempts. A gateway can be started once.
func (g *Gateway) Start(ctx context.Context) (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.started {
		return errors.New("gateway: already started")
	}
	g.started = true
	defer func() {
		if err != nil {
			g.halt(context.Background())
		}
	}()
	var inProcess func() (net.Conn, error)
	if g.config.EmbeddedNATS {
		if g.embedded, err = embednats.Start(embednats.Options{Listen: g.config.EmbeddedNATSListen, Log: g.log, Trace: LevelTrace}); err != nil {
			return err
		}
		inProcess = g.embedded.InProcessConn
		g.log.Info("NATS server embedded", "url", g.embedded.URL())
	}
	for i := range g.config.ShardCount() {
		g.shards = append(g.shards, newShard(g, i))
	}
	g.bus, err = natsbus.Connect(ctx, natsbus.Options{
		URL:            g.NATSURL(),
		InProcess:      inProcess,
		Name:           "sluice",
		Creds:          g.config.NATSCreds,
		Cert:           g.config.NATSCert,
		Key:            g.config.NATSKey,
		RootCAs:        g.config.NATSRootCAs,
		Conns:          g.config.NATSConnections,
		Receiver:       &router{owners: &g.owners, cids: g.cids, log: g.log},
		Signal:         g.watch.signal,
		Log:            g.log,
		Metrics:        &g.busMetrics,
		Faults:         g.faults,
		RequestTimeout: g.config.RequestTimeout,
		ConnectTimeout: g.config.NATSTimeout,
		Ping:           g.config.NATSPing,
		PendingLimit:   max(g.config.BufferSize, minPending),
	})
	if err != nil {
		return err
	}
	for i, s := range g.shards {
		s.start(g.bus, i)
	}
	if g.engine, err = netpoll.New(g.engineOptions()); err != nil {
		return err
	}
	g.http.Start(&net.TCPAddr{Port: max(g.config.Port, 0)})
	if err = g.engine.Start(); err != nil {
		return err
	}
	if port := g.config.MetricsPort; port != 0 {
		host, _, _ := net.SplitHostPort(g.config.ListenAddr())
		if g.scrape, err = startMetrics(net.JoinHostPort(host, strconv.Itoa(max(port, 0))), g.metrics, g.config.Profiles, g.log); err != nil {
			return err
		}
		g.log.Info("metrics", "addr", g.scrape.Addr().String(), "path", metricsPath)
	}
	for _, w := range g.config.Warnings() {
		g.log.Warn(w)
	}
	g.log.Info("listening", "addr", g.listening(), "loops", len(g.loops), "shards", len(g.shards), "flush", g.engine.Flush(), "nats", config.RedactURL(g.NATSURL()))
	return nil
}

// listening is the address for the log: the host as it was configured, which the
// engine's address does not show (to it, 0.0.0.0 is [::]), and the port in use.
func (g *Gateway) listening() string {
	addr := g.engine.Addr().String()
	host, _, err := net.SplitHostPort(g.config.ListenAddr())
	if err != nil || host == "" {
		return addr
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(host, port)
}

// Stop drains the gateway: no new clients, WebSocket clients closed with 1001
// over Config.DrainTimeout, answers under way sent. When ctx ends, what is left
// is closed at once. It returns when nothing of the gateway runs any more.
func (g *Gateway) Stop(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.started || g.stopped {
		return nil
	}
	return g.halt(ctx)
}

// halt ends whatever was started, in the order in which work flows: HTTP,
// clients, shards, NATS. g.mu is held.
func (g *Gateway) halt(ctx context.Context) error {
	g.stopped = true
	g.watch.stop()
	errs := []error{g.http.Stop(ctx)} // requests in progress need the loops
	if g.engine != nil {
		errs = append(errs, g.engine.Stop(ctx))
	}
	g.http.Halted()
	if g.scrape != nil {
		errs = append(errs, g.scrape.stop(ctx))
	}
	if g.bus != nil {
		g.bus.Close()
		for _, s := range g.shards {
			s.cache.Stop()
		}
	}
	if g.embedded != nil {
		g.embedded.Stop()
	}
	close(g.done)
	return errors.Join(errs...)
}

// Addr returns the address that clients are served on, with the port that was
// chosen if Config.Port is FreePort. It is nil before Start.
func (g *Gateway) Addr() net.Addr {
	if g.engine == nil {
		return nil
	}
	return g.engine.Addr()
}

// MetricsAddr returns the address that metrics are served on, nil if they are
// not.
func (g *Gateway) MetricsAddr() net.Addr {
	if g.scrape == nil {
		return nil
	}
	return g.scrape.Addr()
}

// NATSURL returns where the gateway and services meet: Config.NATSURL, or the
// embedded server's address once it runs.
func (g *Gateway) NATSURL() string {
	if g.embedded != nil {
		return g.embedded.URL()
	}
	return g.config.NATSURL
}

// Done is closed when the gateway has stopped; an error that ended it comes
// first.
func (g *Gateway) Done() <-chan error { return g.done }

// engineOptions says how the event loops are run.
func (g *Gateway) engineOptions() netpoll.Options {
	c := &g.config
	return netpoll.Options{
		Addr:      c.ListenAddr(),
		Loops:     len(g.loops),
		WSPath:    httpedge.EscapedPath(c.WSPath),
		Handler:   handler{g},
		HTTP:      g.http.Handover,
		Clock:     g.clock,
		Metrics:   &g.netMetrics,
		Log:       g.log,
		Flush:     netpoll.Flush(c.Flush),
		ProxyFrom: g.proxies,
		TLS:       g.tls,
		Limits: netpoll.Limits{
			MaxConns:         c.MaxConnections,
			MaxHead:          c.MaxHead,
			MaxMessage:       c.MaxMessage,
			HeadTimeout:      c.HeadTimeout,
			OutboxBytes:      c.OutboxBytes,
			PingInterval:     c.PingInterval,
			CloseTimeout:     c.CloseTimeout,
			DrainWindow:      c.DrainTimeout,
			IdleTimeout:      httpIdle,
			BodyTimeout:      httpExchange,
			ReadTimeout:      httpExchange,
			HandshakeTimeout: c.HandshakeTimeout,
			MaxHandshakes:    c.MaxHandshakes,
		},
	}
}

// httpOptions says how requests are answered on HTTP.
func (g *Gateway) httpOptions(trusted []netip.Prefix) httpedge.Options {
	c := &g.config
	return httpedge.Options{
		API:         g.restOptions(),
		HeaderAuth:  c.HeaderAuth,
		WSPath:      c.WSPath,
		Pages:       c.Pages,
		Trusted:     trusted,
		Loops:       len(g.loops),
		MaxHead:     c.MaxHead,
		HeadTimeout: c.HeadTimeout,
		Exchange:    httpExchange,
		IdleTimeout: httpIdle,
		Heartbeat:   c.HeartbeatInterval,
		Gateway: httpedge.Gateway{
			IDs:     g.cids,
			Healthy: func() bool { return g.bus.Connected() },
			Closed:  g.watch.closed.Load,
			Adopt:   func(c net.Conn, head []byte) { _ = g.engine.Adopt(c, head) },
		},
		Metrics: &g.httpMetrics,
		Log:     g.log,
	}
}

// restOptions says how resources are shown on HTTP.
func (g *Gateway) restOptions() httpapi.Options {
	c := &g.config
	return httpapi.Options{
		APIPath:       c.APIPath,
		Encoding:      c.APIEncoding,
		PUT:           c.PUTMethod,
		DELETE:        c.DELETEMethod,
		PATCH:         c.PATCHMethod,
		AllowOrigin:   strings.Split(c.AllowOrigin, ";"),
		HeaderAuth:    c.HeaderAuth != "",
		MaxBody:       c.MaxBody,
		CompressAbove: c.HTTPCompression,
		Heartbeat:     c.HeartbeatInterval,
		StreamBytes:   c.OutboxBytes,
		Metrics:       &g.restMetrics,
		Log:           g.log,
	}
}
