package httpedge

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
	"sluice/wsproto"
)

const (
	// handoverQueue is how many connections may be queued for net/http's accept loop, which only
	// starts a goroutine for each.
	handoverQueue = 256
	// refuseTimeout bounds the write of the short response to a connection that finds the queue
	// full. Its send buffer is usually empty, so the write does not block.
	refuseTimeout = 10 * time.Millisecond
)

// server is net/http on connections that the event loops hand over. The settings of an http.Server
// cannot change while it runs: each change makes a new generation, which takes the connections from
// then on.
type server struct {
	listener *handoverListener
	fail     func(error)

	mu          sync.Mutex
	generations []*generation // the last one is current; guarded by mu
}

// generation is an http.Server with its part of the listener.
type generation struct {
	http   *http.Server
	over   chan struct{} // closed when it is not current any more
	end    sync.Once     // closes over
	served chan struct{} // closed when the accept loop has ended
	open   atomic.Int64  // connections
	*handoverListener
}

// Start starts the net/http server for the connections passed to Handover. addr is the address that
// the loops listen on. fail is called with the reason if the server ends before Stop.
func (e *Edge) Start(addr net.Addr, fail func(error)) {
	e.server = &server{
		listener: newHandoverListener(addr, func() string { return e.api.Origins().Lines() }),
		fail:     fail,
	}
	e.server.adjust(e.newGeneration(&e.o))
}

// newGeneration returns an http.Server with the settings of o.
func (e *Edge) newGeneration(o *Options) *generation {
	g := &generation{over: make(chan struct{}), served: make(chan struct{}), handoverListener: e.server.listener}
	g.http = &http.Server{
		ConnContext: withServerConn,
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				g.open.Add(1)
			case http.StateClosed, http.StateHijacked:
				g.open.Add(-1)
			}
			responded(c, state)
		},
		Handler:                      http.HandlerFunc(e.contained),
		DisableGeneralOptionsHandler: true, // ServeHTTP rejects the target "*"
		ReadHeaderTimeout:            o.HeadTimeout,
		ReadTimeout:                  o.HeadTimeout + e.o.Exchange,
		WriteTimeout:                 e.o.Exchange,
		IdleTimeout:                  o.IdleTimeout,
		MaxHeaderBytes:               o.MaxHead,
		ErrorLog:                     slog.NewLogLogger(e.o.Log.Handler(), slog.LevelDebug),
	}
	return g
}

// adjust makes g current, unless its settings are those of the present one. Earlier generations
// stay until their connections have ended.
func (s *server) adjust(g *generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.generations); n > 0 {
		now := s.generations[n-1]
		if now.same(g) {
			return
		}
		_ = now.Close()
		<-now.served
	}
	s.generations = slices.DeleteFunc(s.generations, func(g *generation) bool { return g.open.Load() == 0 })
	s.generations = append(s.generations, g)
	go g.serve(s.fail)
}

// all returns the generations.
func (s *server) all() []*generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.generations)
}

// same reports whether two generations have the same settings.
func (g *generation) same(other *generation) bool {
	a, b := g.http, other.http
	return a.ReadHeaderTimeout == b.ReadHeaderTimeout && a.IdleTimeout == b.IdleTimeout && a.MaxHeaderBytes == b.MaxHeaderBytes
}

// Accept implements net.Listener for the generation's http.Server.
func (g *generation) Accept() (net.Conn, error) { return g.accept(g.over) }

// Close implements net.Listener: it ends Accept, and leaves the queue to the next generation.
func (g *generation) Close() error {
	g.end.Do(func() { close(g.over) })
	return nil
}

// contained is ServeHTTP that contains a panic: it ends the request and closes its connection.
func (e *Edge) contained(w http.ResponseWriter, r *http.Request) {
	done := false
	defer func() {
		if owner.Containing && !done {
			panic(http.ErrAbortHandler) // net/http closes the connection, and logs nothing more
		}
	}()
	defer e.o.Faults.Contain(owner.HTTP, "path", r.URL.Path)
	e.ServeHTTP(w, r)
	done = true
}

// serve runs the accept loop until the generation is over.
func (g *generation) serve(fail func(error)) {
	defer close(g.served)
	if err := g.http.Serve(g); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		fail(err)
	}
}

// Handover takes an HTTP connection over from an event loop. It never waits: if the queue is full,
// the client gets 503 and is closed.
func (e *Edge) Handover(c net.Conn) {
	if e.server.listener.offer(c) {
		return
	}
	e.o.Metrics.Refused.Inc()
	e.server.listener.refuse(c)
}

// Drain ends streams, accepts no more connections, closes idle ones, and waits for the responses to
// in-flight requests, or returns ctx's error. In-flight requests need the loops, so those must end
// later.
func (e *Edge) Drain(ctx context.Context) error {
	e.stop.Do(func() { close(e.stopping) })
	if e.server == nil {
		return nil
	}
	_ = e.server.listener.Close()
	all := e.server.all()
	ended := make(chan error, len(all))
	for _, g := range all {
		go func() { ended <- g.http.Shutdown(ctx) }()
	}
	var err error
	for range all {
		err = errors.Join(err, <-ended)
	}
	return err
}

// Stop ends the server, if it was started: it drains, and then closes the remaining connections. It
// returns Drain's error.
func (e *Edge) Stop(ctx context.Context) error {
	err := e.Drain(ctx)
	if s := e.server; s != nil {
		for _, g := range s.all() {
			_ = g.http.Close()
			<-g.served
		}
	}
	return err
}

// Halted is called when the event loops have ended: requests no longer wait for them. It returns
// when all encoding has ended.
func (e *Edge) Halted() {
	e.encoding.all.Wait()
	close(e.halted)
}

// handoverListener is a net.Listener whose connections come from the event loops. Any goroutine may
// use it.
type handoverListener struct {
	addr  net.Addr
	lines func() string // field lines that every response has
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoverListener(addr net.Addr, lines func() string) *handoverListener {
	return &handoverListener{addr: addr, lines: lines, conns: make(chan net.Conn, handoverQueue), done: make(chan struct{})}
}

// refuse responds with 503 and closes.
func (l *handoverListener) refuse(c net.Conn) {
	_ = c.SetWriteDeadline(time.Now().Add(refuseTimeout))
	_, _ = c.Write(wsproto.AppendHTTPError(nil, http.StatusServiceUnavailable, l.lines(), ""))
	_ = c.Close()
}

// offer queues c for Accept without waiting. It returns false, and the caller keeps c, if the queue
// is full or the listener closed.
func (l *handoverListener) offer(c net.Conn) bool {
	select {
	case <-l.done:
		return false
	default:
	}
	select {
	case l.conns <- c:
	default:
		return false
	}
	select {
	case <-l.done: // Close may have drained already
		l.drain()
	default:
	}
	return true
}

// drain rejects the queued connections.
func (l *handoverListener) drain() {
	for {
		select {
		case c := <-l.conns:
			l.refuse(c)
		default:
			return
		}
	}
}

// accept returns the next connection; an error once over or the listener is closed.
func (l *handoverListener) accept(over <-chan struct{}) (net.Conn, error) {
	select {
	case c := <-l.conns:
		return newServerConn(c, l.lines()), nil
	case <-over:
		return nil, net.ErrClosed
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It rejects the queued connections.
func (l *handoverListener) Close() error {
	l.once.Do(func() { close(l.done) })
	l.drain()
	return nil
}

// Addr implements net.Listener.
func (l *handoverListener) Addr() net.Addr { return l.addr }
