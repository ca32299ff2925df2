// Package servicelog logs what services do wrong: invalid replies and deprecated forms. It owns the
// bounds of these logs, since a service can cause a line per request, and the count of invalid
// replies. It never decides what is wrong, and never what a client receives.
package servicelog

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
	"sluice/internal/res"
)

const (
	window    = 10 * time.Second // in which lines invalid replies are logged
	lines     = 10
	maxError  = 1 << 10 // bytes of a service's error that are logged
	nameLimit = 10_000  // resource names remembered as warned of
)

// Log is safe for concurrent use. It locks, which is possible because no event causes a line.
type Log struct {
	log   *slog.Logger
	clock owner.Clock

	Invalid atomic.Uint64 // replies, logged or not

	mu      sync.Mutex
	began   time.Duration // start of the window
	logged  int           // lines in the window
	omitted int           // replies since the last line
	warned  map[string]struct{}
}

// New returns a log that writes to log; clock measures the window.
func New(log *slog.Logger, clock owner.Clock) *Log { return &Log{log: log, clock: clock} }

// InvalidReply counts an invalid reply to a request (RES.md section 3.1) and logs it, within
// bounds. err is what the client receives: system.internalError, with the reason as its message.
func (l *Log) InvalidReply(subject string, err *res.Error) {
	l.Invalid.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.clock.Now(); l.logged == 0 || now-l.began >= window {
		l.began, l.logged = now, 0
	}
	if l.logged == lines {
		l.omitted++
		return
	}
	l.logged++
	attrs := []any{"subject", subject, "reason", err.Message}
	if err.Data != "" {
		attrs = append(attrs, "error", err.Data[:min(len(err.Data), maxError)])
	}
	if l.omitted > 0 {
		attrs = append(attrs, "suppressed", l.omitted)
		l.omitted = 0
	}
	l.log.Error("invalid answer from a service", attrs...)
}

// LegacyNew logs, once per resource name, that a service replied to a call of method "new" with a
// bare {"rid":…} (RES.md section 3.1).
func (l *Log) LegacyNew(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.warned[name]; ok || len(l.warned) >= nameLimit {
		return
	}
	if l.warned == nil {
		l.warned = make(map[string]struct{})
	}
	l.warned[name] = struct{}{}
	l.log.Warn(`deprecated: a call of method "new" was answered with {"rid":…} as its result; answer with "resource" instead`, "resource", name)
}
