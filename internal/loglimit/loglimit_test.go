package loglimit

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAllow(t *testing.T) {
	var l Limiter
	for i, step := range []struct {
		at         time.Duration
		ok         bool
		suppressed uint64
	}{
		{at: 0, ok: true}, // a clock may begin at 0
		{at: 0},
		{at: 10*time.Second - 1},
		{at: 10 * time.Second, ok: true, suppressed: 2},
		{at: 19 * time.Second},
		{at: 5 * time.Second}, // another goroutine read its clock earlier
		{at: time.Hour, ok: true, suppressed: 2},
		{at: 2 * time.Hour, ok: true},
	} {
		suppressed, ok := l.Allow(step.at, 10*time.Second)
		if ok != step.ok || suppressed != step.suppressed {
			t.Errorf("step %d, at %v: %d, %v; want %d, %v", i, step.at, suppressed, ok, step.suppressed, step.ok)
		}
	}
}

// TestLog: the first line that is logged after others were suppressed says how many, and attributes
// of the caller are not overwritten.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	var l Limiter
	attrs := make([]any, 2, 8)
	attrs[0], attrs[1] = "conn", 7
	for _, at := range []time.Duration{0, 1, 2, time.Second, 3 * time.Second} {
		l.Log(log, slog.LevelWarn, at, time.Second, "bad input", attrs...)
	}
	want := `level=WARN msg="bad input" conn=7
level=WARN msg="bad input" conn=7 suppressed=2
level=WARN msg="bad input" conn=7
`
	if out.String() != want {
		t.Errorf("logged:\n%swant:\n%s", out.String(), want)
	}
	if rest := attrs[:8]; rest[2] != nil {
		t.Errorf("the caller's attributes became %v", rest)
	}
}

// TestLogLevel: a level that the log does not take is still counted as the line of its interval.
func TestLogLevel(t *testing.T) {
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	var l Limiter
	l.Log(log, slog.LevelDebug, 0, time.Second, "detail")
	if _, ok := l.Allow(1, time.Second); ok || out.Len() > 0 {
		t.Errorf("allowed: %v, logged %q", ok, out.String())
	}
}

// TestConcurrentAllow: of lines at the same time from many goroutines one is logged, and all others
// are counted.
func TestConcurrentAllow(t *testing.T) {
	const goroutines, each = 8, 1000
	var l Limiter
	var allowed, told atomic.Uint64
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range each {
				if n, ok := l.Allow(time.Hour, time.Second); ok {
					allowed.Add(1)
					told.Add(n)
				}
			}
		})
	}
	all.Wait()
	n, ok := l.Allow(2*time.Hour, time.Second)
	if !ok || allowed.Load() != 1 || told.Load()+n != goroutines*each-1 {
		t.Errorf("%d lines allowed, %d counted as suppressed of %d", allowed.Load(), told.Load()+n, goroutines*each)
	}
}
