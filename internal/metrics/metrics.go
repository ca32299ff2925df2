// Package metrics owns the Prometheus registry of a gateway, and the types with which other
// packages count.
//
// The packages on the path of an event count with atomics (Counter, Gauge, or their own) that they
// own. The registry reads these only during a scrape. So counting costs one atomic add and no label
// look-up, and a package can keep one counter per owner and register their sum.
//
// It never serves HTTP, never starts a goroutine, and never counts anything itself.
package metrics

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Counter counts events since the process started. The zero value is ready. Safe for concurrent
// use; it must not be copied after first use. A counter that several owners add to at a high rate
// should be one Counter per owner, summed by the function given to Registry.Counter.
type Counter struct{ n atomic.Uint64 }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Add adds n.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Load returns the count.
func (c *Counter) Load() uint64 { return c.n.Load() }

// Gauge is a value that goes up and down. The zero value is ready. Safe for concurrent use; it must
// not be copied after first use.
type Gauge struct{ n atomic.Int64 }

// Inc adds one.
func (g *Gauge) Inc() { g.n.Add(1) }

// Dec subtracts one.
func (g *Gauge) Dec() { g.n.Add(-1) }

// Add adds d, which may be negative.
func (g *Gauge) Add(d int64) { g.n.Add(d) }

// Set replaces the value.
func (g *Gauge) Set(n int64) { g.n.Store(n) }

// Load returns the value.
func (g *Gauge) Load() int64 { return g.n.Load() }

// Labels are the fixed label pairs of one time series.
type Labels map[string]string

// Registry holds the metrics of one gateway. Several gateways in one process have a Registry each.
// Safe for concurrent use.
type Registry struct{ reg *prometheus.Registry }

// New returns a registry that has the Go runtime's and the process's own metrics, and the two
// versions as labels of sluice_build_info and, under Resgate's name, resgate_info.
func New(version, protocol string) *Registry {
	r := &Registry{reg: prometheus.NewRegistry()}
	r.reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	for _, name := range []string{"sluice_build_info", "resgate_info"} {
		r.mustGauge(name, "Always 1; the labels are the versions of the gateway and of its protocol.",
			Labels{"version": version, "protocol": protocol}, func() int64 { return 1 })
	}
	return r
}

// Counter exposes the value of read under name, which ends in _total by convention. read is called
// at each scrape, from any goroutine, and must not block. An error names a metric whose name is
// empty, or registered already with the same labels; nothing is registered then.
func (r *Registry) Counter(name, help string, labels Labels, read func() uint64) error {
	return r.register(name, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: name, Help: help, ConstLabels: prometheus.Labels(labels),
	}, func() float64 { return float64(read()) }))
}

// Gauge exposes the value of read under name. The rules are those of Counter.
func (r *Registry) Gauge(name, help string, labels Labels, read func() int64) error {
	return r.register(name, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: name, Help: help, ConstLabels: prometheus.Labels(labels),
	}, func() float64 { return float64(read()) }))
}

func (r *Registry) register(name string, c prometheus.Collector) error {
	if err := r.reg.Register(c); err != nil {
		return fmt.Errorf("metrics: %s: %w", name, err)
	}
	return nil
}

// mustGauge and mustCounter are for names fixed in this package, where an error is a bug.
func (r *Registry) mustGauge(name, help string, l Labels, read func() int64) {
	if err := r.Gauge(name, help, l, read); err != nil {
		panic(err)
	}
}

func (r *Registry) mustCounter(name, help string, l Labels, read func() uint64) {
	if err := r.Counter(name, help, l, read); err != nil {
		panic(err)
	}
}

// Gatherer returns the registry for an exporter.
func (r *Registry) Gatherer() prometheus.Gatherer { return r.reg }

// Resgate has the sources of Resgate's metrics, so that existing dashboards keep working (RES.md
// section 6). A metric whose source is nil is omitted. Every function is called at each scrape,
// from any goroutine.
type Resgate struct {
	WSConnections      func() int64             // open WebSocket connections
	WSConnectionsTotal func() uint64            // WebSocket connections opened since the start
	WSRequests         map[string]func() uint64 // by request type: get, subscribe, unsubscribe, call, auth, …
	HTTPRequests       map[string]func() uint64 // by HTTP method
	CacheResources     func() int64             // resources in the cache
	CacheSubscriptions func() int64             // clients' subscriptions to cached resources
}

// Resgate registers the metrics under Resgate's names. It panics if it is called twice.
func (r *Registry) Resgate(s Resgate) {
	if s.WSConnections != nil {
		r.mustGauge("resgate_ws_current_connections", "Open WebSocket connections.", nil, s.WSConnections)
	}
	if s.WSConnectionsTotal != nil {
		r.mustCounter("resgate_ws_connections_total", "WebSocket connections opened since the start.", nil, s.WSConnectionsTotal)
	}
	r.byMethod("resgate_ws_requests_total", "Requests received from WebSocket clients, by type.", s.WSRequests)
	r.byMethod("resgate_http_requests_total", "Requests received from HTTP clients, by method.", s.HTTPRequests)
	if s.CacheResources != nil {
		r.mustGauge("resgate_cache_resources", "Resources in the cache.", nil, s.CacheResources)
	}
	if s.CacheSubscriptions != nil {
		r.mustGauge("resgate_cache_subscriptions", "Subscriptions of clients to cached resources.", nil, s.CacheSubscriptions)
	}
}

func (r *Registry) byMethod(name, help string, sources map[string]func() uint64) {
	for _, method := range slices.Sorted(maps.Keys(sources)) {
		r.mustCounter(name, help, Labels{"method": method}, sources[method])
	}
}
