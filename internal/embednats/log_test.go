package embednats

import (
	"testing"

	"sluice/internal/testkit"
)

// Clients of the server can cause a line each: of many at a time few are logged, and an error is
// not left out for a warning.
func TestLinesAreLimited(t *testing.T) {
	out := new(testkit.Log)
	l := &serverLog{log: out.Logger()}
	const many = 100_000
	for range many {
		l.Warnf("slow %d", 1)
		l.Errorf("bad %d", 1)
	}
	for _, text := range []string{"slow 1", "bad 1"} {
		if n := out.Count(text); n == 0 || n > many/2 {
			t.Errorf("%d lines %q", n, text)
		}
	}
}
