package httpedge

import (
	"context"
	"io"
	"net/http"
	"time"

	"sluice/internal/owner"
)

const (
	// aliveWithin bounds the wait for the owners; probes should wait longer.
	aliveWithin = 4 * time.Second
	// aliveFor is how long a result holds: owners are asked no more often, however many ask.
	aliveFor = time.Second
)

// liveness is the result of the last check that event loops and cache shards work. Any goroutine
// may use it that holds turn.
type liveness struct {
	turn chan struct{} // has room for its one holder
	at   time.Duration // end of the last check
	done bool          // there was one
	err  error
}

// check returns nil if ask has returned nil within the last second, or does now.
func (l *liveness) check(ctx context.Context, clock owner.Clock, ask func(context.Context) error) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if now := clock.Now(); l.done && now-l.at < aliveFor {
		return l.err
	}
	within, cancel := owner.Within(context.WithoutCancel(ctx), clock, aliveWithin) // others get the result, too
	defer cancel()
	l.err, l.done = ask(within), true
	l.at = clock.Now()
	return l.err
}

// live responds with 200 while all event loops and cache shards work, otherwise with 503: only a
// new process helps then. NATS and the load do not count.
func (e *Edge) live(w http.ResponseWriter, r *http.Request) {
	if !asksHealth(w, r) {
		return
	}
	status, text := http.StatusOK, "alive"
	if e.alive.check(r.Context(), e.o.Clock, e.o.Gateway.Alive) != nil {
		status, text = http.StatusServiceUnavailable, "an event loop or a cache shard does not answer: start the gateway again"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // the client may be gone
}
