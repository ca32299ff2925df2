//go:build linux

package run

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/loadtest/plan"
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
