//go:build linux

package loadtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/loadtest/hist"
)

func cell(round int, cpu, rate float64, p99 int64) Cell {
	return Cell{Target: "a", Scenario: "s", Kind: KindFanout, N: 10, Live: 10, Round: round, Unit: "delivery", Units: 100,
		CPU: Cost{Total: cpu, User: cpu / 4, Sys: cpu * 3 / 4}, Rate: rate, Latency: hist.Summary{Count: 100, P99: p99}}
}

func TestMediansOfEachFigure(t *testing.T) {
	r := Report{Schema: 1, Cells: []Cell{cell(1, 10, 300, 7), cell(2, 30, 100, 9), cell(3, 20, 200, 8)}}
	m := r.Medians()
	if len(m) != 1 || m[0].CPU.Total != 20 || m[0].Rate != 200 || m[0].Latency.P99 != 8 || len(m[0].Refused) != 0 {
		t.Errorf("%+v", m)
	}
}

func TestMediansLeaveOutWhatIsRefused(t *testing.T) {
	bad := cell(2, 30, 100, 9)
	bad.refuse("cpu", "the machine")
	r := Report{Cells: []Cell{cell(1, 10, 300, 7), bad, cell(3, 20, 200, 8)}}
	m := r.Medians()[0]
	if m.CPU.Total != 15 || m.Rate != 200 || !m.OK("cpu") || len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "2 of 3") {
		t.Errorf("%+v", m)
	}
	worse := cell(3, 20, 200, 8)
	worse.refuse("cpu", "the machine")
	r.Cells[2] = worse
	if m = r.Medians()[0]; m.OK("cpu") || !m.OK("rate") || m.CPU.Total != 20 {
		t.Errorf("%+v", m)
	}
	failed := cell(1, 0, 0, 0)
	failed.Error = "it did not start"
	r.Cells = []Cell{failed}
	if m = r.Medians()[0]; m.Error == "" || m.OK("cpu") {
		t.Errorf("%+v", m)
	}
}

func TestReportSurvivesItsFile(t *testing.T) {
	c := cell(1, 10, 300, 7)
	c.Hist, c.Series, c.Trials = hist.Sparse{{5, 10}, {7, 90}}, []Point{{T: 1, P99: 7}}, []Trial{{Offered: 5, Sustained: true}}
	r := &Report{Schema: 1, Title: "t", Cells: []Cell{c}}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	got, err := ReadReport(&b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, got); d != "" {
		t.Error(d)
	}
	if _, err := ReadReport(strings.NewReader(`{"schema":9}`)); err == nil {
		t.Error("another schema is read")
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Cell)
		want  string // figures that are refused, bounds
	}{
		{"nothing", func(*Cell) {}, ""},
		{"other programs", func(c *Cell) { c.OtherBusy = 0.5 }, "cpu latency rate sockets"},
		{"hypervisor", func(c *Cell) { c.Steal = 0.2 }, "cpu latency rate"},
		{"full clients", func(c *Cell) { c.ClientBusy = 0.97 }, "≥ ≤ clients"},
		{"late harness", func(c *Cell) { c.Late = 20_000 }, "≥ ≤ harness"},
		{"late harness, full server", func(c *Cell) { c.Late, c.ServerBusy = 20_000, 0.95 }, "latency rate"},
		{"full clients and late harness", func(c *Cell) { c.ClientBusy, c.Late = 0.97, 20_000 }, "≥ ≤ clients"},
		{"full clients in a search", func(c *Cell) {
			c.Kind, c.AtLeast, c.AtMost, c.Limit, c.ClientBusy = KindMax, true, true, "harness", 0.97
		}, "≥ ≤ harness"},
		{"full clients and other programs", func(c *Cell) { c.ClientBusy, c.OtherBusy = 0.97, 0.5 }, "cpu latency rate sockets ≥ ≤ clients"},
		{"loss", func(c *Cell) { c.Lost, c.Expected = 1, 101 }, "latency rate"},
		{"requests not made", func(c *Cell) { c.Unsent = 1 }, "latency rate"},
		{"errors", func(c *Cell) { c.Errors = 1 }, "latency rate"},
		{"lost connections", func(c *Cell) { c.Live = 9 }, "cpu latency rate memory sockets"},
		{"others' sockets", func(c *Cell) { c.Memory.SocketCon = -300 }, "sockets"},
		{"unknown process", func(c *Cell) { c.CPU.Total = -1 }, "cpu"},
		{"server not full", func(c *Cell) { c.Kind, c.Trials = KindMax, []Trial{{Busy: 0.5}, {Busy: 0.99, Client: 0.99}} }, "rate"},
		{"compression", func(*Cell) {}, "cpu"},
		{"server full", func(c *Cell) { c.Kind, c.Trials = KindMax, []Trial{{Busy: 0.95, Client: 0.5}} }, ""},
	} {
		one := cell(1, 10, 300, 7)
		c.spoil(&one)
		one.judge(Scenario{Compression: c.name == "compression"})
		var got []string
		for _, f := range figures {
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
			t.Errorf("%s: refused or bounded %v, want %s", c.name, got, c.want)
		}
	}
}

