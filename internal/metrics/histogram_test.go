package metrics

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

// Each value is in the first bucket whose bound it does not exceed.
func TestBucketOf(t *testing.T) {
	bound := func(i, lowest int) float64 { return math.Exp2(float64(lowest) + float64(i)/perOctave) }
	for _, lowest := range []int{lowestTime, lowestCount} {
		for i := range buckets {
			v := bound(i, lowest)
			for value, want := range map[float64]int{v * (1 - 1e-12): i, v * (1 + 1e-12): min(i+1, buckets-1)} {
				if got := bucketOf(value, lowest); got != want {
					t.Errorf("%v (bound %d of 2^%d times 1±1e-12) is in bucket %d, want %d", value, i, lowest, got, want)
				}
			}
			if i%perOctave == 0 { // exact
				if got := bucketOf(v, lowest); got != i {
					t.Errorf("%v is in bucket %d, want %d", v, got, i)
				}
			}
		}
	}
	for v, want := range map[float64]int{0: 0, 1e-300: 0, 1e300: buckets - 1, math.Inf(1): buckets - 1} {
		if got := bucketOf(v, lowestTime); got != want {
			t.Errorf("%v is in bucket %d, want %d", v, got, want)
		}
	}
}

// observed is the histogram of one series, as an exporter gets it.
func observed(t *testing.T, h *Histogram) *dto.Histogram {
	t.Helper()
	r := New("v", "p")
	err := r.Histograms("sluice_x_seconds", "X.", []string{"a"}, func(emit func(*Histogram, ...string)) { emit(h, "1") })
	if err != nil {
		t.Fatal(err)
	}
	families, err := r.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sluice_x_seconds" {
			if m := f.Metric[0]; len(m.Label) != 1 || m.Label[0].GetValue() != "1" {
				t.Errorf("labels are %v", m.Label)
			}
			return f.Metric[0].Histogram
		}
	}
	t.Fatal("there is no histogram")
	return nil
}

// native returns the counts of a native histogram by the index of their bucket, and classic those
// of the other form that are not zero by their bound.
func native(h *dto.Histogram) map[int]int64 {
	counts := make(map[int]int64)
	index, value, i := 0, int64(0), 0
	for _, s := range h.PositiveSpan {
		index += int(s.GetOffset())
		for range s.GetLength() {
			value += h.PositiveDelta[i]
			if value > 0 { // Prometheus fills small gaps with empty buckets
				counts[index] = value
			}
			i++
			index++
		}
	}
	return counts
}

func classic(h *dto.Histogram) map[float64]uint64 {
	counts := make(map[float64]uint64)
	before := uint64(0)
	for _, b := range h.Bucket {
		if n := b.GetCumulativeCount(); n > before {
			counts[b.GetUpperBound()], before = n-before, n
		}
	}
	if n := h.GetSampleCount(); n > before {
		counts[math.Inf(1)] = n - before
	}
	return counts
}

func TestHistogramForms(t *testing.T) {
	var one, other Durations
	one.Observe(time.Second, 2) // 2^0
	one.Observe(1001*time.Millisecond, 1)
	one.Observe(100*time.Nanosecond, 1) // below the lowest bound
	other.Observe(time.Second, 1)
	other.Observe(time.Hour, 1) // above the highest
	other.Observe(-time.Second, 1)
	var sum Histogram
	sum.AddDurations(&one)
	sum.AddDurations(&other)
	h := observed(t, &sum)
	if h.GetSampleCount() != 7 || math.Abs(h.GetSampleSum()-(3+1.001+1e-7+3600)) > 1e-9 || h.GetSchema() != 3 {
		t.Errorf("count %d, sum %v, schema %d", h.GetSampleCount(), h.GetSampleSum(), h.GetSchema())
	}
	if got, want := fmt.Sprint(native(h)), "map[-160:2 0:3 1:1 56:1]"; got != want {
		t.Errorf("native: %v, want %v", got, want)
	}
	if got, want := fmt.Sprint(classic(h)), "map[9.5367431640625e-07:2 1:3 2:1 +Inf:1]"; got != want {
		t.Errorf("classic: %v, want %v", got, want)
	}
	if sum.Count() != 7 {
		t.Errorf("Count is %d", sum.Count())
	}

	var sizes Sizes
	sizes.Observe(1)
	sizes.Observe(3)
	sizes.Observe(512)
	sizes.Observe(1 << 40)
	var all Histogram
	all.AddSizes(&sizes)
	h = observed(t, &all)
	if got, want := fmt.Sprint(native(h)), "map[0:1 13:1 72:1 216:1]"; got != want {
		t.Errorf("native sizes: %v, want %v", got, want)
	}
	if got, want := fmt.Sprint(classic(h)), "map[1:1 4:1 512:1 +Inf:1]"; got != want {
		t.Errorf("classic sizes: %v, want %v", got, want)
	}

	h = observed(t, new(Histogram))
	if h.GetSampleCount() != 0 || len(h.PositiveSpan) != 1 || len(native(h)) != 0 {
		t.Errorf("an empty histogram is %v: a span without buckets says that it is native", h)
	}
}

// Prometheus's own implementation chooses the same native buckets.
func TestHistogramAsPrometheus(t *testing.T) {
	reference := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "x", Help: "X.", NativeHistogramBucketFactor: 1.1, NativeHistogramZeroThreshold: prometheus.NativeHistogramZeroThresholdZero,
	})
	var ours Durations
	for d := 2 * time.Microsecond; d < 100*time.Second; d = d*11/10 + 1 {
		reference.Observe(float64(d) * 1e-9)
		ours.Observe(d, 1)
	}
	var m dto.Metric
	if err := reference.Write(&m); err != nil {
		t.Fatal(err)
	}
	var sum Histogram
	sum.AddDurations(&ours)
	h := observed(t, &sum)
	if m.Histogram.GetSchema() != h.GetSchema() {
		t.Fatalf("schema %d, want %d", h.GetSchema(), m.Histogram.GetSchema())
	}
	if got, want := fmt.Sprint(native(h)), fmt.Sprint(native(m.Histogram)); got != want {
		t.Errorf("buckets are %v, want %v", got, want)
	}
}

func TestHistogramLint(t *testing.T) {
	r := New("v", "p")
	var d Durations
	d.Observe(time.Second, 1)
	err := r.Histograms("sluice_x_seconds", "X.", nil, func(emit func(*Histogram, ...string)) {
		var h Histogram
		h.AddDurations(&d)
		emit(&h)
	})
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := testutil.GatherAndLint(r.Gatherer(), "sluice_x_seconds"); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestHistogramAlloc(t *testing.T) {
	var d Durations
	var s Sizes
	if n := testing.AllocsPerRun(100, func() { d.Observe(time.Millisecond, 3); s.Observe(7) }); n != 0 {
		t.Errorf("%v allocations per observation", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var d Durations
	for i := 0; b.Loop(); i++ {
		d.Observe(time.Duration(i%1000)*time.Microsecond, 1)
	}
}
