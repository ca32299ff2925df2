// Package hist is the harness's latency histogram: a thin layer over HdrHistogram
// with one range and precision for the whole harness, and a lossless sparse form
// for other processes and for reports.
//
// It owns the recorded counts. It never reads a clock and does not know what a
// latency means: callers record durations since a due time.
//
// A Hist is not safe for concurrent use. Each client thread has its own, and the
// reader merges them.
package hist

import (
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Range and precision: microseconds from 1 to ten minutes, three significant digits. A
// value outside the range is recorded as its nearest end.
const (
	lowest  = 1
	highest = 10 * 60 * 1e6
	digits  = 3
)

// Hist is a histogram of latencies in microseconds.
type Hist struct {
	h *hdrhistogram.Histogram
}

// Sparse is a histogram as pairs of a value in microseconds and its count, in ascending
// order of values.
type Sparse [][2]int64

// Summary holds the figures that a table shows, in microseconds.
type Summary struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   int64   `json:"p50"`
	P90   int64   `json:"p90"`
	P99   int64   `json:"p99"`
	P999  int64   `json:"p999"`
	Max   int64   `json:"max"`
}

// New returns an empty histogram.
func New() *Hist {
	return &Hist{h: hdrhistogram.New(lowest, highest, digits)}
}

// Record records one latency in nanoseconds. A negative one, which the clocks of two threads
// can give, is recorded as the lowest.
func (h *Hist) Record(ns int64) { h.record(ns/1000, 1) }

// record records n latencies of us microseconds.
func (h *Hist) record(us, n int64) {
	// Cannot fail: the value is within the histogram's range.
	_ = h.h.RecordValues(min(max(us, lowest), highest), n)
}

// Count returns the number of latencies recorded.
func (h *Hist) Count() int64 { return h.h.TotalCount() }

// Reset removes all latencies.
func (h *Hist) Reset() { h.h.Reset() }

// Quantile returns the quantile q, 0 to 1, in microseconds; 0 if h is empty.
func (h *Hist) Quantile(q float64) int64 {
	if h.Count() == 0 {
		return 0
	}
	return h.h.ValueAtQuantile(q * 100)
}

// Summary returns the mean, the usual quantiles and the maximum.
func (h *Hist) Summary() Summary {
	if h.Count() == 0 {
		return Summary{}
	}
	return Summary{
		Count: h.Count(),
		Mean:  math.Round(h.h.Mean()*10) / 10,
		P50:   h.Quantile(0.5),
		P90:   h.Quantile(0.9),
		P99:   h.Quantile(0.99),
		P999:  h.Quantile(0.999),
		Max:   h.h.Max(),
	}
}

// Sparse returns the buckets that are not empty, nil if h is. Added to an empty histogram
// they give an equal one.
func (h *Hist) Sparse() Sparse {
	if h.Count() == 0 {
		return nil
	}
	var s Sparse
	for _, b := range h.h.Distribution() {
		if b.Count > 0 {
			s = append(s, [2]int64{b.From, b.Count})
		}
	}
	return s
}

// Coarse returns s with neighbouring buckets merged if they differ by less than part of
// their value. Reports need no third digit.
func (s Sparse) Coarse(part float64) Sparse {
	var out Sparse
	for _, b := range s {
		if n := len(out); n > 0 && float64(b[0]-out[n-1][0]) < part*float64(out[n-1][0]) {
			out[n-1][1] += b[1]
		} else {
			out = append(out, b)
		}
	}
	return out
}

// Add adds the latencies of s.
func (h *Hist) Add(s Sparse) {
	for _, b := range s {
		h.record(b[0], b[1])
	}
}

// From returns a histogram of the latencies of s.
func From(s Sparse) *Hist {
	h := New()
	h.Add(s)
	return h
}
