package restest

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/natstest"
	"sluice/internal/owner"
	"sluice/internal/secret"
	"sluice/internal/testkit"
)

// edge is a service at home, and sites whose embedded NATS servers are its leaf nodes. The first
// site is the outage's gateway.
type edge struct {
	*outage
	home     []*natstest.Server
	ports    []*natstest.LeafPort
	services []*nats.Conn       // instances of the service, one at each server
	pace     *owner.ManualClock // advances while a client waits; nil: requests may take long
}

// newEdge starts a hub of n servers with an instance of the service at each, and no site.
func newEdge(t *testing.T, n int) *edge {
	t.Helper()
	var ports []*natstest.LeafPort
	for range n {
		ports = append(ports, natstest.NewLeafPort(t))
	}
	return newEdgeAt(t, ports)
}

func newEdgeAt(t *testing.T, ports []*natstest.LeafPort) *edge {
	t.Helper()
	e := &edge{outage: &outage{t: t, clock: owner.NewManualClock(), news: make(chan struct{}, 1),
		models: map[string]string{"test.a": `{"n":1}`, "test.secret": `{"word":"x"}`, "test.b": `{"n":4}`}, denied: map[string]bool{}}}
	e.ports, e.pace = ports, e.clock
	if n := len(ports); n == 1 {
		e.home = []*natstest.Server{natstest.Start(t, e.ports[0].Open)}
	} else {
		e.home = natstest.StartCluster(t, n, func(i int, o *server.Options) {
			e.ports[i].Open(o)
			o.LameDuckDuration, o.LameDuckGracePeriod = time.Second, time.Millisecond
		}).Nodes
	}
	for _, s := range e.home {
		nc := s.Client()
		if _, err := nc.QueueSubscribe("*.test.>", "instances", e.serve); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		e.services = append(e.services, nc)
	}
	return e
}

// site starts a site's gateway.
func (e *edge) site(log slog.Handler, change func(*gateway.Config)) (url string) {
	e.t.Helper()
	var urls []string
	for _, p := range e.ports {
		urls = append(urls, "nats://"+p.Addr())
	}
	g, err := startGateway(Start{Clock: e.clock, Log: slog.New(log)}, func(c *gateway.Config) {
		c.NATSURL, c.EmbeddedNATS, c.EmbeddedNATSListen = "", true, "127.0.0.1:0"
		c.NATSLeaf = secret.URLs(strings.Join(urls, ","))
		c.NATSGrace, c.PingInterval = outageGrace, gateway.Off
		if change != nil {
			change(c)
		}
	})
	if err != nil {
		e.t.Fatalf("%v; the log:\n%s", err, strings.Join(e.logged, "\n"))
	}
	e.t.Cleanup(g.Stop)
	return g.URL()
}

// change changes what the service has, without an event.
func (e *edge) change(value string, denied bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.models["test.a"], e.denied["test.secret"] = value, denied
}

// gets waits for the difference that change has made.
func (e *edge) gets(c *Client, value string, denied bool) {
	e.t.Helper()
	want := []string{`{"event":"test.a.change","data":{"values":` + value + `}}`}
	if denied {
		want = append(want, `{"event":"test.secret.unsubscribe","data":{"reason":{"code":"system.accessDenied","message":"Access denied"}}}`)
	}
	var got []string
	for range want {
		got = append(got, e.next(c, e.pace))
	}
	slices.Sort(got)
	if !slices.EqualFunc(got, want, sameJSON) {
		e.t.Errorf("got %q, want %q", got, want)
	}
	if code, closed := c.Closed(); closed {
		e.t.Errorf("the client was closed with %d", code)
	}
}

// However the leaf link is lost, it is a loss of NATS, though the gateway's own connection to the
// embedded server needs no network: clients are kept, and get the difference afterwards.
func TestLeafLinkGoesAndComesBack(t *testing.T) {
	for _, fault := range []struct {
		name      string
		cut, mend func(*edge)
	}{
		{"the hub restarts", func(e *edge) { e.home[0].Stop() }, func(e *edge) { e.home[0].Start() }},
		{"the link is cut", func(e *edge) { e.ports[0].Cut() }, func(e *edge) { e.ports[0].Restore() }},
		{"all packets are lost", func(e *edge) { e.ports[0].Freeze() }, func(e *edge) { e.ports[0].Thaw() }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			e := newEdge(t, 1)
			e.url = e.site(e.outage, func(c *gateway.Config) { c.NATSPing = 500 * time.Millisecond })
			c := e.subscribed()
			fault.cut(e)
			e.until("the gateway is not ready", nil, func() bool {
				r, err := http.Get("http" + strings.TrimPrefix(e.url, "ws") + "readyz")
				if err != nil {
					return false
				}
				r.Body.Close()
				e.wake()
				return r.StatusCode == http.StatusServiceUnavailable
			})
			e.change(`{"n":2}`, true)
			fault.mend(e)
			e.gets(c, `{"n":2}`, true)
		})
	}
}

