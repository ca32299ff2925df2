//go:build linux

package report

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"path"
	"slices"
	"strings"

	"sluice/loadtest/plan"
	"sluice/loadtest/result"
)

// summary returns a Markdown table with one figure per scenario and target: the rate of a
// search, the memory of idle connections, the CPU per unit of all others. Resources have two,
// requests at a rate also latencies, and clients beside attackers only these.
func summary(r *result.Report) string { return summaryOf(r, sections(r)) }

// summaryOf is the summary of some scenarios.
func summaryOf(r *result.Report, some []section) string {
	var b strings.Builder
	b.WriteString("| scenario | figure |")
	for _, t := range r.Plan.Targets {
		fmt.Fprintf(&b, " %s |", t.Label())
	}
	b.WriteString("\n| --- | --- |" + strings.Repeat(" ---: |", len(r.Plan.Targets)) + "\n")
	for _, s := range some {
		for _, n := range s.numbers() {
			for _, own := range []bool{false, true} {
				for _, f := range s.figures() {
					if line := s.summaryRow(n, own, f); line != "" {
						b.WriteString(line + "\n")
					}
				}
			}
		}
	}
	return b.String()
}

// figure is what a row of the summary shows.
type figure struct {
	what string // with its unit
	of   string // one of result.Figures: what it is rejected with
	text func(result.Cell) (text string, missing bool)
}

// figures returns those of the scenario's kind.
func (s section) figures() []figure {
	cpu := figure{"µs/" + s.unit(), result.CPU, func(c result.Cell) (string, bool) { return digits(c.CPU.Total), c.CPU.Total < 0 }}
	switch s.scenario.Kind {
	case plan.KindMax:
		return []figure{{"deliveries/s", result.Rate, func(c result.Cell) (string, bool) { return rate(c), false }}}
	case plan.KindIdle:
		return []figure{{"bytes/connection", result.Mem, func(c result.Cell) (string, bool) { return number(c.Memory.PerConn), c.Memory.PerConn == -1 }}}
	case plan.KindResources:
		return []figure{{"bytes/subscription", result.Mem, func(c result.Cell) (string, bool) { return number(c.Memory.PerSub), c.Memory.PerSub == -1 }}, cpu}
	case plan.KindLarge:
		return []figure{{"MB per CPU second", result.CPU, func(c result.Cell) (string, bool) { return number(s.perCPU(c)), c.CPU.Total <= 0 }}}
	}
	if s.scenario.Kind == plan.KindHostile {
		return []figure{
			{"p99 without attackers", result.Latency, func(c result.Cell) (string, bool) {
				if c.Hostile == nil {
					return "", true
				}
				return micros(c.Hostile.Before.P99), false
			}},
			{"p99 beside them", result.Latency, func(c result.Cell) (string, bool) { return latency(c, c.Latency.P99), c.Latency.Count == 0 }},
			{"longest beside them", result.Latency, func(c result.Cell) (string, bool) { return latency(c, c.Latency.Max), c.Latency.Count == 0 }},
		}
	}
	if s.paced() {
		return []figure{
			{"requests/s", result.Rate, func(c result.Cell) (string, bool) { return number(c.Rate), false }},
			{"p50", result.Latency, func(c result.Cell) (string, bool) { return latency(c, c.Latency.P50), c.Latency.Count == 0 }},
			{"p99", result.Latency, func(c result.Cell) (string, bool) { return latency(c, c.Latency.P99), c.Latency.Count == 0 }},
			cpu,
		}
	}
	return []figure{cpu}
}

// paced reports whether the scenario is requests that are due at a rate, so that latencies are
// those of a server that is not full.
func (s section) paced() bool {
	return (s.scenario.Kind == plan.KindUnary || s.scenario.Kind == plan.KindHTTP) && (s.scenario.Rate > 0 || s.scenario.Load > 0)
}

// perCPU returns how many MB of payload a cell's server has delivered for each second of CPU.
func (s section) perCPU(c result.Cell) float64 {
	return float64(s.scenario.Payload) / c.CPU.Total // bytes per µs
}

// summaryRow returns the row of a scenario's figure for n clients, or that of its plain form if own
// is false; "" if there is none.
func (s section) summaryRow(n int, own bool, f figure) string {
	title := s.title()
	if clients := number(float64(n)); !strings.Contains(title, clients+" clients") {
		title += ", " + clients + " clients"
	}
	if !own {
		title += ", plain"
		if s.scenario.Beside != plan.PlainName(s.scenario.Name) {
			return "" // it has a row of its own
		}
	}
	found := false
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | %s |", title, f.what)
	for _, t := range s.report.Plan.Targets {
		text := "–"
		for _, c := range s.cells {
			if c.Target != t.Name || c.N != n || s.own(c) != own {
				continue
			}
			found = true
			if text = "failed"; c.Error == "" {
				value, missing := f.text(c)
				text = mark(value, missing, c.OK(f.of))
			}
		}
		fmt.Fprintf(&b, " %s |", text)
	}
	if !found {
		return ""
	}
	return b.String()
}

