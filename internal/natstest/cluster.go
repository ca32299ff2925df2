package natstest

import (
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
// to each other. Each change may alter the options of the server with the index i before it starts.
func StartCluster(tb testing.TB, n int, change ...func(i int, o *server.Options)) *Cluster {
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
			for _, f := range change {
				f(i, o)
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
	slow     slow   // set before serve

	mu     sync.Mutex
	closed bool
	frozen chan struct{} // closed by the thaw; nil: it is not frozen
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
				p.pass(out, in) // the end of either direction ends both
				p.drop(out)
			}()
			p.pass(in, out)
		}()
	}
}

// pass copies until either connection ends. What is read while the proxy is frozen waits.
func (p *proxy) pass(to, from net.Conn) {
	type packet struct {
		data []byte
		due  time.Time
	}
	sent := make(chan packet, 1024)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for k := range sent {
			if d := time.Until(k.due); d > 0 {
				<-time.After(d)
			}
			if thawed := p.thawed(); thawed != nil {
				<-thawed
			}
			if _, err := to.Write(k.data); err != nil {
				from.Close()
				for range sent { // until from's end
				}
				return
			}
		}
	}()
	due := time.Now()
	for {
		buffer := make([]byte, 1400)
		n, err := from.Read(buffer)
		if n > 0 {
			if d := time.Now().Add(p.slow.next()); d.After(due) {
				due = d // TCP keeps the order: what is behind a lost packet waits for it
			}
			sent <- packet{buffer[:n], due}
		}
		if err != nil {
			close(sent)
			<-done
			return
		}
	}
}

// slow is a network far away that loses packets.
type slow struct {
	delay time.Duration // one way
	lost  int           // every so many packets one is lost, and sent again
	count atomic.Int64
}

// next returns how long the next packet takes.
func (s *slow) next() time.Duration {
	if s.lost > 0 && s.count.Add(1)%int64(s.lost) == 0 {
		return 4 * s.delay // its sender notices after a round trip and more
	}
	return s.delay
}

// thawed returns a channel that is closed when the proxy is frozen no more; nil: it is not frozen.
func (p *proxy) thawed() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen
}

// freeze keeps all bytes back, and the ends of connections, or ends that.
func (p *proxy) freeze(freeze bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case freeze && p.frozen == nil:
		p.frozen = make(chan struct{})
	case !freeze && p.frozen != nil:
		close(p.frozen)
		p.frozen = nil
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
	p.freeze(false)
	p.cut(true)
}
