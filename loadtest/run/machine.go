//go:build linux

package run

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sluice/loadtest/plan"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
)

// chooseCores fills in which of the cores the server and the clients use.
func chooseCores(p *plan.Plan, cores []int) {
	if len(cores) > 1 {
		if len(p.ServerCores) == 0 {
			p.ServerCores = cores[len(cores)-1:]
		}
		if len(p.ClientCores) == 0 {
			for _, c := range cores {
				if !slices.Contains(p.ServerCores, c) {
					p.ClientCores = append(p.ClientCores, c)
				}
			}
		}
	}
	if p.Threads == 0 {
		p.Threads = min(max(len(p.ClientCores), 1), 4)
	}
}

// PinSelf pins all threads of this process to cores. Threads created later inherit that.
func PinSelf(cores []int) {
	if len(cores) == 0 {
		return
	}
	tasks, _ := filepath.Glob("/proc/self/task/*")
	for _, t := range tasks {
		if tid, err := strconv.Atoi(filepath.Base(t)); err == nil {
			var set unix.CPUSet
			for _, c := range cores {
				set.Set(c)
			}
			_ = unix.SchedSetaffinity(tid, &set) // if this fails, the harness shows up as another busy program
		}
	}
}

// Describe describes this machine without its host name, and which cores servers and clients use.
func Describe(server, clients []int) result.Machine {
	m := result.Machine{Cores: len(proc.Cores()), Go: runtime.Version(), Server: server, Clients: clients}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			name, value, _ := strings.Cut(line, ":")
			switch name = strings.TrimSpace(name); {
			case name == "model name" && m.CPU == "":
				m.CPU = strings.TrimSpace(value)
			case name == "flags" && strings.Contains(" "+value+" ", " hypervisor "):
				m.Virtual = true
			}
		}
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		version, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
		m.Kernel = "Linux " + version
	}
	return m
}

// versions lists the versions of the targets and of the harness.
func versions(p plan.Plan) []string {
	var all []string
	for _, t := range p.Targets {
		if t.Version != "" {
			all = append(all, t.Label()+" "+t.Version)
		}
	}
	return append(all, harnessVersion()...)
}

// harnessVersion returns the commit that this program was built from, if the build
// recorded it. "make compare" builds the gateway from the same commit.
func harnessVersion() []string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", changed"
		}
	}
	if commit == "" {
		return nil
	}
	return []string{"harness " + commit + changed}
}
