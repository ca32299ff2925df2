package owner

import "time"

// Rate estimates how often something happens, from what it has counted in the last four to nine
// seconds. The zero value is ready. Only the owner uses it; adding costs no division and no
// allocation.
type Rate struct{ window, before, count uint32 }

// rateShift makes a window of 2^32 ns, about 4.3 s.
const rateShift = 32

// Add counts n more at the time now, which must not go back.
func (r *Rate) Add(now time.Duration, n int) {
	if w := uint32(now >> rateShift); w != r.window {
		r.next(w)
	}
	r.count += uint32(n)
}

// next begins the window w.
func (r *Rate) next(w uint32) {
	before := r.count
	if w != r.window+1 {
		before = 0 // nothing was counted in the window before w
	}
	*r = Rate{window: w, before: before}
}

// PerSecond returns the rate at the time now. The window before the current one counts by the part
// of it that a window ending now would cover.
func (r Rate) PerSecond(now time.Duration) float64 {
	if w := uint32(now >> rateShift); w != r.window {
		r.next(w)
	}
	const length = 1 << rateShift
	rest := 1 - float64(now&(length-1))/length
	return (float64(r.before)*rest + float64(r.count)) / time.Duration(length).Seconds()
}
