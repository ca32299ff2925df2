package hist

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Quantiles agree with those of a sorted list within three significant digits.
func TestQuantilesAgainstSortedList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	h := New()
	var all []int64
	for range 50_000 {
		us := int64(1 + r.ExpFloat64()*20_000)
		all = append(all, us)
		h.Record(us*1000 + r.Int64N(1000))
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[min(int(q*float64(len(all))), len(all)-1)]
		got := h.Quantile(q)
		if diff := float64(got-want) / float64(want); diff > 0.01 || diff < -0.01 {
			t.Errorf("quantile %v is %d, the list says %d", q, got, want)
		}
	}
	if s := h.Summary(); s.Count != int64(len(all)) || s.P50 > s.P90 || s.P90 > s.P99 || s.P99 > s.P999 || s.P999 > s.Max {
		t.Errorf("summary is not in order: %+v", s)
	}
}

func TestSparseIsLossless(t *testing.T) {
	h, parts := New(), New()
	for i := range 3 {
		part := New()
		for v := int64(1); v < 1e9; v = v*3 + int64(i) {
			h.Record(v)
			part.Record(v)
		}
		parts.Add(part.Sparse())
	}
	if a, b := h.Summary(), parts.Summary(); a != b {
		t.Errorf("merged parts give %+v, the whole %+v", b, a)
	}
	if !slices.Equal(h.Sparse(), parts.Sparse()) {
		t.Error("merged parts differ from the whole")
	}
	if !slices.Equal(From(h.Sparse()).Sparse(), h.Sparse()) {
		t.Error("a copy differs")
	}
}

func TestCoarse(t *testing.T) {
	s := Sparse{{1, 1}, {2, 1}, {100, 5}, {101, 6}, {103, 7}, {200, 1}}
	if got := s.Coarse(0.02); !slices.Equal(got, Sparse{{1, 1}, {2, 1}, {100, 11}, {103, 7}, {200, 1}}) {
		t.Errorf("%v", got)
	}
}

func TestValuesOutsideTheRange(t *testing.T) {
	h := New()
	h.Record(-5)
	h.Record(1 << 62)
	if h.Count() != 2 || h.Quantile(0.5) != lowest || h.Quantile(1) < highest*0.999 {
		t.Errorf("count %d, ends %d and %d", h.Count(), h.Quantile(0.5), h.Quantile(1))
	}
	if New().Summary() != (Summary{}) || New().Sparse() != nil || New().Quantile(0.5) != 0 {
		t.Error("an empty histogram has figures")
	}
}

func TestAllocRecord(t *testing.T) {
	h := New()
	if n := testing.AllocsPerRun(1000, func() { h.Record(12_345_678) }); n != 0 {
		t.Errorf("Record allocates %v times", n)
	}
}
