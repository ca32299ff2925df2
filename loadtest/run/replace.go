//go:build linux

package run

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/loadtest/plan"
	"sluice/loadtest/proc"
)

// replacer is the role of a stage that has another process take the place of its server. It runs
// beside the stage's goroutine, and only reads what does not change meanwhile.
type replacer struct{ *stage }

// replace has another process take the place of the stage's server, and returns it when the old one
// has ended. After an error the new process is gone.
func (st replacer) replace(ctx context.Context) (*proc.Process, error) {
	if st.target.Upgrade == plan.UpgradeSignal {
		return st.bySignal(ctx, st.server)
	}
	return st.byRestart(st.server)
}

// byRestart ends the server, and starts it again.
func (st replacer) byRestart(old *proc.Process) (*proc.Process, error) {
	if err := old.Stop(startLimit); err != nil {
		return nil, err
	}
	p, err := st.launch()
	if err != nil {
		return nil, err
	}
	st.heir.Store(int64(p.PID()))
	if err := p.Ready(st.addr, startLimit); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

const (
	childEvery = 20 * time.Millisecond // between two looks for a process's children
	childless  = 2 * time.Second       // after its successor has ended, for which a server does not try another one
)

// bySignal has the server start its successor, which goes on when the server has ended.
func (st replacer) bySignal(ctx context.Context, old *proc.Process) (p *proc.Process, err error) {
	if err := proc.AdoptOrphans(); err != nil {
		return nil, err
	}
	heir, ours := 0, proc.Children(os.Getpid())
	defer func() {
		if err != nil && heir != 0 {
			_ = unix.Kill(heir, unix.SIGKILL) // fails if it has ended
		}
	}()
	if err := old.Signal(syscall.SIGUSR2); err != nil {
		return nil, err
	}
	limit := time.NewTimer(upgradeLimit)
	defer limit.Stop()
	lost := time.Now().Add(startLimit - childless) // when a child was not there any more, or is late
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit.C:
			return nil, fmt.Errorf("%s still runs %v after SIGUSR2: %s", old.Name, upgradeLimit, old.Output())
		case <-old.Ended():
			ended = true
		case <-time.After(childEvery):
		}
		children := proc.Children(old.PID())
		if ended { // they are children of this process now
			children = slices.DeleteFunc(proc.Children(os.Getpid()), func(pid int) bool { return slices.Contains(ours, pid) })
		}
		children = slices.DeleteFunc(children, func(pid int) bool { return !proc.Alive(pid) })
		if heir != 0 && !proc.Alive(heir) { // Go tries its system calls with a child that ends at once
			heir, lost = 0, time.Now()
		}
		if heir == 0 && len(children) > 0 {
			heir = children[0]
		}
		st.heir.Store(int64(heir))
		if heir == 0 && time.Since(lost) > childless && !ended {
			return nil, fmt.Errorf("%s has no process that takes over: %s", old.Name, old.Output())
		}
	}
	code, err := old.Wait(stopLimit)
	switch {
	case err != nil:
		return nil, err
	case heir == 0 || code != 0:
		return nil, fmt.Errorf("%s did not hand over (%s): %s", old.Name, old.Exit(), old.Output())
	}
	return old.Successor(heir)
}
