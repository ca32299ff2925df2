//go:build linux

package run

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/secret"
	"sluice/internal/selfsigned"
	"sluice/loadtest/client"
	"sluice/loadtest/plan"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
	"sluice/loadtest/service"
)

// stage is one server with its clients and its service. It owns the processes, and close
// stops all of them.
type stage struct {
	run    *runner
	target plan.Target
	layout layout

	server  *proc.Process      // nil if it ran already
	heir    atomic.Int64       // process that is about to take the server's place; 0: none
	used    map[int]proc.Usage // by servers so far, by process id
	nats    *proc.Process      // nil if the target needs none, or it ran already
	service service.Service
	clients client.Group
	config  client.Config // of the clients, without which of them a process has
	workers []int         // process ids of the clients
	addr    string
	params  map[string]string // values of the placeholders in command lines

	logs      []*os.File  // of servers
	subs      []int       // subscribers per topic, without slow clients
	empty     proc.Memory // of the server without clients
	emptySock int64       // socket memory without clients, bytes
	connected result.Cell // what the first connect cost
}

const (
	startLimit   = 20 * time.Second
	stopLimit    = 10 * time.Second
	connectLimit = 3 * time.Minute
	perWorker    = 19_000 // clients per process
	reserveFDs   = 100
)

// layout is what scenarios must have in common to share a stage.
type layout struct {
	n, topics, perClient, collection, models, properties, inflight, slowRate int
	slow, connectRate                                                        float64
	http, streams, pages, tls, compression, squeezed, changes, numbered      bool
	backOff                                                                  time.Duration
	work                                                                     service.Work
}

func layoutOf(s plan.Scenario, n int) layout {
	l := layout{
		n: n, topics: s.Topics, perClient: s.PerClient, collection: s.Collection, models: s.Models,
		properties: s.Properties, pages: s.Kind == plan.KindSPA, inflight: s.Inflight, slow: s.Slow, slowRate: s.SlowRate, connectRate: s.ConnectRate,
		http: s.Kind == plan.KindHTTP, streams: s.Kind == plan.KindSSE, tls: s.TLS, compression: s.Compression,
		squeezed: s.Squeezes(),
		changes:  s.Kind == plan.KindOverload,
	}
	if s.Kind == plan.KindUpgrade {
		l.numbered, l.backOff = true, s.BackOff
	}
	if s.Kind == plan.KindReconnect || s.Kind == plan.KindFailover {
		l.work = service.Work{Workers: s.Workers, Each: s.Work}
	}
	return l
}

// open starts a stage. Its clients are not connected yet.
func (r *runner) open(t plan.Target, s plan.Scenario, n int) (*stage, error) {
	st := &stage{run: r, target: t, layout: layoutOf(s, n), used: map[int]proc.Usage{}}
	if err := st.start(); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return st, nil
}

func (st *stage) start() error {
	if err := st.choosePorts(); err != nil {
		return err
	}
	if st.target.NATS != "" {
		line, err := proc.Fill(st.target.NATS, st.params)
		if err != nil {
			return err
		}
		if st.nats, err = proc.Start("NATS server", line, st.run.plan.ClientCores, nil); err != nil {
			return err
		}
		if err := st.nats.Ready("127.0.0.1:"+st.params["nats"], startLimit); err != nil {
			return err
		}
	}
	if err := st.startServer(); err != nil {
		return err
	}
	if pid := st.serverPID(); pid != 0 {
		if _, err := proc.ReadUsage(pid); err != nil {
			return fmt.Errorf("there is no process %d", pid)
		}
		if limit, err := proc.OpenFiles(pid); err == nil && limit < st.layout.n {
			return fmt.Errorf("the server may open %d descriptors, too few for %d clients: raise its limit (ulimit -n)", limit, st.layout.n)
		}
	}
	if err := st.startService(); err != nil {
		return err
	}
	if st.layout.work.Workers > 0 {
		w, ok := st.service.(worker)
		if !ok {
			return errors.New("this target's service has no workers")
		}
		w.Begin(st.layout.work)
	}
	if err := st.startClients(); err != nil {
		return err
	}
	st.empty, st.emptySock = st.memory(), proc.SocketMemory()
	return nil
}

// choosePorts fills in the placeholders of command lines, and the server's address.
func (st *stage) choosePorts() error {
	st.params = map[string]string{"self": st.run.options.Self, "secret": rand.Text()}
	for _, name := range []string{"port", "nats", "feed"} {
		port, err := proc.FreePort()
		if err != nil {
			return err
		}
		st.params[name] = strconv.Itoa(port)
	}
	if st.layout.tls && st.target.Start != "" {
		if err := st.run.certificate(); err != nil {
			return err
		}
		st.params["cert"], st.params["key"] = filepath.Join(st.run.dir, "cert.pem"), filepath.Join(st.run.dir, "key.pem")
	}
	if st.addr = st.target.Addr; st.addr == "" {
		st.addr = "127.0.0.1:" + st.params["port"]
	}
	return nil
}

