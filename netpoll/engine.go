package netpoll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"sluice/internal/loglimit"
	"sluice/internal/owner"
)

// restarts is the policy by which gnet is restarted.
type restarts struct {
	min, max time.Duration // pause before the next attempt; it doubles each time
	limit    int           // consecutive attempts that end before max has passed, after which the engine fails
}

// usualRestarts fails after about 15 s without service.
var usualRestarts = restarts{min: 50 * time.Millisecond, max: 2 * time.Second, limit: 12}

// Engine listens and runs the event loops. Its methods may be called from any goroutine.
//
// gnet ends as a whole when an accept fails, for example because no descriptor is free. The engine
// avoids that (see acceptor), and restarts gnet if it happens nevertheless. The Loops outlive
// gnet's event loops: each is bound to one of the new ones.
type Engine struct {
	// Fixed after New.
	opts       Options
	metrics    *Metrics
	log        *slog.Logger
	loops      []*Loop
	handshakes *handshakes // nil: plaintext
	uring      uringCalls
	restarts   restarts
	runGnet    func() error // returns when gnet has ended

	// Fixed after Start.
	flush          Flush  // in use
	network        string // what gnet listens on
	portFD         int    // a socket bound to the port that never listens: it keeps the port from other programs while gnet restarts
	fdLimit        int    // descriptors from this number on are reserved
	byFD           descriptors
	reservePerLoop int // connections per loop that may use a reserved descriptor to get a 503

	fds struct {
		above atomic.Int64 // connections of the loops with descriptors from fdLimit on
		room  atomic.Int64 // connections below it when it was last reached
	}

	addr  atomic.Pointer[net.TCPAddr] // what is listened on; nil before Start
	bound sync.Map                    // gnet.EventLoop → *Loop, of the gnet that runs now

	mu      sync.Mutex    // also around gnet's registration of connections, which is not safe for concurrent use
	gnet    gnet.Engine   // valid while gnet runs; guarded by mu
	down    chan struct{} // closed when this gnet begins to end; guarded by mu
	started bool          // guarded by mu
	stopped bool          // Close was called; guarded by mu

	// gnet does these two by a task on each event loop, which a loop that waits in a callback would
	// not run: see needsGnet.
	registering atomic.Int32 // calls of register in progress
	ending      atomic.Bool  // gnet has begun to end
	broken      atomic.Bool  // Handler.Start has panicked

	lingers lingerers // connections that net/http has closed and that linger

	limits       atomic.Pointer[Limits] // the present ones, for goroutines that are no loop's
	backlogLimit atomic.Int64           // bytes that slow clients may hold now, if that is less
	refusing     atomic.Bool            // see Refuse
	logShed      loglimit.Limiter       // of ShedOthers
	logLost      loglimit.Limiter       // of connections lost on their way to net/http
	logAccept    loglimit.Limiter       // of errors of accept
	logGnet      loglimit.Limiter       // of gnet's own lines

	give     atomic.Pointer[func([]Departed)] // see Leave
	atHTTP   atHTTP
	givesTLS atomic.Bool    // also those with TLS
	left     atomic.Bool    // Leave was called: give is set
	draining atomic.Bool    // no new clients; those connected are being closed
	quitting atomic.Bool    // gnet is to end, and not to be restarted
	quit     chan struct{}  // closed with quitting
	drained  sync.WaitGroup // one for each loop that still has connections
	begun    chan struct{}  // closed when every loop has begun its first iteration
	ready    chan error     // result of the first start: gnet runs with all loops bound, or an error
	ended    chan struct{}  // closed when gnet has ended for good
	failure  error          // the reason, nil after Close; written before ended is closed
}

// New returns an engine that listens after Start, or an error that says which option is wrong.
func New(o Options) (*Engine, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{
		opts:     o,
		metrics:  o.Metrics,
		log:      o.Log,
		portFD:   -1,
		uring:    kernelURing,
		restarts: usualRestarts,
		quit:     make(chan struct{}),
		begun:    make(chan struct{}),
		ready:    make(chan error, 1),
		ended:    make(chan struct{}),
	}
	e.runGnet = e.gnetRun
	e.limits.Store(&e.opts.Limits)
	e.SetBacklogLimit(math.MaxInt64)
	if o.TLS != nil {
		e.handshakes = newHandshakes(&e.opts)
	}
	for i := range o.Loops {
		e.loops = append(e.loops, newLoop(e, i))
	}
	e.drained.Add(len(e.loops))
	return e, nil
}

