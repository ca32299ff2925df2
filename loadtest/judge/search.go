//go:build linux

package judge

import (
	"fmt"
	"math"
	"slices"

	"sluice/loadtest/result"
)

const (
	searchStep  = 3.0  // factor between rates while every trial is sustained
	searchClose = 1.06 // the search ends when the bracket's ends differ by less than this factor
	searchLate  = 0.10 // share of a trial's length that its last delivery may be late
)

// Search is the trials of a search for the highest sustained rate, in order. A rate is
// sustained if all deliveries due in the trial are complete at its end or shortly after.
type Search []result.Trial

// Next returns the rate to offer next; 0 ends the search. The rate rises until one is not
// sustained, then bisects between the highest sustained and the lowest above it.
func (all Search) Next(start float64) float64 {
	switch low, high := all.bracket(); {
	case len(all) == 0:
		return start
	case high == 0:
		return low * searchStep
	case low == 0:
		return high / searchStep
	case high/low < searchClose:
		return 0
	default:
		return math.Sqrt(high * low)
	}
}

// Grace returns how many seconds after a trial's end its last delivery may be complete.
// offered is the rate in deliveries per second, perEvent the deliveries of one event. An
// event takes a while to reach all clients even on an idle server, which is no overload.
func (all Search) Grace(seconds, offered, perEvent float64) float64 {
	low, _ := all.bracket()
	return max(searchLate*seconds, 1.5*perEvent/max(low, offered/searchStep))
}

// bracket returns the highest sustained rate and the lowest rate above it; 0 where there
// is none.
func (all Search) bracket() (low, high float64) {
	for _, t := range all {
		if t.Sustained {
			low = max(low, t.Offered)
		}
	}
	for _, t := range all {
		if t.Offered > low && (high == 0 || t.Offered < high) {
			high = t.Offered
		}
	}
	return low, high
}

// Best returns the index of the trial to report: the sustained one that achieved the
// highest rate, whatever its limit. It is -1 if no trial was sustained.
func (all Search) Best() int {
	best := -1
	for i, t := range all {
		if t.Sustained && (best < 0 || t.Achieved > all[best].Achieved) {
			best = i
		}
	}
	return best
}

// Lowest returns the lowest rate that was offered.
func (all Search) Lowest() float64 {
	low := math.Inf(1)
	for _, t := range all {
		low = min(low, t.Offered)
	}
	return low
}

// Conclude adds to c, the cell of the best trial, what follows from the whole search.
// Its rate is a lower bound as well if the trial above it failed for another reason than
// the server.
func (all Search) Conclude(c *result.Cell) {
	c.Trials = all
	if limit := all[all.Best()].Limit; limit != "" {
		c.Bound(limit)
		return
	}
	_, high := all.bracket()
	if i := slices.IndexFunc(all, func(t result.Trial) bool { return t.Offered == high }); i >= 0 {
		c.Limit = all[i].Limit
	}
	c.AtLeast = c.Limit != ""
}

// Trial judges one trial by itself. offered is its rate in deliveries per second. behind is
// how many seconds after its end its last delivery was complete, and grace is the limit.
func Trial(c *result.Cell, offered, behind, grace float64) result.Trial {
	t := result.Trial{Offered: result.Round(offered, 3), Achieved: c.Rate, P99: c.Latency.P99, Busy: c.ServerBusy, Client: c.ClientBusy, Late: c.Late, Sustained: true}
	switch {
	case c.Lost > 0 || c.Closed > 0:
		t.Sustained, t.Why = false, fmt.Sprintf("%d lost, %d connections closed", c.Lost, c.Closed)
	case behind > grace:
		t.Sustained, t.Why = false, fmt.Sprintf("%.2f s behind at the end", behind)
	}
	switch {
	case c.ClientBusy > clientFull:
		t.Limit = result.LimitClients
	case c.Late > lateLimit && (t.Sustained || c.ServerBusy < serverFull): // else a saturated server stopped reading
		t.Limit = result.LimitHarness
	}
	return t
}
