package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice/internal/httpedge"
	"sluice/internal/metrics"
)

// metricsPath is where Prometheus looks.
const metricsPath = "/metrics"

// metricsServer serves the metrics, and on demand the profiles, on a port of
// its own (metricsPort), so that it need not be reachable for clients.
type metricsServer struct {
	listener net.Listener
	server   *http.Server
	served   chan struct{} // closed when the accept loop has ended
}

// startMetrics listens on addr and serves until stop. The error says what to do.
func startMetrics(addr string, registry *metrics.Registry, profiles bool, log *slog.Logger) (*metricsServer, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metricsPort: cannot listen on %s: %w; choose another port, or 0 for none", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+metricsPath, promhttp.HandlerFor(registry.Gatherer(), promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError)}))
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	mux.HandleFunc("/", httpedge.NotFound)
	s := &metricsServer{
		listener: l,
		// A profile takes as long as it is asked to, so there is no write limit.
		server: &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)},
		served: make(chan struct{}),
	}
	go func() {
		defer close(s.served)
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the metrics server ended", "error", err)
		}
	}()
	return s, nil
}

// Addr is where the server listens.
func (s *metricsServer) Addr() net.Addr { return s.listener.Addr() }

// stop ends the server at once: a scrape can be repeated.
func (s *metricsServer) stop(context.Context) error {
	err := s.server.Close()
	<-s.served
	return err
}
