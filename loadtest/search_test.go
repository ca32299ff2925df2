//go:build linux

package loadtest

import (
	"slices"
	"strings"
	"testing"
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
			if cell.Rate < c.sustains/searchClose || cell.Rate > c.sustains || len(cell.Refused)+len(cell.Notes) > 0 {
				t.Errorf("%.0f, refused %v, %v\n%+v", cell.Rate, cell.Refused, cell.Notes, all)
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
	late := Trial{Offered: 100, Achieved: 100, Sustained: true, Limit: "harness", Late: lateLimit + 1}
	lower := Trial{Offered: 110, Achieved: 95, Sustained: true}
	for _, c := range []struct {
		name            string
		all             trials
		best            int
		limit           string
		atLeast, atMost bool
	}{
		{"none", trials{no(100), no(30), full(10, false)}, -1, "", false, false},
		{"the server's", trials{ok(100), no(300), ok(170), no(200)}, 2, "", false, false},
		{"the one that achieved most", trials{ok(100), no(300), lower}, 0, "", false, false},
		{"whatever its limit", trials{ok(100), full(300, true), no(900)}, 1, "clients", true, true},
		{"full clients below it say nothing", trials{full(100, true), ok(300), no(900)}, 1, "", false, false},
		{"not sustained, with full clients", trials{ok(100), full(300, false)}, 0, "clients", true, false},
		{"the nearest decides", trials{ok(100), full(900, false), no(300)}, 0, "", false, false},
		{"full clients in both", trials{full(100, true), full(300, true), full(900, false)}, 1, "clients", true, true},
		{"late harness", trials{late, no(300)}, 0, "harness", true, true},
		{"its own limit, not the next one's", trials{late, full(300, false)}, 0, "harness", true, true},
		{"the trials came to their end", trials{ok(100), ok(300)}, 1, "", false, false},
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
		if cell.Limit != c.limit || cell.AtLeast != c.atLeast || cell.AtMost != c.atMost || len(cell.Trials) != len(c.all) {
			t.Errorf("%s: %+v", c.name, cell)
		}
	}
}

func TestMediansOfBounds(t *testing.T) {
	bound := func(round int, rate float64, limit string, atMost bool) Cell {
		c := cell(round, 10, rate, int64(rate/10))
		c.Kind, c.AtLeast, c.AtMost, c.Limit = KindMax, true, atMost, limit
		return c
	}
	refused := bound(3, 900, "clients", true)
	refused.refuse("rate", "the machine")
	refused.refuse("latency", "the machine")
	for _, c := range []struct {
		name            string
		cells           []Cell
		rate            float64
		p99             int64
		limit           string
		atLeast, atMost bool
	}{
		{"none", []Cell{cell(1, 10, 100, 10), cell(2, 10, 200, 20), cell(3, 10, 300, 30)}, 200, 20, "", false, false},
		{"one", []Cell{cell(1, 10, 100, 10), cell(2, 20, 200, 20), bound(3, 300, "clients", true)}, 200, 20, "clients", true, true},
		{"one rate", []Cell{cell(1, 10, 100, 10), cell(2, 20, 200, 20), bound(3, 300, "clients", false)}, 200, 20, "clients", true, false},
		{"the one that has the median CPU is none", []Cell{bound(1, 100, "harness", true), cell(2, 5, 200, 20), cell(3, 7, 300, 30)}, 200, 20, "harness", true, true},
		{"of several limits", []Cell{bound(1, 100, "harness", false), bound(2, 200, "clients", true), bound(3, 300, "clients", false)}, 200, 20, "clients and the harness", true, true},
		{"one that does not count", []Cell{cell(1, 10, 100, 10), cell(2, 20, 200, 20), refused}, 150, 15, "", false, false},
	} {
		for range len(c.cells) { // whatever their order
			c.cells = append(c.cells[1:], c.cells[0])
			m := (&Report{Cells: slices.Clone(c.cells)}).Medians()[0]
			if m.Rate != c.rate || m.Latency.P99 != c.p99 || m.Limit != c.limit || m.AtLeast != c.atLeast || m.AtMost != c.atMost || len(m.Refused) > 0 {
				t.Errorf("%s: %+v", c.name, m)
			}
		}
	}
	if m := (&Report{Cells: []Cell{refused}}).Medians()[0]; m.AtLeast || m.AtMost || m.OK("rate") {
		t.Errorf("a refused figure is called a bound: %+v", m)
	}
}

// What older programs wrote is read as it was meant: without bounds, or with the
// rate as the only one.
func TestOlderReport(t *testing.T) {
	r, err := ReadReport(strings.NewReader(`{"schema":1,"cells":[
		{"target":"a","scenario":"s","kind":"max","rate":5,"refused":{"rate":"the clients"},"trials":[{"offered":5,"client":0.97,"sustained":true}]},
		{"target":"b","scenario":"s","kind":"max","rate":5,"atLeast":true,"notes":["the rate is at least this"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	m := r.Medians()
	if m[0].AtLeast || m[0].OK("rate") || m[0].Rate != 5 || len(m[0].Trials) != 1 {
		t.Errorf("%+v", m[0])
	}
	if !m[1].AtLeast || m[1].AtMost || !m[1].OK("rate") || len(m[1].Notes) != 1 {
		t.Errorf("%+v", m[1])
	}
}
