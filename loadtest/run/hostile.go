//go:build linux

package run

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"sluice/loadtest/client"
	"sluice/loadtest/hostile"
	"sluice/loadtest/judge"
	"sluice/loadtest/plan"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
)

// attackLead is how long the attackers are at work before what the others get is measured.
const attackLead = 500 * time.Millisecond

// hostile sends events without attackers, and then the same beside them. The cell's figures are of
// the second.
func (st *stage) hostile(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	rate := s.EventRate(st.layout.n)
	before := result.Cell{Target: c.Target, Scenario: c.Scenario, Kind: c.Kind}
	if err := st.paced(ctx, s, &before, rate); err != nil {
		return err
	}
	judge.Cell(&before, s)
	if err := st.restore(ctx); err != nil {
		return err
	}
	st.run.say("%s: %s: %d attackers (%s)", st.target.Name, s.Name, s.Attackers, s.Attack)
	began := time.Now()
	end, err := beginAttack(ctx, st, s)
	if err != nil {
		return fmt.Errorf("attackers: %w", err)
	}
	err = pause(ctx, attackLead)
	if err == nil {
		err = st.paced(ctx, s, c, rate)
	}
	took := time.Since(began).Seconds()
	counts, err2 := end()
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	for figure, why := range before.Rejected {
		c.Reject(figure, "without attackers: "+why)
	}
	c.Hostile = &result.Hostile{
		Attack: s.Attack, Attackers: s.Attackers, Before: before.Latency, BusyBefore: before.ServerBusy, CPUBefore: before.CPU.Total,
		Frames: counts.Frames, Connects: counts.Connects, Failed: counts.Failed, Closes: counts.Closes, Closed: counts.Closed(),
		Seconds: result.Round(took, 1), Megabytes: result.Round(float64(counts.Bytes)/1e6/took, 1),
	}
	return nil
}

// beginAttack begins an attack: in a process of its own if there is a program for it. end ends it.
func beginAttack(ctx context.Context, st *stage, s plan.Scenario) (end func() (hostile.Counts, error), err error) {
	d, err := client.NewDriver(st.target.Protocol, st.target.Path)
	if err != nil {
		return nil, err
	}
	cfg := hostile.Config{Addr: st.config.Addr, Attack: s.Attack, Attackers: s.Attackers, Limit: s.Duration + 2*drainLimit}
	cfg.Path, _ = d.Path()
	if st.run.options.Self == "" {
		a, err := hostile.Begin(ctx, cfg)
		if err != nil {
			return nil, err
		}
		return func() (hostile.Counts, error) { return a.End(), nil }, nil
	}
	r, err := hostile.Start(exec.Command(st.run.options.Self, "attack"), cfg, func(c *exec.Cmd) error { return proc.StartPinned(c, st.run.plan.ClientCores) })
	if err != nil {
		return nil, err
	}
	st.workers = append(st.workers, r.PID())
	return r.End, nil
}
