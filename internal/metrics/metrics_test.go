package metrics

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestCounterAndGaugeUnderConcurrency(t *testing.T) {
	var c Counter
	var g Gauge
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				c.Inc()
				c.Add(2)
				g.Inc()
				g.Add(2)
				g.Dec()
			}
		})
	}
	wg.Wait()
	if got, want := c.Load(), uint64(8*1000*3); got != want {
		t.Errorf("counter = %d, want %d", got, want)
	}
	if got, want := g.Load(), int64(8*1000*2); got != want {
		t.Errorf("gauge = %d, want %d", got, want)
	}
	g.Set(-3)
	if got := g.Load(); got != -3 {
		t.Errorf("gauge after Set = %d, want -3", got)
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	var c Counter
	var g Gauge
	if n := testing.AllocsPerRun(100, func() { c.Inc(); g.Inc(); g.Dec() }); n != 0 {
		t.Errorf("%v allocations per count, want 0", n)
	}
}

// Dashboards made for Resgate query these names and types.
func TestResgateNames(t *testing.T) {
	r := New("1.2.3-test", "1.2.3")
	one := func() int64 { return 1 }
	two := func() uint64 { return 2 }
	r.Resgate(Resgate{
		WSConnections:      one,
		WSConnectionsTotal: two,
		WSRequests:         map[string]func() uint64{"get": two, "subscribe": two, "unsubscribe": two, "call": two, "auth": two},
		HTTPRequests:       map[string]func() uint64{"GET": two, "POST": two},
		CacheResources:     one,
		CacheSubscriptions: one,
	})
	want := `
# HELP resgate_cache_resources Resources in the cache.
# TYPE resgate_cache_resources gauge
resgate_cache_resources 1
# HELP resgate_cache_subscriptions Subscriptions of clients to cached resources.
# TYPE resgate_cache_subscriptions gauge
resgate_cache_subscriptions 1
# HELP resgate_http_requests_total Requests received from HTTP clients, by method.
# TYPE resgate_http_requests_total counter
resgate_http_requests_total{method="GET"} 2
resgate_http_requests_total{method="POST"} 2
# HELP resgate_ws_connections_total WebSocket connections opened since the start.
# TYPE resgate_ws_connections_total counter
resgate_ws_connections_total 2
# HELP resgate_ws_current_connections Open WebSocket connections.
# TYPE resgate_ws_current_connections gauge
resgate_ws_current_connections 1
# HELP resgate_ws_requests_total Requests received from WebSocket clients, by type.
# TYPE resgate_ws_requests_total counter
resgate_ws_requests_total{method="auth"} 2
resgate_ws_requests_total{method="call"} 2
resgate_ws_requests_total{method="get"} 2
resgate_ws_requests_total{method="subscribe"} 2
resgate_ws_requests_total{method="unsubscribe"} 2
# HELP sluice_build_info Always 1; the labels are the versions of the gateway and of its protocol.
# TYPE sluice_build_info gauge
sluice_build_info{protocol="1.2.3",version="1.2.3-test"} 1
`
	err := testutil.GatherAndCompare(r.Gatherer(), strings.NewReader(want),
		"resgate_cache_resources", "resgate_cache_subscriptions", "resgate_http_requests_total",
		"resgate_ws_connections_total", "resgate_ws_current_connections", "resgate_ws_requests_total",
		"sluice_build_info")
	if err != nil {
		t.Error(err)
	}
}

func TestResgateOmitsMetricsWithoutSource(t *testing.T) {
	r := New("v", "p")
	r.Resgate(Resgate{CacheResources: func() int64 { return 1 }})
	families, err := r.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "resgate_") {
			got = append(got, f.GetName())
		}
	}
	if !slices.Equal(got, []string{"resgate_cache_resources", "resgate_info"}) {
		t.Errorf("exposed %v, want resgate_cache_resources and resgate_info", got)
	}
}

func TestRuntimeMetricsArePresent(t *testing.T) {
	families, err := New("v", "p").Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range families {
		names[f.GetName()] = true
	}
	// go_memstats_sys_bytes is the one that Resgate exposes too.
	for _, name := range []string{"go_memstats_sys_bytes", "go_goroutines"} {
		if !names[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestRegisterReportsConflictsByName(t *testing.T) {
	r := New("v", "p")
	zero := func() uint64 { return 0 }
	if err := r.Counter("sluice_x_total", "X.", Labels{"a": "1"}, zero); err != nil {
		t.Fatal(err)
	}
	if err := r.Counter("sluice_x_total", "X.", Labels{"a": "2"}, zero); err != nil {
		t.Errorf("another label value: %v", err)
	}
	err := r.Counter("sluice_x_total", "X.", Labels{"a": "1"}, zero)
	if err == nil || !strings.Contains(err.Error(), "sluice_x_total") {
		t.Errorf("same labels again: error %v, want one that names sluice_x_total", err)
	}
	if err := r.Gauge("", "X.", nil, func() int64 { return 0 }); err == nil {
		t.Error("an empty name was accepted")
	}
}

func TestScrapeReadsTheLiveValue(t *testing.T) {
	r := New("v", "p")
	var perOwner [2]Counter
	sum := func() uint64 { return perOwner[0].Load() + perOwner[1].Load() }
	if err := r.Counter("sluice_sum_total", "Sum.", nil, sum); err != nil {
		t.Fatal(err)
	}
	perOwner[0].Add(3)
	perOwner[1].Add(4)
	want := "# HELP sluice_sum_total Sum.\n# TYPE sluice_sum_total counter\nsluice_sum_total 7\n"
	if err := testutil.GatherAndCompare(r.Gatherer(), strings.NewReader(want), "sluice_sum_total"); err != nil {
		t.Error(err)
	}
}

func BenchmarkCounterInc(b *testing.B) {
	var c Counter
	for b.Loop() {
		c.Inc()
	}
}
