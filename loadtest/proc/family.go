//go:build linux

package proc

import (
	"errors"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Children returns the ids of the processes that a process has started and not waited for.
func Children(pid int) (all []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	for _, name := range stats {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		if f, err := readStat(child); err == nil && f[1] == strconv.Itoa(pid) {
			all = append(all, child)
		}
	}
	return all
}

// Alive reports whether a process runs. One that has ended and was not waited for does not.
func Alive(pid int) bool {
	f, err := readStat(pid)
	return err == nil && f[0] != "Z" && f[0] != "X"
}

// Used returns what a process had used when it ended. The kernel does not keep Writes: it is -1.
func (p *Process) Used() (Usage, error) {
	if p.Running() {
		return Usage{}, errors.New("the process still runs")
	}
	if p.state == nil {
		return Usage{}, errors.New("another process has waited for it")
	}
	r, ok := p.state.SysUsage().(*syscall.Rusage)
	if !ok {
		return Usage{}, errors.New("the kernel does not say what the process has used")
	}
	user, sys := time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano())
	return Usage{CPU: user + sys, User: user, Sys: sys, Switches: r.Nvcsw + r.Nivcsw, Writes: -1}, nil
}
