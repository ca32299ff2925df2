//go:build linux

package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"sluice/loadtest/hist"
	"sluice/loadtest/plan"
	"sluice/loadtest/result"
)

// Charts returns the charts of a report. Each scenario has bars for its figures, lines over
// the number of clients if there are several, and latencies as a distribution and over time.
func Charts(r *result.Report) []Chart {
	var all []Chart
	add := func(s section, name, title, svg string) {
		if svg != "" {
			all = append(all, Chart{Name: s.scenario.Name + "-" + name, Title: title, Group: s.scenario.Name, svg: svg})
		}
	}
	for _, s := range sections(r) {
		unit := s.unit()
		kind := s.scenario.Kind
		timed := slices.ContainsFunc(s.cells, func(c result.Cell) bool { return c.Latency.Count > 0 })
		switch kind {
		case plan.KindIdle:
			add(s, "memory", s.title()+": memory per connection", s.bars(r, s.title()+": memory per connection (RSS)", "lower", "memory", func(c result.Cell) (float64, string) {
				return c.Memory.PerConn, number(c.Memory.PerConn) + " bytes"
			}))
		case plan.KindResources:
			add(s, "memory", s.title()+": memory per subscription", s.bars(r, s.title()+": memory per subscription (RSS)", "lower", "memory", func(c result.Cell) (float64, string) {
				return c.Memory.PerSub, number(c.Memory.PerSub) + " bytes"
			}))
			add(s, "cpu", s.title()+": server CPU per "+unit, s.bars(r, s.title()+": server CPU per "+unit, "lower", "cpu", func(c result.Cell) (float64, string) {
				return c.CPU.Total, digits(c.CPU.Total) + " µs"
			}))
		case plan.KindMax:
			add(s, "rate", s.title()+": sustained deliveries per second", s.bars(r, s.title()+": sustained deliveries per second", "higher", "rate", func(c result.Cell) (float64, string) {
				return c.Rate, rate(c)
			}))
			fallthrough
		default:
			add(s, "cpu", s.title()+": server CPU per "+unit, s.bars(r, s.title()+": server CPU per "+unit, "lower", "cpu", func(c result.Cell) (float64, string) {
				return c.CPU.Total, digits(c.CPU.Total) + " µs"
			}))
		}
		if kind == plan.KindUnary || kind == plan.KindHTTP {
			add(s, "rate", s.title()+": requests per second", s.bars(r, s.title()+": requests per second", "higher", "rate", func(c result.Cell) (float64, string) {
				return c.Rate, number(c.Rate)
			}))
		}
		if timed {
			add(s, "p99", s.title()+": 99th percentile of latency", s.bars(r, s.title()+": 99th percentile of latency", "lower", "latency", func(c result.Cell) (float64, string) {
				return float64(c.Latency.P99), latency(c, c.Latency.P99)
			}))
		}
		if kind == plan.KindHostile {
			add(s, "before", s.title()+": p99 without attackers", s.bars(r, s.title()+": 99th percentile of latency without attackers", "lower", "latency", func(c result.Cell) (float64, string) {
				if c.Hostile == nil {
					return 0, "unknown"
				}
				return float64(c.Hostile.Before.P99), micros(c.Hostile.Before.P99)
			}))
		}
		if kind == plan.KindUpgrade {
			add(s, "pause", s.title()+": pause of a client, p99", s.bars(r, s.title()+": pause of a client in an upgrade, p99", "lower", "latency", func(c result.Cell) (float64, string) {
				if c.Upgrade == nil {
					return 0, "unknown"
				}
				return float64(c.Upgrade.Pause.P99), micros(c.Upgrade.Pause.P99)
			}))
			add(s, "deliveries", "Deliveries over time", s.timeline(r, s.title()+": deliveries per second", "per second", tick, func(p result.Point) float64 { return p.Rate }))
			add(s, "connections", "Connections over time", s.timeline(r, s.title()+": connections", "subscribed clients", number, func(p result.Point) float64 { return float64(p.Live) }))
			add(s, "memory", "Memory over time", s.timeline(r, s.title()+": memory of all processes", "MB (RSS)", tick, func(p result.Point) float64 { return float64(p.RSS) / 1e6 }))
			add(s, "time", "Latency over time", s.timeline(r, s.title()+": p99 over time", "ms", tick, func(p result.Point) float64 {
				if p.P99 == 0 {
					return math.NaN() // nothing was delivered
				}
				return float64(p.P99) / 1e3
			}))
		}
		if ns := s.numbers(); len(ns) > 1 {
			over := axis{label: "clients", form: number}
			add(s, "cpu-n", s.title()+": CPU per "+unit+" over clients", lineChart(s.title()+": CPU per "+unit, over, axis{label: "µs, lower is better", form: tick}, s.lines(r, "cpu", func(c result.Cell) float64 { return c.CPU.Total }), true))
			add(s, "memory-n", s.title()+": memory over clients", lineChart(s.title()+": memory of the server", over, axis{label: "MB (RSS), lower is better", form: tick}, s.lines(r, "memory", func(c result.Cell) float64 { return float64(c.Memory.RSS) / 1e6 }), true))
		}
		if !timed || kind == plan.KindIdle {
			continue
		}
		for _, n := range s.numbers() {
			who := s.title()
			if clients := number(float64(n)) + " clients"; !strings.Contains(who, clients) {
				who += ", " + clients
			}
			suffix := ""
			if len(s.numbers()) > 1 {
				suffix = fmt.Sprintf("-%d", n)
			}
			var shares, times []line
			for _, c := range s.cells {
				if c.N != n || !s.own(c) || !c.OK("latency") || c.Latency.Count == 0 {
					continue
				}
				l := line{name: label(r, c.Target), color: color(r, c.Target)}
				if c.AtMost {
					l.name = atMost + l.name
				}
				shares = append(shares, line{l.name, l.color, distribution(c.Hist)})
				if pts := overTime(c.Series); len(pts) > 1 {
					times = append(times, line{l.name, l.color, pts})
				}
			}
			ms := func(v float64) string { return micros(int64(v)) }
			add(s, "histogram"+suffix, "Latency histogram", lineChart(who+": latency", axis{label: "latency", log: true, form: ms}, axis{label: "% of all", form: tick}, shares, false))
			if kind == plan.KindUpgrade {
				continue // drawn above, with the upgrades
			}
			add(s, "time"+suffix, "Latency over time", lineChart(who+": p99 over time", axis{label: "seconds", form: tick}, axis{label: "p99, lower is better", log: true, form: ms}, times, false))
		}
	}
	return all
}

