package cache

import (
	"strings"
	"testing"
	"time"
)

// TestLogsAreLimited: what a service sends again and again is logged once per interval, with the
// number of suppressed lines. Kinds of lines do not suppress each other.
func TestLogsAreLimited(t *testing.T) {
	h := newHarness(t, Options{LogEvery: time.Second})
	h.s.logs.timing.now = 0
	say := func(at time.Duration) []string {
		h.s.now = at
		h.s.logs.error(&h.s.logs.badEvent, "bad event dropped", "n", int(at/time.Millisecond))
		h.s.logs.warn(&h.s.logs.refetch, "refetch failed")
		return strings.Split(strings.TrimSpace(h.out.String()), "\n")
	}
	say(0)
	say(time.Millisecond)
	say(999 * time.Millisecond)
	got := say(time.Second)
	want := []string{
		"logs 1 bad event dropped n=0", "logs 1 refetch failed",
		"logs 1 bad event dropped n=1000 suppressed=2", "logs 1 refetch failed suppressed=2",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("logged %q, want %q", got, want)
	}
}
