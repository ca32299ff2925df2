package simulation

import (
	"flag"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"
)

var (
	seed   = flag.Uint64("seed", 1, "of the worlds")
	first  = flag.Uint64("first", 0, "number of the first world")
	worlds = flag.Uint64("worlds", 400, "how many")
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
	for n := range uint64(15) {
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

// TestWorldIsFreed: nothing refers to a world that has ended. Otherwise the heap grows with the
// number of worlds, and what a world costs with the heap.
func TestWorldIsFreed(t *testing.T) {
	run := func(n uint64) weak.Pointer[world] {
		w := newWorld(seeded(*seed, n), nil)
		var r result
		r.err = w.guard(w.begin)
		r.finish(w)
		return weak.Make(w)
	}
	for n := range uint64(20) {
		ended := make(chan weak.Pointer[world]) // from another stack: none here refers to the world
		go func() { ended <- run(n) }()
		w := <-ended
		runtime.GC()
		if w := w.Value(); w != nil {
			t.Errorf("world %d, %s, outlives a garbage collection", n, w.layout.name)
		}
	}
}

// A trace is shortened to the steps without which nothing fails, and to the first of the choices
// that do not matter.
func TestShrink(t *testing.T) {
	steps := []step{{-1, []uint32{5}}}
	for i := range 300 {
		steps = append(steps, step{i, []uint32{uint32(i), 3}})
	}
	tries := 0
	has := func(s []step, actor int) bool {
		return slices.ContainsFunc(s[1:], func(s step) bool { return s.actor == actor && s.picks[1] == 3 })
	}
	short := shrink(steps, func(s []step) bool {
		tries++
		return has(s, 17) && has(s, 250)
	})
	want := []step{{-1, []uint32{0}}, {17, []uint32{0, 3}}, {250, []uint32{0, 3}}}
	if !slices.EqualFunc(short, want, func(a, b step) bool { return a.actor == b.actor && slices.Equal(a.picks, b.picks) }) {
		t.Errorf("shortened to %v, want %v", short, want)
	}
	if tries > 400 {
		t.Errorf("%d tries", tries)
	}
}

// What is wrong is said with all that repeats it.
func TestFailure(t *testing.T) {
	r := live(*seed, 3)
	r.err, r.steps = errStop, r.steps[:3]
	f := explain(*seed, 3, &r).String()
	for _, want := range []string{"seed 1, world 3", errStop.Error(), "client 0 connects"} {
		if !strings.Contains(f, want) {
			t.Errorf("%q is missing in %s", want, f)
		}
	}
}
