package gateway

import (
	"runtime"
	"testing"

	"sluice/netpoll"
)

func TestSpareProcessor(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	loops := min(cores(), maxLoops)

	t.Setenv("GOMAXPROCS", "3")
	SpareProcessor()
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("with GOMAXPROCS in the environment there are %d processors, were %d", got, before)
	}
	t.Setenv("GOMAXPROCS", "")
	SpareProcessor()
	want := cores()
	if netpoll.HoldsProcessor {
		want++
	}
	if got := runtime.GOMAXPROCS(0); got != want {
		t.Errorf("%d processors for %d cores, want %d", got, cores(), want)
	}
	if got := (Config{}).LoopCount(); got != loops {
		t.Errorf("%d loops, want %d: one per core, not per processor", got, loops)
	}
}
