package collect

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sluice/internal/memory"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
	"sluice/internal/reload"
	"sluice/netpoll"
)

func testOwners() *Owners {
	loops := []*netpoll.LoopMetrics{new(netpoll.LoopMetrics), new(netpoll.LoopMetrics)}
	return &Owners{
		Loops: func() []*netpoll.LoopMetrics { return loops },
		Now:   func() time.Duration { return 0 },
		Mailboxes: func(emit func(string, int, int)) {
			emit("event_loop", 0, 3)
			emit("cache_shard", 1, 4)
		},
	}
}

func testStatus() *Status {
	return &Status{
		Ready: func() error { return nil }, Connected: func() bool { return true },
		CertExpiry: func() time.Time { return time.Unix(12345, 0) }, Reloads: new(reload.Metrics),
		MemoryLimit: 100, Memory: func() memory.Reading { return memory.Reading{Used: 50} },
	}
}

// The histograms of the loops are summed, and what else owners measure has a series for each.
func TestOwners(t *testing.T) {
	o := testOwners()
	loops := o.Loops()
	loops[0].Latency.Observe(time.Second, 2)
	loops[1].Latency.Observe(2*time.Second, 1)
	loops[1].Batches.Observe(5)
	r := metrics.New("v", "p")
	if err := owners(r, o, new(natsbus.Metrics)); err != nil {
		t.Fatal(err)
	}
	if err := owners(r, o, new(natsbus.Metrics)); err == nil || !strings.Contains(err.Error(), "metric sluice_service_request_duration_seconds") {
		t.Errorf("registered twice: %v", err)
	}
	if err := owners(r, nil, nil); err != nil {
		t.Errorf("without owners: %v", err)
	}
	families, err := r.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sluice_") || f.GetName() == "sluice_build_info" {
			continue
		}
		for _, m := range f.Metric {
			line := f.GetName()
			for _, l := range m.Label {
				line += " " + l.GetName() + "=" + l.GetValue()
			}
			if h := m.GetHistogram(); h != nil {
				line += fmt.Sprint(" n=", h.GetSampleCount(), " sum=", h.GetSampleSum())
			} else {
				line += fmt.Sprint(" ", m.GetGauge().GetValue()+m.GetCounter().GetValue())
			}
			got = append(got, line)
		}
	}
	want := []string{
		"sluice_event_latency_seconds n=3 sum=4",
		"sluice_flush_connections n=1 sum=5",
		"sluice_loop_busy_seconds_total loop=0 0", "sluice_loop_busy_seconds_total loop=1 0",
		"sluice_mailbox_messages index=0 owner=event_loop 3", "sluice_mailbox_messages index=1 owner=cache_shard 4",
		"sluice_service_request_duration_seconds kind=access result=ok n=0 sum=0",
		"sluice_service_request_duration_seconds kind=auth result=ok n=0 sum=0",
		"sluice_service_request_duration_seconds kind=call result=ok n=0 sum=0",
		"sluice_service_request_duration_seconds kind=get result=ok n=0 sum=0",
		"sluice_service_request_duration_seconds kind=query result=ok n=0 sum=0",
	}
	if diff := cmp.Diff(want, got, cmp.Transformer("sorted", func(s []string) map[string]bool {
		m := make(map[string]bool)
		for _, line := range s {
			m[line] = true
		}
		return m
	})); diff != "" {
		t.Error(diff)
	}
}

func TestStatus(t *testing.T) {
	s := testStatus()
	r := metrics.New("v", "p")
	if err := status(r, s); err != nil {
		t.Fatal(err)
	}
	value := func(ready, connected int) string {
		return fmt.Sprintf(`
# HELP sluice_nats_connected 1 while all connections to NATS are up.
# TYPE sluice_nats_connected gauge
sluice_nats_connected %d
# HELP sluice_ready 1 while new clients are served in full, as /readyz says.
# TYPE sluice_ready gauge
sluice_ready %d
# HELP sluice_tls_certificate_expiry_timestamp_seconds Unix time at which the first of the certificates expires.
# TYPE sluice_tls_certificate_expiry_timestamp_seconds gauge
sluice_tls_certificate_expiry_timestamp_seconds 12345
`, connected, ready)
	}
	names := []string{"sluice_nats_connected", "sluice_ready", "sluice_tls_certificate_expiry_timestamp_seconds"}
	if err := testutil.GatherAndCompare(r.Gatherer(), strings.NewReader(value(1, 1)), names...); err != nil {
		t.Error(err)
	}
	s.Ready, s.Connected = func() error { return errors.New("no") }, func() bool { return false }
	if err := testutil.GatherAndCompare(r.Gatherer(), strings.NewReader(value(0, 0)), names...); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(r.Gatherer()); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}