func TestPlanDefaultsAndChecks(t *testing.T) {
	p := Plan{Targets: []Target{{Name: "a", Protocol: "res", Start: "x"}}, Scenarios: []Scenario{{Kind: KindTopics}, {Kind: KindGrowth}, {Kind: KindUnary}, {Kind: KindMax}}}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	s := p.Scenarios
	if s[0].Topics != 1000 || s[0].PerClient != 5 || len(s[1].Grow) != 4 || s[2].N != 64 || s[2].Rate != 0 || s[3].Duration >= s[0].Duration {
		t.Errorf("%+v", s)
	}
	if got := s[0].rate(10_000); got != 400 { // 20,000 deliveries/s at 50 subscribers of each topic
		t.Errorf("%v events per second", got)
	}
	for what, bad := range map[string]Plan{
		"no target":     {Scenarios: s},
		"bad kind":      {Targets: p.Targets, Scenarios: []Scenario{{Kind: "x"}}},
		"bad protocol":  {Targets: []Target{{Name: "a", Protocol: "x", Start: "x"}}, Scenarios: s},
		"twice":         {Targets: append(p.Targets, p.Targets...), Scenarios: s},
		"unknown":       {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindIdle, Targets: []string{"b"}}}},
		"kinds":         {Targets: []Target{{Name: "a", Protocol: "res", Start: "x", Kinds: []string{"x"}}}, Scenarios: s},
		"subscriptions": {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindIdle, PerClient: 3}}},
		"same name":     {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindIdle}, {Kind: KindIdle}}},
		"nobody can":    {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindTLS}}},
		"beside nobody": {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindIdle, Beside: "x"}}},
		"all slow":      {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindSlow, Slow: 1}}},
		"minus rounds":  {Targets: p.Targets, Scenarios: s, Rounds: -1},
		"minus burst":   {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindBurst, Burst: -1}}},
		"minus settle":  {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindIdle, Settle: -1}}},
	} {
		if err := bad.Complete(); err == nil {
			t.Errorf("%s: passes", what)
		}
	}
}

// Neighbours with the same clients share a stage; growth and Fresh do not.
func TestGroups(t *testing.T) {
	p := Plan{
		Targets: []Target{{Name: "a", Protocol: "res", Start: "x", TLS: "-tls"}, {Name: "n", Protocol: "nats", Start: "x"},
			{Name: "f", Protocol: "res", Start: "x", Kinds: []string{KindFanout}}},
		Scenarios: []Scenario{{Kind: KindStorm}, {Kind: KindFanout}, {Name: "again", Kind: KindFanout, Fresh: true}, {Kind: KindUnary},
			{Kind: KindGrowth, Grow: []int{5, 6}}, {Kind: KindTLS}, {Name: "named", N: 7, Kind: KindUnary, Targets: []string{"f"}}},
	}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	r := &runner{plan: p}
	var got []string
	for _, g := range r.groups() {
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

// A scenario runs as often as it says, else as often as the plan says.
func TestRoundsOfScenarios(t *testing.T) {
	p := Plan{Rounds: 2, Targets: []Target{{Name: "a", Protocol: "res", Start: "x"}},
		Scenarios: []Scenario{{Name: "s", Kind: KindStorm}, {Name: "more", Kind: KindFanout, Rounds: 3}, {Name: "fewer", Kind: KindBurst, Rounds: 1}}}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	g := (&runner{plan: p}).groups()[0]
	for i, want := range []string{"s more fewer ", "s more ", "more ", ""} {
		got := ""
		for _, s := range g.in(i+1, p.Rounds).scenes {
			got += s.Name + " "
		}
		if got != want {
			t.Errorf("round %d has %q, want %q", i+1, got, want)
		}
	}
	p.Scenarios[0].Rounds = -1
	if err := p.Complete(); err == nil {
		t.Error("-1 rounds pass")
	}
}

// What TLS and compression cost is shown beside the same without; only what
// speaks TLS alone has no such form.
func TestPlainBesideTLS(t *testing.T) {
	p := Plan{
		Targets: []Target{{Name: "a", Protocol: "res", Start: "x", TLS: "-tls", Compress: "-z"}, {Name: "b", Protocol: "res", Start: "x"}, {Name: "url", Protocol: "res", Addr: "127.0.0.1:1"}, {Name: "always", Protocol: "res", Start: "x -tls", TLS: " "}},
		Scenarios: []Scenario{{Kind: KindTLS, Title: "Over TLS", Payload: 300}, {Name: "z", Kind: KindCompressed}, {Name: "only", Kind: KindTLS, Targets: []string{"url"}},
			{Name: "own", Kind: KindTLS, Beside: "z"}},
	}
	for range 2 { // a report's plan is completed again
		if err := p.Complete(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range p.Scenarios {
			got = append(got, fmt.Sprintf("%s %s %v %v %d beside %q on %v", s.Name, s.Kind, s.TLS, s.Compression, s.Payload, s.Beside, p.able(s)))
		}
		want := []string{
			`tls-plain fanout false false 300 beside "" on [a]`,
			`tls tls true false 300 beside "tls-plain" on [a url always]`,
			`z-plain fanout false false 512 beside "" on [a url]`,
			`z compressed false true 512 beside "z-plain" on [a url]`,
			`only tls true false 128 beside "" on [url]`,
			`own tls true false 128 beside "z" on [a url always]`,
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

func TestPlansThatCannotBeRead(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "holds nothing",
		"scenarios: [":                      "yaml: line 1",
		"scenarios: [{kindd: idle}]":        "field kindd not found",
		"scenarios: [{duration: 300}]":      "durations have a unit",
		"scenarios: [{name: x, n: plenty}]": "cannot unmarshal",
	} {
		file := filepath.Join(t.TempDir(), "plan.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPlan(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPasswordsAreNotReported(t *testing.T) {
	p := Plan{Targets: []Target{{NATSURL: "nats://me:secret@host:4222", Start: "x --nats nats://me:secret@host:4222 --port 1"}}}
	got := p.redacted().Targets[0]
	if got.NATSURL != "nats://me:…@host:4222" || got.Start != "x --nats nats://me:…@host:4222 --port 1" || p.Targets[0].NATSURL != "nats://me:secret@host:4222" {
		t.Errorf("%+v of %+v", got, p.Targets[0])
	}
}
