package gateway

import (
	"fmt"
	"log/slog"

	"sluice/fanout"
	"sluice/internal/grace"
	"sluice/internal/health"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/wsproto"
)

// signals passes changes of a NATS connection to the owners (natsbus.Options.Signal). After a gap,
// every cached resource counts as reset and every access is requested again, so that clients
// receive only what has changed. It runs on the dispatchers' goroutines.
type signals struct {
	*owners
	grace *grace.Period
	log   *slog.Logger
}

// handle handles a signal of the NATS connection with the index conn.
func (s signals) handle(conn int, signal natsbus.Signal) {
	switch signal {
	case natsbus.Disconnected:
		s.grace.Lost(conn)
		s.eachCaller(func(c *natsbus.Caller) { c.Cut(conn) })
	case natsbus.Connected:
		s.grace.Restored(conn)
	case natsbus.Gap:
		s.eachCaller(func(c *natsbus.Caller) { c.Recheck(conn) })
		s.log.Warn("messages from NATS may have been missed; refetching all cached resources and rechecking all access", "connection", conn)
		for _, shard := range s.shards {
			shard.Cache.ResetAll()
		}
		s.resetAccess(fanout.Gap, func(string) bool { return true })
	}
}

// closeClients closes all WebSocket clients because NATS is unreachable.
func (o *owners) closeClients() {
	o.eachLoop(func(l *loop) {
		l.post(func() { l.net.CloseAll(wsproto.CloseServiceRestart, "NATS is not reachable") })
	})
}

// natsLost is called when NATS has not come back within the grace period.
func (g *Gateway) natsLost() {
	defer g.faults.Contain(owner.Alarms)
	g.closeClients()
	if g.config.NATSLossExit {
		g.natsFailed(fmt.Errorf("lost, and not back within %v (natsGrace); natsLossExit ends the gateway", max(g.config.NATSGrace, 0)))
	}
}

// healthy reports whether NATS is connected.
func (g *Gateway) healthy() bool { return g.connected.Load() && g.bus.Connected() }

// ready returns nil if new clients are served in full, otherwise the reason why not.
func (g *Gateway) ready() error {
	c := health.Checks{Started: g.connected.Load, Lost: g.grace.Over, NATS: func() error { return g.bus.Ready() }, Memory: g.memory.Level,
		Connections: func() (open, limit int64) {
			return g.netMetrics.OpenAll.Load(), int64(g.reloader.Running().MaxConnections)
		}}
	return c.Ready()
}
