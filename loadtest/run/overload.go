//go:build linux

package run

import (
	"context"
	"fmt"
	"time"

	"sluice/loadtest/client"
	"sluice/loadtest/plan"
	"sluice/loadtest/result"
)

const (
	searchDuration = 2 * time.Second // of a trial, to find what the server can deliver
	searchTrials   = 8
	convergeLimit  = 30 * time.Second // after the last change
)

// overload changes a model more often than the server can tell its clients. It measures the
// server's memory meanwhile, and how long after the last change all clients have its state.
func (st *stage) overload(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	n := st.layout.n
	rate := s.EventRate(n)
	if rate == 0 {
		trial, find := *c, s
		find.Kind, find.Duration, find.Trials, find.Deliveries = plan.KindMax, searchDuration, searchTrials, 20_000
		if err := st.search(ctx, find, &trial); err != nil {
			return err
		}
		rate = trial.Rate / float64(n)
		if err := st.restore(ctx); err != nil {
			return err
		}
	}
	rate *= s.Factor
	out := &result.Overload{Offered: result.Round(rate*float64(n), 1), Converged: -1, Before: st.memory().RSS}
	st.run.say("%s: %s: %.0f changes/s for %v", st.target.Name, s.Name, rate, s.Duration)
	start := client.Now() + int64(leadIn)
	if err := st.clients.Begin(start); err != nil {
		return err
	}
	m := st.measure(c, start, result.Delivery, client.Delivery)
	p := newPacer(start, rate, s.Burst, int64(s.Duration))
	m.length = s.Duration
	sender := st.send(p, s)
	defer close(sender.stop)
	c.Events, c.Overload = int64(p.count), out
	if err := m.until(ctx, time.Now().Add(time.Duration(p.end()-client.Now()))); err != nil {
		return err
	}
	if err := m.waitFor(ctx, sender); err != nil {
		return err
	}
	c.Late = sender.late
	sent, last := client.Now(), p.due(p.count-1)
	for end := time.Now().Add(convergeLimit); out.Converged < 0 && time.Now().Before(end); {
		sample, err := st.clients.Sample(true)
		if err != nil {
			return err
		}
		if sample.Count.Oldest >= last {
			out.Converged = result.Round(float64(client.Now()-sent)/1e9, 3)
		}
		if err := pause(ctx, drainEvery); err != nil {
			return err
		}
	}
	if err := m.poll(); err != nil {
		return err
	}
	m.finish(m.last.Deliveries, m.last.Deliveries) // which of the changes a client gets is up to the server
	for _, point := range c.Series {
		out.Highest = max(out.Highest, point.RSS)
	}
	converged := fmt.Sprintf("all clients had the last state %.2f s after it was sent", out.Converged)
	if out.Converged < 0 {
		converged = fmt.Sprintf("not all clients had the last state %v after it was sent", convergeLimit)
	}
	c.Notes = append(c.Notes, fmt.Sprintf("%s; RSS %d MB before, at most %d MB; %.0f deliveries/s offered", converged, out.Before>>20, out.Highest>>20, out.Offered))
	return nil
}
