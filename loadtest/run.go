//go:build linux

package loadtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/loadtest/proc"
)

// Options are how a run reaches the world outside.
type Options struct {
	Self     string             // path of a program that serves "floor", for {self}
	Worker   func() *exec.Cmd   // makes the command of a client process (client.Worker); nil: clients live in this process
	Progress func(Status)       // called now and then while a scenario runs; may be nil
	Say      func(line string)  // what happens, for a log; may be nil
	Cell     func(*Report, int) // called after each cell with its index; may be nil
}

// Status is what a progress line shows.
type Status struct {
	Target, Scenario string
	Round, Rounds    int
	Cell, Cells      int // which of how many
	Point            Point
	Connections      int // wanted
	Left             time.Duration
}

// runner runs one plan.
type runner struct {
	plan    Plan
	options Options
	machine Machine
	report  *Report
	dir     string // temporary files; "" until needed
	began   time.Time
	status  Status
}

// Run runs a plan to its end, or until ctx is done. A scenario that fails is
// noted in its cell and does not end the run. The report is valid, if not
// complete, also with an error.
func Run(ctx context.Context, p Plan, o Options) (*Report, error) {
	if err := p.Complete(); err != nil {
		return nil, err
	}
	p.chooseCores(proc.Cores())
	r := &runner{plan: p, options: o, began: time.Now(), machine: describe(p)}
	r.report = &Report{Schema: 1, Title: p.Title, Date: r.began.UTC().Truncate(time.Second), Machine: r.machine, Plan: p.redacted(), Versions: versions(p)}
	defer func() {
		r.report.Seconds = round(time.Since(r.began).Seconds(), 1)
		if r.dir != "" {
			_ = os.RemoveAll(r.dir)
		}
	}()
	if o.Worker != nil {
		pinSelf(p.ClientCores)
	}
	for _, s := range p.Scenarios {
		for _, t := range p.Targets {
			if why := s.leftOut(t); why != "" {
				r.say("%s: %s is left out: %s", t.Name, s.Name, why)
			}
		}
	}
	groups := r.groups()
	for _, g := range groups {
		for _, s := range g.scenes {
			n := s.rounds(p.Rounds)
			r.status.Cells += len(g.targets) * n
			r.status.Rounds = max(r.status.Rounds, n)
		}
	}
	for round := 1; round <= r.status.Rounds; round++ {
		for _, g := range groups {
			g = g.in(round, p.Rounds)
			for _, t := range g.targets {
				if err := r.group(ctx, t, g, round); err != nil {
					return r.report, err
				}
			}
		}
	}
	return r.report, nil
}

// group is neighbouring scenarios that share a stage.
type group struct {
	n       int
	scenes  []Scenario
	targets []Target
}

// in is what is left of the group in one round of a plan that has so many.
func (g group) in(round, rounds int) group {
	var scenes []Scenario
	for _, s := range g.scenes {
		if round <= s.rounds(rounds) {
			scenes = append(scenes, s)
		}
	}
	g.scenes = scenes
	return g
}

func (r *runner) groups() []group {
	var all []group
	for _, s := range r.plan.Scenarios {
		for _, n := range s.numbers() {
			last := len(all) - 1
			if last >= 0 && !s.Fresh && len(s.Grow) == 0 && all[last].n == n && all[last].scenes[0].layout(n) == s.layout(n) {
				all[last].scenes = append(all[last].scenes, s)
				continue
			}
			all = append(all, group{n: n, scenes: []Scenario{s}})
		}
	}
	for i := range all {
		g := &all[i]
		for _, t := range r.plan.Targets {
			for _, s := range g.scenes {
				if s.runsOn(t) {
					g.targets = append(g.targets, t)
					break
				}
			}
		}
	}
	return all
}

