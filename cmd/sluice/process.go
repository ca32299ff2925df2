package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"sluice/gateway"
	"sluice/internal/config"
	"sluice/internal/memory"
	"sluice/internal/owner"
	"sluice/internal/systemd"
	"sluice/internal/takeover"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// stopMargin is what a stop may take beyond the drain and close windows that
// the settings give to clients.
const stopMargin = 5 * time.Second

// process is what the operating system gives to a run.
type process struct {
	environ  []string
	stdout   io.Writer
	stderr   io.Writer
	signals  <-chan os.Signal
	hangups  <-chan os.Signal  // SIGHUP, which reloads the settings
	upgrades <-chan os.Signal  // SIGUSR2, which has a new process take over
	manager  *systemd.Notifier // nil: there is no service manager

	args        []string              // after the program's name
	predecessor *takeover.Predecessor // that this process takes over from; nil: none
	// The service manager has chosen the addresses of these sockets.
	activatedClients, activatedMetrics bool
}

// service is what a process runs: a gateway, alone or with the demo.
type service interface {
	// Start returns when clients are served, or with the reason why not.
	Start(ctx context.Context) error
	// Stop drains until ctx ends.
	Stop(ctx context.Context) error
	// StopWindow returns how long Stop gives to clients.
	StopWindow() time.Duration
	// Reload reads the settings again, and applies what can change while the service runs.
	Reload(ctx context.Context) error
	// Alive returns nil when every part of the service that must not hang has just worked.
	Alive(ctx context.Context) error
	// Done yields the error that ended a started service, if one does.
	Done() <-chan error
}

// run does what args, the arguments after the program's name, ask for. It
// returns the exit code.
func (p *process) run(args []string) int {
	p.args = args
	build, relay, joins := p.gateway, false, false
	if len(args) > 0 {
		switch args[0] {
		case "demo":
			build, args = p.demo, args[1:]
		case "relay":
			build, args, relay = p.relay, args[1:], true
		case "takeover":
			args, joins = args[1:], true
		case "check":
			return p.check(args[1:])
		case "health":
			return p.health(args[1:])
		case "config":
			return p.config(args[1:])
		case "completion":
			return p.print(args, config.Completion, "name a shell: bash, zsh or fish")
		case "man":
			page := func(section string) []byte { return config.Manual(section, version()) }
			if len(args) == 1 {
				args = append(args, "1")
			}
			return p.print(args, page, "the pages are 1, of the program, and 5, of its configuration file")
		case "top":
			return p.top(args[1:])
		case "trace":
			return p.trace(args[1:])
		case "bundle":
			return p.bundle(args[1:])
		case "service":
			return p.service(args[1:])
		case "upgrade":
			return p.upgrade(args[1:])
		case "reload":
			return p.reload(args[1:])
		case "init":
			return p.first(args[1:])
		}
	}
	var err error
	if p.predecessor, err = takeover.Inherit(p.environ, version()); err != nil {
		return p.misused(err)
	}
	if joins && p.predecessor == nil { // a successor has the same arguments
		if code, err := p.join(args); err != nil {
			fmt.Fprintf(p.stderr, "sluice: %v\n", err)
			return code
		}
	}
	setup, err := config.Load(args, p.environ)
	switch {
	case err != nil:
		return p.misused(err)
	case setup.Help, setup.Version:
		return p.inform(setup)
	}
	c := setup.Config.WithDefaults()
	log, level := newLog(p.stderr, c)
	if setup.Created != "" {
		log.Info("config file written with the defaults", "file", setup.Created)
	}
	if joins && p.predecessor == nil {
		log.Info("no gateway is there to take over from: this one starts", "path", setup.Config.UpgradeSocket)
	}
	setup.Relay = relay
	for _, w := range append(setup.Warnings, setup.Unused()...) {
		log.Warn(w)
	}
	for _, n := range setup.Notes {
		log.Debug(n)
	}
	setup.Config.Log, setup.Config.Level, setup.Config.Version = log, level, version()
	setup.Config.Reread = func() (gateway.Config, []string, error) {
		again, err := config.Reload(args, p.environ)
		return again.Config, append(again.Warnings, again.Config.Warnings()...), err
	}
	if p.manager, err = systemd.NewNotifier(p.environ, os.Getpid()); err != nil {
		log.Warn("the service manager cannot be notified", "error", err)
	}
	sockets, err := systemd.Listen(p.environ, os.Getpid())
	if err != nil {
		return p.misused(err)
	}
	setup.Config.Listeners, setup.Config.MetricsListener = sockets.Clients, sockets.Metrics
	p.activatedClients, p.activatedMetrics = sockets.Clients != nil, sockets.Metrics != nil
	p.inherited(&setup.Config)
	setup.Config.TakesOver = p.predecessor != nil
	memory.Set(int64(setup.Config.MemoryLimit), log)
	s, err := build(setup.Config)
	if err != nil {
		return p.misused(err)
	}
	if p.predecessor != nil && p.predecessor.Check {
		_ = p.predecessor.Ready(p.takes(&c)...)
		return exitOK
	}
	orders, err := p.listenForOrders(setup.Config.UpgradeSocket)
	if err != nil {
		return p.misused(err)
	}
	if orders != nil {
		defer func() { _ = orders.Close() }()
	}
	p.predecessor.Step("settings read; connecting to NATS")
	defer memory.StartTrim(owner.SystemClock(), log).Stop()
	return p.serve(s, c, orders, log)
}

func (p *process) gateway(c gateway.Config) (service, error) {
	g, err := gateway.New(c)
	if err = errors.Join(err, readable(&c, false)); err != nil {
		return nil, err
	}
	return g, nil
}

