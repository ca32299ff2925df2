package restest

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"sluice/gateway"
	"sluice/internal/natstest"
	"sluice/internal/testkit"
)

// cluster is a gateway and instances of a service at three NATS servers.
type cluster struct{ *edge }

// newCluster starts a gateway that knows all three servers.
func newCluster(t *testing.T) *cluster {
	c := &cluster{newEdge(t, 3)}
	var urls []string
	for _, s := range c.home {
		urls = append(urls, s.URL())
	}
	g, err := startGateway(Start{NATS: strings.Join(urls, ","), Clock: c.clock, Log: slog.New(c.outage)}, func(s *gateway.Config) {
		s.NATSGrace, s.PingInterval = outageGrace, gateway.Off
		s.NATSClusterPing = gateway.Off // a server that has no route yet after its start is cut off, too
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	c.url = g.URL()
	return c
}

// at returns the index of the server that the gateway is connected to.
func (c *cluster) at() int {
	c.t.Helper()
	at := -1
	testkit.Until(c.t, "the gateway is connected", func() bool {
		at = slices.IndexFunc(c.home, func(s *natstest.Server) bool {
			if s.Server() == nil {
				return false
			}
			z, err := s.Server().Connz(nil)
			if err != nil {
				return false
			}
			for _, k := range z.Conns {
				if k.Name == "sluice" {
					return true
				}
			}
			return false
		})
		return at >= 0
	})
	return at
}

// resyncs returns how often the gateway has fetched everything again.
func (c *cluster) resyncs() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.logged {
		if strings.Contains(l, "refetching all cached resources") {
			n++
		}
	}
	return n
}

// routes waits until the servers are together again.
func (c *cluster) routes() {
	c.t.Helper()
	(&natstest.Cluster{Nodes: c.home}).Await(c.t, len(c.home)-1)
}

// A server that is killed or retired and comes back costs one resync if the gateway was connected
// to it, and none otherwise. No client is closed, and what clients have is right.
func TestClusterServersGoAndComeBack(t *testing.T) {
	c := newCluster(t)
	client := c.subscribed()
	value, moves := 1, 0
	for _, fault := range []struct {
		name string
		end  func(*natstest.Server)
	}{
		{"killed", (*natstest.Server).Stop}, {"retired", (*natstest.Server).Retire},
	} {
		for _, own := range []bool{true, false} {
			at := c.at()
			victim := c.home[at]
			if !own {
				victim = c.home[(at+1)%3]
			}
			value++
			if own {
				moves++
				c.change(fmt.Sprintf(`{"n":%d}`, value), false)
				fault.end(victim)
			} else {
				fault.end(victim)
				c.change(fmt.Sprintf(`{"n":%d}`, value), false)
				service := c.home[at].Client() // the others may have been connected to the victim
				if err := service.Publish("event.test.a.change", fmt.Appendf(nil, `{"values":{"n":%d}}`, value)); err != nil {
					t.Fatal(err)
				}
			}
			c.gets(client, fmt.Sprintf(`{"n":%d}`, value), false)
			victim.Start()
			c.routes()
			if n := c.resyncs(); n != moves {
				t.Errorf("%s, the gateway's own: %v: %d resyncs, want %d", fault.name, own, n, moves)
			}
		}
	}
}

// An upgrade retires one server after the other. The gateway moves where it has to, and fetches
// everything again once for each move.
func TestClusterIsUpgraded(t *testing.T) {
	c := newCluster(t)
	client := c.subscribed()
	moves := 0
	for _, s := range c.home {
		if c.home[c.at()] == s {
			moves++
			value := fmt.Sprintf(`{"n":%d}`, 1+moves)
			c.change(value, false)
			s.Retire()
			c.gets(client, value, false)
		} else {
			s.Retire()
		}
		s.Start()
		c.routes()
	}
	if n := c.resyncs(); n != moves || moves == 0 {
		t.Errorf("%d resyncs, want one for each of %d moves", n, moves)
	}
}
