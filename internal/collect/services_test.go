package collect

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/limit"
	"sluice/internal/metrics"
)

// Services that have been heard of have their series, others none: clients choose names.
func TestServices(t *testing.T) {
	table := limit.NewTable(limit.Options{Max: 100, Min: 1, Parts: 1})
	s := table.Get("library.book.1")
	table.Get("made-up.by.a.client")
	s.TryAcquire(0)
	s.Replied(1)
	s.TimedOut()
	s.Expired()
	s.Queue(0, limit.Access)
	r := metrics.New("1.0.0", "1.2.3")
	if err := services(r, table); err != nil {
		t.Fatal(err)
	}
	if err := services(metrics.New("1.0.0", "1.2.3"), nil); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.Metric {
			labels := ""
			for _, l := range m.Label {
				if l.GetName() == "service" || l.GetName() == "priority" {
					labels += " " + l.GetValue()
				}
			}
			if labels != "" {
				got = append(got, fmt.Sprint(f.GetName(), labels, " ", m.GetGauge().GetValue()+m.GetCounter().GetValue()))
			}
		}
	}
	want := []string{
		"sluice_service_limit library 100",
		"sluice_service_queue access library 1", "sluice_service_queue call library 0",
		"sluice_service_queue load library 0", "sluice_service_queue refresh library 0",
		"sluice_service_queue_timeouts_total library 1", "sluice_service_queued_total library 1",
		"sluice_service_requests library 1", "sluice_service_timeouts_total library 1",
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
