//go:build linux

package soak

import (
	"slices"
	"testing"
	"time"

	"sluice/loadtest/wire"
)

func TestStatedLosses(t *testing.T) {
	all := statedLosses([]byte(`time=2026-01-02T03:04:05.000Z level=WARN msg="NATS connection lost" connection=0 reason=stale
time=2026-01-02T03:04:05.100Z level=ERROR msg="connection to NATS lost; clients are kept while it is restored" grace=3s
time=2026-01-02T03:04:09.000Z level=ERROR msg="NATS did not come back within the grace period; clients are closed" grace=3s
time=2026-01-02T03:04:11.000Z level=WARN msg="NATS messages may have been lost" connection=0
goroutine 1 [running]:
time=nonsense level=WARN msg="NATS connection lost"
time=2026-01-02T03:05:00.000Z level=WARN msg="messages between NATS servers were lost" connection=0 server=127.0.0.1:1
time=2026-01-02T03:05:00.000Z level=WARN msg="NATS messages may have been lost" connection=0
time=2026-01-02T03:06:00.000Z level=WARN msg="NATS connection lost" connection=0 reason=closed
`), secured)
	if len(all) != 3 {
		t.Fatalf("%d losses", len(all))
	}
	lost := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if s := all[0]; !s.loses || !s.from.Before(lost) || !s.healed.After(lost.Add(6*time.Second)) || !slices.Equal(s.codes, []int{1012, wire.NoClose}) || !slices.Equal(s.gateways, []int{secured}) {
		t.Errorf("the first: %+v", s)
	}
	if s := all[1]; s.codes != nil || s.healed.IsZero() {
		t.Errorf("the second: %+v", s)
	}
	if s := all[2]; !s.healed.IsZero() {
		t.Errorf("the last one has not healed: %+v", s)
	}
	fault := []*span{{loses: true, from: lost.Add(-time.Second), healed: lost.Add(time.Second)}}
	if duringFault(fault, all[0], secured) {
		t.Error("a fault without closes explains closes")
	}
	fault[0].codes = []int{1012}
	if !duringFault(fault, all[0], secured) || duringFault(fault, all[1], secured) {
		t.Error("faults are confused")
	}
}
