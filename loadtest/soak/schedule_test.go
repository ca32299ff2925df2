//go:build linux

package soak

import (
	"slices"
	"testing"
	"time"
)

func kindsOf(faults []fault) map[faultKind]int {
	n := map[faultKind]int{}
	for _, f := range faults {
		n[f.kind]++
	}
	return n
}

// However short the time is, each kind of fault happens; the same seed plans the same.
func TestScheduleHasEveryKind(t *testing.T) {
	for _, length := range []time.Duration{time.Second, 10 * time.Minute} {
		for seed := range uint64(20) {
			heavy, light := schedule(seed, length)
			if a, b := kindsOf(heavy), kindsOf(light); len(a) != len(heavyKinds) || len(b) != len(lightKinds) {
				t.Fatalf("seed %d, %v: %v %v", seed, length, a, b)
			}
			again, _ := schedule(seed, length)
			if !slices.Equal(heavy, again) {
				t.Fatalf("seed %d plans two things", seed)
			}
			if !slices.IsSortedFunc(heavy, func(a, b fault) int { return int(a.at - b.at) }) {
				t.Errorf("seed %d, %v: not in order: %v", seed, length, heavy)
			}
		}
	}
	if heavy, _ := schedule(1, 10*time.Minute); len(heavy) < 30 || len(heavy) > 60 {
		t.Errorf("%d faults in ten minutes", len(heavy))
	}
}

// From the checkpoint on the plain gateway is not started again: its memory is compared.
func TestSchedulePlainGatewayLives(t *testing.T) {
	for seed := range uint64(20) {
		heavy, _ := schedule(seed, time.Hour)
		for _, f := range heavy {
			if (f.kind == gatewayStop || f.kind == gatewayKill) && f.gateway == plain {
				t.Fatalf("seed %d: %v", seed, f)
			}
			if f.kind == cutAll && f.lasts >= natsGrace || f.kind == cutLong && f.lasts <= natsGrace {
				t.Fatalf("seed %d: %v, with a grace of %v", seed, f, natsGrace)
			}
		}
	}
}
