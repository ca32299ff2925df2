package gateway

import (
	"context"
	"net"
	"time"

	"sluice/internal/embednats"
	"sluice/internal/lifecycle"
	"sluice/internal/owner"
	"sluice/internal/owners"
)

// parts returns the gateway's parts in the order of their start. They stop in the reverse order:
// clients leave first, while everything that serves them still runs. The port for clients opens
// last, so every client that can connect is served.
func (g *Gateway) parts() []lifecycle.Part {
	return []lifecycle.Part{
		{
			Name: "embedded NATS server",
			Off:  !g.config.EmbeddedNATS,
			Start: func(ctx context.Context, fail func(error)) error {
				o := g.config.EmbeddedNATSOptions(g.log)
				o.Metrics = &g.leafMetrics
				e, err := embednats.Start(ctx, o)
				if err != nil {
					return err
				}
				g.embedded.Store(e)
				g.log.Info("NATS server embedded", "url", e.URL())
				go func() { fail(e.Wait()) }()
				return nil
			},
			Stop: func(context.Context) error {
				g.embedded.Load().Stop()
				return nil
			},
		},
		{
			Name:  "metrics server",
			Off:   g.scrape == nil,
			Start: func(_ context.Context, fail func(error)) error { return g.scrape.Start(fail) },
			Stop:  func(context.Context) error { return g.scrape.Stop() },
		},
		{Name: "traces", Off: g.tracer == nil, Start: g.tracer.Start, Stop: g.tracer.Stop},
		{
			Name:  "NATS",
			Start: g.connect,
			Stop: func(context.Context) error {
				g.disconnect()
				return nil
			},
		},
		{
			Name:  "connection events",
			Off:   g.presence == nil,
			Start: func(ctx context.Context, _ func(error)) error { return g.presence.Start(ctx, g.owners.Bus()) },
			Stop: func(ctx context.Context) error {
				g.owners.Departed()
				return g.presence.Stop(ctx)
			},
		},
		{
			Name:  "admin server",
			Off:   g.admin == nil,
			Start: func(_ context.Context, fail func(error)) error { return g.admin.Start(fail) },
			Stop:  func(context.Context) error { return g.admin.Stop() },
		},
		{Name: "tokens", Start: g.tokens.Start, Stop: g.tokens.Stop},
		{
			Name: "HTTP server",
			Start: func(_ context.Context, fail func(error)) error {
				g.http.Start(&net.TCPAddr{Port: max(g.config.Port, 0)}, fail)
				return nil
			},
			Stop: func(context.Context) error {
				ended, cancel := context.WithCancel(context.Background())
				cancel() // drain has awaited the requests
				_ = g.http.Stop(ended)
				return nil
			},
		},
		{
			Name: "memory watch",
			Start: func(context.Context, func(error)) error {
				g.memory.Start()
				return nil
			},
			Stop: func(context.Context) error {
				g.memory.Stop()
				return nil
			},
		},
		{
			Name: "event loops",
			Start: func(_ context.Context, fail func(error)) error {
				if err := g.engine.Start(); err != nil {
					return err
				}
				go func() {
					<-g.engine.Ended()
					if err := g.engine.Err(); err != nil {
						fail(err)
					}
				}()
				return nil
			},
			Stop: g.drain,
		},
		{
			Name: "reloads",
			Start: func(context.Context, func(error)) error {
				g.reloader.Open()
				return nil
			},
			Stop: func(context.Context) error {
				g.reloader.Close()
				return nil
			},
		},
	}
}

// connect connects the shards to NATS.
func (g *Gateway) connect(ctx context.Context, fail func(error)) error {
	g.natsFailed = fail
	o := g.config.NATSOptions(g.embedded.Load())
	o.URL, o.Timeouts = g.NATSURL(), owners.Timeouts(&g.config)
	o.Log, o.Metrics, o.Faults, o.Services, o.Tracer, o.Clock = g.log, &g.busMetrics, g.faults, g.limits, g.tracer, g.clock
	if g.presence != nil {
		o.Subjects, o.Message = g.presence.Subjects(), g.presence.Message
	}
	err := g.owners.Connect(ctx, o)
	if err != nil {
		g.grace.Stop()
	}
	return err
}

// disconnect undoes connect.
func (g *Gateway) disconnect() {
	g.grace.Stop()
	g.owners.Disconnect()
}

// leaveDelay is for how long clients whose connection was accepted at the last moment before Leave
// are served, so that the drain finds them in order.
const leaveDelay = 500 * time.Millisecond

// drainSlack extends the drain beyond its windows, for timers that are due at their end.
const drainSlack = 250 * time.Millisecond

// drain closes all clients in three steps, timed by the gateway's clock:
//
//  1. Health checks fail from the beginning. For Config.ShutdownDelay, clients are
//     served as before, new ones too, since load balancers need time to notice.
//     After Leave it is leaveDelay, and health checks do not fail yet: they are those of clients
//     that the other process has not got.
//  2. Listening ends. WebSockets are closed with 1001, spread over
//     Config.DrainTimeout. Meanwhile in-flight requests get their responses, and
//     streams end, on the loops and on net/http. Idle connections are closed. Each
//     client then has Config.CloseTimeout.
//  3. The remaining connections are counted, logged and closed.
//
// The end of ctx, or of the event loops, leads to step 3. Then ctx's error is returned.
func (g *Gateway) drain(ctx context.Context) error {
	c := g.reloader.Running().WithDefaults()
	window := max(c.DrainTimeout, 0) + c.CloseTimeout + drainSlack
	wait := max(c.ShutdownDelay, 0)
	if g.left.Load() {
		wait = leaveDelay
	}
	delay, end := owner.Within(ctx, g.clock, wait) // runs when health checks begin to fail
	g.draining.Store(!g.left.Load())
	g.log.Info("draining", "connections", g.netMetrics.OpenAll.Load(), "delay", wait, "within", window)
	if wait > 0 {
		select {
		case <-delay.Done():
		case <-g.engine.Ended():
		}
	}
	end()
	g.draining.Store(true)
	g.grace.Stop()
	deadline, cut := owner.Within(ctx, g.clock, window)
	defer cut()
	loops := make(chan error, 1)
	go func() { loops <- g.engine.Drain(deadline) }()
	_ = g.http.Drain(deadline) // the remaining connections are counted below
	<-loops
	g.engine.Close()
	g.http.Halted()
	g.cutHTTP.Add(uint64(g.netMetrics.OpenAll.Load())) // the loops have closed theirs
	if n := g.netMetrics.Cut.Load() + g.cutHTTP.Load(); n > 0 {
		g.log.Warn("connections cut at the deadline of the drain; a longer drainTimeout or closeTimeout gives them more time", "connections", n)
	}
	return ctx.Err()
}
