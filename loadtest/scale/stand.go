//go:build linux

package scale

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sluice/loadtest/client"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
	"sluice/loadtest/service"
)

const (
	nodes        = 3 // of the cluster
	startLimit   = time.Minute
	stopLimit    = 20 * time.Second
	connectLimit = 5 * time.Minute
)

// stand is the processes of a cell.
type stand struct {
	dir      string
	machine  result.Machine
	nats     []*proc.Process
	relay    *proc.Process // nil: there is none
	gateways []*gateway
	service  service.Service
	clients  client.Group
	workers  []int // process ids of the clients
}

// gateway is one of the gateways.
type gateway struct {
	*proc.Process
	addr    string
	metrics string // URL
}

// address returns an address of the loopback at which nothing listens.
func address() (string, error) {
	port, err := proc.StablePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// newStand starts the processes of a cell. Clients are not connected yet.
func (o *Options) newStand(dir string, m result.Machine, c *Cell) (s *stand, err error) {
	s = &stand{dir: dir, machine: m}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	hub, leaves, err := s.startCluster(o.NATS)
	if err != nil {
		return s, err
	}
	urls := hub
	switch c.Topology {
	case Leaf:
		if urls, err = s.startLeaf(o.NATS, leaves); err != nil {
			return s, err
		}
	case Within:
		urls = leaves
	case Relay:
		if urls, err = s.startRelay(o.Gateway, o.NATS, hub); err != nil {
			return s, err
		}
	}
	for i := range c.Gateways {
		if err := s.startGateway(o.Gateway, i, c.Topology, urls); err != nil {
			return s, err
		}
	}
	if s.service, err = service.DialNATS(hub[0], c.Topics, true, 0, false); err != nil {
		return s, err
	}
	for i, g := range s.gateways {
		cfg := client.Config{Protocol: client.ProtocolRES, Addr: g.addr, First: i * c.Clients, Count: c.Clients, Topics: c.Topics, PerClient: 1,
			Threads: 1, Inflight: max(128/c.Gateways, 1)}
		if o.Worker == nil {
			e, err := client.New(cfg)
			if err != nil {
				return s, err
			}
			s.clients = append(s.clients, e)
			continue
		}
		w, err := client.Start(o.Worker(), cfg, func(cmd *exec.Cmd) error { return proc.StartPinned(cmd, m.Clients) })
		if err != nil {
			return s, err
		}
		s.clients, s.workers = append(s.clients, w), append(s.workers, w.PID())
	}
	return s, nil
}

// startCluster starts the nodes of the cluster, and returns their URLs for clients and leaf nodes.
func (s *stand) startCluster(program string) (clients, leaves []string, err error) {
	var routes []string
	for range nodes {
		a, err1 := address()
		b, err2 := address()
		c, err3 := address()
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, nil, err
		}
		clients, routes, leaves = append(clients, "nats://"+a), append(routes, "nats://"+b), append(leaves, "nats://"+c)
	}
	for i := range nodes {
		config := fmt.Sprintf("listen: %q\nserver_name: n%d\ncluster { name: scale, listen: %q, routes: [%s] }\nleafnodes { listen: %q }\n",
			host(clients[i]), i, host(routes[i]), strings.Join(routes, ", "), host(leaves[i]))
		if err := s.startNATS(program, fmt.Sprintf("n%d", i), config, clients[i]); err != nil {
			return nil, nil, err
		}
	}
	return clients, leaves, nil
}

// startLeaf starts a leaf node of the cluster, and returns its URL.
func (s *stand) startLeaf(program string, hub []string) ([]string, error) {
	addr, err := address()
	if err != nil {
		return nil, err
	}
	url := "nats://" + addr
	config := fmt.Sprintf("listen: %q\nserver_name: leaf\nleafnodes { remotes: [{ urls: [%s] }] }\n", addr, strings.Join(hub, ", "))
	return []string{url}, s.startNATS(program, "leaf", config, url)
}

