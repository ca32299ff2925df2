//go:build linux

package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sluice/loadtest/proc"
	"sluice/loadtest/soak/service"
)

// connectRate is how many clients connect per second in the beginning.
const connectRate = 1000

// Run runs a soak. The error says why it could not be run to its end; what the gateway did wrong is
// in the result, which is also there with an error. The report is in the folder Out by then.
func Run(ctx context.Context, opt Options) (*Result, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opt.Out, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(opt.Out, "soak.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	e := &env{opt: opt, journal: newJournal(log, opt.Say)}
	e.result.Options, e.result.Date = opt, time.Now()
	for g := range e.fresh {
		e.fresh[g] = make([]atomic.Int64, services)
	}
	err = e.run(ctx)
	e.close()
	e.journal.close()
	e.conclude()
	return &e.result, errors.Join(err, e.write())
}

// run does all of it.
func (e *env) run(ctx context.Context) error {
	e.journal.note("seed %d, %v, %d clients, logs in %s", e.opt.Seed, e.opt.Time, e.opt.Clients, e.opt.Out)
	if err := e.start(ctx); err != nil {
		return err
	}
	var ended sync.WaitGroup
	clientsCtx, cut := context.WithCancel(ctx)
	defer ended.Wait()
	defer cut()
	e.connect(clientsCtx, &ended)
	sampler := startSampler(e)
	defer func() { e.result.samples = sampler.end() }()
	if err := e.act(ctx); err != nil {
		return err
	}
	e.phase.Store(int32(leaving))
	ended.Wait()
	e.checkLeaks(ctx, "without clients", 0)
	for i, g := range e.gateways {
		began := time.Now()
		if err := g.stop(); err != nil {
			e.journal.fail("%v", err)
		}
		e.journal.note("gateway %s has stopped after %.1f s", gatewayNames[i], time.Since(began).Seconds())
	}
	return ctx.Err()
}

// start starts all processes.
func (e *env) start(ctx context.Context) (err error) {
	if err := proc.AdoptOrphans(); err != nil {
		return err
	}
	if e.cluster, err = startCluster(e.opt.Out, e.opt.NATS); err != nil {
		return err
	}
	for i := range services {
		cfg := service.Config{Index: i, Services: services, URLs: e.cluster.from(i), Seed: e.opt.Seed, Groups: e.opt.groups(), Feeds: e.opt.feeds(), Changes: 10, Ticks: 1}
		s, err := newService(e.opt.Out, cfg, e.opt.Service)
		if err != nil {
			return err
		}
		e.services = append(e.services, s)
		if err := s.start(); err != nil {
			return err
		}
	}
	for i := range gateways {
		g, err := newGateway(e.opt.Out, e.opt.Gateway, e.cluster.through(i), i)
		if err != nil {
			return err
		}
		e.gateways = append(e.gateways, g)
		if err := g.start(); err != nil {
			return err
		}
	}
	until(ctx, patience, func() bool { // the metrics port may open later
		e.base, err = e.weighAll()
		return err == nil
	})
	return err
}

// connect starts the clients.
func (e *env) connect(ctx context.Context, ended *sync.WaitGroup) {
	for id := range e.opt.Clients {
		c := newClient(e, id)
		e.clients = append(e.clients, c)
		ended.Add(1)
		go func() {
			defer ended.Done()
			wait(ctx, time.Duration(id)*time.Second/connectRate)
			c.run(ctx)
		}()
	}
}

// act lets clients and services act while the faults happen, with a checkpoint to compare the end
// with: at a tenth of the time but at most after ten minutes, or before all faults if there is
// little time.
func (e *env) act(ctx context.Context) error {
	if err := e.checkpoint(ctx, "all clients are connected"); err != nil {
		return err
	}
	if e.opt.long() {
		first := min(e.opt.Time/10, 10*time.Minute)
		heavy, light := schedule(e.opt.Seed^1, first)
		// From the checkpoint on this gateway is not started again.
		heavy = append([]fault{{kind: gatewayStop, gateway: plain}, {kind: gatewayKill, gateway: plain}}, heavy...)
		if err := e.phaseOf(ctx, heavy, light, first); err != nil {
			return err
		}
		if err := e.checkpoint(ctx, "checkpoint"); err != nil {
			return err
		}
	}
	heavy, light := schedule(e.opt.Seed, e.opt.Time)
	if err := e.phaseOf(ctx, heavy, light, e.opt.Time); err != nil {
		return err
	}
	before := e.reference
	if err := e.checkpoint(ctx, "the end"); err != nil {
		return err
	}
	e.reference = before
	e.checkMemory(ctx)
	e.checkLeaks(ctx, "with all clients", 3)
	return ctx.Err()
}

// phaseOf causes faults while clients and services act, for a time at least.
func (e *env) phaseOf(ctx context.Context, heavy, light []fault, length time.Duration) error {
	end := time.Now().Add(length)
	e.phase.Store(int32(acting))
	for _, s := range e.services {
		if _, err := s.do(service.Command{Do: service.Run}); err != nil {
			return err
		}
	}
	e.causeAll(ctx, heavy, light)
	wait(ctx, time.Until(end))
	return ctx.Err()
}

// checkpoint waits until all clients are exact, and measures the gateways.
func (e *env) checkpoint(ctx context.Context, name string) error {
	began := time.Now()
	if err := e.settle(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.journal.fail("%s: %v", name, err)
	}
	e.journal.note("%s: exact after %.1f s, %d clients", name, time.Since(began).Seconds(), e.connected.Load())
	var err error
	until(ctx, patience, func() bool {
		e.reference, err = e.weighAll()
		return err == nil
	})
	return err
}

// close ends all processes.
func (e *env) close() {
	for _, g := range e.gateways {
		g.close()
	}
	for _, s := range e.services {
		s.stop()
	}
	if e.cluster != nil {
		e.cluster.close()
	}
}

// conclude judges what the journal has, after its end.
func (e *env) conclude() {
	j, r := e.journal, &e.result
	e.readStatedLosses()
	lost, gaps := j.judgeGaps()
	closes := j.judgeCloses()
	r.Seconds = time.Since(j.began).Seconds()
	r.Lost, r.Repeated = lost, j.repeated
	for _, wrong := range [][]string{gaps, closes} {
		r.failed += len(wrong)
		r.Failures = append(r.Failures, wrong[:min(len(wrong), maxFailures)]...)
	}
	if e.last != nil {
		for i, s := range e.last.states {
			r.Calls += s.Calls
			if s.Repeated > 0 {
				r.failed++
				r.Failures = append(r.Failures, fmt.Sprintf("service %d was called twice with %d calls", i, s.Repeated))
			}
		}
	}
	r.failed += int(j.failCount.Load())
	r.Failures = append(j.failures, r.Failures...)
	r.journal = j
}
