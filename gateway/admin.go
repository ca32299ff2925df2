package gateway

import (
	"net"

	"sluice/internal/admin"
	"sluice/internal/metricsserver"
	"sluice/internal/upstream"
)

// adminOptions returns the options of the admin server.
func (g *Gateway) adminOptions() admin.Options {
	system := &upstream.SystemEvents{Log: g.log, Clock: g.clock}
	return admin.Options{
		Config: &g.config, Clock: g.clock, Log: g.log, Level: g.config.Level,
		Gateway: admin.Gateway{
			Version: g.config.Version, Counters: g.counters(), Metrics: metricsserver.Exposition(g.metrics, g.log), IDs: g.ids,
			Loops: func() (all []admin.Loop) {
				g.eachLoop(func(l *loop) {
					all = append(all, admin.Loop{Net: l.net, Env: &l.env, Post: l.post, Waiting: l.mailbox.Len, Session: l.session})
				})
				return all
			},
			Shards:  func() []*upstream.Shard { return g.shards },
			ShardOf: g.shardOf,
			Ready:   g.ready,
			System:  (&router{owners: &g.owners, system: system}).System,
			Running: g.reloader.Running,
		},
	}
}

// AdminAddr returns the address of the admin port; nil before Start, and if there is none.
func (g *Gateway) AdminAddr() net.Addr { return g.admin.Addr() }
