//go:build linux

package report

import (
	"encoding/xml"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/loadtest/hist"
	"sluice/loadtest/judge"
	"sluice/loadtest/plan"
	"sluice/loadtest/result"
)

// sample returns a report with every kind of figure, bound and failure.
func sample() *result.Report {
	r := &result.Report{
		Schema: 1, Title: `A <b>title</b> & more`, Date: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 12,
		Machine:  result.Machine{CPU: "some CPU", Cores: 2, Memory: 8e9, Kernel: "Linux 6.1", Server: []int{1}, Clients: []int{0}},
		Command:  "sluice-load run",
		Versions: []string{"Other v1"},
		Plan: plan.Plan{
			Rounds:  1,
			Targets: []plan.Target{{Name: "a", Title: "A <i>", Protocol: "res", Start: "x", TLS: "x"}, {Name: "b", Protocol: "floor", Start: "x", TLS: "x"}},
			Scenarios: []plan.Scenario{
				{Name: "f", Kind: plan.KindGrowth, Grow: []int{10, 100}, Rate: 5},
				{Name: "m", Kind: plan.KindMax},
				{Name: "i", Kind: plan.KindIdle},
				{Name: "h", Kind: plan.KindHTTP},
				{Name: "s", Kind: plan.KindSlow, Slow: 0.5},
				{Name: "t", Kind: plan.KindTLS},
			},
		},
	}
	if err := r.Plan.Complete(); err != nil {
		panic(err)
	}
	for _, s := range r.Plan.Scenarios {
		for _, n := range append(s.Grow, s.N)[:max(len(s.Grow), 1)] {
			for i, target := range []string{"a", "b"} {
				c := result.Cell{Target: target, Scenario: s.Name, Kind: s.Kind, N: n, Round: 1, Unit: "delivery", Units: 10, Live: n, Rate: 1234.5,
					CPU: result.Cost{Total: 10 + float64(i), User: 2, Sys: 8}, Memory: result.Memory{RSS: 5e6, PerConn: 2000, PSSConn: -1},
					Latency: hist.Summary{Count: 10, P50: 900, P99: 12_000}, Hist: hist.Sparse{{900, 5}, {12_000, 5}},
					Series: []result.Point{{T: 0.5, P99: 900}, {T: 1, P99: 12_000}}}
				if s.Kind == plan.KindTLS {
					c.CPU.Total *= 1.5
				}
				if s.Kind == plan.KindMax && target == "a" {
					c.Rejected = map[string]string{"rate": "the clients: they were full"}
					c.Trials = []result.Trial{{Offered: 100, Achieved: 99, Why: "1 lost"}}
				}
				if s.Kind == plan.KindMax && target == "b" {
					c.AtLeast, c.AtMost, c.Limit = true, true, "clients"
				}
				if s.Kind == plan.KindSlow {
					c.Slow = &result.Slow{Clients: 5, Alive: 4}
					if target == "b" {
						c.Error = "it broke"
					}
				}
				r.Cells = append(r.Cells, c)
			}
		}
	}
	return r
}

func TestChartsAreValidXML(t *testing.T) {
	charts := Charts(sample())
	names := map[string]bool{}
	for _, c := range charts {
		if names[c.Name] {
			t.Errorf("two charts are named %s", c.Name)
		}
		names[c.Name] = true
		d := xml.NewDecoder(strings.NewReader(c.Standalone()))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
		}
		for _, bad := range []string{"NaN", "Inf", "<i>"} {
			if strings.Contains(c.svg, bad) {
				t.Errorf("%s holds %s", c.Name, bad)
			}
		}
	}
	for _, want := range []string{"f-cpu", "f-cpu-n", "f-memory-n", "f-p99", "f-histogram-10", "f-time-100", "m-rate", "i-memory", "h-rate", "t-cpu"} {
		if !names[want] {
			t.Errorf("there is no chart %s", want)
		}
	}
}

