package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"sluice/internal/testkit"
)

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	c := http.Client{Timeout: testkit.Patience}
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	c.CloseIdleConnections()
	return r.StatusCode, string(b)
}

// TestMetricsOfAGateway: metrics have Resgate's names beside Sluice's, and profiles
// are served only if enabled.
func TestMetricsOfAGateway(t *testing.T) {
	for _, profiles := range []bool{false, true} {
		g := create(t, func(c *Config) { c.MetricsPort, c.Profiles = FreePort, profiles })
		if err := g.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		base := "http://" + g.MetricsAddr().String()
		status, body := get(t, base+"/metrics")
		if status != 200 {
			t.Errorf("/metrics: %d", status)
		}
		for _, name := range []string{
			"resgate_ws_current_connections 0", "resgate_ws_connections_total 0", `resgate_ws_requests_total{method="subscribe"} 0`,
			"resgate_cache_resources 0", "resgate_cache_subscriptions 0", "sluice_deliveries_total 0", "sluice_nats_requests_total 0", "go_goroutines",
		} {
			if !strings.Contains(body, name) {
				t.Errorf("/metrics has no %q", name)
			}
		}
		want := map[bool]int{true: 200, false: 404}[profiles]
		if status, _ := get(t, base+"/debug/pprof/cmdline"); status != want {
			t.Errorf("profiles %v: /debug/pprof/cmdline: %d, want %d", profiles, status, want)
		}
		if status, body := get(t, base+"/"); status != 404 || !strings.Contains(body, "system.notFound") {
			t.Errorf("/: %d %s", status, body)
		}
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := net.Dial("tcp", g.MetricsAddr().String()); err == nil {
			t.Error("the metrics port is open after Stop")
		}
	}
}

func TestMetricsPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := create(t, func(c *Config) { c.MetricsPort = l.Addr().(*net.TCPAddr).Port })
	if err := g.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "choose another port") {
		t.Errorf("got %v", err)
	}
}

// TestCacheSubscriptions: Resgate's gauge counts the subscriptions of clients,
// direct and indirect, not those of loops.
func TestCacheSubscriptions(t *testing.T) {
	g := startLive(t, func(c *Config) { c.MetricsPort, c.Loops = FreePort, 1 })
	g.serve("access.>", always(`{"result":{"get":true}}`))
	g.serve("get.test.list", always(`{"result":{"collection":[{"rid":"test.item"}]}}`))
	g.serve("get.test.item", always(`{"result":{"model":{"n":1}}}`))
	want := func(n int) {
		t.Helper()
		line := fmt.Sprintf("\nresgate_cache_subscriptions %d\n", n)
		if _, body := get(t, "http://"+g.MetricsAddr().String()+"/metrics"); !strings.Contains(body, line) {
			t.Errorf("the metrics have no line %q", line)
		}
	}
	var clients []*wsClient
	for range 3 {
		c := g.dial()
		clients = append(clients, c)
		if m, _ := c.ask("subscribe.test.list", ""); !strings.Contains(m, `"collections"`) {
			t.Fatal(m)
		}
	}
	want(6)
	clients[0].ask("subscribe.test.item", "") // it has that already
	want(6)
	clients[1].ask("unsubscribe.test.list", "")
	want(4)
}
