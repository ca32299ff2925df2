package timeslice

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRests: work rests as long as it has worked, whether it is one long computation or many short
// ones, and not for what was idle.
func TestRests(t *testing.T) {
	const us = time.Microsecond
	for name, tt := range map[string]struct {
		jobs, steps int
		step, pause time.Duration // of work between yields; between jobs
		want        time.Duration // rest in all, at least
		most        time.Duration // in one piece
	}{
		"one long":               {jobs: 1, steps: 100, step: 100 * us, want: 9500 * us, most: 500 * us},
		"many short":             {jobs: 100, steps: 1, step: 100 * us, want: 9500 * us, most: 600 * us},
		"many short, with pause": {jobs: 100, steps: 1, step: 100 * us, pause: 100 * us},
		"short, some pause":      {jobs: 100, steps: 1, step: 100 * us, pause: 50 * us, want: 5000 * us, most: 600 * us},
		"one that yields late":   {jobs: 1, steps: 2, step: 9000 * us, want: 18000 * us, most: 9000 * us},
		"one that is short":      {jobs: 1, steps: 4, step: 100 * us},
	} {
		t.Run(name, func(t *testing.T) {
			var now, rested, longest time.Duration
			turn := turn{now: func() time.Duration { return now }, sleep: func(d time.Duration) {
				now += d
				rested += d
				longest = max(longest, d)
			}}
			for range tt.jobs {
				turn.begin()
				for range tt.steps {
					now += tt.step
					turn.yield()
				}
				turn.end()
				now += tt.pause
			}
			if rested < tt.want || rested > tt.want+Slice || longest > tt.most {
				t.Errorf("rested for %v, %v at a time, want %v and at most %v", rested, longest, tt.want, tt.most)
			}
		})
	}
}

// TestTurns: no more computations work at a time than there are turns, and a panic gives its turn
// back.
func TestTurns(t *testing.T) {
	var working, most atomic.Int64
	var all sync.WaitGroup
	for i := range 8 * cap(turns) {
		all.Go(func() {
			defer func() { _ = recover() }()
			Do(func(yield func()) {
				n := working.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				yield()
				working.Add(-1)
				if i%2 == 0 {
					panic("of the test")
				}
			})
		})
	}
	all.Wait()
	if n := most.Load(); n > int64(cap(turns)) || n == 0 {
		t.Errorf("%d have worked at a time, want at most %d", n, cap(turns))
	}
	if len(turns) != cap(turns) {
		t.Errorf("%d turns are left of %d", len(turns), cap(turns))
	}
}
