package relay

import (
	"fmt"

	"sluice/internal/downlink"
	"sluice/internal/metrics"
)

// Metrics count what a relay does for edges. Any goroutine may read them.
type Metrics struct {
	Gets          metrics.Counter // get requests of edges
	Hits          metrics.Counter // those answered from the cache immediately
	Failures      metrics.Counter // resources that could not be loaded from home
	Refused       metrics.Counter // get requests rejected for lack of memory
	QueryRequests metrics.Counter // query requests of edges
	Rounds        metrics.Counter // query events published
	Events        metrics.Counter // events published, or put into a round
	CustomLost    metrics.Counter // custom events that could not be published, since too much was queued
	Passed        metrics.Counter // access, call and auth requests passed
	Evictions     metrics.Counter // names dropped for lack of memory
	Resets        metrics.Counter // resets of everything
	NameResets    metrics.Counter // names reset by the relay
	Topics        metrics.Gauge   // resources that edges may hold
	Bytes         metrics.Gauge   // their memory
	Active        metrics.Gauge   // 1 while edges are served
	Renewals      metrics.Counter // times that the lease was got or extended
	Others        metrics.Counter // messages about the lease heard from other relays
	Activations   metrics.Counter // times that it began to serve edges
	Rivals        metrics.Counter // times that another active relay was heard
}

// register registers the counters, and those of the connections to edge. The error names a metric
// that exists already.
func (m *Metrics) register(to *metrics.Registry, l *downlink.Metrics) error {
	var first error
	note := func(name string, err error) {
		if err != nil && first == nil {
			first = fmt.Errorf("metric %s: %w", name, err)
		}
	}
	for _, c := range []struct {
		name, help string
		c          *metrics.Counter
	}{
		{"gets", "Get requests of edges.", &m.Gets},
		{"hits", "Get requests of edges answered from the cache immediately.", &m.Hits},
		{"failures", "Resources that could not be loaded from home.", &m.Failures},
		{"refused", "Get requests of edges rejected for lack of memory.", &m.Refused},
		{"query_requests", "Query requests of edges.", &m.QueryRequests},
		{"query_events", "Query events published at edge.", &m.Rounds},
		{"events", "Events published at edge.", &m.Events},
		{"custom_lost", "Custom events not published because too much was queued for edge.", &m.CustomLost},
		{"passed", "Access, call and auth requests passed home.", &m.Passed},
		{"evictions", "Resource names dropped for lack of memory, with a reset.", &m.Evictions},
		{"resets", "Resets of everything published by the relay itself.", &m.Resets},
		{"name_resets", "Resource names reset by the relay itself.", &m.NameResets},
		{"lease_renewals", "Times that the lease was got or extended.", &m.Renewals},
		{"lease_heard", "Messages about the lease heard from other relays: a standby hears the active one.", &m.Others},
		{"activations", "Times that the relay began to serve edges.", &m.Activations},
		{"rivals", "Times that another active relay was heard on the same edge.", &m.Rivals},
		{"edge_received", "Messages received from edge.", &l.Received},
		{"edge_overflowed", "Times that messages from edge were dropped, because too many had been received.", &l.Overflowed},
		{"edge_sent", "Messages published at edge.", &l.Sent},
		{"edge_sent_bytes", "Payload bytes published at edge.", &l.SentBytes},
		{"edge_dropped", "Messages not published at edge: the connection was lost, or they were too large.", &l.Dropped},
		{"edge_disconnects", "Connections to edge lost.", &l.Disconnects},
	} {
		name := "sluice_relay_" + c.name + "_total"
		note(name, to.Counter(name, c.help, nil, c.c.Load))
	}
	for _, g := range []struct {
		name, help string
		g          *metrics.Gauge
	}{
		{"sluice_relay_topics", "Resources that edges may hold; each normalised query counts.", &m.Topics},
		{"sluice_relay_bytes", "Memory of these; cacheBytes bounds it.", &m.Bytes},
		{"sluice_relay_active", "1 while this relay serves edges, 0 while it is a standby.", &m.Active},
		{"sluice_relay_edge_queue", "Messages queued for edge.", &l.Queue},
		{"sluice_relay_edge_queue_bytes", "Payload bytes of these.", &l.QueueBytes},
	} {
		note(g.name, to.Gauge(g.name, g.help, nil, g.g.Load))
	}
	return first
}