// group runs a group's scenarios on one target. Only the end of the context is
// an error.
func (r *runner) group(ctx context.Context, t Target, g group, round int) error {
	var st *stage
	var failed error // to make a stage: every scenario of the group says so
	closeStage := func() {
		if st == nil {
			return
		}
		if err := st.close(); err != nil {
			r.say("%s: stopping: %v", t.Name, err)
		}
		st = nil
	}
	defer closeStage()
	for _, s := range g.scenes {
		if !s.runsOn(t) {
			r.status.Cells -= 1 // it was counted for all targets of the group
			continue
		}
		r.status.Cell++
		r.status.Target, r.status.Scenario, r.status.Round, r.status.Connections = t.Name, s.Name, round, g.n
		c := Cell{Target: t.Name, Scenario: s.Name, Kind: s.Kind, N: g.n, Round: round}
		r.say("%s: %s with %d clients (round %d)", t.Name, s.Name, g.n, round)
		err := failed
		if st == nil && err == nil {
			if st, err = r.ready(ctx, t, s, g.n); err != nil {
				failed = err
			}
		}
		if err == nil {
			if err = st.restore(ctx); err == nil {
				err = st.perform(ctx, s, &c)
			}
		}
		if err != nil {
			c.Error = strings.TrimSpace(err.Error())
			if ctx.Err() != nil {
				c.Error = "interrupted"
			}
			r.say("%s: %s: %s", t.Name, s.Name, c.Error)
			closeStage()
		}
		r.report.Cells = append(r.report.Cells, c)
		if r.options.Cell != nil {
			r.options.Cell(r.report, len(r.report.Cells)-1)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// ready makes a stage and connects its clients.
func (r *runner) ready(ctx context.Context, t Target, s Scenario, n int) (*stage, error) {
	st, err := r.open(t, s, n)
	if err != nil {
		return nil, err
	}
	if err := st.connect(ctx, &st.connected); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return st, nil
}

func (r *runner) say(format string, args ...any) {
	if r.options.Say != nil {
		r.options.Say(fmt.Sprintf(format, args...))
	}
}

// progress reports a point of the series. The time left is what the cells so
// far took on average.
func (r *runner) progress(m *measurement, p Point) {
	if r.options.Progress == nil {
		return
	}
	s := r.status
	s.Point = p
	if done := s.Cell - 1; done > 0 {
		s.Left = time.Since(r.began) / time.Duration(done) * time.Duration(s.Cells-done)
	} else {
		s.Left = max(m.target-time.Duration(p.T*1e9), 0)
	}
	s.Left = s.Left.Truncate(time.Second)
	r.options.Progress(s)
}

// chooseCores fills in which cores the server and the clients use.
func (p *Plan) chooseCores(cores []int) {
	if len(cores) > 1 {
		if len(p.ServerCores) == 0 {
			p.ServerCores = cores[len(cores)-1:]
		}
		if len(p.ClientCores) == 0 {
			for _, c := range cores {
				if !contains(p.ServerCores, c) {
					p.ClientCores = append(p.ClientCores, c)
				}
			}
		}
	}
	if p.Threads == 0 {
		p.Threads = min(max(len(p.ClientCores), 1), 4)
	}
}

func contains(list []int, v int) bool {
	for _, w := range list {
		if w == v {
			return true
		}
	}
	return false
}

// pinSelf confines all threads of this process; those to come inherit it.
func pinSelf(cores []int) {
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
			_ = unix.SchedSetaffinity(tid, &set) // judge sees it if we get in the way
		}
	}
}

// describe tells what machine this is, without its name.
func describe(p Plan) Machine {
	m := Machine{Cores: len(proc.Cores()), Go: runtime.Version(), Server: p.ServerCores, Clients: p.ClientCores}
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

func versions(p Plan) []string {
	var all []string
	for _, t := range p.Targets {
		if t.Version != "" {
			all = append(all, t.Label()+" "+t.Version)
		}
	}
	return append(all, harnessVersion()...)
}

// harnessVersion is the commit that this program was built from, if it says so;
// "make compare" builds the gateway from the same.
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
