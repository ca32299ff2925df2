//go:build linux

package soak

import (
	"slices"
	"time"

	"sluice/loadtest/soak/service"
)

// order is what the number of a custom event says, compared with those before it.
type order int

const (
	next     order = iota // it follows the last one, or is the first of all
	skipping              // events between the last one and it are missing
	delayed               // it was missing: NATS delivered it after younger ones
	repeated              // it was received before
)

// maxHoles bounds the holes that a feed remembers. A missing event older than that counts as
// repeated if it comes after all, which fails the soak rather than hides something.
const maxHoles = 64

// feed is the custom events of one resource that a client received since it subscribed.
type feed struct {
	gen, n uint64
	first  uint64    // of this generation: what comes below it came before the client did
	at     time.Time // when the last one was published
	holes  []hole
}

// hole is a run of numbers that were not received.
type hole struct{ first, last uint64 }

// take notes an event. missing is how many are missing directly before it.
func (f *feed) take(t service.Tick) (o order, missing uint64) {
	switch {
	case f.gen == 0: // where the client came in
		f.first = t.N
	case t.Gen < f.gen: // of a process that has died since
		return delayed, 0
	case t.Gen > f.gen:
		// How many the former process published in the end is not known.
		f.holes, f.first = nil, 0
		if missing = t.N - 1; missing > 0 {
			f.hole(1, missing)
		}
	case t.N <= f.n:
		if t.N < f.first || f.fill(t.N) {
			return delayed, 0
		}
		return repeated, 0
	default:
		if missing = t.N - f.n - 1; missing > 0 {
			f.hole(f.n+1, t.N-1)
		}
	}
	f.gen, f.n, f.at = t.Gen, t.N, time.Unix(0, t.Time)
	if missing > 0 {
		return skipping, missing
	}
	return next, 0
}

func (f *feed) hole(first, last uint64) {
	if f.holes = append(f.holes, hole{first, last}); len(f.holes) > maxHoles {
		f.holes = slices.Delete(f.holes, 0, 1)
	}
}

// fill removes a number from the holes. It reports whether it was in one.
func (f *feed) fill(n uint64) bool {
	for i, h := range f.holes {
		if n < h.first || n > h.last {
			continue
		}
		var rest []hole
		if h.first < n {
			rest = append(rest, hole{h.first, n - 1})
		}
		if n < h.last {
			rest = append(rest, hole{n + 1, h.last})
		}
		f.holes = slices.Replace(f.holes, i, i+1, rest...)
		return true
	}
	return false
}
