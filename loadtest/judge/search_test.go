//go:build linux

package judge

import (
	"testing"

	"sluice/loadtest/plan"
	"sluice/loadtest/result"
)

// simulate returns the trial of a server at a rate. sustains is the highest rate that it
// sustains; full are ranges of rates that saturate the clients, in pairs.
func simulate(offered, sustains float64, full ...float64) result.Trial {
	c := result.Cell{Rate: min(offered, sustains), ServerBusy: 0.95, ClientBusy: 0.5}
	for i := 0; i+1 < len(full); i += 2 {
		if offered >= full[i] && offered < full[i+1] {
			c.ClientBusy = 0.97
		}
	}
	behind := 0.0
	if offered > sustains {
		behind = 1
	}
	return Trial(&c, offered, behind, 0.2)
}

func TestSearch(t *testing.T) {
	const never = 1e12
	for _, c := range []struct {
		name     string
		sustains float64
		full     []float64
		limit    string
		atMost   bool
	}{
		{"the server is the limit", 500_000, nil, "", false},
		{"not even the first rate", 30_000, nil, "", false},
		{"full clients sustain more", 5_000_000, []float64{2_000_000, never}, "clients", true},
		{"full clients, nothing more is sustained", 2_000_000, []float64{2_000_000, never}, "clients", false},
		{"clients are full on the way, and at the end", 5_000_000, []float64{300_000, 1_000_000, 3_000_000, never}, "clients", true},
		{"clients are full on the way alone", 5_000_000, []float64{300_000, 1_000_000}, "", false},
		{"clients are full with too much work alone", 2_000_000, []float64{8_000_000, never}, "", false},
		{"clients are full in the best trial alone", 2_000_000, []float64{1_800_000, 2_000_000}, "clients", true},
		{"clients are always full", 500_000, []float64{0, never}, "clients", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all Search
			var cell result.Cell
			for range 14 {
				offered := all.Next(40_000)
				if offered == 0 {
					break
				}
				trial := simulate(offered, c.sustains, c.full...)
				all = append(all, trial)
				if all.Best() == len(all)-1 {
					cell = result.Cell{Kind: plan.KindMax, Rate: trial.Achieved, ClientBusy: trial.Client}
				}
			}
			all.Conclude(&cell)
			Cell(&cell, plan.Scenario{})
			if cell.Rate < c.sustains/searchClose || cell.Rate > c.sustains || len(cell.Rejected)+len(cell.Notes) > 0 {
				t.Errorf("%.0f, rejected %v, %v\n%+v", cell.Rate, cell.Rejected, cell.Notes, all)
			}
			if cell.Limit != c.limit || cell.AtLeast != (c.limit != "") || cell.AtMost != c.atMost {
				t.Errorf("limit %q, at least: %v, at most: %v", cell.Limit, cell.AtLeast, cell.AtMost)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name      string
		cell      result.Cell
		behind    float64
		sustained bool
		limit     string
	}{
		{"sustained", result.Cell{ClientBusy: 0.9, Late: lateLimit}, 0.2, true, ""},
		{"behind", result.Cell{ServerBusy: 0.97}, 0.3, false, ""},
		{"lost", result.Cell{Lost: 1}, 0, false, ""},
		{"closed", result.Cell{Closed: 1}, 0, false, ""},
		{"full clients", result.Cell{ClientBusy: 0.95}, 0, true, "clients"},
		{"full clients, behind", result.Cell{ClientBusy: 0.95, ServerBusy: 0.97}, 0.3, false, "clients"},
		{"late harness", result.Cell{Late: lateLimit + 1, ServerBusy: 0.97}, 0, true, "harness"},
		{"late harness, behind", result.Cell{Late: lateLimit + 1}, 0.3, false, "harness"},
		{"late because the server did not read", result.Cell{Late: lateLimit + 1, ServerBusy: 0.97}, 0.3, false, ""},
		{"other programs are no matter of the search", result.Cell{OtherBusy: 1, Steal: 1}, 0, true, ""},
	} {
		if got := Trial(&c.cell, 100, c.behind, 0.2); got.Sustained != c.sustained || got.Limit != c.limit || got.Sustained != (got.Why == "") {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// Best chooses the trial to report, and Conclude the bounds of its rate.
func TestBestTrial(t *testing.T) {
	ok := func(rate float64) result.Trial {
		return result.Trial{Offered: rate, Achieved: rate, Sustained: true, Busy: 0.95}
	}
	full := func(rate float64, sustained bool) result.Trial {
		return result.Trial{Offered: rate, Achieved: rate, Sustained: sustained, Limit: "clients", Busy: 0.95}
	}
	no := func(rate float64) result.Trial { return result.Trial{Offered: rate, Achieved: rate} }
	late := result.Trial{Offered: 100, Achieved: 100, Sustained: true, Limit: "harness", Late: lateLimit + 1}
	lower := result.Trial{Offered: 110, Achieved: 95, Sustained: true}
	for _, c := range []struct {
		name            string
		all             Search
		best            int
		limit           string
		atLeast, atMost bool
	}{
		{"none", Search{no(100), no(30), full(10, false)}, -1, "", false, false},
		{"the server's", Search{ok(100), no(300), ok(170), no(200)}, 2, "", false, false},
		{"the one that achieved most", Search{ok(100), no(300), lower}, 0, "", false, false},
		{"whatever its limit", Search{ok(100), full(300, true), no(900)}, 1, "clients", true, true},
		{"full clients below it say nothing", Search{full(100, true), ok(300), no(900)}, 1, "", false, false},
		{"not sustained, with full clients", Search{ok(100), full(300, false)}, 0, "clients", true, false},
		{"the nearest decides", Search{ok(100), full(900, false), no(300)}, 0, "", false, false},
		{"full clients in both", Search{full(100, true), full(300, true), full(900, false)}, 1, "clients", true, true},
		{"late harness", Search{late, no(300)}, 0, "harness", true, true},
		{"its own limit, not the next one's", Search{late, full(300, false)}, 0, "harness", true, true},
		{"no trials are left", Search{ok(100), ok(300)}, 1, "", false, false},
	} {
		best := c.all.Best()
		if best != c.best {
			t.Errorf("%s: the best is %d", c.name, best)
		}
		if best < 0 {
			continue
		}
		cell := result.Cell{Kind: plan.KindMax, Rate: c.all[best].Achieved}
		c.all.Conclude(&cell)
		if cell.Limit != c.limit || cell.AtLeast != c.atLeast || cell.AtMost != c.atMost || len(cell.Trials) != len(c.all) {
			t.Errorf("%s: %+v", c.name, cell)
		}
	}
}
