// Package reload owns the change of settings in a running gateway: it reads the settings again,
// compares them with those in use, and has the gateway apply what can change without a restart. A
// reload is all or nothing.
//
// It never knows what a setting means, and never touches an owner's state: the gateway posts the
// new values to the owners.
package reload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"sluice/internal/config"
	"sluice/internal/metrics"
)

// Errors of a reload that has not been tried. Any other error is a mistake in the new settings.
var (
	// ErrBusy: another reload is in progress.
	ErrBusy = errors.New("another reload is in progress: try again when it has ended")
	// ErrNotRunning: the gateway has not started or is being stopped.
	ErrNotRunning = errors.New("the gateway does not run: settings are read at its start")
)

// Options configure a Reloader. All are required.
type Options struct {
	Running config.Config // what the gateway was started with
	// Read reads the settings again. The warnings are for the user.
	Read func() (next config.Config, warnings []string, err error)
	// Prepare checks whether the settings can be applied, and returns what applies them: commit
	// cannot fail, and returns when every owner has the new values or ctx has ended. One reload at
	// a time calls it.
	Prepare func(next config.Config) (commit func(ctx context.Context), err error)
	Log     *slog.Logger
}

// Result is what a reload has changed, or a dry run would change.
type Result struct {
	DryRun       bool            `json:"dryRun"`
	Changed      []config.Change `json:"changed"`
	NeedsRestart []config.Change `json:"needsRestart"`
	Warnings     []string        `json:"warnings"`
}

// Reloader reloads the settings of a gateway. Its methods may be called from any goroutine.
type Reloader struct {
	o       Options
	running atomic.Pointer[config.Config] // settings in use
	token   chan struct{}                 // holds an element while no reload is in progress
	open    atomic.Bool                   // the gateway runs

	Metrics Metrics
}

// Metrics counts reloads that were no dry run. Any goroutine may read it.
type Metrics struct {
	Done   metrics.Counter
	Failed metrics.Counter
	Latest metrics.Gauge // Unix time of the latest that was done, in seconds; 0: none was
}

// New returns a Reloader, which rejects every reload before Open.
func New(o Options) *Reloader {
	r := &Reloader{o: o, token: make(chan struct{}, 1)}
	r.token <- struct{}{}
	r.running.Store(&o.Running)
	return r
}

// Running returns the settings in use: those of the start with all reloads since. It must not be
// changed.
func (r *Reloader) Running() *config.Config { return r.running.Load() }

// Open permits reloads.
func (r *Reloader) Open() { r.open.Store(true) }

// Close rejects reloads from now on, and waits for the one in progress.
func (r *Reloader) Close() {
	r.open.Store(false)
	<-r.token
	r.token <- struct{}{}
}

// Reload reads the settings again and applies them, after a reload in progress. Its error is ctx's
// if that ends before. After any error nothing has changed.
func (r *Reloader) Reload(ctx context.Context) (Result, error) {
	select {
	case <-r.token:
		return r.exclusively(ctx, false)
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// tryReload is Reload, or with dryRun a preview of it, that does not wait: ErrBusy.
func (r *Reloader) tryReload(ctx context.Context, dryRun bool) (Result, error) {
	select {
	case <-r.token:
		return r.exclusively(ctx, dryRun)
	default:
		return Result{}, ErrBusy
	}
}

// exclusively makes a reload whose caller has the token, and gives the token back.
func (r *Reloader) exclusively(ctx context.Context, dryRun bool) (Result, error) {
	defer func() { r.token <- struct{}{} }()
	if !r.open.Load() {
		return Result{}, ErrNotRunning
	}
	result, err := r.reload(ctx, dryRun)
	switch {
	case dryRun:
	case err == nil:
		r.Metrics.Done.Inc()
		r.Metrics.Latest.Set(time.Now().Unix())
	default:
		r.Metrics.Failed.Inc()
		r.o.Log.Error("reload failed; the settings in use stay", "error", err)
	}
	return result, err
}

func (r *Reloader) reload(ctx context.Context, dryRun bool) (Result, error) {
	next, warnings, err := r.o.Read()
	if err != nil {
		return Result{}, err
	}
	if err := next.Validate(); err != nil {
		return Result{}, err
	}
	merged, d := config.Merge(*r.Running(), next)
	if err := merged.Validate(); err != nil {
		return Result{}, fmt.Errorf("these changes cannot be applied without those that need a restart: %w", err)
	}
	commit, err := r.o.Prepare(merged)
	if err != nil {
		return Result{}, err
	}
	result := Result{DryRun: dryRun, Changed: d.Changed, NeedsRestart: d.NeedsRestart, Warnings: append([]string{}, warnings...)}
	if dryRun {
		return result, nil
	}
	r.running.Store(&merged)
	commit(context.WithoutCancel(ctx))
	for _, c := range d.Changed {
		r.o.Log.Info("setting changed", "setting", c.Setting, "from", string(c.From), "to", string(c.To))
	}
	for _, c := range d.NeedsRestart {
		r.o.Log.Warn("setting needs a restart", "setting", c.Setting, "from", string(c.From), "to", string(c.To))
	}
	for _, w := range warnings {
		r.o.Log.Warn(w)
	}
	r.o.Log.Info("reloaded", "changed", len(d.Changed), "needsRestart", len(d.NeedsRestart))
	return result, nil
}

// ServeHTTP answers POST /reload: 200 with the Result, 400 with an error in the new settings, 409
// if a reload is in progress or the gateway does not run. With ?dryRun=1 nothing is applied.
func (r *Reloader) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	respond := func(status int, body any) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	type failure struct {
		Error string `json:"error"`
	}
	dryRun := false
	switch v := req.URL.Query().Get("dryRun"); v {
	case "", "0", "false":
	case "1", "true":
		dryRun = true
	default:
		respond(http.StatusBadRequest, failure{"dryRun must be 1 or 0"})
		return
	}
	result, err := r.tryReload(req.Context(), dryRun)
	switch {
	case errors.Is(err, ErrBusy), errors.Is(err, ErrNotRunning):
		respond(http.StatusConflict, failure{err.Error()})
	case err != nil:
		respond(http.StatusBadRequest, failure{err.Error()})
	default:
		respond(http.StatusOK, result)
	}
}
