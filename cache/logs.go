package cache

import (
	"log/slog"
	"time"

	"sluice/internal/loglimit"
)

// logs logs what services can cause, each kind of line at most once per interval. Owned by the
// shard's goroutine.
type logs struct {
	log    *slog.Logger
	timing *timing
	every  time.Duration

	badEvent, query, refetch, newType, loss loglimit.Limiter
}

func (l *logs) warn(kind *loglimit.Limiter, msg string, attrs ...any) {
	kind.Log(l.log, slog.LevelWarn, l.timing.now, l.every, msg, attrs...)
}

func (l *logs) error(kind *loglimit.Limiter, msg string, attrs ...any) {
	kind.Log(l.log, slog.LevelError, l.timing.now, l.every, msg, attrs...)
}
