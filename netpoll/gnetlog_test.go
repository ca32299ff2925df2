package netpoll

import (
	"testing"

	"sluice/internal/owner"
	"sluice/internal/testkit"
)

// What gnet says of single sockets, which clients can cause without bound, is one line per
// interval.
func TestGnetLinesAreLimited(t *testing.T) {
	out, clock := new(testkit.Log), owner.NewManualClock()
	g := gnetLog{&Engine{log: out.Logger(), opts: Options{Clock: clock}}}
	for n := range 3 {
		g.Errorf("socket %d", n)
		g.Warnf("socket %d", n)
	}
	if n := out.Count("socket"); n != 1 {
		t.Errorf("%d lines at a time: %s", n, out)
	}
	clock.Advance(warnEvery)
	g.Errorf("socket %d", 3)
	if out.Count(`msg="gnet: socket 3" suppressed=5`) != 1 {
		t.Errorf("logged %s", out)
	}
}
