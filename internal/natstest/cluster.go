package natstest

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/internal/testkit"
)

// Cluster is a cluster of NATS servers in one process. All routes between them pass proxies, which
// Partition cuts.
type Cluster struct {
	Nodes   []*Server
	proxies []*proxy
}

// StartCluster runs a cluster of n servers until the test ends. When it returns, each has a route
// to each other.
func StartCluster(tb testing.TB, n int) *Cluster {
	tb.Helper()
	c := new(Cluster)
	var routes []*url.URL
	for range n {
		p, err := newProxy()
		if err != nil {
			tb.Fatalf("a proxy for routes: %v", err)
		}
		tb.Cleanup(p.close)
		c.proxies = append(c.proxies, p)
		routes = append(routes, &url.URL{Scheme: "nats", Host: p.listener.Addr().String()})
	}
	for i, p := range c.proxies {
		port, release, err := reservePort()
		if err != nil {
			tb.Fatalf("reserving a port: %v", err)
		}
		tb.Cleanup(release)
		p.target = fmt.Sprintf("127.0.0.1:%d", port)
		go p.serve()
		s := New(tb, func(o *server.Options) {
			o.ServerName = fmt.Sprintf("node%d", i)
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port, Advertise: p.listener.Addr().String(), PoolSize: -1}
			for j, r := range routes {
				if j != i {
					o.Routes = append(o.Routes, r)
				}
			}
		})
		c.Nodes = append(c.Nodes, s)
	}
	for _, s := range c.Nodes {
		s.Start()
	}
	c.Await(tb, n-1)
	return c
}

// Await waits until each server has the given number of routes.
func (c *Cluster) Await(tb testing.TB, routes int) {
	tb.Helper()
	testkit.Until(tb, fmt.Sprintf("each server has %d routes", routes), func() bool {
		for _, s := range c.Nodes {
			if s.Server().NumRoutes() != routes {
				return false
			}
		}
		return true
	})
}

// Partition cuts all routes and keeps them from coming back until Heal. Clients stay connected.
func (c *Cluster) Partition(tb testing.TB) {
	tb.Helper()
	for _, p := range c.proxies {
		p.cut(true)
	}
	c.Await(tb, 0)
}

// Heal ends a partition. When it returns, all routes are back.
func (c *Cluster) Heal(tb testing.TB) {
	tb.Helper()
	for _, p := range c.proxies {
		p.cut(false)
	}
	c.Await(tb, len(c.Nodes)-1)
}

// proxy forwards TCP connections while it is not cut.
type proxy struct {
	listener net.Listener
	target   string // set before serve

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

func newProxy() (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &proxy{listener: l, conns: make(map[net.Conn]bool)}, nil
}

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		if !p.add(in) {
			continue
		}
		go func() {
			defer p.drop(in)
			out, err := net.Dial("tcp", p.target)
			if err != nil || !p.add(out) {
				return
			}
			defer p.drop(out)
			go func() {
				_, _ = io.Copy(out, in) // the end of either direction ends both
				p.drop(out)
			}()
			_, _ = io.Copy(in, out)
		}()
	}
}

// add keeps a connection, unless the proxy is cut.
func (p *proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

func (p *proxy) cut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = cut
	if cut {
		for c := range p.conns {
			c.Close()
		}
	}
}

func (p *proxy) close() {
	p.listener.Close()
	p.cut(true)
}
