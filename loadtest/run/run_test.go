//go:build linux

package run

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/loadtest/plan"
	"sluice/loadtest/result"
)

// Neighbours with the same clients share a stage; growth and Fresh do not.
func TestGroups(t *testing.T) {
	p := plan.Plan{
		Targets: []plan.Target{{Name: "a", Protocol: "res", Start: "x", TLS: "-tls"}, {Name: "n", Protocol: "nats", Start: "x"},
			{Name: "f", Protocol: "res", Start: "x", Kinds: []string{plan.KindFanout}}},
		Scenarios: []plan.Scenario{{Kind: plan.KindStorm}, {Kind: plan.KindFanout}, {Name: "again", Kind: plan.KindFanout, Fresh: true}, {Kind: plan.KindUnary},
			{Kind: plan.KindGrowth, Grow: []int{5, 6}}, {Kind: plan.KindTLS}, {Name: "named", N: 7, Kind: plan.KindUnary, Targets: []string{"f"}}},
	}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range groupScenarios(p) {
		line := ""
		for _, s := range g.scenes {
			line += s.Name + " "
		}
		for _, target := range g.targets {
			line += target.Name
		}
		got = append(got, line)
	}
	want := []string{"storm fanout anf", "again anf", "unary a", "growth an", "growth an", "tls-plain a", "tls a", "named f"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A scenario runs its own number of rounds, or the plan's if it has none.
func TestRoundsOfScenarios(t *testing.T) {
	p := plan.Plan{Rounds: 2, Targets: []plan.Target{{Name: "a", Protocol: "res", Start: "x"}},
		Scenarios: []plan.Scenario{{Name: "s", Kind: plan.KindStorm}, {Name: "more", Kind: plan.KindFanout, Rounds: 3}, {Name: "fewer", Kind: plan.KindBurst, Rounds: 1}}}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	g := groupScenarios(p)[0]
	for i, want := range []string{"s more fewer ", "s more ", "more ", ""} {
		got := ""
		for _, s := range g.inRound(i+1, p).scenes {
			got += s.Name + " "
		}
		if got != want {
			t.Errorf("round %d has %q, want %q", i+1, got, want)
		}
	}
	p.Scenarios[0].Rounds = -1
	if err := p.Complete(); err == nil {
		t.Error("-1 rounds are accepted")
	}
}

// A load is a share of the rate that was measured, which is known only if nothing failed.
func TestShareOfHighestRate(t *testing.T) {
	got, err := shareOf(80, result.Cell{Rate: 25_000, AtLeast: true})
	if want := (result.Load{Percent: 80, Highest: 25_000, Offered: 20_000, AtLeast: true}); err != nil || *got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for what, c := range map[string]result.Cell{"nothing": {}, "errors": {Rate: 5, Errors: 1}, "losses": {Rate: 5, Lost: 1}} {
		if _, err := shareOf(80, c); err == nil || !strings.Contains(err.Error(), "the highest rate is not known") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
