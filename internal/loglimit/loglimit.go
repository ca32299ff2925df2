// Package loglimit bounds how often a line is logged that peers can cause: clients, services or the
// NATS server. It owns only the time of the latest line and the count of suppressed ones. It never
// reads a clock, and knows nothing of what is logged.
package loglimit

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Limiter is the limit of one kind of line. The zero value is ready. Any goroutine may use it; it
// holds no lock.
type Limiter struct {
	latest     atomic.Int64 // 1 ns after the time of the latest line; 0: none was logged
	suppressed atomic.Uint64
}

// Allow reports whether a line may be logged at now: it is the first, or the latest was logged at
// least every ago. suppressed is how many were not since then. now is the caller's clock, of which
// all calls use the same.
func (l *Limiter) Allow(now, every time.Duration) (suppressed uint64, ok bool) {
	at := int64(now) + 1
	latest := l.latest.Load()
	if latest != 0 && at < latest+int64(every) || !l.latest.CompareAndSwap(latest, at) {
		l.suppressed.Add(1)
		return 0, false
	}
	return l.suppressed.Swap(0), true
}

// Log logs a line if Allow permits it. If lines were suppressed before it, the attribute
// "suppressed" says how many.
func (l *Limiter) Log(log *slog.Logger, level slog.Level, now, every time.Duration, msg string, attrs ...any) {
	suppressed, ok := l.Allow(now, every)
	if !ok {
		return
	}
	if suppressed > 0 {
		attrs = append(attrs[:len(attrs):len(attrs)], "suppressed", suppressed)
	}
	log.Log(context.Background(), level, msg, attrs...)
}
