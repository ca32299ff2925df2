package gateway

import (
	"math"

	"sluice/internal/httpedge"
	"sluice/internal/memory"
	"sluice/internal/owner"
)

// shed gives memory back while it is short, in an order that is stated (docs/reliability.md):
// first the cached resources that no client subscribes to, then no new clients are let in, then
// the slowest clients go. What is queued and held for these is halved with each reading.
func (g *Gateway) shed(level memory.Level) {
	for _, s := range g.owners.Shards() {
		s.Cache.Shed(level >= memory.Tight)
	}
	g.engine.Refuse(level >= memory.Short)
	limit := int64(math.MaxInt64)
	if level >= memory.Scarce {
		limit = (g.netMetrics.BacklogBytes.Load() + g.held().Held() + g.rest.Waiting()) / 2
	}
	g.engine.SetBacklogLimit(limit)
}

// held tells what sessions hold for clients that lag.
func (g *Gateway) held() httpedge.Held {
	return httpedge.Held{Sessions: &g.sessionMetrics, Fanout: &g.fanoutMetrics}
}

// watchOptions says how memory is watched, given its limit in bytes; 0: it is not.
func (g *Gateway) watchOptions(limit int64) memory.Options {
	return memory.Options{Limit: limit, Clock: g.clock, Log: g.log, Shed: func(l memory.Level) {
		defer g.faults.Contain(owner.Alarms)
		g.shed(l)
	}}
}