// Start begins to listen. When it returns nil, clients are served and every loop runs. An error
// says how to fix its cause.
func (e *Engine) Start() error {
	e.mu.Lock()
	if e.started || e.stopped {
		e.mu.Unlock()
		return errors.New("netpoll: an engine can be started once")
	}
	e.started = true
	e.mu.Unlock()
	err := e.setUp()
	if err == nil {
		go e.run()
		if err = <-e.ready; err != nil {
			e.quitting.Store(true)
			close(e.quit)
			<-e.ended
		} else {
			passed{e}.accept()
		}
	} else {
		close(e.ended)
	}
	if err != nil {
		e.mu.Lock()
		e.stopped = true
		e.mu.Unlock()
		e.tearDown()
	}
	return err
}

// setUp determines the address and the descriptor limit, and reserves the port.
func (e *Engine) setUp() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("netpoll: the descriptor limit cannot be read: %w", err)
	}
	reserve := e.opts.Limits.ReserveFDs
	e.fdLimit = int(min(limit.Cur, 1<<30)) - reserve
	e.reservePerLoop = max(reserve/2/len(e.loops), 1)
	e.byFD = newDescriptors(e.fdLimit + reserve)
	if e.fdLimit < 16 {
		return fmt.Errorf("netpoll: the limit of %d open files leaves no room for clients beside a reserve of %d: raise it (ulimit -n)", limit.Cur, reserve)
	}
	if len(e.opts.Listeners) > 0 {
		if err := (passed{e}).use(); err != nil {
			return err
		}
		return e.setFlushers()
	}
	addr, hold, err := claimPort(e.opts.Addr)
	if err != nil {
		return listenError(e.opts.Addr, err)
	}
	e.addr.Store(addr)
	e.portFD = hold
	host, _, _ := net.SplitHostPort(e.opts.Addr)
	e.network = "tcp://" + net.JoinHostPort(host, strconv.Itoa(addr.Port))
	return e.setFlushers()
}

func (e *Engine) tearDown() {
	passed{e}.close()
	if e.portFD >= 0 {
		_ = unix.Close(e.portFD)
		e.portFD = -1
	}
	e.closeFlushers()
}

// run keeps gnet running until the engine is closed, or gnet has ended too often.
func (e *Engine) run() {
	defer close(e.ended)
	defer e.unbind()
	policy := e.restarts
	pause, failures := policy.min, 0
	for {
		began := time.Now()
		err := e.contained(e.runGnet)
		e.unbind()
		if e.quitting.Load() {
			return
		}
		select {
		case <-e.begun:
		default:
			if err == nil {
				err = errors.New("the network engine ended at its start")
			}
			select {
			case e.ready <- listenError(e.opts.Addr, err):
			default: // Start has received the error of bind
			}
			return
		}
		if time.Since(began) > policy.max {
			pause, failures = policy.min, 0
		}
		if failures++; failures > policy.limit {
			e.failure = fmt.Errorf("netpoll: the network engine has ended %d times in a row: see the log for the reason (last error: %w)", failures, err)
			return
		}
		e.metrics.Restarts.Add(1)
		e.log.Error("the network engine ended and is started again", "error", err, "pause", pause)
		select {
		case <-e.quit:
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, policy.max)
	}
}

// contained calls run, which runs gnet; a panic is an error.
func (e *Engine) contained(run func() error) (err error) {
	err = errors.New("the network engine panicked")
	defer e.opts.Faults.Contain(owner.Loop)
	return run()
}

// gnetRun runs gnet from start to end.
func (e *Engine) gnetRun() error {
	return gnet.Run((*events)(e), e.network,
		gnet.WithNumEventLoop(len(e.loops)), gnet.WithReusePort(true), gnet.WithReuseAddr(true), gnet.WithTicker(true),
		gnet.WithWriteBufferCap(1024), gnet.WithLogger(gnetLog{e}))
}

