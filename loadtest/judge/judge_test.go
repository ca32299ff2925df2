//go:build linux

package judge

import (
	"strings"
	"testing"

	"sluice/loadtest/hist"
	"sluice/loadtest/plan"
	"sluice/loadtest/result"
)

func cell(round int, cpu, rate float64, p99 int64) result.Cell {
	return result.Cell{Target: "a", Scenario: "s", Kind: plan.KindFanout, N: 10, Live: 10, Round: round, Unit: "delivery", Units: 100,
		CPU: result.Cost{Total: cpu, User: cpu / 4, Sys: cpu * 3 / 4}, Rate: rate, Latency: hist.Summary{Count: 100, P99: p99}}
}

func TestCell(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*result.Cell)
		want  string // figures that are rejected, bounds
	}{
		{"nothing", func(*result.Cell) {}, ""},
		{"other programs", func(c *result.Cell) { c.OtherBusy = 0.5 }, "cpu latency rate sockets"},
		{"dropped packets", func(c *result.Cell) { c.Dropped = 1 }, "latency rate"},
		{"hypervisor", func(c *result.Cell) { c.Steal = 0.2 }, "cpu latency rate"},
		{"full clients", func(c *result.Cell) { c.ClientBusy = 0.97 }, "≥ ≤ clients"},
		{"late harness", func(c *result.Cell) { c.Late = 20_000 }, "≥ ≤ harness"},
		{"late harness, full server", func(c *result.Cell) { c.Late, c.ServerBusy = 20_000, 0.95 }, "latency rate"},
		{"full clients and late harness", func(c *result.Cell) { c.ClientBusy, c.Late = 0.97, 20_000 }, "≥ ≤ clients"},
		{"full clients in a search", func(c *result.Cell) {
			c.Kind, c.AtLeast, c.AtMost, c.Limit, c.ClientBusy = plan.KindMax, true, true, "harness", 0.97
		}, "≥ ≤ harness"},
		{"full clients and other programs", func(c *result.Cell) { c.ClientBusy, c.OtherBusy = 0.97, 0.5 }, "cpu latency rate sockets ≥ ≤ clients"},
		{"loss", func(c *result.Cell) { c.Lost, c.Expected = 1, 101 }, "latency rate"},
		{"requests not made", func(c *result.Cell) { c.Unsent = 1 }, "latency rate"},
		{"errors", func(c *result.Cell) { c.Errors = 1 }, "latency rate"},
		{"lost connections", func(c *result.Cell) { c.Live = 9 }, "cpu latency rate memory sockets"},
		{"others' sockets", func(c *result.Cell) { c.Memory.SocketCon = -300 }, "sockets"},
		{"unknown process", func(c *result.Cell) { c.CPU.Total = -1 }, "cpu"},
		{"server not full", func(c *result.Cell) {
			c.Kind, c.Trials = plan.KindMax, []result.Trial{{Busy: 0.5}, {Busy: 0.99, Client: 0.99}}
		}, "rate"},
		{"compression", func(*result.Cell) {}, "cpu"},
		{"server full", func(c *result.Cell) { c.Kind, c.Trials = plan.KindMax, []result.Trial{{Busy: 0.95, Client: 0.5}} }, ""},
	} {
		one := cell(1, 10, 300, 7)
		c.spoil(&one)
		Cell(&one, plan.Scenario{Compression: c.name == "compression"})
		var got []string
		for _, f := range result.Figures {
			if !one.OK(f) {
				got = append(got, f)
			}
		}
		if one.AtLeast {
			got = append(got, "≥")
		}
		if one.AtMost {
			got = append(got, "≤", one.Limit)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: rejected or bounded %v, want %s", c.name, got, c.want)
		}
	}
}

// The note of a load has the percentiles that a narrow table leaves out, and says if it was less
// than was meant.
func TestLoadIsNoted(t *testing.T) {
	c := cell(1, 10, 800, 2500)
	c.Unit, c.ServerBusy, c.Latency.P50, c.Latency.P999 = result.Request, 0.78, 400, 9000
	c.Load = &result.Load{Percent: 80, Highest: 1000, Offered: 800}
	Cell(&c, plan.Scenario{Kind: plan.KindUnary, Load: 80})
	want := "800 requests/s were due, 80% of 1000/s, the highest rate, and kept its core(s) 78% busy: p50 0.40 ms, p99 2.50 ms, p99.9 9.00 ms"
	if len(c.Notes) != 1 || c.Notes[0] != want {
		t.Errorf("%q", c.Notes)
	}
	c.Notes, c.Load.AtLeast = nil, true
	Cell(&c, plan.Scenario{Kind: plan.KindUnary, Load: 80})
	if len(c.Notes) != 1 || !strings.HasPrefix(c.Notes[0], want+"; the clients were the limit") {
		t.Errorf("%q", c.Notes)
	}
}

// What attackers did to others is in the notes, and medians are over the rounds, before and
// meanwhile.
func TestHostileRounds(t *testing.T) {
	var r result.Report
	for round, p99 := range []int64{900, 300, 600} {
		c := cell(round+1, 10, 800, 10*p99)
		c.Hostile = &result.Hostile{Attack: "deflate", Attackers: 4, Before: hist.Summary{P50: 200, P99: p99, Max: 2 * p99}, BusyBefore: 0.2,
			Seconds: 5, Megabytes: 70, Frames: 123, Closed: 9, Closes: map[int]int64{1009: 7, 1007: 2}, Failed: 1}
		Cell(&c, plan.Scenario{Kind: plan.KindHostile})
		notes := strings.Join(c.Notes, "\n")
		for _, want := range []string{"p99 0.9 ms, max 1.8 ms; beside 4 (deflate): p50 0.0 ms, p99 9.0 ms", "sent 123 frames, 70 MB/s, for 5.0 s, and were closed 9 times (2 × 1007, 7 × 1009); 1 of their connects failed"} {
			if round == 0 && !strings.Contains(notes, want) {
				t.Errorf("%q is missing in %s", want, notes)
			}
		}
		r.Cells = append(r.Cells, c)
	}
	m := Medians(&r)[0]
	if m.Hostile.Before.P99 != 600 || m.Hostile.Before.Max != 1200 || m.Latency.P99 != 6000 || r.Cells[0].Hostile.Before.P99 != 900 {
		t.Errorf("%+v, %+v", m.Hostile, m.Latency)
	}
}
