//go:build linux

package run

import (
	"errors"
	"testing"
	"time"

	"sluice/loadtest/client"
)

func TestPacerKeepsTheRate(t *testing.T) {
	for _, c := range []struct {
		rate  float64
		burst int
		d     time.Duration
		want  int
	}{
		{100, 1, time.Second, 100},
		{1000, 20, 2 * time.Second, 2000},
		{0.5, 1, time.Second, 1}, // at least one
		{30, 7, time.Second, 28},
	} {
		p := newPacer(1000, c.rate, c.burst, int64(c.d))
		if p.count != c.want {
			t.Errorf("%+v: %d events", c, p.count)
		}
		for i := 1; i < p.count; i++ {
			gap := p.due(i) - p.due(i-1)
			if i%c.burst != 0 && gap != 0 {
				t.Fatalf("%+v: event %d is %d ns after the one before", c, i, gap)
			}
			if want := int64(1e9 * float64(c.burst) / c.rate); i%c.burst == 0 && (gap < want-1 || gap > want+1) {
				t.Fatalf("%+v: burst at event %d is %d ns after the one before, want %d", c, i, gap, want)
			}
		}
	}
}

// A late event keeps its due time: the pacer sends it immediately, and receivers measure from
// the due time.
func TestPacerKeepsDueTimes(t *testing.T) {
	start := client.Now() - int64(110*time.Millisecond) // every event is overdue
	p := newPacer(start, 1000, 1, int64(50*time.Millisecond))
	var dues, sleeps []int64
	late, sent, err := p.run(func(until int64) {
		sleeps = append(sleeps, until)
	}, func(i int, due int64) error {
		dues = append(dues, due)
		return nil
	}, func() error { return nil }, nil)
	if err != nil || sent != 50 {
		t.Fatalf("%d sent, %v", sent, err)
	}
	for i, due := range dues {
		if due != start+int64(i)*1_000_000 || sleeps[i] != due {
			t.Fatalf("event %d was due at %d", i, due-start)
		}
	}
	if late.Count() != 50 || late.Quantile(0.99) < 50_000 {
		t.Errorf("%d latenesses, p99 %d µs", late.Count(), late.Quantile(0.99))
	}
}

func TestPacerStops(t *testing.T) {
	p := newPacer(client.Now(), 1000, 2, int64(time.Second))
	stop := make(chan struct{})
	flushed := 0
	_, sent, err := p.run(func(int64) {}, func(i int, _ int64) error {
		if i == 5 {
			close(stop)
		}
		return nil
	}, func() error { flushed++; return nil }, stop)
	if err != nil || sent != 6 || flushed != 3 {
		t.Errorf("%d sent, %d flushed, %v", sent, flushed, err)
	}
	broken := errors.New("broken")
	if _, sent, err = p.run(func(int64) {}, func(int, int64) error { return broken }, func() error { return nil }, nil); err != broken || sent != 0 {
		t.Errorf("%d sent, %v", sent, err)
	}
}