// A figure that is not the server's is named and not drawn.
func TestRejectedFiguresAreNotDrawn(t *testing.T) {
	for _, c := range Charts(sample()) {
		if c.Name == "m-p99" && (!strings.Contains(c.svg, ">≤ 12 ms<") || !strings.Contains(c.svg, "lower is better; ≤: at most")) || c.Name == "m-histogram" && !strings.Contains(c.svg, ">≤ b<") {
			t.Errorf("%s", c.svg)
		}
		if c.Name == "m-rate" && (!strings.Contains(c.svg, "not the server&#39;s figure") || strings.Count(c.svg, "1,234") > 1 || !strings.Contains(c.svg, ">≥ 1,234<") || !strings.Contains(c.svg, "higher is better; ≥: at least")) {
			t.Errorf("%s", c.svg)
		}
	}
	var b strings.Builder
	if err := Table(&b, sample(), true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"(1,234)", "≥ 1,234", "≤ 12 ms", "b, 1000 clients: the clients were the limit: the rate is at least, latencies are at most this", "rate not the server's: the clients: they were full", "failed", "it broke", "5 slow clients, 4 alive", "12 ms", "A <i>, plain", "b, 1000 clients: 1.50 times the CPU per delivery of b, plain"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

// A cell has one remark on its bounds, however many rounds it has.
func TestBoundsAreExplainedOnce(t *testing.T) {
	r := sample()
	for _, c := range r.Cells {
		c.Round = 2
		if c.Limit != "" {
			c.AtMost, c.Limit = false, "harness"
		}
		r.Cells = append(r.Cells, c)
	}
	var b strings.Builder
	if err := Markdown(&b, r); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), " the limit: "); n != 1 || !strings.Contains(b.String(), "the clients and the harness were the limit: the rate is at least, latencies are at most this\n") {
		t.Errorf("%d times:\n%s", n, b.String())
	}
	for want, c := range map[string]result.Cell{
		"the harness was the limit: the rate is at least this":   {AtLeast: true, Limit: "harness"},
		"the clients were the limit: latencies are at most this": {AtMost: true, Limit: "clients"},
		"": {AtLeast: true, Notes: []string{"an older program's own words"}},
	} {
		if got := bounds(c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPageLoadsNothing(t *testing.T) {
	var b strings.Builder
	if err := HTML(&b, sample()); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if m := regexp.MustCompile(`(?i)(src|href)="[^#"][^"]*"|@import|url\(`).FindString(page); m != "" {
		t.Errorf("the page loads %s", m)
	}
	if strings.Contains(page, "<b>title") || strings.Contains(page, "<i>") {
		t.Error("names are not escaped")
	}
	if n := strings.Count(page, "<section"); n != 6 {
		t.Errorf("%d sections", n)
	}
}

func TestMarkdownRowsHaveAllColumns(t *testing.T) {
	var b strings.Builder
	if err := Markdown(&b, sample()); err != nil {
		t.Fatal(err)
	}
	bars := 5 // of the summary: two words and two servers
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "## ") {
			bars = len(columns) + 1
		}
		if strings.HasPrefix(line, "|") {
			if n := strings.Count(line, "|"); n != bars {
				t.Errorf("%d bars in %s", n, line)
			}
		}
	}
}

func TestFormats(t *testing.T) {
	for us, want := range map[int64]string{5: "5 µs", 1500: "1.5 ms", 15_000: "15 ms", 1_500_000: "1.5 s", 15_000_000: "15 s"} {
		if got := micros(us); got != want {
			t.Errorf("%d µs: %s", us, got)
		}
	}
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s", v, got)
		}
	}
}

