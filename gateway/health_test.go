package gateway

import (
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/owner"
	"sluice/internal/testkit"
)

// probe sends text to an address, and returns the response: all until the peer closes.
func probe(t *testing.T, addr net.Addr, text string) (head, body string) {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	h, b, _ := bytes.Cut(all, []byte("\r\n\r\n"))
	return string(h), string(b)
}

// Load balancers probe in many ways, on the port for clients or on that of the metrics.
func TestProbes(t *testing.T) {
	g := create(t, func(c *Config) { c.MetricsPort = FreePort })
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	const healthy, ready = `{"status":"ok","nats":"connected"}`, "ready\n"
	for _, p := range []struct {
		text   string
		status int
		body   string
	}{
		{"GET /healthz HTTP/1.0\r\n\r\n", 200, healthy}, // without Host, as HTTP/1.0 permits
		{"GET /readyz HTTP/1.0\r\n\r\n", 200, ready},
		{"GET /readyz HTTP/1.0\r\nUser-Agent: x\r\n\r\n", 200, ready},
		{"HEAD /healthz HTTP/1.0\r\n\r\n", 200, ""},
		{"HEAD /readyz HTTP/1.0\r\n\r\n", 200, ""},
		{"OPTIONS /healthz HTTP/1.0\r\n\r\n", 200, healthy},
		{"OPTIONS /readyz HTTP/1.0\r\n\r\n", 200, ready},
		{"GET /healthz HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n", 200, healthy}, // an empty host is one
		{"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, ready},
		{"HEAD /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, ""},
		{"OPTIONS /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, healthy},
		{"GET http://a/healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, healthy},
		{"GET /healthz?x=1 HTTP/1.0\r\n\r\n", 200, healthy},
		{"POST /healthz HTTP/1.0\r\nContent-Length: 0\r\n\r\n", 405, "-"},
		{"DELETE /readyz HTTP/1.0\r\n\r\n", 405, "-"},
		{"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400, "-"}, // RFC 9112 section 3.2 demands it
	} {
		for name, addr := range map[string]net.Addr{"clients": g.Addr(), "metrics": g.MetricsAddr()} {
			head, body := probe(t, addr, p.text)
			if _, status, _ := strings.Cut(head, " "); !strings.HasPrefix(status, strconv.Itoa(p.status)+" ") {
				t.Errorf("port for %s: %q gets %.40q, want %d", name, p.text, head, p.status)
			}
			if p.body != "-" && body != p.body {
				t.Errorf("port for %s: %q gets %q, want %q", name, p.text, body, p.body)
			}
			if p.status == 200 && !strings.Contains(head, "Cache-Control: no-store") {
				t.Errorf("port for %s: %q may be cached", name, p.text)
			}
		}
	}
	g.draining.Store(true)
	for name, addr := range map[string]net.Addr{"clients": g.Addr(), "metrics": g.MetricsAddr()} {
		if head, body := probe(t, addr, "GET /readyz HTTP/1.0\r\n\r\n"); !strings.Contains(head, " 503 ") || body != "the gateway is stopping\n" {
			t.Errorf("port for %s, while draining: %.40q, %q", name, head, body)
		}
		if head, _ := probe(t, addr, "HEAD /healthz HTTP/1.0\r\n\r\n"); !strings.Contains(head, " 503 ") {
			t.Errorf("port for %s, while draining: %.40q", name, head)
		}
	}
	g.draining.Store(false)
}

// Where hideHealth is set, resources at the root may have the names of health checks.
func TestProbesHidden(t *testing.T) {
	g := create(t, func(c *Config) { c.MetricsPort, c.HideHealth, c.APIPath, c.WSPath = FreePort, true, "/", "/ws" })
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	for _, path := range []string{"/healthz", "/readyz", "/livez"} {
		text := "GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
		// No service has the resource.
		if head, body := probe(t, g.Addr(), text); !strings.Contains(head, " 404 ") || !strings.Contains(body, "system.notFound") {
			t.Errorf("port for clients: %q gets %.40q %q", text, head, body)
		}
		if head, _ := probe(t, g.MetricsAddr(), text); !strings.Contains(head, " 200 ") {
			t.Errorf("port for metrics: %q gets %.40q", text, head)
		}
	}
}

// A liveness probe succeeds while the owners handle messages, also while the gateway stops, and
// fails when one hangs.
func TestLiveness(t *testing.T) {
	clock := owner.NewManualClock()
	g := create(t, func(c *Config) { c.MetricsPort, c.Clock = FreePort, clock })
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	shard := g.owners.Shards()[0].Cache
	release := make(chan struct{})
	stop := sync.OnceFunc(func() { close(release) })
	defer func() {
		stop()
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = g.Stop(ended)
	}()
	want := func(text string, status int, body string) {
		t.Helper()
		for name, addr := range map[string]net.Addr{"clients": g.Addr(), "metrics": g.MetricsAddr()} {
			head, got := probe(t, addr, text)
			if !strings.Contains(head, " "+strconv.Itoa(status)+" ") || body != "-" && got != body {
				t.Errorf("port for %s: %q gets %.40q %q", name, text, head, got)
			}
		}
	}
	const alive = "alive\n"
	want("GET /livez HTTP/1.0\r\n\r\n", 200, alive)
	want("HEAD /livez HTTP/1.0\r\n\r\n", 200, "")
	want("OPTIONS /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, alive)
	want("POST /livez HTTP/1.0\r\nContent-Length: 0\r\n\r\n", 405, "-")
	g.draining.Store(true)
	want("GET /livez HTTP/1.0\r\n\r\n", 200, alive)
	g.draining.Store(false)

	hangs := make(chan struct{})
	shard.Run(func() {
		close(hangs)
		<-release
	})
	testkit.Await(t, hangs, "the shard hangs")
	before := shard.Pending()
	clock.Advance(time.Second) // the last result does not hold any more
	got := make(chan string, 1)
	go func() {
		head, _ := probe(t, g.MetricsAddr(), "GET /livez HTTP/1.0\r\n\r\n")
		got <- head
	}()
	testkit.Until(t, "the shard is asked", func() bool { return shard.Pending() > before })
	clock.Advance(5 * time.Second)
	if head := testkit.Await(t, got, "the probe's response"); !strings.Contains(head, " 503 ") {
		t.Errorf("a shard that hangs: %.40q", head)
	}
	stop()
	testkit.Until(t, "the shard works again", func() bool { return shard.Pending() == 0 })
	clock.Advance(time.Second)
	want("GET /livez HTTP/1.0\r\n\r\n", 200, alive)
}
