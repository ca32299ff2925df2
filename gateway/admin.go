package gateway

import (
	"net"

	"sluice/internal/admin"
	"sluice/internal/metricsserver"
	"sluice/internal/owners"
)

// adminOptions returns the options of the admin server.
func (g *Gateway) adminOptions() admin.Options {
	return admin.Options{
		Config: &g.config, Clock: g.clock, Log: g.log, Level: g.config.Level,
		Gateway: admin.Gateway{
			Version: g.config.Version, Counters: g.counters(), Metrics: metricsserver.Exposition(g.metrics, g.log), IDs: g.owners,
			Loops: func() (all []admin.Loop) {
				g.owners.EachLoop(func(l *owners.Loop) {
					all = append(all, admin.Loop{Net: l.Net, Env: &l.Env, Out: l.Upstream, Post: l.Post, Waiting: l.Waiting, Session: l.Session})
				})
				return all
			},
			Shards:  g.owners.Shards,
			ShardOf: g.owners.ShardOf,
			Ready:   g.ready,
			System:  g.owners.System,
			Running: g.reloader.Running,
		},
	}
}

// AdminAddr returns the address of the admin port; nil before Start, and if there is none.
func (g *Gateway) AdminAddr() net.Addr {
	if g.admin == nil {
		return nil
	}
	return g.admin.Addr()
}
