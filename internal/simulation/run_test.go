package simulation

import (
	"flag"
	"strings"
	"testing"
	"time"
)

var (
	seed   = flag.Uint64("seed", 1, "of the worlds")
	first  = flag.Uint64("first", 0, "number of the first world")
	worlds = flag.Uint64("worlds", 300, "how many")
)

// TestWorlds runs worlds, always the same ones.
func TestWorlds(t *testing.T) {
	start := time.Now()
	r := Run(t.Context(), Options{Seed: *seed, First: *first, Worlds: *worlds})
	if r.Failure != nil {
		t.Error(r.Failure)
	}
	t.Logf("%d worlds, %d steps, %d messages to clients in %v", r.Worlds, r.Steps, r.Messages, time.Since(start))
}

// TestReplay: the same choices have the same consequences, message by message.
func TestReplay(t *testing.T) {
	for n := range uint64(40) {
		r := live(*seed, n)
		var logs [2]strings.Builder
		for i := range logs {
			if again := replay(r.steps, &logs[i]); (again.err == nil) != (r.err == nil) || again.received != r.received {
				t.Fatalf("world %d: %d messages and %v, then %d and %v", n, r.received, r.err, again.received, again.err)
			}
		}
		if logs[0].String() != logs[1].String() {
			t.Fatalf("world %d: replays differ", n)
		}
	}
}
