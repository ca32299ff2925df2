package gateway

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
	"sluice/internal/res"
)

// In each window of badAnswerWindow, badAnswerLines invalid answers are logged.
const (
	badAnswerWindow = 10 * time.Second
	badAnswerLines  = 10
)

// maxLoggedError is how many bytes of what a service says are logged.
const maxLoggedError = 1 << 10

// badAnswers logs and counts answers of services that are none (RES.md 3.1):
// clients are told system.internalError, whoever runs the service needs to know
// why. Any owner may call it. It is off the path of events, so it may lock.
type badAnswers struct {
	log   *slog.Logger
	clock owner.Clock
	count atomic.Uint64

	mu      sync.Mutex
	began   time.Duration // of the window
	lines   int           // logged in it
	omitted int           // not logged since the last line
}

// note takes an answer to a request to subject. err is what clients are told.
func (b *badAnswers) note(subject string, err *res.Error) {
	b.count.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.clock.Now(); b.lines == 0 || now-b.began >= badAnswerWindow {
		b.began, b.lines = now, 0
	}
	if b.lines == badAnswerLines {
		b.omitted++
		return
	}
	b.lines++
	attrs := []any{"subject", subject, "reason", err.Message}
	if err.Data != "" {
		attrs = append(attrs, "error", err.Data[:min(len(err.Data), maxLoggedError)])
	}
	if b.omitted > 0 {
		attrs = append(attrs, "omitted", b.omitted)
		b.omitted = 0
	}
	b.log.Error("invalid answer from a service", attrs...)
}
