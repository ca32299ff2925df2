package embednats

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"sluice/internal/loglimit"
	"sluice/internal/owner"
)

// serverLog is the server's logger (server.Logger). Notices are for debugging, so they get that
// level. A fatal error goes to Start or Wait, since the server must not end the process.
type serverLog struct {
	log    *slog.Logger
	trace  slog.Level
	failed chan string
	leaf   *leaf // nil: the server is no leaf node

	warnings, errors loglimit.Limiter // of lines, which clients of the server can cause
}

func (l *serverLog) print(level slog.Level, format string, args []any) {
	if l.leaf != nil && (level >= slog.LevelError || strings.Contains(format, "connection closed")) {
		l.leaf.said(level, strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	switch text := strings.TrimSpace(fmt.Sprintf(format, args...)); level {
	case slog.LevelWarn:
		l.warnings.Log(l.log, level, systemClock.Now(), linesEvery, text)
	case slog.LevelError:
		l.errors.Log(l.log, level, systemClock.Now(), linesEvery, text)
	default:
		l.log.Log(context.Background(), level, text)
	}
}

// linesEvery is how often a warning, and how often an error of the server is logged.
const linesEvery = time.Second

var systemClock = owner.SystemClock()

func (l *serverLog) Noticef(format string, args ...any) { l.print(slog.LevelDebug, format, args) }
func (l *serverLog) Warnf(format string, args ...any)   { l.print(slog.LevelWarn, format, args) }
func (l *serverLog) Errorf(format string, args ...any)  { l.print(slog.LevelError, format, args) }
func (l *serverLog) Debugf(format string, args ...any)  { l.print(slog.LevelDebug, format, args) }

// Tracef logs a message of the server's protocol. Payloads are omitted: auth
// requests have the client's header in theirs, with its cookies.
func (l *serverLog) Tracef(format string, args ...any) {
	if before, _, ok := strings.Cut(format, " MSG_PAYLOAD:"); ok && len(args) > 0 {
		l.print(l.trace, before+" MSG_PAYLOAD omitted", args[:1])
		return
	}
	l.print(l.trace, format, args)
}

func (l *serverLog) Fatalf(format string, args ...any) {
	select {
	case l.failed <- fmt.Sprintf(format, args...):
	default: // the first one is the cause
	}
}
