// Package metricsserver owns the HTTP server on the metrics port: metrics for Prometheus, in its
// text format or as OpenMetrics, health checks, profiles if enabled, and reloads of the settings.
// It has a port of its own, which clients need not be able to reach.
//
// It never counts anything itself, and never serves clients of the gateway.
package metricsserver

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice/internal/config"
	"sluice/internal/httpserver"
	"sluice/internal/metrics"
)

// Path is the path of the metrics.
const Path = "/metrics"

// Options are the settings of the server. All are required, but Profiles, Reload and Listener.
type Options struct {
	Addr     string       // host:port; port 0: a free one
	Listener net.Listener // passed to the process, used in place of Addr; nil: none
	Registry *metrics.Registry
	Profiles bool         // serve pprof, too
	Reload   http.Handler // of POST /reload; nil: there is none
	Health   http.Handler // of /healthz, /readyz and /livez
	NotFound http.Handler // handles every other path
	Log      *slog.Logger
}

// Exposition returns a handler that responds with the metrics of a registry.
func Exposition(r *metrics.Registry, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(r.Gatherer(), promhttp.HandlerOpts{
		EnableOpenMetrics: true, // if Accept prefers it
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelError),
	})
}

// New returns a server that is not started.
func New(o Options) *httpserver.Server {
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
	mux.Handle(config.LivePath, o.Health)
	mux.Handle("/", o.NotFound)
	return httpserver.New(httpserver.Options{
		Setting: "metricsPort", Addr: o.Addr, Listener: o.Listener, Handler: mux, Log: o.Log,
		Listening: func(addr net.Addr) {
			o.Log.Info("metrics server listening", "addr", addr.String(), "path", Path)
		},
	})
}

// program responds with the program's name only. Package pprof would show the whole command line,
// which may have credentials.
func program(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, os.Args[0])
}
