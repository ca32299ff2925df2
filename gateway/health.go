package gateway

import (
	"fmt"

	"sluice/internal/health"
	"sluice/internal/owner"
)

// natsLost is called when NATS has not come back within the grace period.
func (g *Gateway) natsLost() {
	defer g.faults.Contain(owner.Alarms)
	g.owners.CloseClients()
	if c := g.reloader.Running().WithDefaults(); c.NATSLossExit {
		g.natsFailed(fmt.Errorf("lost, and not back within %v (natsGrace); natsLossExit ends the gateway", max(c.NATSGrace, 0)))
	}
}

// healthy reports whether NATS is connected.
func (g *Gateway) healthy() bool { return g.owners.Bus() != nil && g.owners.Bus().Connected() }

// goElsewhere returns the URL of another gateway that clients should use in place of this one; ""
// if they should stay. With another process on the same sockets they should.
func (g *Gateway) goElsewhere() string {
	if (g.draining.Load() || g.grace.Over()) && !g.left.Load() {
		return g.elsewhere.Next()
	}
	return ""
}

// ready returns nil if new clients are served in full, otherwise the reason why not.
func (g *Gateway) ready() error {
	c := health.Checks{
		Started: func() bool { return g.owners.Bus() != nil },
		Lost:    g.grace.Over,
		NATS:    func() error { return g.owners.Bus().Ready() },
		ID:      g.presence.Problem,
		Memory:  g.memory.Level,
		Connections: func() (open, limit int64) {
			return g.netMetrics.OpenAll.Load(), int64(g.reloader.Running().MaxConnections)
		},
	}
	return c.Ready()
}
