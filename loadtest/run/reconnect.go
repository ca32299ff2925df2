//go:build linux

package run

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sluice/loadtest/client"
	"sluice/loadtest/hist"
	"sluice/loadtest/plan"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
	"sluice/loadtest/service"
)

// worker is a service that can be given work to do.
type worker interface {
	Begin(service.Work)
	End() service.Worked
}

// endless is longer than any measurement.
const endless = 10 * time.Minute

// reconnect cuts all clients off, and has them come back.
func (st *stage) reconnect(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	return st.comeBack(ctx, s, c, st.config.Addr, st.clients.Drop)
}

// failover kills the server of all clients, and has them come to another one, which has clients of
// its own. The clients notice immediately, and do not wait: nothing is harder for the other server.
func (st *stage) failover(ctx context.Context, s plan.Scenario, c *result.Cell) (err error) {
	first := st.server
	defer func() { err = errors.Join(err, first.Stop(stopLimit)) }()
	port, err := proc.FreePort()
	if err != nil {
		return err
	}
	st.params["port"] = strconv.Itoa(port)
	st.addr = "127.0.0.1:" + st.params["port"]
	if err := st.startServer(); err != nil { // the stage's from now on: it is the one to measure
		return err
	}
	st.config.Addr = st.addr
	st.empty = st.memory()
	return st.comeBack(ctx, s, c, st.addr, func() error {
		first.Kill()
		return st.clients.Move(st.addr)
	})
}

// comeBack has cut end all connections, lets the clients come back together, and measures until all
// of them are subscribed again. Other clients, at the server of an address, make calls before and
// meanwhile.
func (st *stage) comeBack(ctx context.Context, s plan.Scenario, c *result.Cell, addr string, cut func() error) (err error) {
	w := st.service.(worker)
	callers, err := st.startCallers(ctx, s, addr)
	if err != nil {
		return fmt.Errorf("clients that stay: %w", err)
	}
	defer func() { err = errors.Join(err, callers.Close()) }()
	load := client.Load{Kind: client.Call.String(), Rate: s.Rate, Window: 1 << 10}
	out := new(result.Reconnect)

	now := client.Now()
	load.Until = now + int64(s.Duration)
	if err := errors.Join(callers.Begin(now), callers.Load(load), pause(ctx, s.Duration+s.Work)); err != nil {
		return err
	}
	before, err := ended(ctx, callers)
	if err != nil {
		return err
	}
	w.End()
	w.Begin(st.layout.work) // counts from 0

	if err := cut(); err != nil {
		return err
	}
	now = client.Now()
	load.Until = now + int64(endless) // ended below
	if err := errors.Join(callers.Begin(now), callers.Load(load)); err != nil {
		return err
	}
	connected := st.connect(ctx, c)
	load.Until = client.Now()
	if err := errors.Join(connected, callers.Load(load)); err != nil {
		return err
	}
	meanwhile, err := ended(ctx, callers)
	if err != nil {
		return err
	}
	worked := w.End()
	out.Access, out.Gets, out.Calls, out.Most = worked.Access, worked.Gets, worked.Calls, worked.Most
	out.Ideal = result.Round((worked.Busy / time.Duration(s.Workers)).Seconds(), 3)
	kind := client.Call.String()
	out.Before, out.Meanwhile = hist.From(before.Hists[kind]).Summary(), hist.From(meanwhile.Hists[kind]).Summary()
	out.Failed = before.Count.Errors + meanwhile.Count.Errors + int64(before.Count.Closed+meanwhile.Count.Closed)
	c.Reconnect = out
	c.Notes = append(c.Notes, fmt.Sprintf("all had their resources after %.1f s, the service was busy for %.1f s; it got %d access and %d get requests, at most %d at a time; calls of others: p99 %.1f ms before, %.1f ms meanwhile, %d failed",
		c.Seconds, out.Ideal, out.Access, out.Gets, out.Most, float64(out.Before.P99)/1e3, float64(out.Meanwhile.P99)/1e3, out.Failed))
	return nil
}

// startCallers connects the clients that stay. They live in this process.
func (st *stage) startCallers(ctx context.Context, s plan.Scenario, addr string) (*client.Engine, error) {
	cfg := st.config
	cfg.Addr = addr
	cfg.First, cfg.Count, cfg.PerClient, cfg.Inflight, cfg.ConnectRate, cfg.Slow, cfg.Threads = st.layout.n, s.Callers, 1, s.Callers, 0, 0, 1
	return st.startEngine(ctx, cfg)
}

// startEngine connects clients in this process.
func (st *stage) startEngine(ctx context.Context, cfg client.Config) (*client.Engine, error) {
	e, err := client.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := e.Connect(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	for end := time.Now().Add(startLimit); ; {
		sample, err := e.Sample(false)
		switch n := sample.Count; {
		case err == nil && n.Ready == cfg.Count:
			return e, nil
		case err == nil && n.Failed+n.Closed > 0 || time.Now().After(end):
			err = fmt.Errorf("%d of %d connected: %s", n.Ready, cfg.Count, n.LastError)
		case err == nil:
			err = pause(ctx, drainEvery)
		}
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
}

// ended waits until all calls have responses, and returns what the clients count since their phase
// began.
func ended(ctx context.Context, c client.Clients) (all client.Sample, err error) {
	for end := time.Now().Add(quietLimit * 2); ; {
		sample, err := c.Sample(false)
		if err != nil {
			return all, err
		}
		count := sample.Count // since the phase began, unlike the latencies
		all.Count = client.Counters{}
		all.Add(sample)
		if count.Waiting == 0 || time.Now().After(end) {
			return all, nil
		}
		if err := pause(ctx, drainEvery); err != nil {
			return all, err
		}
	}
}
