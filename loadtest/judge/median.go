//go:build linux

package judge

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sluice/loadtest/hist"
	"sluice/loadtest/result"
)

// Medians returns one cell per scenario, number of clients and target, in the order in
// which they first ran. Its figures are medians over the rounds. A round that
// rejects a figure does not count for it. A figure that half of the rounds or more reject
// is rejected. A median is a bound if any round that counts is. Histograms and series are
// those of the round with the median CPU.
func Medians(r *result.Report) []result.Cell {
	type key struct {
		scenario string
		n        int
		target   string
	}
	var order []key
	groups := map[key][]result.Cell{}
	for _, c := range r.Cells {
		k := key{c.Scenario, c.N, c.Target}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], c)
	}
	all := make([]result.Cell, 0, len(order))
	for _, k := range order {
		all = append(all, median(groups[k]))
	}
	return all
}

// median returns the median of a scenario's rounds on one target.
func median(rounds []result.Cell) result.Cell {
	ran := slices.DeleteFunc(slices.Clone(rounds), func(c result.Cell) bool { return c.Error != "" })
	if len(ran) == 0 {
		return rounds[len(rounds)-1]
	}
	good, rejected, notes := countedRounds(ran)
	byCPU := slices.Clone(good[result.CPU])
	slices.SortStableFunc(byCPU, func(a, b result.Cell) int { return cmp.Compare(a.CPU.Total, b.CPU.Total) })
	m := byCPU[(len(byCPU)-1)/2]
	m.Round, m.Rejected, m.Notes = 0, nil, nil
	medianFigures(&m, good)
	m.AtLeast = rejected[result.Rate] == "" && slices.ContainsFunc(good[result.Rate], func(c result.Cell) bool { return c.AtLeast })
	m.AtMost = rejected[result.Latency] == "" && slices.ContainsFunc(good[result.Latency], func(c result.Cell) bool { return c.AtMost })
	var limits []string
	for _, c := range good[result.Rate] {
		if c.Limit != "" {
			limits = append(limits, c.Limit)
		}
	}
	slices.Sort(limits)
	m.Limit = strings.Join(slices.Compact(limits), " and the ")
	m.Lost, m.Unsent, m.Closed, m.Failed, m.Errors = 0, 0, 0, 0, 0
	for _, c := range ran {
		m.Lost, m.Unsent, m.Closed = m.Lost+c.Lost, m.Unsent+c.Unsent, m.Closed+c.Closed
		m.Failed, m.Errors = m.Failed+c.Failed, m.Errors+c.Errors
		notes = append(notes, c.Notes...)
	}
	for _, c := range rounds {
		if c.Error != "" {
			notes = append(notes, fmt.Sprintf("round %d: %s", c.Round, c.Error))
		}
	}
	for _, n := range notes {
		if !slices.Contains(m.Notes, n) {
			m.Notes = append(m.Notes, n)
		}
	}
	for figure, why := range rejected {
		m.Reject(figure, why)
	}
	return m
}

// countedRounds returns, for each figure, the rounds that count for it. If half of the
// rounds or more reject a figure, it is in rejected with the reason, and all rounds count.
func countedRounds(ran []result.Cell) (good map[string][]result.Cell, rejected map[string]string, notes []string) {
	good, rejected = map[string][]result.Cell{}, map[string]string{}
	for _, figure := range result.Figures {
		var why string
		for _, c := range ran {
			if c.OK(figure) {
				good[figure] = append(good[figure], c)
			} else if why == "" {
				why = c.Rejected[figure]
			}
		}
		switch n := len(good[figure]); {
		case n == len(ran):
		case 2*n > len(ran):
			notes = append(notes, fmt.Sprintf("%s: the median of %d of %d rounds; not counted: %s", figure, n, len(ran), why))
		default:
			rejected[figure], good[figure] = why, ran
		}
	}
	return good, rejected, notes
}

// medianFigures replaces the figures of c by their medians over the rounds in good.
func medianFigures(c *result.Cell, good map[string][]result.Cell) {
	of := func(figure string, f func(result.Cell) float64) float64 {
		var v []float64
		for _, one := range good[figure] {
			v = append(v, f(one))
		}
		return middle(v)
	}
	for _, q := range []struct {
		to     *float64
		figure string
		f      func(result.Cell) float64
	}{
		{&c.Rate, result.Rate, func(c result.Cell) float64 { return c.Rate }},
		{&c.Seconds, result.Rate, func(c result.Cell) float64 { return c.Seconds }},
		{&c.CPU.Total, result.CPU, func(c result.Cell) float64 { return c.CPU.Total }},
		{&c.CPU.User, result.CPU, func(c result.Cell) float64 { return c.CPU.User }},
		{&c.CPU.Sys, result.CPU, func(c result.Cell) float64 { return c.CPU.Sys }},
		{&c.Switches, result.CPU, func(c result.Cell) float64 { return c.Switches }},
		{&c.Writes, result.CPU, func(c result.Cell) float64 { return c.Writes }},
		{&c.Bytes, result.CPU, func(c result.Cell) float64 { return c.Bytes }},
		{&c.NATS, result.CPU, func(c result.Cell) float64 { return c.NATS }},
		{&c.Client, result.CPU, func(c result.Cell) float64 { return c.Client }},
		{&c.ServerBusy, result.CPU, func(c result.Cell) float64 { return c.ServerBusy }},
		{&c.ClientBusy, result.CPU, func(c result.Cell) float64 { return c.ClientBusy }},
		{&c.Latency.Mean, result.Latency, func(c result.Cell) float64 { return c.Latency.Mean }},
		{&c.Memory.PerConn, result.Mem, func(c result.Cell) float64 { return c.Memory.PerConn }},
		{&c.Memory.PerSub, result.Mem, func(c result.Cell) float64 { return c.Memory.PerSub }},
		{&c.Memory.PSSConn, result.Mem, func(c result.Cell) float64 { return c.Memory.PSSConn }},
		{&c.Memory.SocketCon, result.Sockets, func(c result.Cell) float64 { return c.Memory.SocketCon }},
	} {
		*q.to = of(q.figure, q.f)
	}
	c.Memory.RSS = int64(of(result.Mem, func(c result.Cell) float64 { return float64(c.Memory.RSS) }))
	for _, q := range []struct {
		to *int64
		f  func(hist.Summary) int64
	}{
		{&c.Latency.P50, func(s hist.Summary) int64 { return s.P50 }},
		{&c.Latency.P90, func(s hist.Summary) int64 { return s.P90 }},
		{&c.Latency.P99, func(s hist.Summary) int64 { return s.P99 }},
		{&c.Latency.P999, func(s hist.Summary) int64 { return s.P999 }},
		{&c.Latency.Max, func(s hist.Summary) int64 { return s.Max }},
	} {
		*q.to = int64(of(result.Latency, func(c result.Cell) float64 { return float64(q.f(c.Latency)) }))
	}
	if c.Hostile != nil {
		h := *c.Hostile // the round's own stays
		before := func(f func(hist.Summary) int64) int64 {
			return int64(of(result.Latency, func(c result.Cell) float64 { return float64(f(c.Hostile.Before)) }))
		}
		h.Before.P50 = before(func(s hist.Summary) int64 { return s.P50 })
		h.Before.P99 = before(func(s hist.Summary) int64 { return s.P99 })
		h.Before.Max = before(func(s hist.Summary) int64 { return s.Max })
		c.Hostile = &h
	}
}

// middle returns the median of v, 0 if v is empty. It sorts v.
func middle(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