// startServer starts the server and waits until it listens. If the target runs already,
// startServer checks that it does.
func (st *stage) startServer() error {
	if st.target.Start == "" {
		c, err := net.DialTimeout("tcp", st.addr, startLimit)
		if err != nil {
			return fmt.Errorf("%s does not run: %w", st.target.Name, err)
		}
		return c.Close()
	}
	p, err := st.launch()
	if err != nil {
		return err
	}
	st.server = p
	return p.Ready(st.addr, startLimit)
}

// launch starts a process of the server, and does not wait until it listens.
func (st *stage) launch() (*proc.Process, error) {
	line, all := st.target.Command(st.layout.tls, st.layout.compression || st.layout.squeezed)
	line, err := proc.Fill(line, st.params)
	if err != nil {
		return nil, err
	}
	var env []string
	for _, e := range all {
		if e, err = proc.Fill(e, st.params); err != nil {
			return nil, err
		}
		env = append(env, e)
	}
	cores := st.run.plan.ServerCores
	if st.layout.numbered && st.target.Upgrade == plan.UpgradeSignal {
		// Its output is a file, which outlives it: a process that it starts has it, too.
		log, err := st.run.logFile()
		if err != nil {
			return nil, err
		}
		st.logs = append(st.logs, log)
		return proc.StartLogged(st.target.Name, line, cores, env, log)
	}
	return proc.Start(st.target.Name, line, cores, env)
}

// startService connects the harness's service to the server or its NATS.
func (st *stage) startService() (err error) {
	url := st.target.NATSURL
	if url == "" {
		url = "nats://127.0.0.1:" + st.params["nats"]
	}
	switch {
	case st.target.Protocol == client.ProtocolCentrifuge:
		st.service, err = st.dialService(func() (service.Service, error) {
			return service.DialProxied(url, st.layout.topics, "127.0.0.1:"+st.params["feed"])
		})
	case st.target.Protocol == client.ProtocolMercure:
		st.service, err = st.dialService(func() (service.Service, error) { return service.DialMercure(st.addr, st.params["secret"]) })
	case st.target.Protocol == client.ProtocolFloor:
		st.service, err = st.dialService(func() (service.Service, error) {
			return service.DialFeed("127.0.0.1:" + st.params["feed"])
		})
	default:
		st.service, err = st.dialService(func() (service.Service, error) {
			s, err := service.DialNATS(url, st.layout.topics, st.target.Protocol == client.ProtocolRES, st.layout.collection, st.layout.changes)
			if err != nil {
				return nil, fmt.Errorf("%v: %w", secret.URLs(url), secret.URLs(url).Error(err))
			}
			if st.layout.properties > 0 {
				s.Properties(st.layout.properties)
			}
			return s, nil
		})
	}
	return err
}

// dialService retries until dial succeeds: a server that this stage started may open its
// ports one after the other.
func (st *stage) dialService(dial func() (service.Service, error)) (service.Service, error) {
	for end := time.Now().Add(startLimit); ; time.Sleep(50 * time.Millisecond) {
		s, err := dial()
		switch {
		case err == nil:
			return s, nil
		case st.server == nil || time.Now().After(end):
			return nil, fmt.Errorf("the harness's service cannot connect: %w", err)
		case !st.server.Running():
			return nil, fmt.Errorf("%s ended (%s): %s", st.server.Name, st.server.Exit(), st.server.Output())
		}
	}
}

// failure returns which part of the stage has ended, or nil.
func (st *stage) failure() error {
	for _, p := range []*proc.Process{st.server, st.nats} {
		if p != nil && !p.Running() {
			return fmt.Errorf("%s ended (%s): %s", p.Name, p.Exit(), p.Output())
		}
	}
	return st.service.Lost()
}