// inform answers -h and -v.
func (p *process) inform(setup config.Setup) int {
	if setup.Help {
		fmt.Fprint(p.stdout, config.Usage())
	} else {
		fmt.Fprintf(p.stdout, "sluice %s\nprotocol v%s\n", version(), gateway.Protocol)
		if c := commit(); c != "" {
			fmt.Fprintf(p.stdout, "commit %s\n", c)
		}
	}
	return exitOK
}

// misused reports a mistake in the settings.
func (p *process) misused(err error) int {
	p.predecessor.Fail(err)
	fmt.Fprintf(p.stderr, "sluice: %v\nTry sluice -h for the settings.\n", err)
	return exitUsage
}

// serve runs s from start to stop. The first signal ends it gently within the
// given window, a further one at once.
func (p *process) serve(s service, c gateway.Config, orders net.Listener, log *slog.Logger) int {
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	started := make(chan error, 1)
	p.manager.Starting("waiting for NATS; the log says why it takes long")
	go func() { started <- s.Start(ctx) }()
	select {
	case err := <-started:
		if err != nil {
			log.Error("cannot start", "error", err)
			p.predecessor.Fail(err)
			return exitFailure
		}
	case sig := <-p.signals:
		log.Info("stopped before the start was complete", "signal", sig.String())
		p.predecessor.Fail(errors.New("stopped by a signal"))
		giveUp()
		select {
		case err := <-started:
			if err != nil {
				return exitOK // nothing runs, as was asked for
			}
			return p.stop(s, log)
		case <-p.signals:
			return exitFailure
		}
	}

	arrival := newArrival(owner.SystemClock())
	if r, ok := s.(replaceable); ok && p.predecessor != nil {
		guests, err := r.Guests(ctx)
		if err != nil {
			p.predecessor.Fail(err)
			return exitFailure
		}
		if err := p.predecessor.Ready(p.takes(&c)...); err != nil {
			log.Error("the old process goes on, and this one ends", "error", err)
			p.stop(s, log)
			return exitFailure
		}
		go p.receive(r, guests, arrival, log)
	} else {
		_ = p.predecessor.Ready()
		arrival.end()
	}
	p.manager.Ready("clients are served")
	up := &upgrades{p: p, service: s, config: c, log: log, arrival: arrival, orders: orders, requests: make(chan upgradeRequest), succeeded: make(chan struct{}), ended: make(chan struct{})}
	upgrading, endUpgrades := context.WithCancel(ctx)
	defer endUpgrades()
	go up.run(upgrading)
	reloading, endReloads := context.WithCancel(ctx)
	defer endReloads()
	go p.reloads(reloading, s)
	go p.watch(ctx, s, log)
	select {
	case err := <-s.Done():
		if err == nil {
			err = errors.New("stopped by itself")
		}
		log.Error("the gateway failed", "error", err)
		p.stop(s, log)
		return exitFailure
	case <-up.succeeded:
		endReloads()
		return p.stop(s, log)
	case sig := <-p.signals:
		endReloads()
		endUpgrades()
		select {
		case <-up.ended: // clients that are on their way to another process have got there
		case <-p.signals:
			return exitFailure
		}
		log.Info("stopping; a second signal leaves at once", "signal", sig.String())
		return p.stop(s, log)
	}
}

// reloads has each SIGHUP reload the settings, one after the other, until ctx ends. Signals that
// arrive during a reload lead to one more.
func (p *process) reloads(ctx context.Context, s service) {
	for {
		select {
		case <-p.hangups:
			p.manager.Reloading()
			status := "reloaded; clients are served"
			if s.Reload(ctx) != nil { // the log has the error
				status = "the reload failed, see the log; clients are served with the settings before"
			}
			p.manager.Ready(status)
		case <-ctx.Done():
			return
		}
	}
}

// watch answers the service manager's watchdog until ctx ends: three times in its interval, and
// only if the service is alive. A service that hangs is killed and started again.
func (p *process) watch(ctx context.Context, s service, log *slog.Logger) {
	interval := p.manager.Watchdog()
	if interval == 0 {
		return
	}
	next := time.NewTicker(max(interval/3, time.Millisecond))
	defer next.Stop()
	for {
		check, cancel := context.WithTimeout(ctx, interval)
		err := s.Alive(check)
		cancel()
		switch {
		case err == nil:
			p.manager.Alive()
		case ctx.Err() == nil:
			log.Error("an event loop or a cache shard hangs: the watchdog gets no answer", "after", interval)
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *process) stop(s service, log *slog.Logger) int {
	window := s.StopWindow() + stopMargin
	p.manager.Stopping(window)
	ctx, cancel := context.WithTimeout(context.Background(), window)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(ctx) }()
	select {
	case err := <-stopped:
		if err != nil {
			log.Error("the stop was not clean", "error", err)
			return exitFailure
		}
		log.Info("stopped")
		return exitOK
	case sig := <-p.signals:
		log.Warn("leaving at once", "signal", sig.String())
		return exitFailure
	}
}

// newLog returns a logger in the form and at the level that c asks for, and what changes the level.
func newLog(w io.Writer, c gateway.Config) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(c.LogLevel())
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: nameTrace}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), level
	}
	return slog.New(slog.NewTextHandler(w, options)), level
}

// nameTrace gives the level below debug, which slog does not know, its name.
func nameTrace(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.LevelKey {
		if level, ok := a.Value.Any().(slog.Level); ok && level == gateway.LevelTrace {
			return slog.String(slog.LevelKey, "TRACE")
		}
	}
	return a
}
