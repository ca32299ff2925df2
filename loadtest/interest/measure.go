//go:build linux

package interest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	mostPairs   = 100_000 // of a churn
	mostSamples = 200     // resources whose events are published after a restart
	roundEvery  = 20 * time.Millisecond
	resyncLimit = time.Minute
	roundsAfter = 10 // rounds of events after the interest is complete
)

// measure measures a row.
func (o *Options) measure(ctx context.Context, dir string, r *Result, row *Row) (err error) {
	s, err := o.startCluster(ctx, dir, row.Way == Isolated)
	defer s.close()
	if err != nil {
		return err
	}
	at := s.nodes[0]
	behind := row.Way != Names && row.Way != Wildcards
	if behind {
		if err := o.startLeaves(ctx, dir, s); err != nil {
			return err
		}
		at = s.edges[0]
	}
	for _, n := range s.nodes {
		v, err := n.varz()
		if err != nil {
			return err
		}
		r.Version = v.Version
		s.base = append(s.base, v.Subscriptions)
	}
	alone := 0 // subscriptions of the other leaf node
	if behind {
		v, err := s.edges[1].varz()
		if err != nil {
			return err
		}
		alone = v.Subscriptions
	}
	for range Gateways {
		c, err := dial(at.client)
		if err != nil {
			return err
		}
		s.conns = append(s.conns, c)
	}
	if err := s.subscribe(ctx, row); err != nil {
		return err
	}
	if behind {
		hub, err1 := s.nodes[1].varz()
		other, err2 := s.edges[1].varz()
		row.Hub, row.Other = hub.Subscriptions-s.base[1], other.Subscriptions-alone
		return errors.Join(err1, err2)
	}
	if row.Way == Names {
		if err := s.churn(ctx, row); err != nil {
			return err
		}
	}
	return s.restart(ctx, row)
}

// expected returns how many subscriptions the hub gets.
func (row *Row) expected() int {
	switch row.Way {
	case Same:
		return row.Resources / Gateways
	case Wildcards:
		return Gateways
	case Edge:
		return 1
	}
	return row.Resources
}

// part returns the resources of a gateway.
func (row *Row) part(i int) (from, to int) {
	if row.Way == Same {
		return 0, row.Resources / Gateways
	}
	return row.Resources / Gateways * i, row.Resources / Gateways * (i + 1)
}

// subscribe makes all subscriptions, and measures what each costs.
func (s *stand) subscribe(ctx context.Context, row *Row) error {
	row.Resources -= row.Resources % Gateways
	before := make([]use, len(s.nodes))
	for i, n := range s.nodes {
		var err error
		if before[i], err = n.use(); err != nil {
			return err
		}
	}
	began := time.Now()
	for i, c := range s.conns {
		if row.Way == Wildcards || row.Way == Edge {
			c.line("SUB", "event.>", "1")
		} else {
			c.subscribe(row.part(i))
		}
		if err := c.sync(); err != nil {
			return err
		}
	}
	// A route has one subscription for all that are alike.
	want := []int{row.expected(), row.expected(), row.expected()}
	if row.Way == Wildcards {
		want[1], want[2] = 1, 1
	}
	if err := s.has(ctx, want...); err != nil {
		return err
	}
	row.Seconds = time.Since(began).Seconds()
	each := float64(row.Resources)
	for i, n := range s.nodes {
		after, err := n.use()
		if err != nil {
			return err
		}
		cpu := float64((after.cpu - before[i].cpu).Microseconds()) / each
		heap := float64(after.heap-before[i].heap) / each
		if i == 0 {
			row.CPU, row.Heap, row.RSS = cpu, heap, after.rss
		} else {
			row.RouteCPU += cpu / 2
			row.RouteHeap += heap / 2
			row.RouteRSS += after.rss / 2
		}
	}
	return nil
}

// churn ends subscriptions and makes them again, and measures what a pair costs.
func (s *stand) churn(ctx context.Context, row *Row) error {
	pairs := min(mostPairs, row.Resources)
	before := make([]time.Duration, len(s.nodes))
	for i, n := range s.nodes {
		before[i] = n.cpu()
	}
	began := time.Now()
	const batch = 1000
	for i, c := range s.conns {
		from, to := row.part(i)
		for at := from; at < min(to, from+pairs/Gateways); at += batch {
			end := min(at+batch, to, from+pairs/Gateways)
			c.unsubscribe(at, end)
			c.subscribe(at, end)
			if err := c.sync(); err != nil {
				return err
			}
		}
	}
	// What passes over the routes after the last line of the node is a small part of the CPU time.
	row.Churn = float64(pairs) / time.Since(began).Seconds()
	if err := s.has(ctx, row.Resources, row.Resources, row.Resources); err != nil {
		return err
	}
	for i, n := range s.nodes {
		cpu := float64((n.cpu() - before[i]).Microseconds()) / float64(pairs)
		if i == 0 {
			row.ChurnCPU = cpu
		} else {
			row.ChurnRoute += cpu / 2
		}
	}
	return nil
}

// restart kills the third node, starts it again, and publishes events there from the moment at
// which it takes connections.
func (s *stand) restart(ctx context.Context, row *Row) error {
	n := s.nodes[2]
	n.Kill()
	if err := n.start(); err != nil {
		return err
	}
	service, err := dial(n.client)
	if err != nil {
		return err
	}
	defer service.close()
	began := time.Now()
	samples := min(mostSamples, row.Resources)
	want := row.Resources
	if row.Way == Wildcards {
		want = 1
	}
	var rounds []time.Duration // when each was published
	complete, after := 0, 0
	for after < roundsAfter {
		for i := range samples {
			service.publish(row.Resources/samples*i, len(rounds))
		}
		rounds = append(rounds, time.Since(began))
		if err := service.sync(); err != nil {
			return err
		}
		if after > 0 {
			after++
		} else if v, err := n.varz(); err == nil && v.Subscriptions >= want && v.Remotes == len(s.nodes)-1 {
			row.Resync = time.Since(began).Seconds()
			complete, after = len(rounds), 1
		}
		if after == 0 && time.Since(began) > resyncLimit {
			row.Resync, row.Missing = -1, time.Since(began).Seconds()
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(roundEvery):
		}
	}
	got := make([]int, len(rounds))
	for i, c := range s.conns {
		from, _ := row.part(i)
		for end, arrived := time.Now().Add(ioLimit), false; !arrived; {
			service.publish(from, lastRound)
			if err := service.sync(); err != nil {
				return err
			}
			select {
			case <-c.last:
				arrived = true
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(roundEvery):
			}
			if !arrived && time.Now().After(end) {
				return fmt.Errorf("events published at the restarted server do not reach gateway %d", i)
			}
		}
	}
	for _, c := range s.conns {
		for round, events := range c.close() {
			if round >= 0 && round < len(got) {
				got[round] += events
			}
		}
	}
	s.conns = nil
	each := 1
	if row.Way == Wildcards {
		each = Gateways
	}
	lost := 0
	for i, events := range got {
		if missed := samples*each - events; missed > 0 {
			row.Missing = rounds[i].Seconds()
			if i < complete {
				lost += missed
			}
		}
	}
	row.Lost = float64(lost) / float64(max(complete*samples*each, 1))
	row.Copies = float64(got[len(got)-1]) / float64(samples)
	return nil
}
