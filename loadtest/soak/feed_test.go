//go:build linux

package soak

import (
	"testing"

	"sluice/loadtest/soak/service"
)

func TestFeedOrder(t *testing.T) {
	type event struct {
		gen, n  uint64
		want    order
		missing uint64
	}
	for _, tt := range []struct {
		name   string
		events []event
	}{
		{"comes in anywhere", []event{{1, 7, next, 0}, {1, 8, next, 0}}},
		{"gap and repetition", []event{{1, 1, next, 0}, {1, 4, skipping, 2}, {1, 4, repeated, 0}, {1, 1, repeated, 0}}},
		{"late is not twice", []event{{1, 1, next, 0}, {1, 5, skipping, 3}, {1, 3, delayed, 0}, {1, 3, repeated, 0}, {1, 2, delayed, 0}, {1, 4, delayed, 0}, {1, 4, repeated, 0}}},
		{"before the client came", []event{{1, 7, next, 0}, {1, 5, delayed, 0}, {1, 8, next, 0}}},
		{"another generation", []event{{1, 7, next, 0}, {2, 1, next, 0}, {1, 8, delayed, 0}, {2, 1, repeated, 0}, {2, 2, next, 0}}},
		{"its beginning is missing", []event{{1, 7, next, 0}, {2, 3, skipping, 2}, {2, 2, delayed, 0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f feed
			for i, e := range tt.events {
				if o, missing := f.take(service.Tick{Gen: e.gen, N: e.n}); o != e.want || missing != e.missing {
					t.Errorf("event %d: %v with %d missing, want %v with %d", i, o, missing, e.want, e.missing)
				}
			}
		})
	}
}

func TestFeedForgetsOldHoles(t *testing.T) {
	var f feed
	for n := uint64(1); n < 400; n += 2 {
		f.take(service.Tick{Gen: 1, N: n})
	}
	if len(f.holes) != maxHoles {
		t.Errorf("%d holes", len(f.holes))
	}
	if o, _ := f.take(service.Tick{Gen: 1, N: 398}); o != delayed {
		t.Errorf("the newest hole: %v", o)
	}
}