// tick formats a round figure at an axis.
func tick(v float64) string {
	if math.Abs(v) >= 1000 {
		return number(v)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// color returns the index of a target's color.
func color(r *result.Report, target string) int {
	return max(slices.IndexFunc(r.Plan.Targets, func(t plan.Target) bool { return t.Name == target }), 0)
}

// numbers returns the client counts of the section, in ascending order.
func (s section) numbers() []int {
	var all []int
	for _, c := range s.cells {
		if !slices.Contains(all, c.N) {
			all = append(all, c.N)
		}
	}
	return all
}

// bars draws one figure of all cells, grouped by client count. value returns the figure and
// its text.
func (s section) bars(r *result.Report, title, better, figure string, value func(result.Cell) (float64, string)) string {
	var groups []string
	var bars [][]bar
	for _, n := range s.numbers() {
		var g []bar
		for _, c := range s.cells {
			if c.N != n || c.Error != "" {
				continue
			}
			v, text := value(c)
			g = append(g, bar{name: s.label(c), color: color(r, c.Target), value: v, text: text, rejected: !c.OK(figure)})
		}
		groups, bars = append(groups, number(float64(n))+" clients"), append(bars, g)
	}
	return barChart(title, better, groups, bars)
}

// lines returns one figure of each target over the number of clients.
func (s section) lines(r *result.Report, figure string, value func(result.Cell) float64) []line {
	var all []line
	for _, t := range r.Plan.Targets {
		l := line{name: t.Label(), color: color(r, t.Name)}
		for _, c := range s.cells {
			if c.Target == t.Name && s.own(c) && c.OK(figure) && value(c) >= 0 {
				l.points = append(l.points, [2]float64{float64(c.N), value(c)})
			}
		}
		if len(l.points) > 0 {
			all = append(all, l)
		}
	}
	return all
}

// timeline draws a figure of the points of a section's cells, with the upgrades behind the lines.
func (s section) timeline(r *result.Report, title, unit string, form func(float64) string, value func(result.Point) float64) string {
	var lines []line
	over := axis{label: "seconds", form: tick}
	for _, c := range s.cells {
		if !s.own(c) || c.Upgrade == nil || c.N != s.cells[0].N {
			continue
		}
		l := line{name: label(r, c.Target), color: color(r, c.Target)}
		for _, p := range c.Series {
			l.points = append(l.points, [2]float64{p.T, value(p)})
		}
		lines = append(lines, l)
		for i, span := range c.Upgrade.Spans {
			over.bands = append(over.bands, Band{From: span[0], Until: span[1], Name: fmt.Sprintf("%s, upgrade %d: %.1f s", l.name, i+1, span[1]-span[0]), Color: l.color})
		}
	}
	return lineChart(title, over, axis{label: unit, form: form}, lines, false)
}

// distribution returns the share, in per cent, of each step of latency. A decade has
// twenty-four steps.
func distribution(h hist.Sparse) [][2]float64 {
	const perDecade = 24
	total, counts := 0.0, map[int]float64{}
	lo, hi := math.MaxInt, math.MinInt
	for _, b := range h {
		step := int(math.Floor(math.Log10(float64(max(b[0], 1))) * perDecade))
		counts[step] += float64(b[1])
		total += float64(b[1])
		lo, hi = min(lo, step), max(hi, step)
	}
	var pts [][2]float64
	for step := lo - 1; total > 0 && step <= hi+1; step++ {
		pts = append(pts, [2]float64{math.Pow(10, (float64(step)+0.5)/perDecade), 100 * counts[step] / total})
	}
	return pts
}

// overTime returns the 99th percentile over time.
func overTime(series []result.Point) [][2]float64 {
	var pts [][2]float64
	for _, p := range series {
		if p.P99 > 0 {
			pts = append(pts, [2]float64{p.T, float64(p.P99)})
		}
	}
	return pts
}

// slug returns a scenario's name as a fragment of a URL.
func slug(s string) string { return strings.ReplaceAll(strings.ToLower(s), " ", "-") }
