package gateway

import (
	"runtime"
	"testing"

	"sluice/internal/config"
	"sluice/netpoll"
)

func TestSpareProcessor(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	loops := min(config.Cores(), config.MaxLoops)

	t.Setenv("GOMAXPROCS", "3")
	SpareProcessor()
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("with GOMAXPROCS in the environment there are %d processors, were %d", got, before)
	}
	t.Setenv("GOMAXPROCS", "")
	SpareProcessor()
	want := config.Cores()
	if netpoll.HoldsProcessor {
		want++
	}
	if got := runtime.GOMAXPROCS(0); got != want {
		t.Errorf("%d processors for %d cores, want %d", got, config.Cores(), want)
	}
	if got := (Config{}).LoopCount(); got != loops {
		t.Errorf("%d loops, want %d: one per core, not per processor", got, loops)
	}
}
