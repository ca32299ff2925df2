// Package metricsserver owns the HTTP server on the metrics port: metrics for Prometheus, in its
// text format or as OpenMetrics, health checks, profiles if enabled, and reloads of the settings.
// It has a port of its own, which clients need not be able to reach.
//
// It never counts anything itself, and never serves clients of the gateway.
package metricsserver

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice/internal/config"
	"sluice/internal/metrics"
)

// Path is the path of the metrics.
const Path = "/metrics"

// Options are the settings of a Server. All are required, but Profiles, Reload and Listener.
type Options struct {
	Addr     string       // host:port; port 0: a free one
	Listener net.Listener // passed to the process, used in place of Addr; nil: none
	Registry *metrics.Registry
	Profiles bool         // serve pprof, too
	Reload   http.Handler // of POST /reload; nil: there is none
	Health   http.Handler // of /healthz and /readyz
	NotFound http.Handler // handles every other path
	Log      *slog.Logger
}

// Server serves metrics from Start to Stop. Its methods may be called from any goroutine.
type Server struct {
	options Options
	server  *http.Server
	listens atomic.Pointer[net.Listener] // nil before Start
	served  chan struct{}                // closed when the accept loop has ended
}

// Exposition returns a handler that responds with the metrics of a registry.
func Exposition(r *metrics.Registry, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(r.Gatherer(), promhttp.HandlerOpts{
		EnableOpenMetrics: true, // if Accept prefers it
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelError),
	})
}

// New returns a server that is not started.
func New(o Options) *Server {
	mux := http.NewServeMux()
	exposition := Exposition(o.Registry, o.Log)
	mux.Handle("GET "+Path, exposition)
	mux.Handle("POST "+Path, exposition) // Resgate serves POST, too
	if o.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", program)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	if o.Reload != nil {
		// A page that someone with access to this port opens must not reload the gateway.
		mux.Handle("POST /reload", http.NewCrossOriginProtection().Handler(o.Reload))
	}
	mux.Handle(config.HealthPath, o.Health)
	mux.Handle(config.ReadyPath, o.Health)
	mux.Handle("/", o.NotFound)
	return &Server{
		options: o,
		// There is no write timeout, since the client chooses the duration of a profile.
		server: &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
			ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug)},
		served: make(chan struct{}),
	}
}

// program responds with the program's name only. Package pprof would show the whole command line,
// which may have credentials.
func program(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, os.Args[0])
}

// Start listens and serves. Its error says what to do. fail is called with the reason if the server
// ends before Stop. A server can be started once.
func (s *Server) Start(fail func(error)) error {
	l, err := s.options.Listener, error(nil)
	if l == nil {
		l, err = net.Listen("tcp", s.options.Addr)
	}
	if err != nil {
		return fmt.Errorf("metricsPort: cannot listen on %s: %w; choose another port, or 0 for none", s.options.Addr, err)
	}
	s.listens.Store(&l)
	s.options.Log.Info("metrics server listening", "addr", l.Addr().String(), "path", Path)
	go func() {
		defer close(s.served)
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fail(err)
		}
	}()
	return nil
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

// Stop ends a started server without waiting for requests: a scrape can be repeated.
func (s *Server) Stop() error {
	err := s.server.Close()
	<-s.served
	return err
}
