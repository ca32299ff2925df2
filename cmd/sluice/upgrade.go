package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sluice/gateway"
	"sluice/internal/config"
	"sluice/internal/owners"
	"sluice/internal/takeover"
	"sluice/netpoll"
)

// startMargin is what a new process may take to serve, beside the wait for NATS.
const startMargin = 30 * time.Second

// replaceable is a service whose place a new process can take.
type replaceable interface {
	Sockets() (gateway.Sockets, error)
	Leave(secure bool, give func([]netpoll.Departed))
	Arrive(d netpoll.Departed)
	Remember(ctx context.Context, on bool) error
	Move(ctx context.Context, most int, to owners.Successor, progress func(m owners.Moving, of int)) (owners.Moving, error)
	Guests(ctx context.Context) (*owners.Guests, error)
}

// upgrades replaces the process by a new one on SIGUSR2, and on orders at upgradeSocket.
type upgrades struct {
	p         *process
	service   service
	config    gateway.Config // with its defaults
	log       *slog.Logger
	arrival   *arrival     // of the predecessor's clients
	orders    net.Listener // nil: there is no upgradeSocket
	requests  chan upgradeRequest
	succeeded chan struct{} // closed when a new process is in charge
	ended     chan struct{} // closed when run has returned
}

// upgradeRequest asks for a new process.
type upgradeRequest struct {
	takeover.Order
	done chan error // one result
}

// listenForOrders opens upgradeSocket, unless the predecessor's is at the same path.
func (p *process) listenForOrders(path string) (net.Listener, error) {
	if path == "" {
		return nil, nil
	}
	if l := p.predecessor.Take(takeover.Control, func(a net.Addr) bool { return a.String() == path }); len(l) > 0 {
		takeover.Keep(l[0])
		return l[0], nil
	}
	l, err := takeover.Listen(path)
	if err != nil {
		return nil, fmt.Errorf("upgradeSocket: %w", err)
	}
	return l, nil
}

// inherited takes the listening sockets that the predecessor has and the settings ask for.
func (p *process) inherited(c *gateway.Config) {
	always := func(net.Addr) bool { return true }
	d := c.WithDefaults()
	if l := p.predecessor.Take(takeover.ActivatedClients, always); len(l) > 0 {
		c.Listeners, p.activatedClients = l, true
	} else if len(c.Listeners) == 0 {
		c.Listeners = p.predecessor.Take(takeover.Clients, sameAddress(d.ListenAddr()))
	}
	if l := p.predecessor.Take(takeover.ActivatedMetrics, always); len(l) > 0 {
		c.MetricsListener, p.activatedMetrics = l[0], true
	} else if host, _, err := net.SplitHostPort(d.ListenAddr()); err == nil && d.MetricsPort != 0 && c.MetricsListener == nil {
		if l := p.predecessor.Take(takeover.Metrics, sameAddress(net.JoinHostPort(host, fmt.Sprint(max(d.MetricsPort, 0))))); len(l) > 0 {
			c.MetricsListener = l[0]
		}
	}
	if d.AdminPort != 0 {
		if l := p.predecessor.Take(takeover.Admin, sameAddress(d.AdminListenAddr())); len(l) > 0 {
			c.AdminListener = l[0]
		}
	}
}

// sameAddress returns whether a socket listens at an address, as host:port. Port 0 is any.
func sameAddress(addr string) func(net.Addr) bool {
	want, err := net.ResolveTCPAddr("tcp", addr)
	return func(a net.Addr) bool {
		got, ok := a.(*net.TCPAddr)
		if !ok || err != nil || want.Port != 0 && want.Port != got.Port {
			return false
		}
		if want.IP == nil {
			return got.IP.Equal(net.IPv6unspecified)
		}
		return got.IP.Equal(want.IP)
	}
}

