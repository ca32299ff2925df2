//go:build linux

package loadtest

import (
	"slices"
	"strings"
	"testing"

	"sluice/loadtest/hist"
)

// made makes the trial that a server would give at a rate: the highest that it
// sustains, and the ranges of rates at which clients are full, in pairs.
func made(offered, sustains float64, full ...float64) Trial {
	c := Cell{Rate: min(offered, sustains), ServerBusy: 0.95, ClientBusy: 0.5}
	for i := 0; i+1 < len(full); i += 2 {
		if offered >= full[i] && offered < full[i+1] {
			c.ClientBusy = 0.97
		}
	}
	behind := 0.0
	if offered > sustains {
		behind = 1
	}
	return c.verdict(offered, behind, 0.2)
}

func TestSearch(t *testing.T) {
	const never = 1e12
	for _, c := range []struct {
		name       string
		sustains   float64
		full       []float64
		from, to   float64 // of the rate that is reported
		limit      string
		beyondFrom float64 // of what was sustained beyond it
		refused    bool
	}{
		{"the server is the limit", 500_000, nil, 470_000, 500_000, "", 0, false},
		{"not even the first rate", 30_000, nil, 28_000, 30_000, "", 0, false},
		{"full clients sustain more", 5_000_000, []float64{2_000_000, never}, 1_880_000, 2_000_000, "clients", 3_200_000, false},
		{"full clients, nothing more is sustained", 2_000_000, []float64{2_000_000, never}, 1_880_000, 2_000_000, "clients", 0, false},
		{"clients are full on the way, and at the end", 5_000_000, []float64{300_000, 1_000_000, 3_000_000, never}, 2_800_000, 3_000_000, "clients", 3_200_000, false},
		{"clients are full on the way alone", 5_000_000, []float64{300_000, 1_000_000}, 4_700_000, 5_000_000, "", 0, false},
		{"clients are full with too much work alone", 2_000_000, []float64{8_000_000, never}, 1_880_000, 2_000_000, "", 0, false},
		{"clients are full at the first rate", 500_000, []float64{20_000, never}, 18_800, 20_000, "clients", 360_000, false},
		{"clients are always full", 500_000, []float64{0, never}, 300_000, 500_000, "clients", 300_000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all trials
			var cell Cell
			for range 14 {
				offered := all.next(40_000)
				if offered == 0 {
					break
				}
				trial := made(offered, c.sustains, c.full...)
				all = append(all, trial)
				if all.best() == len(all)-1 {
					cell = Cell{Kind: KindMax, Rate: trial.Achieved, ClientBusy: trial.Client}
				}
			}
			cell.take(all)
			cell.judge(Scenario{})
			if cell.Rate < c.from || cell.Rate > c.to || cell.OK("rate") == c.refused || cell.OK("latency") == c.refused {
				t.Errorf("%.0f, refused %v; want %.0f to %.0f\n%+v", cell.Rate, cell.Refused, c.from, c.to, all)
			}
			if limit, sustained := all.beyond(); limit != c.limit || sustained < c.beyondFrom || c.beyondFrom == 0 && sustained > 0 {
				t.Errorf("beyond: %q, %.0f", limit, sustained)
			}
			if want := c.limit != "" && !c.refused; cell.AtLeast != want || (len(cell.Notes) > 0) != want {
				t.Errorf("at least: %v, %v", cell.AtLeast, cell.Notes)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name      string
		cell      Cell
		behind    float64
		sustained bool
		limit     string
	}{
		{"sustained", Cell{ClientBusy: 0.9, Late: lateLimit}, 0.2, true, ""},
		{"behind", Cell{ServerBusy: 0.97}, 0.3, false, ""},
		{"lost", Cell{Lost: 1}, 0, false, ""},
		{"closed", Cell{Closed: 1}, 0, false, ""},
		{"full clients", Cell{ClientBusy: 0.95}, 0, true, "clients"},
		{"full clients, behind", Cell{ClientBusy: 0.95, ServerBusy: 0.97}, 0.3, false, "clients"},
		{"late harness", Cell{Late: lateLimit + 1, ServerBusy: 0.97}, 0, true, "harness"},
		{"late harness, behind", Cell{Late: lateLimit + 1}, 0.3, false, "harness"},
		{"late because the server did not read", Cell{Late: lateLimit + 1, ServerBusy: 0.97}, 0.3, false, ""},
		{"other programs are no matter of the search", Cell{OtherBusy: 1, Steal: 1}, 0, true, ""},
	} {
		if got := c.cell.verdict(100, c.behind, 0.2); got.Sustained != c.sustained || got.Limit != c.limit || got.Sustained != (got.Why == "") {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// The trial to report, and what is said of the rate, from trials alone.
func TestBestTrial(t *testing.T) {
	ok := func(rate float64) Trial { return Trial{Offered: rate, Achieved: rate, Sustained: true, Busy: 0.95} }
	full := func(rate float64, sustained bool) Trial {
		return Trial{Offered: rate, Achieved: rate, Sustained: sustained, Limit: "clients", Busy: 0.95}
	}
	no := func(rate float64) Trial { return Trial{Offered: rate, Achieved: rate} }
	lower := Trial{Offered: 110, Achieved: 95, Sustained: true}
	for _, c := range []struct {
		name    string
		all     trials
		best    int
		atLeast bool
	}{
		{"none", trials{no(100), no(30), full(10, false)}, -1, false},
		{"the server's", trials{ok(100), no(300), ok(170), no(200)}, 2, false},
		{"the one that achieved most", trials{ok(100), no(300), lower}, 0, false},
		{"valid before higher", trials{ok(100), full(300, true), no(900)}, 0, true},
		{"not sustained, with full clients", trials{ok(100), full(300, false)}, 0, true},
		{"the nearest decides", trials{ok(100), full(900, false), no(300)}, 0, false},
		{"what was sustained beyond decides", trials{ok(100), full(900, true), no(300)}, 0, true},
		{"all with full clients", trials{full(100, true), full(300, true), full(900, false)}, 1, false},
		{"the trials came to their end", trials{ok(100), ok(300)}, 1, false},
	} {
		best := c.all.best()
		if best != c.best {
			t.Errorf("%s: the best is %d", c.name, best)
		}
		if best < 0 {
			continue
		}
		cell := Cell{Kind: KindMax, Rate: c.all[best].Achieved}
		cell.take(c.all)
		if cell.AtLeast != c.atLeast || len(cell.Trials) != len(c.all) {
			t.Errorf("%s: %+v", c.name, cell)
		}
	}
}

func TestMediansOfLowerBounds(t *testing.T) {
	bound := func(round int, rate float64) Cell {
		c := cell(round, 10, rate, 7)
		c.Kind, c.AtLeast, c.Latency = KindMax, true, hist.Summary{Count: 1, P99: 7}
		return c
	}
	refused := bound(3, 900)
	refused.refuse("rate", "the machine")
	for _, c := range []struct {
		name    string
		cells   []Cell
		rate    float64
		atLeast bool
	}{
		{"none", []Cell{cell(1, 10, 100, 7), cell(2, 10, 200, 7), cell(3, 10, 300, 7)}, 200, false},
		{"one", []Cell{cell(1, 10, 100, 7), cell(2, 20, 200, 7), bound(3, 300)}, 200, true},
		{"the one that has the median CPU is none", []Cell{bound(1, 100), cell(2, 5, 200, 7), cell(3, 7, 300, 7)}, 200, true},
		{"one that does not count", []Cell{cell(1, 10, 100, 7), cell(2, 20, 200, 7), refused}, 150, false},
	} {
		for range len(c.cells) { // whatever their order
			c.cells = append(c.cells[1:], c.cells[0])
			m := (&Report{Cells: slices.Clone(c.cells)}).Medians()[0]
			if m.Rate != c.rate || m.AtLeast != c.atLeast || !m.OK("rate") {
				t.Errorf("%s: %v %v %v", c.name, m.Rate, m.AtLeast, m.Refused)
			}
		}
	}
}

// What an older program wrote is read as it was meant: without bounds.
func TestOlderReport(t *testing.T) {
	r, err := ReadReport(strings.NewReader(`{"schema":1,"cells":[{"target":"a","scenario":"s","kind":"max","rate":5,"refused":{"rate":"the clients"},"trials":[{"offered":5,"client":0.97,"sustained":true}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if m := r.Medians()[0]; m.AtLeast || m.OK("rate") || m.Rate != 5 || len(m.Trials) != 1 {
		t.Errorf("%+v", m)
	}
}
