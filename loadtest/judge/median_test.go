//go:build linux

package judge

import (
	"slices"
	"strings"
	"testing"

	"sluice/loadtest/plan"
	"sluice/loadtest/result"
)

func TestMediansOfEachFigure(t *testing.T) {
	r := result.Report{Schema: 1, Cells: []result.Cell{cell(1, 10, 300, 7), cell(2, 30, 100, 9), cell(3, 20, 200, 8)}}
	m := Medians(&r)
	if len(m) != 1 || m[0].CPU.Total != 20 || m[0].Rate != 200 || m[0].Latency.P99 != 8 || len(m[0].Rejected) != 0 {
		t.Errorf("%+v", m)
	}
}

func TestMediansOmitRejectedRounds(t *testing.T) {
	bad := cell(2, 30, 100, 9)
	bad.Reject("cpu", "the machine")
	r := result.Report{Cells: []result.Cell{cell(1, 10, 300, 7), bad, cell(3, 20, 200, 8)}}
	m := Medians(&r)[0]
	if m.CPU.Total != 15 || m.Rate != 200 || !m.OK("cpu") || len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "2 of 3") {
		t.Errorf("%+v", m)
	}
	worse := cell(3, 20, 200, 8)
	worse.Reject("cpu", "the machine")
	r.Cells[2] = worse
	if m = Medians(&r)[0]; m.OK("cpu") || !m.OK("rate") || m.CPU.Total != 20 {
		t.Errorf("%+v", m)
	}
	failed := cell(1, 0, 0, 0)
	failed.Error = "it did not start"
	r.Cells = []result.Cell{failed}
	if m = Medians(&r)[0]; m.Error == "" || m.OK("cpu") {
		t.Errorf("%+v", m)
	}
}

func TestMediansOfBounds(t *testing.T) {
	bound := func(round int, rate float64, limit string, atMost bool) result.Cell {
		c := cell(round, 10, rate, int64(rate/10))
		c.Kind, c.AtLeast, c.AtMost, c.Limit = plan.KindMax, true, atMost, limit
		return c
	}
	rejected := bound(3, 900, "clients", true)
	rejected.Reject("rate", "the machine")
	rejected.Reject("latency", "the machine")
	for _, c := range []struct {
		name            string
		cells           []result.Cell
		rate            float64
		p99             int64
		limit           string
		atLeast, atMost bool
	}{
		{"none", []result.Cell{cell(1, 10, 100, 10), cell(2, 10, 200, 20), cell(3, 10, 300, 30)}, 200, 20, "", false, false},
		{"one", []result.Cell{cell(1, 10, 100, 10), cell(2, 20, 200, 20), bound(3, 300, "clients", true)}, 200, 20, "clients", true, true},
		{"one rate", []result.Cell{cell(1, 10, 100, 10), cell(2, 20, 200, 20), bound(3, 300, "clients", false)}, 200, 20, "clients", true, false},
		{"the one that has the median CPU is none", []result.Cell{bound(1, 100, "harness", true), cell(2, 5, 200, 20), cell(3, 7, 300, 30)}, 200, 20, "harness", true, true},
		{"of several limits", []result.Cell{bound(1, 100, "harness", false), bound(2, 200, "clients", true), bound(3, 300, "clients", false)}, 200, 20, "clients and the harness", true, true},
		{"one that does not count", []result.Cell{cell(1, 10, 100, 10), cell(2, 20, 200, 20), rejected}, 150, 15, "", false, false},
	} {
		for range len(c.cells) { // whatever their order
			c.cells = append(c.cells[1:], c.cells[0])
			m := Medians(&result.Report{Cells: slices.Clone(c.cells)})[0]
			if m.Rate != c.rate || m.Latency.P99 != c.p99 || m.Limit != c.limit || m.AtLeast != c.atLeast || m.AtMost != c.atMost || len(m.Rejected) > 0 {
				t.Errorf("%s: %+v", c.name, m)
			}
		}
	}
	if m := Medians(&result.Report{Cells: []result.Cell{rejected}})[0]; m.AtLeast || m.AtMost || m.OK("rate") {
		t.Errorf("a rejected figure is called a bound: %+v", m)
	}
}

// Reports of older versions have no bounds, or only that of the rate.
func TestMediansOfOlderReport(t *testing.T) {
	r, err := result.Read(strings.NewReader(`{"schema":1,"cells":[
		{"target":"a","scenario":"s","kind":"max","rate":5,"refused":{"rate":"the clients"},"trials":[{"offered":5,"client":0.97,"sustained":true}]},
		{"target":"b","scenario":"s","kind":"max","rate":5,"atLeast":true,"notes":["the rate is at least this"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	m := Medians(r)
	if m[0].AtLeast || m[0].OK("rate") || m[0].Rate != 5 || len(m[0].Trials) != 1 {
		t.Errorf("%+v", m[0])
	}
	if !m[1].AtLeast || m[1].AtMost || !m[1].OK("rate") || len(m[1].Notes) != 1 {
		t.Errorf("%+v", m[1])
	}
}