// startClients starts the clients, in as many processes as their descriptors need.
func (st *stage) startClients() error {
	l, p := st.layout, st.run.plan
	addr, err := net.ResolveTCPAddr("tcp", st.addr)
	if err != nil {
		return err
	}
	api, to := apiOf(st.target), addr.AddrPort() // an IPv4 address in IPv6 form, which no server expects as its host
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	per := p.PerProcess
	if per <= 0 {
		per = perWorker
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < uint64(per+reserveFDs) {
		per = max(int(limit.Cur)-reserveFDs, 1)
	}
	cfg := client.Config{
		Protocol: st.target.Protocol, Addr: to.String(), Path: st.target.Path,
		TLS: l.tls, Compression: l.compression, HTTP: l.http, HTTPTarget: api + "load/t0",
		Topics: l.topics, PerClient: l.perClient, Models: l.models, Threads: p.Threads,
		Slow: l.slow, SlowRate: l.slowRate, Numbered: l.numbered, Return: l.backOff,
	}
	if l.streams {
		cfg.Streams = api
	}
	if st.target.TokenFile != "" {
		token, err := os.ReadFile(st.target.TokenFile)
		if err != nil {
			return fmt.Errorf("the file of the token: %w", err)
		}
		cfg.Token = strings.TrimSpace(string(token))
	}
	processes := (l.n + per - 1) / per
	cfg.Inflight = l.inflight
	if cfg.Inflight == 0 {
		cfg.Inflight = 128
	}
	cfg.Inflight = max(cfg.Inflight/processes, 1)
	cfg.ConnectRate = l.connectRate / float64(processes)
	st.config = cfg
	for first := 0; first < l.n; first += per {
		cfg.First, cfg.Count = first, min(per, l.n-first)
		if st.run.options.Worker == nil {
			e, err := client.New(cfg)
			if err != nil {
				return err
			}
			st.clients = append(st.clients, e)
			continue
		}
		w, err := client.Start(st.run.options.Worker(), cfg, func(c *exec.Cmd) error { return proc.StartPinned(c, p.ClientCores) })
		if err != nil {
			return err
		}
		st.clients = append(st.clients, w)
		st.workers = append(st.workers, w.PID())
	}
	st.subs = st.config.Subscribers(l.n)
	return nil
}

// apiOf returns the path prefix of a target's web resources.
func apiOf(t plan.Target) string {
	if t.API == "" {
		return "/api/"
	}
	return t.API
}

// close stops everything that the stage started.
func (st *stage) close() error {
	var errs []error
	if err := st.clients.Close(); err != nil {
		errs = append(errs, fmt.Errorf("clients: %w", err))
	}
	if st.service != nil {
		errs = append(errs, st.service.Close())
	}
	for _, p := range []*proc.Process{st.server, st.nats} {
		if p != nil {
			errs = append(errs, p.Stop(stopLimit))
		}
	}
	for _, log := range st.logs {
		errs = append(errs, log.Close())
	}
	return errors.Join(errs...)
}

// serverPID returns the server's process id, 0 if it is not known.
func (st *stage) serverPID() int {
	if st.server != nil {
		return st.server.PID()
	}
	return st.target.PID
}

// serverPIDs returns the ids of the server's processes that are known.
func (st *stage) serverPIDs() (all []int) {
	for _, pid := range []int{st.serverPID(), int(st.heir.Load())} {
		if pid != 0 {
			all = append(all, pid)
		}
	}
	return all
}

// memory returns the memory of the server's processes, -1 in each field if none is known.
func (st *stage) memory() proc.Memory {
	all := proc.Memory{RSS: -1, PSS: -1}
	for _, pid := range st.serverPIDs() {
		m, err := proc.ReadMemory(pid)
		if err != nil {
			continue
		}
		if all.RSS < 0 {
			all = m
		} else {
			all = all.Add(m)
		}
	}
	return all
}

// serverUsage returns what all processes of the server have used so far. known reports whether one
// that runs could be read.
func (st *stage) serverUsage() (all proc.Usage, known bool) {
	for _, pid := range st.serverPIDs() {
		if u, err := proc.ReadUsage(pid); err == nil {
			st.used[pid], known = u, true
		}
	}
	for _, u := range st.used {
		all = all.Add(u)
	}
	return all, known
}

// connect connects all clients and measures what that costs.
func (st *stage) connect(ctx context.Context, c *result.Cell) error {
	begin := client.Now()
	if err := st.clients.Begin(begin); err != nil {
		return err
	}
	m := st.measure(c, begin, result.Connection, client.Connect)
	if err := st.clients.Connect(); err != nil {
		return err
	}
	n := st.layout.n
	err := m.every(ctx, drainEvery, time.Now().Add(connectLimit), func(s client.Counters) bool { return s.Ready+s.Failed+s.Closed >= n })
	m.finish(int64(n), int64(m.last.Ready))
	if err != nil {
		return err
	}
	if m.last.Ready < n {
		return fmt.Errorf("%d of %d clients connected: %s", m.last.Ready, n, m.last.LastError)
	}
	return nil
}

// restore reconnects all clients if some of them were lost.
func (st *stage) restore(ctx context.Context) error {
	s, err := st.clients.Sample(false)
	if err != nil || s.Count.Ready == st.layout.n {
		return err
	}
	if err := st.clients.Drop(); err != nil {
		return err
	}
	var unused result.Cell
	return st.connect(ctx, &unused)
}

// certificate creates the run's certificate, once.
func (r *runner) certificate() error {
	if r.certified {
		return nil
	}
	pair, err := selfsigned.New("127.0.0.1")
	if err == nil {
		err = r.makeDir()
	}
	if err != nil {
		return err
	}
	r.certified = true
	return pair.Write(filepath.Join(r.dir, "cert.pem"), filepath.Join(r.dir, "key.pem"))
}

// makeDir creates the folder of temporary files, once.
func (r *runner) makeDir() (err error) {
	if r.dir == "" {
		r.dir, err = os.MkdirTemp("", "load")
	}
	return err
}

// logFile creates a file for the output of a process.
func (r *runner) logFile() (*os.File, error) {
	if err := r.makeDir(); err != nil {
		return nil, err
	}
	return os.CreateTemp(r.dir, "server-*.log")
}