func TestInsert(t *testing.T) {
	got, err := Insert([]byte("# Title\n"+markBegin+"old\n"+markEnd+"rest\n"), sample(), "bench/charts")
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	for _, want := range []string{
		"# Title\n" + markBegin, markEnd + "rest\n",
		"| scenario | figure | A <i> | b |\n",
		"| f, 10 clients | µs/delivery | 10.0 | 11.0 |\n",
		"| m, 1,000 clients | deliveries/s | (1,234) | ≥ 1,234 |\n",
		"| i, 1,000 clients | bytes/connection | 2,000 | 2,000 |\n",
		"| s, 1,000 clients | µs/delivery | 10.0 | failed |\n",
		"| t, 1,000 clients, plain | µs/delivery | 10.0 | 11.0 |\n| t, 1,000 clients | µs/delivery | 15.0 | 16.5 |\n",
		"Figures in parentheses", boundsAbout,
		`<img src="bench/charts/m-rate.svg"`, `<img src="bench/charts/f-cpu-n.svg"`, `<img src="bench/charts/i-memory.svg"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(text, "old") || strings.Contains(text, "Command:") {
		t.Errorf("%s", text)
	}
	if t.Failed() {
		t.Log(text)
	}
	again, err := Insert(got, sample(), "bench/charts")
	if err != nil || string(again) != text {
		t.Errorf("a second time: %v", err)
	}
	if _, err := Insert([]byte("no marks"), sample(), ""); err == nil {
		t.Error("written where no marks are")
	}
}

// The main figures come between marks of their own, above the others.
func TestInsertMain(t *testing.T) {
	text := "# Title\n" + markMainBegin + "old\n" + markMainEnd + "between\n" + markBegin + markEnd + "rest\n"
	got, err := Insert([]byte(text), sample(), "")
	if err != nil {
		t.Fatal(err)
	}
	main, rest, ok := strings.Cut(string(got), markMainEnd+"between\n"+markBegin)
	if !ok || strings.Contains(main, "old") || !strings.Contains(rest, "| t, 1,000 clients |") {
		t.Errorf("%s", got)
	}
	for row, want := range map[string]bool{
		"| scenario | figure | A <i> | b |\n": true, "| m, 1,000 clients | deliveries/s | (1,234) | ≥ 1,234 |\n": true,
		"| i, 1,000 clients | bytes/connection | 2,000 | 2,000 |\n": true, "| t, 1,000 clients |": false,
	} {
		if strings.Contains(main, row) != want {
			t.Errorf("%q: want it %v in %s", row, want, main)
		}
	}
	if again, err := Insert(got, sample(), ""); err != nil || string(again) != string(got) {
		t.Errorf("a second time: %v", err)
	}
	if _, err := Insert([]byte(markMainBegin+markBegin+markEnd), sample(), ""); err == nil {
		t.Error("written where the second mark is missing")
	}
}

// A legend with many names stays within the chart.
func TestLegendsWrap(t *testing.T) {
	var lines []line
	for range 9 {
		lines = append(lines, line{name: "a name of 20 letters", points: [][2]float64{{1, 1}, {2, 2}}})
	}
	at, rows := legend(lines)
	for _, p := range at {
		if p[0]+27+20*6.6 > width {
			t.Errorf("a name at %v", p)
		}
	}
	if rows < 3 {
		t.Errorf("%d rows", rows)
	}
}

// Kinds whose figure is not CPU per unit have their own in the summary and the remarks.
func TestFiguresOfKinds(t *testing.T) {
	r := &result.Report{Plan: plan.Plan{
		Targets:   []plan.Target{{Name: "a", Protocol: "res", Start: "x"}},
		Scenarios: []plan.Scenario{{Name: "r", Kind: plan.KindResources, N: 5, PerClient: 10}, {Name: "l", Kind: plan.KindLarge, Payload: 4000}, {Name: "p", Kind: plan.KindSPA, Rate: 9}, {Name: "d", Kind: plan.KindDeploy}},
	}}
	if err := r.Plan.Complete(); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Plan.Scenarios {
		unit := map[string]string{plan.KindResources: result.Subscribed, plan.KindSPA: result.Page}[s.Kind]
		if unit == "" {
			unit = result.Delivery
		}
		r.Cells = append(r.Cells, result.Cell{Target: "a", Scenario: s.Name, Kind: s.Kind, N: s.N, Unit: unit, Units: 9, CPU: result.Cost{Total: 40}, Memory: result.Memory{PerSub: 1234}})
	}
	var b strings.Builder
	if err := Markdown(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| r, 5 clients | bytes/subscription | 1,234 |", "| r, 5 clients | µs/subscription | 40.0 |", "| l, 1,000 clients | MB per CPU second | 100 |",
		"| p, 500 clients | µs/page | 40.0 |", "| d, 1,000 clients | µs/delivery | 40.0 |",
		"- a, 5 clients: 1,234 bytes of RSS per subscription", "- a, 1000 clients: 100 MB of payload per second of the server's CPU",
		"10 resources that no other has, models of 4 properties", "9 per second; there are 100 pages", "1000 resources, 1 per client, starts again",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if n := len(Charts(r)); n != 5 {
		t.Errorf("%d charts", n)
	}
}

// Requests at a rate have latencies in the summary: the server is not full.
func TestFiguresOfPacedRequests(t *testing.T) {
	r := &result.Report{Plan: plan.Plan{
		Targets:   []plan.Target{{Name: "a", Protocol: "res", Start: "x"}},
		Scenarios: []plan.Scenario{{Name: "full", Kind: plan.KindUnary}, {Name: "share", Kind: plan.KindUnary, Load: 80}, {Name: "rate", Kind: plan.KindHTTP, Rate: 11_000}},
	}}
	if err := r.Plan.Complete(); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Plan.Scenarios {
		r.Cells = append(r.Cells, result.Cell{Target: "a", Scenario: s.Name, Kind: s.Kind, N: s.N, Unit: result.Request, Units: 9, CPU: result.Cost{Total: 20}, Rate: 4321, Latency: hist.Summary{Count: 9, P50: 250, P99: 1700}})
	}
	got := summary(r)
	for _, want := range []string{
		"| full, 64 clients | µs/request | 20.0 |", "| share, 64 clients | requests/s | 4,321 |", "| share, 64 clients | p50 | 250 µs |",
		"| share, 64 clients | p99 | 1.7 ms |", "| share, 64 clients | µs/request | 20.0 |", "| rate, 64 clients | p99 | 1.7 ms |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "| full, 64 clients | p99 |") {
		t.Errorf("the summary has latencies of a full server:\n%s", got)
	}
	var b strings.Builder
	if err := Markdown(&b, r); err != nil || !strings.Contains(b.String(), "Calls at 80% of each server's highest rate, which is measured before for as long, 1 in flight per client.") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// Latencies without attackers and beside them are in the summary and the charts.
func TestHostileInReport(t *testing.T) {
	r := &result.Report{Plan: plan.Plan{
		Targets:   []plan.Target{{Name: "a", Protocol: "res", Start: "x", Compress: "-z"}, {Name: "b", Protocol: "res", Start: "x", Compress: "-z"}},
		Scenarios: []plan.Scenario{{Name: "h", Kind: plan.KindHostile}},
	}}
	if err := r.Plan.Complete(); err != nil {
		t.Fatal(err)
	}
	r.Cells = []result.Cell{
		{Target: "a", Scenario: "h", Kind: plan.KindHostile, N: 1000, Unit: result.Delivery, Units: 9, CPU: result.Cost{Total: 20}, Latency: hist.Summary{Count: 9, P99: 3000, Max: 4000},
			Hostile: &result.Hostile{Before: hist.Summary{P99: 800}}},
		{Target: "b", Scenario: "h", Kind: plan.KindHostile, N: 1000, Error: "it broke"},
	}
	var b strings.Builder
	if err := Markdown(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| h, 1,000 clients | p99 without attackers | 800 µs | failed |", "| h, 1,000 clients | p99 beside them | 3.0 ms | failed |", "| h, 1,000 clients | longest beside them | 4.0 ms | failed |",
		"Events of 128 bytes to 50 topics, 1 per client, 20,000 deliveries/s, while 4 connections send frames of 1 MiB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if !slices.ContainsFunc(Charts(r), func(c Chart) bool { return c.Name == "h-before" && strings.Contains(c.svg, "800 µs") }) {
		t.Error("there is no chart of latencies without attackers")
	}
}

// The machine's line says where packets arrive, unless the report is older than that.
func TestArrival(t *testing.T) {
	for want, m := range map[string]result.Machine{
		"NATS on [0]": {Clients: []int{0}},
		"NATS on [0]; packets arrive on the clients' cores, in a network namespace": {Clients: []int{0}, Steered: true},
		"NATS on [0]; packets arrive on the core that sends them (no root)":         {Clients: []int{0}, Unsteered: "no root"},
	} {
		if got := facts(&result.Report{Machine: m})[1]; !strings.HasSuffix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// An upgrade has charts over time, with the upgrades behind the lines, and remarks of its own.
func TestUpgradeInReport(t *testing.T) {
	r := &result.Report{Plan: plan.Plan{
		Targets:   []plan.Target{{Name: "a", Protocol: "res", Start: "x", NATS: "y", Upgrade: plan.UpgradeSignal}, {Name: "b", Protocol: "res", Start: "x", NATS: "y", Upgrade: plan.UpgradeRestart}},
		Scenarios: []plan.Scenario{{Name: "u", Kind: plan.KindUpgrade, Streams: 7, Getters: 3}},
	}}
	if err := r.Plan.Complete(); err != nil {
		t.Fatal(err)
	}
	for i, target := range []string{"a", "b"} {
		c := result.Cell{Target: target, Scenario: "u", Kind: plan.KindUpgrade, N: 10_000, Live: 10_000, Unit: result.Delivery, Units: 9, Lost: int64(i), CPU: result.Cost{Total: 40},
			Latency: hist.Summary{Count: 9}, Message: "code 1001",
			Series:  []result.Point{{T: 0.1, Rate: 40_000, P99: 3000, Live: 10_000, RSS: 50e6}, {T: 0.2, Live: 9000, RSS: 70e6}},
			Upgrade: &result.Upgrade{Spans: [][2]float64{{1, 3.5}}, Closed: 10_000 * i, Probes: 50, Refused: i, Lost: int64(i), Access: int64(9 * i), Alone: 50e6, Both: 75e6, CPUBefore: 9.5}}
		c.Upgrade.Pause.P99, c.Upgrade.Deliveries[1].P99 = 120_000, 50_000
		judge.Cell(&c, r.Plan.Scenarios[0])
		if len(c.Rejected) != 0 {
			t.Errorf("what an upgrade loses is its figure: %v", c.Rejected)
		}
		r.Cells = append(r.Cells, c)
	}
	var b strings.Builder
	if err := Markdown(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"take the server's place, 3 times, with 5s in between", "come back after 250ms to 500ms", "at 40,000 deliveries/s; 16 clients make 200 requests per second",
		"Beside them are 7 event streams. 3 connections make as many GET requests.",
		"- a, 10000 clients: 1 upgrades, the longest took 2.5 s: 0 connections closed; 0 events lost, 0 repeated;", "of 50 new clients 1 were refused, 0 failed",
		"- b, 10000 clients: a client says: code 1001", "the service got 9 access and 0 get requests", "p99 120 ms", "at most 1.50 times one's: 75 MB and 50 MB (PSS)",
		"before the first upgrade: 9.5 µs", "deliveries 0 ms and 50 ms",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "a, 10000 clients: a client says") {
		t.Error("a client complains that has lost nothing")
	}
	charts := map[string]string{}
	for _, c := range Charts(r) {
		charts[c.Name] = c.svg
	}
	for _, name := range []string{"u-pause", "u-deliveries", "u-connections", "u-memory", "u-time"} {
		if charts[name] == "" {
			t.Errorf("there is no chart %s", name)
		}
		if name != "u-pause" && !strings.Contains(charts[name], "b, upgrade 1: 2.5 s") {
			t.Errorf("%s does not show the upgrades", name)
		}
	}
}