// run serves requests until ctx ends, one after the other.
func (u *upgrades) run(ctx context.Context) {
	defer close(u.ended)
	if u.orders != nil {
		go takeover.Serve(u.orders, u.request)
	}
	for {
		var r upgradeRequest
		select {
		case <-ctx.Done():
			return
		case <-u.p.upgrades:
			r = upgradeRequest{takeover.Order{Step: func(takeover.Progress) {}}, make(chan error, 1)}
		case r = <-u.requests:
		}
		err := u.do(ctx, r)
		r.done <- err
		if err == nil && !r.Check {
			if r.Answered != nil {
				<-r.Answered // before this process may end
			}
			if u.orders != nil { // the next order is for the new process
				_ = u.orders.Close()
			}
			close(u.succeeded)
			return
		}
	}
}

// request is an order at upgradeSocket.
func (u *upgrades) request(o takeover.Order) error {
	r := upgradeRequest{o, make(chan error, 1)}
	select {
	case u.requests <- r:
	case <-u.succeeded:
		return takeover.ErrSucceeded
	}
	return <-r.done
}

// do lets a new process take over, which it starts if there is none yet. After an error nothing has
// changed.
func (u *upgrades) do(ctx context.Context, r upgradeRequest) (err error) {
	what := "upgrade"
	if r.Check {
		what = "check of an upgrade"
	}
	u.log.Info(what + " begins")
	defer func() {
		if err != nil {
			u.log.Error(what+" failed; this process goes on", "error", err)
		}
	}()
	say := func(text string) { r.Step(takeover.Progress{Text: text}) }
	step := func(text string) {
		u.log.Info(what, "step", text)
		say(text)
	}
	if !r.Check {
		within := u.service.StopWindow() + arrivalWait
		if r.Patience > 0 {
			within = min(within, r.Patience)
		}
		if err := u.arrival.wait(ctx, within, step); err != nil {
			return err
		}
	}
	began := time.Now()
	sockets, err := u.sockets()
	defer func() {
		for _, s := range sockets {
			_ = unix.Close(s.FD)
		}
	}()
	if err != nil {
		return err
	}
	path, err := os.Executable()
	if err != nil {
		return err
	}
	service := u.service.(replaceable)
	if !r.Check {
		if err := service.Remember(ctx, true); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				_ = service.Remember(context.WithoutCancel(ctx), false)
			}
		}()
	}
	if err := netpoll.MovesTLS(); err != nil && u.config.TLS {
		step(fmt.Sprintf("clients with TLS cannot leave process %d, and are closed in its drain: %v", os.Getpid(), err))
	}
	options := takeover.Options{
		Path: path, Args: u.p.args, Environ: u.p.environ, Version: version(), Sockets: sockets, Check: r.Check,
		Within: u.config.NATSTimeout + startMargin,
		Step:   step,
	}
	var successor *takeover.Successor
	if r.Conn != nil {
		successor, err = takeover.Attach(ctx, r.Conn, options)
	} else {
		successor, err = takeover.Start(ctx, options)
	}
	if err != nil || r.Check {
		return err
	}
	if err := successor.Commit(); err != nil {
		successor.Abandon()
		return fmt.Errorf("the new process has ended again: %w", err)
	}
	if r.Conn == nil { // else the service manager has not started it, or knows it
		u.p.manager.HandOver(successor.PID)
	}
	if err := successor.Give(); err != nil {
		u.log.Warn("the new process does not take connections", "error", err)
	}
	secure := slices.Contains(successor.Takes, takeover.TLS13)
	service.Leave(secure, func(conns []netpoll.Departed) { u.give(successor, conns) })
	say(fmt.Sprintf("process %d serves new clients; WebSockets move to it", successor.PID))
	moving, err := service.Move(ctx, takeover.MaxMove, mover{successor, u.log}, u.progress(r))
	if err != nil {
		u.log.Warn("WebSockets stay in the old process, and are closed in its drain", "connections", moving.Left, "error", err)
		say(fmt.Sprintf("%d WebSockets stay: %v", moving.Left, err))
		err = nil
	} else if moving.Left > 0 {
		u.log.Warn("WebSockets stay in the old process, and are closed in its drain", "connections", moving.Left, "reason", fmt.Sprint("they wait for ", moving.Waits))
	}
	if moving.Unknown > 0 {
		u.log.Warn("the new process has WebSockets, and does not say that it serves them", "connections", moving.Unknown)
	}
	if moving.Cut > 0 {
		u.log.Warn("WebSockets could neither go nor stay, and are cut", "connections", moving.Cut)
	}
	if moving.Lost != nil {
		u.log.Warn("the new process has closed WebSockets that it could not go on with", "error", moving.Lost)
	}
	text := fmt.Sprintf("%d WebSockets have moved, and %d event streams; the other clients of process %d leave within %v", moving.Moved-moving.Streams, moving.Streams, os.Getpid(), u.service.StopWindow())
	u.log.Info(what+" done", "pid", successor.PID, "connections", moving.Moved, "took", time.Since(began))
	say(text)
	return nil
}

