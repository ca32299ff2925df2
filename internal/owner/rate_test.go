package owner

import (
	"math"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	var r Rate
	now := time.Duration(0)
	if got := r.PerSecond(now); got != 0 {
		t.Errorf("nothing counted: %v", got)
	}
	for ; now < time.Minute; now += 10 * time.Millisecond {
		r.Add(now, 2)
	}
	if got := r.PerSecond(now); math.Abs(got-200) > 2 {
		t.Errorf("200 per second: %v", got)
	}
	if got := r.PerSecond(now + 2*time.Second); got <= 0 || got >= 200 {
		t.Errorf("2 s later: %v", got)
	}
	if got := r.PerSecond(now + 10*time.Second); got != 0 {
		t.Errorf("10 s later: %v", got)
	}
	r.Add(now+time.Hour, 1)
	if got := r.PerSecond(now + time.Hour); got <= 0 || got > 1 {
		t.Errorf("one after an hour: %v", got)
	}
}

func TestRateAlloc(t *testing.T) {
	var r Rate
	now := time.Duration(0)
	if n := testing.AllocsPerRun(100, func() { now += time.Second; r.Add(now, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
