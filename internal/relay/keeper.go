package relay

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/downlink"
	"sluice/internal/lease"
	"sluice/internal/owner"
)

const (
	// leaseSubject is where relays with the same edge hear each other.
	leaseSubject = "sluice.relay.lease"
	// standbys is the queue group that takes get requests and does not answer. So a get during a
	// takeover times out, and does not find that there is no service: an edge would delete the
	// resource.
	standbys = "sluice-relay-standby"
	// retryServing is the pause after the serving connection could not be opened.
	retryServing = time.Second
)

// keeper has the lease, and while it is held the connection that serves edges. Its goroutine owns
// it, unless noted otherwise.
type keeper struct {
	// Fixed.
	r       *Relay
	clock   owner.Clock
	control *downlink.Link // after start
	alarm   owner.Alarm    // after run
	ctx     context.Context
	cancel  context.CancelFunc

	// From other goroutines.
	heard  chan lease.Message // from control's
	wakes  chan struct{}
	opened chan opened
	homeUp atomic.Bool // home is reachable, or was within the grace period
	ended  sync.WaitGroup

	// Read by any goroutine.
	until   atomic.Int64                  // up to when the lease is held; checked before each write to edge
	serving atomic.Pointer[downlink.Link] // nil unless edges are served

	lease   *lease.Lease // nil while home is unreachable
	opening bool
	retry   time.Duration // no attempt to open the serving connection before
}

// opened is a serving connection, or why there is none.
type opened struct {
	link *downlink.Link
	err  error
}

func newKeeper(r *Relay) *keeper {
	k := &keeper{r: r, clock: r.o.Clock, heard: make(chan lease.Message, 256), wakes: make(chan struct{}, 1), opened: make(chan opened)}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	k.homeUp.Store(true)
	return k
}

// start connects to edge.
func (k *keeper) start(ctx context.Context) (err error) {
	if k.control, err = downlink.Connect(ctx, k.r.link(control{k.r}, nil)); err != nil {
		return err
	}
	if err = k.control.Listen("", leaseSubject, pathSubject); err != nil {
		return err
	}
	return k.control.Listen(standbys, "get.>")
}

// link returns the options of a connection to edge.
func (r *Relay) link(h downlink.Handler, allowed func() bool) downlink.Options {
	e := r.o.Edge
	return downlink.Options{URL: e.URL, Name: "sluice-relay", Creds: e.Creds, Nkey: e.Nkey, Cert: e.Cert, Key: e.Key, RootCAs: e.RootCAs,
		Handler: h, Allowed: allowed, ConnectTimeout: r.o.ConnectTimeout, Ping: r.o.Ping, Log: r.log, Metrics: r.o.Link}
}

// run begins to wait for the lease.
func (k *keeper) run() {
	k.alarm = k.clock.AfterFunc(0, k.wake)
	k.ended.Go(k.loop)
}

func (k *keeper) wake() {
	select {
	case k.wakes <- struct{}{}:
	default:
	}
}

// home records whether home is reachable. Any goroutine may call it.
func (k *keeper) home(up bool) {
	k.homeUp.Store(up)
	k.wake()
}

// holds reports whether this relay may send to edges. Any goroutine may call it.
func (k *keeper) holds() bool { return int64(k.clock.Now()) < k.until.Load() }

// connected reports whether the control connection is up. Any goroutine may call it after start.
func (k *keeper) connected() bool { return k.control.Up() }

func (k *keeper) loop() {
	for {
		select {
		case m := <-k.heard:
			if k.lease != nil {
				k.lease.Hear(m, k.clock.Now())
			}
			if m.ID != k.r.id {
				k.r.o.Metrics.Others.Inc()
			}
		case <-k.wakes:
		case o := <-k.opened:
			k.take(o)
		case <-k.ctx.Done():
			return
		}
		k.turn()
	}
}

// turn brings the connection into line with the lease.
func (k *keeper) turn() {
	now := k.clock.Now()
	switch up := k.homeUp.Load(); {
	case up && k.lease == nil:
		k.renew(now)
	case !up && k.lease != nil:
		k.r.log.Error("home is unreachable: another relay may take over")
		k.release(now)
	}
	if k.lease == nil {
		return
	}
	next := k.lease.Tick(now)
	if k.lease.State() == lease.Lost {
		k.r.log.Error("the lease is lost: this relay stops to serve edges, and waits for its turn")
		k.leave()
		k.renew(now)
		next = k.lease.Tick(now)
	}
	if until := int64(k.lease.Until()); until > k.until.Swap(until) {
		k.r.o.Metrics.Renewals.Inc()
	}
	if k.lease.State() == lease.Holding && k.serving.Load() == nil && !k.opening {
		if now >= k.retry {
			k.open()
		} else {
			next = min(next, k.retry)
		}
	}
	if k.lease.TakeRival() {
		k.rival()
	}
	k.alarm.Reset(max(next-now, 0))
}

