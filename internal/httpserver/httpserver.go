// Package httpserver owns the start and the end of the HTTP servers that are not for clients: the
// metrics port's and the admin port's.
//
// It never knows what they serve. Requests of clients go through package httpedge.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// Options configure a Server. All are required, but those whose comment gives a default.
type Options struct {
	Setting   string       // the setting that has the port, for errors
	Addr      string       // host:port; port 0: a free one
	Listener  net.Listener // passed to the process, used in place of Addr; nil: none
	Handler   http.Handler
	Listening func(addr net.Addr) // called by Start

	// ReadTimeout is for reading a request's head, and then again for its body; 0: 10 s.
	ReadTimeout time.Duration

	// Wrap returns what connections are accepted from; nil: the listener itself. ConnContext is
	// http.Server's: it is called after each Accept, on its goroutine.
	Wrap        func(net.Listener) net.Listener
	ConnContext func(ctx context.Context, c net.Conn) context.Context

	Log *slog.Logger
}

// Server serves from Start to Stop. Its methods may be called from any goroutine.
type Server struct {
	o       Options
	http    *http.Server
	listens atomic.Pointer[net.Listener] // nil before Start
	served  chan struct{}                // closed when the accept loop has ended
}

// New returns a server that is not started.
func New(o Options) *Server {
	if o.ReadTimeout == 0 {
		o.ReadTimeout = 10 * time.Second
	}
	return &Server{
		o: o, served: make(chan struct{}),
		// There is no WriteTimeout, since the client chooses the duration of a profile. There is no
		// ReadTimeout either: it goes on after the request has been read, and then cancels the
		// request's context.
		http: &http.Server{Handler: boundBody(o.Handler, o.ReadTimeout), ConnContext: o.ConnContext, ReadHeaderTimeout: o.ReadTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
			ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug)},
	}
}

// boundBody returns a handler whose requests have a body that must arrive within a timeout.
func boundBody(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != http.NoBody {
			c := http.NewResponseController(w)
			_ = c.SetReadDeadline(time.Now().Add(timeout)) // fails if the connection is closed
			r.Body = &body{r.Body, c}
		}
		next.ServeHTTP(w, r)
	})
}

// body is a request's body. Its end clears the read deadline, which is not for what follows.
type body struct {
	io.ReadCloser
	conn *http.ResponseController
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

// Start listens and serves. Its error says what to do. fail is called with the reason if the server
// ends before Stop. A server can be started once.
func (s *Server) Start(fail func(error)) error {
	l, err := s.o.Listener, error(nil)
	if l == nil {
		l, err = net.Listen(network(s.o.Addr), s.o.Addr)
	}
	if err != nil {
		return fmt.Errorf("%s: cannot listen on %s: %w; choose another port, or 0 for none", s.o.Setting, s.o.Addr, err)
	}
	s.listens.Store(&l)
	s.o.Listening(l.Addr())
	serving := l
	if s.o.Wrap != nil {
		serving = s.o.Wrap(l)
	}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(serving); !errors.Is(err, http.ErrServerClosed) {
			fail(err)
		}
	}()
	return nil
}

// network returns the network of an address to listen on, so that 0.0.0.0 is IPv4 alone and :: IPv6
// alone, as on the port for clients. Go takes both addresses for all of both.
func network(addr string) string {
	at, err := netip.ParseAddrPort(addr)
	switch {
	case err != nil: // no host: IPv4 and IPv6
		return "tcp"
	case at.Addr().Unmap().Is4():
		return "tcp4"
	}
	return "tcp6"
}

// Addr returns the address that the server listens on; nil before Start. A nil Server has none.
func (s *Server) Addr() net.Addr {
	if s == nil {
		return nil
	}
	if l := s.listens.Load(); l != nil {
		return (*l).Addr()
	}
	return nil
}

// Listener returns what the server listens on; nil before Start. A nil Server has none.
func (s *Server) Listener() net.Listener {
	if s != nil {
		if l := s.listens.Load(); l != nil {
			return *l
		}
	}
	return nil
}

// Leave ends listening, because another process serves on the same socket, but no request. A nil
// Server does nothing.
func (s *Server) Leave() {
	if s.Listener() != nil {
		go func() { _ = s.http.Shutdown(context.Background()) }() // ends with Stop at the latest
	}
}

// Stop ends a started server without waiting for requests: what they ask for can be asked again.
func (s *Server) Stop() error {
	err := s.http.Close()
	<-s.served
	return err
}
