package servicelog

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"sluice/internal/owner"
	"sluice/internal/res"
)

func newLog() (*Log, *owner.ManualClock, func() []string) {
	var out bytes.Buffer
	clock := owner.NewManualClock()
	return New(slog.New(slog.NewTextHandler(&out, nil)), clock), clock, func() []string {
		defer out.Reset()
		return strings.Split(strings.TrimSpace(out.String()), "\n")
	}
}

// A service that replies with nonsense all the time causes a bounded number of lines; each is
// counted, and the next window says how many were omitted.
func TestInvalidRepliesAreBounded(t *testing.T) {
	l, clock, logged := newLog()
	err := res.InternalError("no JSON")
	err.Data = `"` + strings.Repeat("x", 2*maxError) + `"`
	for range 3 * lines {
		l.InvalidReply("get.test.model", err)
	}
	got := logged()
	if len(got) != lines || !strings.Contains(got[0], "get.test.model") || !strings.Contains(got[0], "no JSON") {
		t.Errorf("%d lines, the first %s", len(got), got[0])
	}
	if len(got[0]) > 2*maxError {
		t.Errorf("a line of %d bytes", len(got[0]))
	}
	clock.Advance(window)
	l.InvalidReply("get.test.model", err)
	if got := logged(); len(got) != 1 || !strings.Contains(got[0], fmt.Sprintf("suppressed=%d", 2*lines)) {
		t.Errorf("in the next window: %s", got)
	}
	if n := l.Invalid.Load(); n != 3*lines+1 {
		t.Errorf("%d counted", n)
	}
}

// A deprecated form is logged once per resource name, for a bounded number of names.
func TestLegacyNewOncePerName(t *testing.T) {
	l, _, logged := newLog()
	for range 3 {
		l.LegacyNew("test.a")
		l.LegacyNew("test.b")
	}
	if got := logged(); len(got) != 2 {
		t.Errorf("logged %s", got)
	}
	for i := range nameLimit {
		l.LegacyNew(fmt.Sprint("test.", i))
	}
	logged()
	l.LegacyNew("test.new")
	if got := logged(); got[0] != "" {
		t.Errorf("beyond the limit: %s", got)
	}
}