// The home is far away: 200 ms for a packet and its answer, and one packet of 50 is lost. The link
// holds, nothing is fetched twice, and what clients get is right.
func TestLeafFarAway(t *testing.T) {
	port := natstest.NewFarLeafPort(t, 100*time.Millisecond, 50)
	e := newEdgeAt(t, []*natstest.LeafPort{port})
	e.pace = nil
	e.url = e.site(e.outage, func(c *gateway.Config) { c.NATSPing = 5 * time.Second })
	c := e.subscribed()
	const events = 200
	for n := range events {
		e.change(fmt.Sprintf(`{"n":%d}`, n+2), false)
		if err := e.services[0].Publish("event.test.a.change", fmt.Appendf(nil, `{"values":{"n":%d}}`, n+2)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range events {
		e.gets(c, fmt.Sprintf(`{"n":%d}`, n+2), false)
	}
	port.Cut()
	e.change(`{"n":1}`, true)
	port.Restore()
	e.gets(c, `{"n":1}`, true)
}

// Past the grace period clients go to another gateway.
func TestLeafLinkStaysAway(t *testing.T) {
	e := newEdge(t, 1)
	e.url = e.site(e.outage, nil)
	c := e.subscribed()
	e.ports[0].Cut()
	e.says("clients are kept")
	testkit.Advance(t, e.clock, outageGrace)
	code := 0
	e.until("the client is closed", nil, func() (closed bool) {
		code, closed = c.Closed()
		return closed
	})
	if code != 1012 {
		t.Errorf("closed with %d", code)
	}
	e.ports[0].Restore()
	e.says("connection to NATS restored")
	e.subscribed()
}

// Two sites have one service at home, each over one link. Both see its events, and an event that
// one of them has missed.
func TestTwoLeafSites(t *testing.T) {
	e := newEdge(t, 1)
	e.url = e.site(e.outage, nil)
	first := e.subscribed()
	e.url = e.site(slog.DiscardHandler, nil)
	second := e.subscribed()
	if links := e.home[0].Server().NumLeafNodes(); links != 2 {
		t.Errorf("%d links, want one for each site", links)
	}
	for _, c := range []*Client{first, second} {
		// The hub knows the site's interest when the service has got its call.
		if err := c.Send(`{"id":9,"method":"call.test.a.m"}`); err != nil {
			t.Fatal(err)
		}
		e.next(c, nil)
	}
	if err := e.services[0].Publish("event.test.a.change", []byte(`{"values":{"n":2}}`)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Client{first, second} {
		e.gets(c, `{"n":2}`, false)
	}
	e.ports[0].Cut()
	e.says("clients are kept")
	e.change(`{"n":3}`, true)
	e.ports[0].Restore()
	for _, c := range []*Client{first, second} {
		e.gets(c, `{"n":3}`, true)
	}
}

// The hub is a cluster of three. When the node of the link is killed, the link moves to another.
func TestLeafOfACluster(t *testing.T) {
	e := newEdge(t, 3)
	e.url = e.site(e.outage, nil)
	c := e.subscribed()
	for round := range 2 {
		at := slices.IndexFunc(e.home, func(s *natstest.Server) bool { return s.Server() != nil && s.Server().NumLeafNodes() > 0 })
		if at < 0 {
			t.Fatal("no link")
		}
		value := fmt.Sprintf(`{"n":%d}`, 2+round)
		e.change(value, false)
		e.home[at].Stop()
		e.gets(c, value, false)
	}
}

// Wrong settings of the leaf end the start with what to change.
func TestLeafErrors(t *testing.T) {
	port := natstest.NewLeafPort(t)
	hub := natstest.Start(t, port.Open, func(o *server.Options) { o.LeafNode.Username, o.LeafNode.Password = "site", "right" })
	for url, want := range map[string]string{
		"nats://site:s3cret@" + port.Addr(): "Authorization Violation'; check the user",
		hub.URL():                           "wrong port; natsLeaf must be the port for leaf nodes",
	} {
		_, err := startGateway(Start{Log: slog.New(slog.DiscardHandler)}, func(c *gateway.Config) {
			c.NATSURL, c.EmbeddedNATS, c.EmbeddedNATSListen, c.NATSLeaf = "", true, "127.0.0.1:0", secret.URLs(url)
		})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