const summaryAbout = "CPU is the server's own, in µs per delivery, connection, request, page or subscription: lower is better, as with memory; of rates, and of MB per CPU second, higher is better."

// Insert writes between these marks.
const (
	markBegin = "<!-- figures: sluice-load writes what follows -->\n"
	markEnd   = "<!-- end of figures -->\n"

	markMainBegin = "<!-- main figures: sluice-load writes what follows -->\n"
	markMainEnd   = "<!-- end of main figures -->\n"
)

// Insert replaces the part of a Markdown text between the marks by a report's summary and
// its main charts. folder is where the charts' files are, relative to the text. Without a
// folder there are no charts. Where the text has marks for the main figures too, a table with one
// scenario of each main sort comes between those.
func Insert(text []byte, r *result.Report, folder string) ([]byte, error) {
	before, rest, ok1 := bytes.Cut(text, []byte(markBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(markEnd))
	if !ok1 || !ok2 {
		return nil, errors.New("the marks for the figures are missing: " + strings.TrimSpace(markBegin) + " and " + strings.TrimSpace(markEnd))
	}
	before, err := insertMain(before, r)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(markBegin + "\n")
	f := facts(r)
	b.WriteString(strings.Join(f[:len(f)-min(len(r.Command), 1)], "  \n") + "\n\n" + summary(r) + "\n" + summaryAbout + "\n")
	has := func(f func(result.Cell) bool) bool {
		return slices.ContainsFunc(sections(r), func(s section) bool { return slices.ContainsFunc(s.cells, f) })
	}
	if has(func(c result.Cell) bool { return len(c.Rejected) > 0 }) {
		b.WriteString("Figures in parentheses are not the server's; the report says why.\n")
	}
	if has(func(c result.Cell) bool { return c.AtLeast || c.AtMost }) {
		b.WriteString(boundsAbout + "\n")
	}
	if folder != "" {
		for i, c := range mainCharts(r) {
			if i == 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "<img src=\"%s\" width=\"49%%\" alt=\"%s\">\n", html.EscapeString(path.Join(folder, c.Name+".svg")), html.EscapeString(c.Title))
		}
	}
	b.WriteString("\n" + markEnd)
	b.Write(after)
	return b.Bytes(), nil
}

// insertMain replaces the part between the marks for the main figures, if the text has any.
func insertMain(text []byte, r *result.Report) ([]byte, error) {
	before, rest, ok := bytes.Cut(text, []byte(markMainBegin))
	if !ok {
		return text, nil
	}
	_, after, ok := bytes.Cut(rest, []byte(markMainEnd))
	if !ok {
		return nil, errors.New("the mark for the end of the main figures is missing: " + strings.TrimSpace(markMainEnd))
	}
	return slices.Concat(before, []byte(markMainBegin+"\n"+summaryOf(r, mainSections(r))+"\n"+markMainEnd), after), nil
}

// mainSections returns one scenario of each main sort: the last, which has the most clients.
func mainSections(r *result.Report) (main []section) {
	all := sections(r)
	for _, kind := range []string{plan.KindFanout, plan.KindBurst, plan.KindMax, plan.KindIdle, plan.KindStorm} {
		for _, s := range slices.Backward(all) {
			if s.scenario.Kind == kind {
				main = append(main, s)
				break
			}
		}
	}
	return main
}

// mainCharts returns one chart of each sort: that of the last scenario, which has the most
// clients.
func mainCharts(r *result.Report) (all []Chart) {
	charts := Charts(r)
	for _, sort := range []struct{ kind, name string }{
		{plan.KindFanout, "cpu"}, {plan.KindMax, "rate"}, {plan.KindIdle, "memory"}, {plan.KindStorm, "cpu"},
		{plan.KindGrowth, "cpu-n"}, {plan.KindGrowth, "memory-n"},
	} {
		for _, s := range slices.Backward(r.Plan.Scenarios) {
			i := slices.IndexFunc(charts, func(c Chart) bool { return s.Kind == sort.kind && c.Name == s.Name+"-"+sort.name })
			if i >= 0 {
				all = append(all, charts[i])
				break
			}
		}
	}
	return all
}
