package netpoll

import (
	"runtime"
	"testing"
)

func TestSpareProcessor(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)

	t.Setenv("GOMAXPROCS", "3")
	SpareProcessor(before + 3)
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("with GOMAXPROCS in the environment there are %d processors, were %d", got, before)
	}
	t.Setenv("GOMAXPROCS", "")
	SpareProcessor(before)
	want := before
	if HoldsProcessor {
		want++
	}
	if got := runtime.GOMAXPROCS(0); got != want {
		t.Errorf("%d processors for %d cores, want %d", got, before, want)
	}
}
