//go:build linux

package loadtest

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// The search for the highest sustained rate.
const (
	searchStep   = 3.0  // while every trial is sustained
	searchClose  = 1.06 // between the highest that was sustained and the least above it
	searchBehind = 0.10 // part of a trial's time that its last delivery may be late
)

// search finds the highest rate that is sustained: all that was due in a trial
// is delivered by its end or soon after. All that it reports, rate, latency and
// cost, is of one trial, and the rate is the one achieved there.
func (st *stage) search(ctx context.Context, s Scenario, c *Cell) error {
	n, start := st.layout.n, s.Deliveries
	if start == 0 {
		start = s.Rate * float64(n)
	}
	events := s
	events.Deliveries = 0
	perEvent := float64(n*s.PerClient) / float64(s.Topics)
	blank := *c
	var chosen Cell
	var all trials
	for range s.Trials {
		offered := all.next(start)
		if offered == 0 {
			break
		}
		trial := blank
		if err := st.restore(ctx); err != nil {
			return err
		}
		rate := offered / perEvent
		if err := st.paced(ctx, events, &trial, rate); err != nil {
			return err
		}
		p := newPacer(0, rate, s.Burst, int64(s.Duration))
		behind := trial.Seconds - float64(p.end())/1e9
		// One event takes a while to reach everybody even when nothing else is
		// under way; that is no sign of overload.
		low, _ := all.bracket()
		allowed := max(searchBehind*s.Duration.Seconds(), 1.5*perEvent/max(low, offered/searchStep))
		t := trial.verdict(offered, behind, allowed)
		all = append(all, t)
		if all.best() == len(all)-1 {
			chosen = trial
		}
		st.run.say("%s: %s: %.0f deliveries/s: %s", st.target.Name, s.Name, offered, t.remark())
	}
	if all.best() < 0 {
		c.Unit, c.Trials = "delivery", all
		return fmt.Errorf("no rate was sustained, down to %.0f deliveries/s", slices.MinFunc(all, func(a, b Trial) int { return compare(a.Offered, b.Offered) }).Offered)
	}
	*c = chosen
	c.take(all)
	return nil
}

// verdict makes a trial of what was measured at a rate, judged by itself.
func (c *Cell) verdict(offered, behind, allowed float64) Trial {
	t := Trial{Offered: round(offered, 3), Achieved: c.Rate, P99: c.Latency.P99, Busy: c.ServerBusy, Client: c.ClientBusy, Late: c.Late, Sustained: true}
	switch {
	case c.Lost > 0 || c.Closed > 0:
		t.Sustained, t.Why = false, fmt.Sprintf("%d lost, %d connections closed", c.Lost, c.Closed)
	case behind > allowed:
		t.Sustained, t.Why = false, fmt.Sprintf("%.2f s behind at the end", behind)
	}
	switch {
	case c.ClientBusy > clientFull:
		t.Limit = "clients"
	case c.Late > lateLimit && (t.Sustained || c.ServerBusy < serverFull): // else a full server did not read
		t.Limit = "harness"
	}
	return t
}

// remark is the verdict for the log.
func (t Trial) remark() string {
	text := "sustained"
	if !t.Sustained {
		text = "not sustained: " + t.Why
	}
	if t.Limit != "" {
		text += ", with the " + t.Limit + " as the limit"
	}
	return text
}

// trials are the steps of a search so far, in their order.
type trials []Trial

// next is the rate to offer now; 0 ends the search. It rises until a rate is not
// sustained, then closes in from both sides.
func (all trials) next(start float64) float64 {
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

// bracket returns the highest rate that was sustained, and the lowest above it;
// 0 where there is none.
func (all trials) bracket() (low, high float64) {
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

// best is the trial to report: of those that were sustained, the one that
// achieved most, whatever its limit; -1 if none was.
func (all trials) best() int {
	best := -1
	for i, t := range all {
		if t.Sustained && (best < 0 || t.Achieved > all[best].Achieved) {
			best = i
		}
	}
	return best
}

// take fills in what a whole search says about the trial that c was, the best.
// Its rate is a bound as well if it was not the server that failed above it.
func (c *Cell) take(all trials) {
	c.Trials = all
	if limit := all[all.best()].Limit; limit != "" {
		c.bound(limit)
		return
	}
	_, high := all.bracket()
	if i := slices.IndexFunc(all, func(t Trial) bool { return t.Offered == high }); i >= 0 {
		c.Limit = all[i].Limit
	}
	c.AtLeast = c.Limit != ""
}