// Ended returns a channel that is closed when the engine has ended: after Close, or because it
// failed.
func (e *Engine) Ended() <-chan struct{} { return e.ended }

// Err returns why an engine that has ended failed; nil if it was closed. It is valid once Ended is
// closed.
func (e *Engine) Err() error { return e.failure }

// unbind separates the loops from the event loops of a gnet that has ended.
func (e *Engine) unbind() {
	e.mu.Lock()
	e.gnet = gnet.Engine{}
	e.mu.Unlock()
	e.bound.Clear()
	for _, l := range e.loops {
		l.wait.detach()
	}
}

// bind gives every event loop of a new gnet its Loop, through a socket pair: gnet watches one end,
// and a byte written to the other wakes the loop. gnet's tasks are not used for that: while tasks
// keep arriving, gnet does not poll its sockets.
func (e *Engine) bind() error {
	for range e.loops {
		inner, outer, err := socketPair()
		if err != nil {
			return err
		}
		err = e.register(inner, &waker{outer}, nil)
		if err != nil {
			_ = outer.Close()
			return err
		}
	}
	return nil
}

// register passes a connection to gnet for a loop; nil: gnet assigns event loops round-robin.
// OnOpen gets value as the connection's context. raw is closed in any case: gnet uses a duplicate.
func (e *Engine) register(raw net.Conn, value any, at *Loop) error {
	e.registering.Add(1)
	defer func() {
		e.registering.Add(-1)
		for _, l := range e.loops {
			l.Wake() // they need not stay in gnet any longer
		}
	}()
	e.mu.Lock()
	var result <-chan gnet.RegisteredResult
	var err error
	ctx := gnet.NewContext(context.Background(), value)
	if at != nil {
		result, err = at.el.Enroll(ctx, raw)
	} else {
		result, err = e.gnet.Register(gnet.NewNetConnContext(ctx, raw))
	}
	down := e.down
	e.mu.Unlock()
	if err != nil {
		_ = raw.Close()
		return fmt.Errorf("netpoll: a connection cannot be registered: %w", err)
	}
	select {
	case r := <-result:
		if r.Err != nil {
			return fmt.Errorf("netpoll: a connection cannot be registered: %w", r.Err)
		}
		return nil
	case <-down: // gnet may not reply any more
		return errors.New("netpoll: a connection cannot be registered: the engine is ending")
	}
}

// needsGnet reports whether loops must return to gnet, because it has tasks to run.
func (e *Engine) needsGnet() bool {
	return e.registering.Load() > 0 || e.ending.Load() || e.quitting.Load()
}

// socketPair returns two connected sockets.
func socketPair() (a, b net.Conn, err error) {
	fds, err := socketpair()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if a, err = fdConn(fds[0]); err != nil {
		_ = unix.Close(fds[1])
		return nil, nil, err
	}
	if b, err = fdConn(fds[1]); err != nil {
		_ = a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// fdConn returns a net.Conn of a socket, and owns the descriptor, also if it fails.
func fdConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	return net.FileConn(f)
}

// loopOf returns the Loop of an event loop of gnet. It binds one if none is bound yet: gnet may
// accept before bind has reached that event loop.
func (e *Engine) loopOf(el gnet.EventLoop) *Loop {
	if l, ok := e.bound.Load(el); ok {
		return l.(*Loop)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.loops {
		if l.taken.CompareAndSwap(false, true) {
			l.el = el
			e.bound.Store(el, l)
			return l
		}
	}
	panic("netpoll: gnet has more event loops than asked for")
}

// Addr returns the address that the engine listens on; nil before Start.
func (e *Engine) Addr() net.Addr {
	if addr := e.addr.Load(); addr != nil {
		return addr
	}
	return nil
}

// Loops returns the event loops, by index. The slice must not be changed.
func (e *Engine) Loops() []*Loop { return e.loops }

// Metrics returns Options.Metrics, or the engine's own counters if that was nil.
func (e *Engine) Metrics() *Metrics { return e.metrics }
