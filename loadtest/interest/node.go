//go:build linux

package interest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sluice/loadtest/proc"
)

const startLimit = time.Minute

// node is a NATS server.
type node struct {
	*proc.Process
	name    string
	program string
	file    string
	client  string // addresses
	route   string
	leaf    string
	monitor string
	profile string
}

// stand is the servers and connections of a row.
type stand struct {
	nodes []*node // the cluster's
	edges []*node // leaf nodes
	conns []*conn
	base  []int // subscriptions of each of the cluster's, before those of gateways
}

func address() (string, error) {
	port, err := proc.StablePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// newNode chooses a node's addresses.
func newNode(program, dir, name string) (*node, error) {
	n := &node{name: name, program: program, file: filepath.Join(dir, name+".conf")}
	for _, a := range []*string{&n.client, &n.route, &n.leaf, &n.monitor, &n.profile} {
		var err error
		if *a, err = address(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// start starts a node and waits until it takes connections.
func (n *node) start() (err error) {
	if n.Process, err = proc.Start("NATS server "+n.name, n.program+" -c "+n.file, nil, nil); err != nil {
		return err
	}
	return n.Ready(n.client, startLimit)
}

// configure writes a node's file, with rest at its end.
func (n *node) configure(rest string) error {
	_, profile, _ := net.SplitHostPort(n.profile)
	text := fmt.Sprintf("listen: %q\nserver_name: %s\nhttp: %q\nprof_port: %s\nping_interval: \"10m\"\n%s\n", n.client, n.name, n.monitor, profile, rest)
	return os.WriteFile(n.file, []byte(text), 0o600)
}

// startCluster starts a cluster of three.
func (o *Options) startCluster(ctx context.Context, dir string, isolated bool) (s *stand, err error) {
	s = &stand{}
	var routes []string
	for i := range 3 {
		n, err := newNode(o.NATS, dir, fmt.Sprintf("n%d", i+1))
		if err != nil {
			return s, err
		}
		s.nodes = append(s.nodes, n)
		routes = append(routes, "nats://"+n.route)
	}
	for _, n := range s.nodes {
		err := n.configure(fmt.Sprintf("cluster { name: interest, listen: %q, routes: [%s] }\nleafnodes { listen: %q, isolate_leafnode_interest: %v }",
			n.route, strings.Join(routes, ", "), n.leaf, isolated))
		if err == nil {
			err = n.start()
		}
		if err != nil {
			return s, err
		}
	}
	return s, s.until(ctx, "the cluster is complete", func() bool {
		for _, n := range s.nodes {
			if v, err := n.varz(); err != nil || v.Remotes != len(s.nodes)-1 {
				return false
			}
		}
		return true
	})
}

// startLeaves starts two leaf nodes of the cluster's first node.
func (o *Options) startLeaves(ctx context.Context, dir string, s *stand) error {
	for i := range 2 {
		n, err := newNode(o.NATS, dir, fmt.Sprintf("leaf%d", i+1))
		if err == nil {
			err = n.configure(fmt.Sprintf("leafnodes { remotes: [{ url: \"nats://%s\" }] }", s.nodes[0].leaf))
		}
		if err == nil {
			s.edges = append(s.edges, n)
			err = n.start()
		}
		if err != nil {
			return err
		}
	}
	return s.until(ctx, "the leaf nodes are connected", func() bool {
		v, err := s.nodes[0].varz()
		return err == nil && v.Leafs == len(s.edges)
	})
}

// close ends all that a stand has.
func (s *stand) close() {
	for _, c := range s.conns {
		c.close()
	}
	s.conns = nil
	for _, n := range append(s.edges, s.nodes...) {
		if n.Process != nil {
			n.Kill()
		}
	}
}

// has waits until each server of the cluster has so many subscriptions of gateways.
func (s *stand) has(ctx context.Context, want ...int) error {
	for i, n := range s.nodes {
		if err := s.until(ctx, fmt.Sprintf("%s has %d subscriptions", n.name, want[i]), func() bool {
			v, err := n.varz()
			return err == nil && v.Subscriptions >= s.base[i]+want[i]
		}); err != nil {
			return err
		}
	}
	return nil
}

// until polls until cond holds.
func (s *stand) until(ctx context.Context, what string, cond func() bool) error {
	for end := time.Now().Add(ioLimit); !cond(); {
		if time.Now().After(end) {
			return fmt.Errorf("waited for %v in vain: %s", ioLimit, what)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// varz is what a server says of itself.
type varz struct {
	Version       string `json:"version"`
	Subscriptions int    `json:"subscriptions"`
	Remotes       int    `json:"remotes"`
	Leafs         int    `json:"leafnodes"`
}

var web = &http.Client{Timeout: ioLimit}

func (n *node) varz() (v varz, err error) {
	resp, err := web.Get("http://" + n.monitor + "/varz")
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	return v, json.NewDecoder(resp.Body).Decode(&v)
}

// heap collects a server's garbage and returns the bytes of its heap that are in use.
func (n *node) heap() (int64, error) {
	resp, err := web.Get("http://" + n.profile + "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "# HeapAlloc = "); ok {
			return strconv.ParseInt(text, 10, 64)
		}
	}
	return 0, errors.Join(lines.Err(), errors.New("the server's profile has no HeapAlloc"))
}

// use is what a server has used.
type use struct {
	cpu       time.Duration
	heap, rss int64
}

func (n *node) cpu() time.Duration {
	u, err := proc.ReadUsage(n.PID())
	if err != nil {
		return 0
	}
	return u.CPU
}

func (n *node) use() (u use, err error) {
	u.cpu = n.cpu()
	m, err := proc.ReadMemory(n.PID())
	if err != nil {
		return u, err
	}
	u.rss = m.RSS
	u.heap, err = n.heap()
	return u, err
}
