//go:build linux

package soak

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/loadtest/proc"
	"sluice/loadtest/wire"
)

// nodes is the number of NATS servers in the cluster.
const nodes = 3

// patience bounds waits for processes of the soak. They end early when all is well.
const patience = time.Minute

// server is a process that is started again and again, with the same command line and log file.
// One goroutine at a time may start and end it.
type server struct {
	name, line, addr string
	log              *os.File
	proc             atomic.Pointer[proc.Process] // nil before the first start
}

// newServer prepares a server whose log goes to a file of the folder.
func newServer(dir, name, line, addr string) (*server, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	return &server{name: name, line: line, addr: addr, log: log}, err
}

// start starts the process and waits until it accepts connections.
func (s *server) start() error {
	p, err := proc.StartLogged(s.name, s.line, nil, nil, s.log)
	if err != nil {
		return err
	}
	s.proc.Store(p)
	return p.Ready(s.addr, patience)
}

// signal sends a signal to the process.
func (s *server) signal(sig syscall.Signal) error { return s.proc.Load().Signal(sig) }

// kill ends the process if it runs.
func (s *server) kill() {
	if p := s.proc.Load(); p != nil {
		p.Kill()
	}
}

// close ends the process if it runs, and closes its log.
func (s *server) close() {
	s.kill()
	_ = s.log.Close()
}

// cluster is the NATS nodes, each with a proxy for each gateway.
type cluster struct {
	nodes   []*server
	urls    []string                // that services connect to
	proxies [gateways][]*wire.Relay // between a gateway and a node
}

// startCluster starts the nodes of a program, nats-server.
func startCluster(dir, program string) (c *cluster, err error) {
	c = &cluster{}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	var clients, routes []string
	for range nodes {
		client, err1 := proc.StablePort()
		route, err2 := proc.StablePort()
		if err := errors.Join(err1, err2); err != nil {
			return c, err
		}
		clients = append(clients, strconv.Itoa(client))
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", route))
	}
	for i := range nodes {
		// Nodes must not advertise each other: gateways would go round the proxies.
		line := fmt.Sprintf("%s --name n%d -a 127.0.0.1 -p %s --cluster_name soak --cluster %s --routes %s --no_advertise",
			program, i, clients[i], routes[i], strings.Join(routes, ","))
		addr := net.JoinHostPort("127.0.0.1", clients[i])
		n, err := newServer(dir, fmt.Sprintf("nats%d", i), line, addr)
		if err != nil {
			return c, err
		}
		c.nodes = append(c.nodes, n)
		c.urls = append(c.urls, "nats://"+addr)
		if err := n.start(); err != nil {
			return c, err
		}
		for g := range c.proxies {
			p, err := wire.NewRelay(addr)
			if err != nil {
				return c, err
			}
			c.proxies[g] = append(c.proxies[g], p)
		}
	}
	return c, nil
}

// from returns the URLs of all nodes, beginning with one, as a service connects to them.
func (c *cluster) from(first int) []string {
	first %= len(c.urls)
	return append(append([]string{}, c.urls[first:]...), c.urls[:first]...)
}

// through returns the URLs of a gateway's proxies.
func (c *cluster) through(gateway int) string {
	var urls []string
	for _, p := range c.proxies[gateway] {
		urls = append(urls, "nats://"+p.Addr())
	}
	return strings.Join(urls, ",")
}

// setCut begins or ends a cut between a gateway and the nodes.
func (c *cluster) setCut(gateway int, nodes []int, cut bool) {
	for _, n := range nodes {
		c.proxies[gateway][n].SetCut(cut)
	}
}

// close ends all nodes and proxies.
func (c *cluster) close() {
	for _, ps := range c.proxies {
		for _, p := range ps {
			p.Close()
		}
	}
	for _, n := range c.nodes {
		n.close()
	}
}

// attached returns the node that a gateway is connected to; 0 if it is to none.
func (c *cluster) attached(gateway int) int {
	for i, p := range c.proxies[gateway] {
		if p.Busy() {
			return i
		}
	}
	return 0
}