// startRelay starts an edge server and a relay between it and the cluster, and returns the edge's
// URL when the relay is active.
func (s *stand) startRelay(program, natsServer string, hub []string) ([]string, error) {
	addr, err1 := address()
	metrics, err2 := address()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	url := "nats://" + addr
	if err := s.startNATS(natsServer, "edge", fmt.Sprintf("listen: %q\nserver_name: edge\n", addr), url); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(metrics)
	line := fmt.Sprintf("%s relay --addr 127.0.0.1 --metricsport %s --nats %s --downstream %s", program, port, strings.Join(hub, ","), url)
	var err error
	if s.relay, err = proc.Start("relay", line, s.machine.Clients, nil); err != nil {
		return nil, err
	}
	if err := s.relay.Ready(metrics, startLimit); err != nil {
		return nil, err
	}
	return []string{url}, s.active("http://" + metrics + "/healthz")
}

// active waits until the relay serves edges: it waits for the lease first.
func (s *stand) active(health string) error {
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(pollEvery) {
		if !s.relay.Running() {
			return fmt.Errorf("the relay ended (%s): %s", s.relay.Exit(), s.relay.Output())
		}
		resp, err := http.Get(health)
		if err != nil {
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if strings.TrimSpace(string(text)) == "active" {
			return nil
		}
	}
	return fmt.Errorf("the relay is not active after %v: %s", startLimit, s.relay.Output())
}

func host(url string) string { return strings.TrimPrefix(url, "nats://") }

// startNATS starts a NATS server and waits until it listens.
func (s *stand) startNATS(program, name, config, url string) error {
	file := filepath.Join(s.dir, name+".conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	p, err := proc.Start("NATS server "+name, program+" -c "+file, s.machine.Clients, nil)
	if err != nil {
		return err
	}
	s.nats = append(s.nats, p)
	return p.Ready(host(url), startLimit)
}

// startGateway starts the i-th gateway, which prefers the i-th of the URLs.
func (s *stand) startGateway(program string, i int, topology string, urls []string) error {
	addr, err1 := address()
	metrics, err2 := address()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(addr)
	_, metricsPort, _ := net.SplitHostPort(metrics)
	first := i % len(urls)
	nats := "--nats"
	if topology == Within {
		nats = "--embedded-nats --embedded-nats-listen 127.0.0.1:0 --nats-leaf"
	}
	line := fmt.Sprintf("%s --addr 127.0.0.1 --port %s --metricsport %s %s %s", program, port, metricsPort, nats,
		strings.Join(append(append([]string{}, urls[first:]...), urls[:first]...), ","))
	p, err := proc.Start(fmt.Sprintf("gateway %d", i), line, s.machine.Server, nil)
	if err != nil {
		return err
	}
	s.gateways = append(s.gateways, &gateway{Process: p, addr: addr, metrics: "http://" + metrics + "/metrics"})
	return p.Ready(addr, startLimit)
}

// events returns how many events a gateway has got from NATS.
func (g *gateway) events(ctx context.Context) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.metrics, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	const name = "\nsluice_nats_events_total "
	_, rest, ok := strings.Cut("\n"+string(text), name)
	if !ok {
		return 0, fmt.Errorf("the metrics of %s have no%s", g.Name, strings.TrimSpace(name))
	}
	value, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseFloat(value, 64)
	return int64(n), err
}

// failure returns which process has ended, or nil.
func (s *stand) failure() error {
	all := append([]*proc.Process{}, s.nats...)
	if s.relay != nil {
		all = append(all, s.relay)
	}
	for _, g := range s.gateways {
		all = append(all, g.Process)
	}
	for _, p := range all {
		if !p.Running() {
			return fmt.Errorf("%s ended (%s): %s", p.Name, p.Exit(), p.Output())
		}
	}
	return s.service.Lost()
}

// close ends all processes.
func (s *stand) close() error {
	errs := []error{s.clients.Close()}
	if s.service != nil {
		errs = append(errs, s.service.Close())
	}
	for _, g := range s.gateways {
		g.Kill() // there is nothing to drain
	}
	if s.relay != nil {
		s.relay.Kill()
	}
	for _, p := range s.nats {
		errs = append(errs, p.Stop(stopLimit))
	}
	return errors.Join(errs...)
}