// Intervals between reports of how many clients have moved.
const (
	reportEvery = 100 * time.Millisecond
	logEvery    = 5 * time.Second
)

// progress returns what reports how many clients have moved, not too often.
func (u *upgrades) progress(r upgradeRequest) func(m owners.Moving, of int) {
	var reported time.Time
	logged := time.Now()
	return func(m owners.Moving, of int) {
		now := time.Now()
		if now.Sub(reported) >= reportEvery || m.Moved == of {
			reported = now
			r.Step(takeover.Progress{Clients: m.Moved, Of: of, Resources: m.Resources})
		}
		if now.Sub(logged) >= logEvery {
			logged = now
			u.log.Info("clients move to the new process", "connections", m.Moved, "resources", m.Resources)
		}
	}
}

// give sends connections at rest to the new process. They are closed here in any case.
func (u *upgrades) give(to *takeover.Successor, conns []netpoll.Departed) {
	all := make([]takeover.Conn, len(conns))
	for i, c := range conns {
		all[i] = takeover.Conn{FD: c.FD, Client: c.Client, Idle: c.Idle, Keys: c.Keys, In: c.In}
	}
	if err := to.Give(all...); err != nil {
		u.log.Warn("connections at rest are closed: the new process does not take them", "connections", len(all), "error", err)
	}
	for _, c := range conns {
		_ = unix.Close(c.FD)
		clear(c.Keys)
	}
}

// mover is a new process as the gateway sees it.
type mover struct {
	*takeover.Successor
	log *slog.Logger
}

// Offer implements owners.Successor.
func (m mover) Offer(description, keys []byte, fds []int) (bool, error) {
	holds, err := m.Successor.Offer(description, keys, fds)
	if !holds && err == nil {
		m.log.Warn("the new process does not answer in time: WebSockets on their way stay here until it does", "connections", len(fds))
	}
	return holds, err
}

// Prepare implements owners.Successor.
func (m mover) Prepare(ctx context.Context, all []owners.Resource) ([]int, error) {
	resources := make([]takeover.Resource, len(all))
	for i, r := range all {
		resources[i] = takeover.Resource(r)
	}
	return m.Successor.Prepare(ctx, resources)
}

// Takes implements owners.Successor.
func (m mover) Takes(tls bool) error {
	kind := takeover.Plaintext
	if tls {
		kind = takeover.TLS13
	}
	if !slices.Contains(m.Successor.Takes, kind) {
		return fmt.Errorf("the new process takes no connections of the kind %q", kind)
	}
	return nil
}

// takes returns the kinds of connections that this process can go on with, and tells its
// predecessor if those of clients leave instead.
func (p *process) takes(c *gateway.Config) []string {
	if !c.TLS {
		return []string{takeover.Plaintext}
	}
	if err := netpoll.MovesTLS(); err != nil {
		p.predecessor.Step(fmt.Sprintf("clients with TLS do not move, and are closed in the drain: %v", err))
		return nil
	}
	return []string{takeover.TLS13}
}

// taker goes on with the clients of an old process.
type taker struct {
	service replaceable
	guests  *owners.Guests
}

// Conn implements takeover.Taker, as the other methods do.
func (t *taker) Conn(c takeover.Conn) {
	t.service.Arrive(netpoll.Departed{FD: c.FD, Client: c.Client, Idle: c.Idle, Keys: c.Keys, In: c.In})
}

func (t *taker) Prepare(all []takeover.Resource, done func(failed []int)) {
	resources := make([]owners.Resource, len(all))
	for i, r := range all {
		resources[i] = owners.Resource(r)
	}
	t.guests.Prepare(resources, done)
}

