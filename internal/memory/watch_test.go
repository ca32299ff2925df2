package memory

import (
	"log/slog"
	"runtime"
	"slices"
	"testing"
	"time"

	"sluice/internal/owner"
)

func TestLevelAt(t *testing.T) {
	for _, tt := range []struct {
		now  Level
		used int64
		want Level
	}{
		{Enough, 0, Enough}, {Enough, 8999, Enough}, {Enough, 9000, Tight}, {Enough, 9299, Tight},
		{Enough, 9300, Short}, {Enough, 9600, Scarce}, {Enough, 20000, Scarce},
		{Tight, 8700, Tight}, {Tight, 8699, Enough}, {Short, 9000, Short}, {Short, 8999, Tight},
		{Scarce, 9300, Scarce}, {Scarce, 9299, Short}, {Scarce, 0, Enough},
	} {
		if got := levelAt(tt.now, tt.used, 10000); got != tt.want {
			t.Errorf("levelAt(%v, %d) = %v, want %v", tt.now, tt.used, got, tt.want)
		}
	}
}

func TestWatch(t *testing.T) {
	clock := owner.NewManualClock()
	reading := Reading{}
	var shed []Level
	collected := 0
	w := NewWatch(Options{Limit: 10000, Clock: clock, Log: slog.New(slog.DiscardHandler),
		Shed: func(l Level) { shed = append(shed, l) }, Read: func() Reading { return reading }, Collect: func() { collected++ }})
	w.Start()
	step := func(used int64, want ...Level) {
		t.Helper()
		reading.Used = used
		shed = nil
		clock.Advance(interval)
		if !slices.Equal(shed, want) {
			t.Errorf("at %d: shed %v, want %v", used, shed, want)
		}
	}
	step(8000)
	step(9100, Tight)
	step(9100, Tight)
	step(9700, Scarce)
	step(9400, Scarce)
	step(8800, Tight)
	step(8000, Enough)
	step(8000)
	if a, b, c := w.Raised(Tight), w.Raised(Short), w.Raised(Scarce); a != 1 || b != 1 || c != 1 {
		t.Errorf("raised %d, %d and %d times, want once each", a, b, c)
	}

	// While a level holds and nothing is collected, a collection is started each second.
	reading.Collections++
	step(9100, Tight)
	if collected != 0 {
		t.Errorf("%d collections, though there was one", collected)
	}
	for range 20 {
		step(9100, Tight)
	}
	if collected != 2 {
		t.Errorf("%d collections in 2 s, want 2", collected)
	}
	w.Stop()
	shed = nil
	clock.Advance(time.Minute)
	if len(shed) > 0 {
		t.Errorf("shed %v when stopped", shed)
	}
	NewWatch(Options{Clock: clock}).Start() // without a limit it does nothing
	clock.Advance(time.Minute)
}

// TestRead: garbage does not count once it is collected, what is in use does.
func TestRead(t *testing.T) {
	const size = 64 << 20
	runtime.GC()
	before := Read()
	kept := make([]byte, size)
	runtime.GC()
	with := Read()
	if d := with.Used - before.Used; d < size/2 || with.Collections <= before.Collections {
		t.Errorf("%d bytes in use make %d", size, d)
	}
	runtime.KeepAlive(kept)
	kept = nil
	runtime.GC()
	if d := Read().Used - with.Used; d > -size/2 {
		t.Errorf("%d bytes released make %d", size, d)
	}
	_ = kept
}
