//go:build linux

package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"sluice/loadtest/plan"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
)

// Options connect a run to its surroundings. All are optional.
type Options struct {
	Self     string                    // path of a program that serves "floor", for {self} in command lines
	Worker   func() *exec.Cmd          // returns the command of a client process, which runs client.Worker; nil: clients live in this process
	Progress func(Status)              // called from time to time while a scenario runs
	Say      func(line string)         // receives log lines
	Cell     func(*result.Report, int) // called after each cell with its index

	// What package netns has done: packets arrive on the clients' cores, or why not.
	Steered   bool
	Unsteered string
}

// Status is what a progress line shows.
type Status struct {
	Target, Scenario string
	Round, Rounds    int
	Cell, Cells      int // this one, and how many in all
	Point            result.Point
	Connections      int // wanted
	Left             time.Duration
}

// runner executes one plan. One goroutine uses it.
type runner struct {
	plan      plan.Plan
	options   Options
	report    *result.Report
	dir       string // temporary files; "" until needed
	certified bool   // the certificate is there
	began     time.Time
	status    Status
}

// Prepare completes a plan, and chooses the cores that it does not name. Run does so itself.
func Prepare(p *plan.Plan) error {
	if err := p.Complete(); err != nil {
		return err
	}
	chooseCores(p, proc.Cores())
	return nil
}

// Run executes a plan to its end, or until ctx is done. A scenario that fails is noted in
// its cell and does not end the run. After an error the report is valid but incomplete;
// it is nil only if the plan is invalid.
func Run(ctx context.Context, p plan.Plan, o Options) (*result.Report, error) {
	if err := Prepare(&p); err != nil {
		return nil, err
	}
	r := &runner{plan: p, options: o, began: time.Now(), report: result.New()}
	r.report.Title, r.report.Date = p.Title, r.began.UTC().Truncate(time.Second)
	r.report.Machine, r.report.Plan, r.report.Versions = Describe(p.ServerCores, p.ClientCores), p.Redacted(), versions(p)
	r.report.Machine.Steered, r.report.Machine.Unsteered = o.Steered, o.Unsteered
	defer func() {
		r.report.Seconds = result.Round(time.Since(r.began).Seconds(), 1)
		if r.dir != "" {
			_ = os.RemoveAll(r.dir)
		}
	}()
	if o.Worker != nil {
		PinSelf(p.ClientCores)
	}
	for _, s := range p.Scenarios {
		for _, t := range p.Targets {
			if why := s.Unsupported(t); why != "" {
				r.say("%s: %s is skipped: %s", t.Name, s.Name, why)
			}
		}
	}
	groups := groupScenarios(p)
	for _, g := range groups {
		for _, s := range g.scenes {
			n := s.RoundsOf(p)
			r.status.Cells += len(g.targets) * n
			r.status.Rounds = max(r.status.Rounds, n)
		}
	}
	for round := 1; round <= r.status.Rounds; round++ {
		for _, g := range groups {
			g = g.inRound(round, p)
			for _, t := range g.targets {
				if err := r.runGroup(ctx, t, g, round); err != nil {
					return r.report, err
				}
			}
		}
	}
	return r.report, nil
}

// group is neighbouring scenarios that share a stage.
type group struct {
	n       int // clients
	scenes  []plan.Scenario
	targets []plan.Target
}

// groupScenarios returns the groups of p, with the targets that run any of their scenarios.
func groupScenarios(p plan.Plan) []group {
	var all []group
	for _, s := range p.Scenarios {
		for _, n := range s.ClientCounts() {
			last := len(all) - 1
			if last >= 0 && !s.Fresh && len(s.Grow) == 0 && all[last].n == n && layoutOf(all[last].scenes[0], n) == layoutOf(s, n) {
				all[last].scenes = append(all[last].scenes, s)
				continue
			}
			all = append(all, group{n: n, scenes: []plan.Scenario{s}})
		}
	}
	for i := range all {
		g := &all[i]
		for _, t := range p.Targets {
			for _, s := range g.scenes {
				if s.RunsOn(t) {
					g.targets = append(g.targets, t)
					break
				}
			}
		}
	}
	return all
}

// inRound returns the group with only those scenarios that run in this round.
func (g group) inRound(round int, p plan.Plan) group {
	var scenes []plan.Scenario
	for _, s := range g.scenes {
		if round <= s.RoundsOf(p) {
			scenes = append(scenes, s)
		}
	}
	g.scenes = scenes
	return g
}

// runGroup runs a group's scenarios on one target. It returns an error only if ctx is done.
func (r *runner) runGroup(ctx context.Context, t plan.Target, g group, round int) error {
	var st *stage
	var failed error // from opening a stage: every further scenario of the group reports it
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
		if !s.RunsOn(t) {
			r.status.Cells-- // it was counted for all targets of the group
			continue
		}
		r.status.Cell++
		r.status.Target, r.status.Scenario, r.status.Round, r.status.Connections = t.Name, s.Name, round, g.n
		c := result.Cell{Target: t.Name, Scenario: s.Name, Kind: s.Kind, N: g.n, Round: round}
		r.say("%s: %s with %d clients (round %d)", t.Name, s.Name, g.n, round)
		err := failed
		if st == nil && err == nil {
			if st, err = r.connectedStage(ctx, t, s, g.n); err != nil {
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

// connectedStage opens a stage and connects its clients.
func (r *runner) connectedStage(ctx context.Context, t plan.Target, s plan.Scenario, n int) (*stage, error) {
	st, err := r.open(t, s, n)
	if err != nil {
		return nil, err
	}
	if err := st.connect(ctx, &st.connected); err != nil {
		return nil, errors.Join(err, st.close())
	}
	if p, ok := st.service.(primer); ok {
		if err := p.Prime(ctx, st.layout.topics); err != nil {
			return nil, errors.Join(err, st.close())
		}
	}
	return st, nil
}

// primer is the service of a server that pays for a topic's subscriptions with its first event.
// Others pay when clients subscribe.
type primer interface {
	Prime(ctx context.Context, topics int) error
}

func (r *runner) say(format string, args ...any) {
	if r.options.Say != nil {
		r.options.Say(fmt.Sprintf(format, args...))
	}
}

// progress reports a point of the series. The time left is estimated from the average
// length of the cells so far.
func (r *runner) progress(m *measurement, p result.Point) {
	if r.options.Progress == nil {
		return
	}
	s := r.status
	s.Point = p
	if done := s.Cell - 1; done > 0 {
		s.Left = time.Since(r.began) / time.Duration(done) * time.Duration(s.Cells-done)
	} else {
		s.Left = max(m.length-time.Duration(p.T*1e9), 0)
	}
	s.Left = s.Left.Truncate(time.Second)
	r.options.Progress(s)
}