// renew waits for the lease as a new process does.
func (k *keeper) renew(now time.Duration) {
	k.lease = lease.New(k.r.id, k.r.o.Lease, now, func(m lease.Message) { k.control.Send(leaseSubject, m.Encode()) })
}

// rival makes edges ask for everything again: another relay has served them at the same time, and
// gives way now.
func (k *keeper) rival() {
	k.r.o.Metrics.Rivals.Inc()
	k.r.log.Error("another active relay was heard on the same edge, and gives way; edges are reset")
	k.clock.AfterFunc(k.r.o.Lease, edge{k.r}.Restored)
}

// open opens the serving connection.
func (k *keeper) open() {
	k.opening = true
	k.ended.Go(func() {
		link, err := k.connect()
		select {
		case k.opened <- opened{link, err}:
		case <-k.ctx.Done():
			if link != nil {
				link.Close()
			}
		}
	})
}

func (k *keeper) connect() (*downlink.Link, error) {
	link, err := downlink.Connect(k.ctx, k.r.link(edge{k.r}, k.holds))
	if err != nil {
		return nil, err
	}
	k.r.shard.Cache.Run(func() { k.r.front.activate(link) }) // before the first request
	if err = link.Listen(group, append(requests[:len(requests):len(requests)], "_EVENT_."+k.r.id+".>")...); err != nil {
		k.close(link)
		return nil, err
	}
	return link, nil
}

// take takes the result of open.
func (k *keeper) take(o opened) {
	k.opening = false
	switch {
	case o.err != nil:
		k.r.log.Warn("the connection that serves edges cannot be opened", "error", o.err)
		k.retry = k.clock.Now() + retryServing
	case !k.holds():
		k.ended.Go(func() { k.close(o.link) })
	default:
		edge{k.r}.Restored()
		k.serving.Store(o.link)
		k.r.o.Metrics.Active.Set(1)
		k.r.o.Metrics.Activations.Inc()
		k.r.log.Info("active: edges are served", "edge", k.r.o.Edge.URL, "home", k.r.o.Home.URL)
	}
}

// close closes a serving connection.
func (k *keeper) close(link *downlink.Link) {
	done := make(chan struct{})
	k.r.shard.Cache.Run(func() {
		k.r.front.deactivate(link)
		close(done)
	})
	<-done
	link.Close()
}

// leave stops to serve edges. The lease must be over, or be released later.
func (k *keeper) leave() {
	k.until.Store(0)
	k.r.o.Metrics.Active.Set(0)
	if link := k.serving.Swap(nil); link != nil {
		k.ended.Go(func() { k.close(link) })
	}
}

// release gives the lease to another relay.
func (k *keeper) release(now time.Duration) {
	k.leave()
	k.lease.Stop(now)
	k.lease = nil
}

// stopPace is how often a stop checks whether requests are in flight.
const stopPace = 10 * time.Millisecond

// stop ends the keeper after its turns: edges' requests in flight get their replies until ctx ends.
func (k *keeper) stop(ctx context.Context) {
	if k.control == nil {
		return
	}
	if link := k.serving.Load(); link != nil {
		link.Deaf()
		k.drain(ctx)
	}
	k.cancel()
	k.ended.Wait()
	if k.alarm != nil {
		k.alarm.Stop()
	}
	if link := k.serving.Swap(nil); link != nil {
		k.close(link)
	}
	k.r.o.Metrics.Active.Set(0)
	if k.lease != nil {
		k.lease.Stop(k.clock.Now())
	}
	k.control.Close()
}

// drain waits until no request is in flight at home.
func (k *keeper) drain(ctx context.Context) {
	pace := time.NewTicker(stopPace)
	defer pace.Stop()
	for k.r.o.Bus.Pending.Load() > 0 || len(k.r.admitted) > 0 {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
	}
}

// control takes what arrives on the control connection (downlink.Handler).
type control struct{ r *Relay }

func (c control) Take(m downlink.Message) {
	switch m.Subject {
	case leaseSubject:
		message, err := lease.Decode(m.Data)
		if err != nil {
			return // not from a relay
		}
		select {
		case c.r.keeper.heard <- message:
		case <-c.r.keeper.ctx.Done():
		}
	case pathSubject:
		c.r.path.received(m)
	}
}

func (c control) Lost()     {}
func (c control) Restored() {}

func (c control) Failed(err error) { c.r.fail(err) }