func (t *taker) Hold(description, keys []byte, fds []int) error {
	return t.guests.Hold(description, keys, fds)
}

func (t *taker) Serve() (int, error) {
	err := t.guests.Serve()
	return t.guests.Moved, err
}

func (t *taker) Drop() { t.guests.Drop() }

// receive goes on with the clients of the old process, until that has ended. Then the arrival has,
// too.
func (p *process) receive(s replaceable, guests *owners.Guests, a *arrival, log *slog.Logger) {
	defer a.end()
	err := p.predecessor.Receive(&taker{s, guests})
	if err != nil {
		log.Warn("connections of the old process may be lost", "error", err)
	}
	if guests.Moved > 0 {
		log.Info("WebSockets of the old process go on here", "connections", guests.Moved, "took", guests.Longest)
	}
	_ = guests.Done(context.Background())
}

// sockets returns duplicates of all listening sockets, which the caller closes.
func (u *upgrades) sockets() (all []takeover.Socket, err error) {
	s, ok := u.service.(replaceable)
	if !ok {
		return nil, errors.New("this service cannot be handed over: restart it")
	}
	own, err := s.Sockets()
	if err != nil {
		return nil, err
	}
	clients, metrics := takeover.Clients, takeover.Metrics
	if u.p.activatedClients {
		clients = takeover.ActivatedClients
	}
	if u.p.activatedMetrics {
		metrics = takeover.ActivatedMetrics
	}
	for _, fd := range own.Clients {
		all = append(all, takeover.Socket{Role: clients, FD: fd})
	}
	if own.Metrics >= 0 {
		all = append(all, takeover.Socket{Role: metrics, FD: own.Metrics})
	}
	if own.Admin >= 0 {
		all = append(all, takeover.Socket{Role: takeover.Admin, FD: own.Admin})
	}
	if u.orders != nil {
		fd, err := netpoll.DupSocket(u.orders)
		if err != nil {
			return all, err
		}
		all = append(all, takeover.Socket{Role: takeover.Control, FD: fd})
	}
	return all, nil
}

// join asks the gateway that the same settings start to hand over to this process. If there is
// none, this one starts as usual. code is valid with an error.
func (p *process) join(args []string) (code int, err error) {
	setup, err := config.Reload(args, p.environ)
	switch {
	case setup.Help || setup.Version:
		return 0, nil
	case err != nil:
		return exitUsage, err
	case setup.Config.UpgradeSocket == "":
		return exitUsage, errors.New("upgradeSocket is not set: name the socket in the settings of both processes")
	}
	p.predecessor, err = takeover.Join(setup.Config.UpgradeSocket, version())
	return exitFailure, err
}

// upgrade does "sluice upgrade": it has the gateway that the same settings start replaced by a new
// process. It exits with 0 when that serves, with 1 if nothing has changed, and with 2 if the
// settings are wrong.
func (p *process) upgrade(args []string) int {
	check := len(args) > 0 && (args[0] == "--check" || args[0] == "-check")
	if check {
		args = args[1:]
	}
	setup, err := config.Reload(args, p.environ)
	switch {
	case setup.Help || setup.Version:
		return p.inform(setup)
	case err != nil:
		return p.misused(err)
	case setup.Config.UpgradeSocket == "":
		return p.misused(errors.New("upgradeSocket is not set: name the socket in the gateway's settings, or send it SIGUSR2"))
	}
	if err := p.ask(setup.Config.UpgradeSocket, check); err != nil {
		return p.unchanged(err)
	}
	if check {
		fmt.Fprintln(p.stdout, "the new process could take over")
	}
	return exitOK
}

// ask has the gateway that takes orders at a socket replaced, and shows the progress.
func (p *process) ask(socket string, check bool) error {
	bar := newBar(p.stdout)
	defer bar.end()
	return takeover.Ask(socket, check, bar.show)
}

func (p *process) unchanged(err error) int {
	fmt.Fprintf(p.stderr, "sluice: nothing has changed: %v\n", err)
	return exitFailure
}
