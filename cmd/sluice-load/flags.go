//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sluice/internal/secret"
	"sluice/loadtest/plan"
	"sluice/loadtest/report"
	"sluice/loadtest/result"
)

// runFlags is the command line of a run, parsed.
type runFlags struct {
	plan                   plan.Plan
	quiet, wide            bool
	json, html, markdown   string
	svg, into              string
	command                string
	planFile, scenarioFile string
	kinds, only, scenes    string
	url, floor             string
}

// outputs declares the flags of files to write and of what is printed.
func (r *runFlags) outputs(f *flag.FlagSet) {
	f.StringVar(&r.json, "json", "", "write all data to this file, again after each measurement")
	f.StringVar(&r.html, "html", "", "write the report as one page to this file")
	f.StringVar(&r.markdown, "md", "", "write the tables as Markdown to this file")
	f.StringVar(&r.svg, "svg", "", "write the charts to this folder")
	f.BoolVar(&r.wide, "wide", false, "show all columns of the tables, which need a terminal of 200")
	f.StringVar(&r.into, "into", "", "put a summary, with the charts of -svg, between the marks in this Markdown file")
}

// parseRun parses the arguments of "run", and reads the files that they name.
func parseRun(args []string) (*runFlags, error) {
	r := &runFlags{command: commandLine(args)}
	var t plan.Target
	var s plan.Scenario
	var shared bool
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	r.outputs(f)
	f.StringVar(&r.planFile, "plan", "", "YAML file of targets and scenarios")
	f.StringVar(&r.scenarioFile, "scenarios", "", "YAML file of scenarios, for the target of the flags below")
	f.StringVar(&r.only, "targets", "", "run only these targets of the plan, separated by commas")
	f.StringVar(&r.scenes, "only", "", "run only these scenarios of the plan, separated by commas")
	f.IntVar(&r.plan.Rounds, "rounds", 0, "run each scenario so often, and show medians (default 1, or as the plan says)")
	f.IntVar(&r.plan.PerProcess, "per-process", 0, "clients per process of the harness (default 19000, or what its descriptor limit allows)")
	f.BoolVar(&shared, "shared-network", false, "stay in the machine's network namespace; otherwise packets arrive on the clients' cores, not on the one that sends them, where the kernel and privileges allow it")
	f.BoolVar(&r.quiet, "quiet", false, "show no progress")

	f.StringVar(&t.Start, "start", "", "command that starts the gateway; {port} and {nats} are ports chosen for it")
	f.StringVar(&t.NATS, "nats-server", "", "command that starts a NATS server first; {nats} is its port")
	f.StringVar(&r.url, "url", "", "WebSocket URL of a gateway that runs already (ws:// or wss://)")
	f.StringVar(&t.NATSURL, "nats", "", "where services reach NATS (default 127.0.0.1:{nats})")
	f.StringVar(&t.Protocol, "protocol", "res", "res, centrifuge, nats, socketio, mercure or floor")
	f.IntVar(&t.PID, "pid", 0, "process id of a gateway that runs already, to measure its CPU and memory")
	f.StringVar(&t.Name, "name", "gateway", "the gateway's name in tables")
	f.StringVar(&t.TokenFile, "token-file", "", "file of a token that all clients send, in Authorization: Bearer")
	f.StringVar(&r.floor, "floor", "", "measure the harness's own server as well: single, batched or both")

	f.StringVar(&r.kinds, "kind", "fanout", "kinds of scenarios, separated by commas; see sluice-load kinds")
	f.IntVar(&s.N, "n", 0, "clients (default 1000; unary and http 64; upgrade 10000)")
	f.IntVar(&s.Topics, "topics", 0, "resources or channels of events (default 1)")
	f.IntVar(&s.PerClient, "per-client", 0, "subscriptions of each client (default 1)")
	f.IntVar(&s.Payload, "payload", 0, "bytes of an event (default 128)")
	f.Float64Var(&s.Rate, "rate", 0, "events or requests per second; requests: 0 is as fast as responses arrive")
	f.Float64Var(&s.Load, "load", 0, "unary, http: instead of -rate, per cent of the highest rate, which is measured first for as long (80 is usual)")
	f.Float64Var(&s.Deliveries, "deliveries", 0, "instead of -rate: deliveries per second (default 20000; upgrade: 4 for each client)")
	f.IntVar(&s.Burst, "burst", 0, "events that are due together")
	f.DurationVar(&s.Duration, "duration", 0, "of each measurement (default 5s)")
	f.DurationVar(&s.Settle, "settle", 0, "idle: time before memory is read; upgrade: time between two (default 5s)")
	f.IntVar(&s.Window, "window", 0, "unary: calls in flight per client (default 1)")
	f.IntVar(&s.Attackers, "attackers", 0, "hostile: connections that send what costs most to read (default 4)")
	f.StringVar(&s.Attack, "attack", "", "hostile: deflate, compressed frames, or plain (default deflate)")
	f.Float64Var(&s.Slow, "slow", 0, "slow: share of the clients that read slowly (default 0.1)")
	f.IntVar(&s.Workers, "workers", 0, "reconnect, failover: how many requests the service works on at a time (default 8)")
	f.DurationVar(&s.Work, "work", 0, "reconnect, failover: how long the service works on each access and call request (default 2ms)")
	f.IntVar(&s.Callers, "callers", 0, "reconnect, failover: clients that stay, and make -rate calls per second (default 16, 200); upgrade: clients that subscribe, call and unsubscribe")
	f.IntVar(&s.Upgrades, "upgrades", 0, "upgrade: how many, with -settle after each (default 3)")
	f.StringVar(&t.Upgrade, "upgrade", plan.UpgradeSignal, "upgrade: how another process takes the gateway's place: signal (SIGUSR2) or restart (SIGTERM, then -start again)")
	f.DurationVar(&s.BackOff, "back-off", 0, "upgrade: clients that lose their connection come back after half to all of this time, doubled with each attempt (default 500ms)")
	f.IntVar(&s.Streams, "streams", 0, "upgrade: event streams beside the -n WebSockets")
	f.IntVar(&s.Getters, "getters", 0, "upgrade: HTTP connections that make -rate GET requests per second")
	f.IntVar(&s.SlowRate, "slow-rate", 0, "slow: bytes per second that each slow client reads; 0: none")
	f.IntVar(&s.Collection, "collection", 0, "collection: how many values it has (default 1000)")
	f.IntVar(&s.Properties, "properties", 0, "resources: of each model (default 4)")
	f.Float64Var(&s.Factor, "factor", 0, "overload: times what the gateway can deliver, or times -deliveries (default 5)")
	f.BoolVar(&s.Kill, "kill", false, "storm: kill the gateway first, so that all clients reconnect")
	f.IntVar(&s.Inflight, "inflight", 0, "connects in flight (default 128)")
	f.Float64Var(&s.ConnectRate, "connect-rate", 0, "connections per second; 0: as fast as -inflight allows")
	f.BoolVar(&s.TLS, "tls", false, "connect over TLS; {cert} and {key} in -start are files that the run creates")
	f.BoolVar(&s.Compression, "compression", false, "offer permessage-deflate")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	if err := r.checkCombination(f); err != nil {
		return nil, err
	}
	rounds, perProcess := r.plan.Rounds, r.plan.PerProcess
	if rounds < 0 || perProcess < 0 {
		return nil, errors.New("-rounds and -per-process must not be negative")
	}
	switch {
	case r.planFile != "":
		p, err := plan.Read(r.planFile)
		if err != nil {
			return nil, err
		}
		r.plan = p
	default:
		if err := r.fromFlags(t, s); err != nil {
			return nil, err
		}
	}
	if rounds > 0 {
		r.plan.Rounds = rounds
		for i := range r.plan.Scenarios {
			r.plan.Scenarios[i].Rounds = 0
		}
	}
	if perProcess > 0 {
		r.plan.PerProcess = perProcess
	}
	r.plan.SharedNetwork = r.plan.SharedNetwork || shared
	return r, r.narrow()
}

// fromFlags builds the plan from flags, for a target and scenarios.
func (r *runFlags) fromFlags(t plan.Target, s plan.Scenario) error {
	if r.url != "" {
		u, err := url.Parse(r.url)
		if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" {
			return fmt.Errorf("-url %s: it must be like ws://host:port/path, or wss:// for TLS", r.url)
		}
		s.TLS = s.TLS || u.Scheme == "wss"
		port := u.Port()
		if port == "" {
			port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
		}
		t.Addr, t.Path = net.JoinHostPort(u.Hostname(), port), u.RequestURI()
	}
	if t.Start == "" && t.Addr == "" && r.floor == "" {
		return errors.New("say what to measure: -start with a command, -url of a gateway that runs, or -floor")
	}
	if !slices.Contains([]string{"", "single", "batched", "both"}, r.floor) {
		return fmt.Errorf("-floor %s: it is single, batched or both", r.floor)
	}
	r.plan.Title = "Load test"
	if t.Start != "" || t.Addr != "" {
		t.TLS, t.Compress = " ", " " // the command has the flags for them
		r.plan.Targets = append(r.plan.Targets, t)
	}
	if r.floor != "" && r.floor != "batched" {
		r.plan.Targets = append(r.plan.Targets, plan.Target{Name: "floor", Protocol: "floor", Start: "{self} floor -port {port} -feed {feed}"})
	}
	if r.floor == "batched" || r.floor == "both" {
		r.plan.Targets = append(r.plan.Targets, plan.Target{Name: "floor-batched", Protocol: "floor", Start: "{self} floor -port {port} -feed {feed} -batched"})
	}
	if r.scenarioFile != "" {
		p, err := plan.Read(r.scenarioFile)
		if err != nil {
			return err
		}
		r.plan.Scenarios, r.plan.Rounds = p.Scenarios, p.Rounds
		return nil
	}
	for _, kind := range strings.Split(r.kinds, ",") {
		one := s
		one.Kind = strings.TrimSpace(kind)
		r.plan.Scenarios = append(r.plan.Scenarios, one)
	}
	return nil
}

// checkCombination rejects flags that have no effect together with a file.
func (r *runFlags) checkCombination(f *flag.FlagSet) error {
	var file string
	keep := []string{"json", "html", "md", "svg", "into", "wide", "quiet", "rounds", "per-process", "targets", "only", "shared-network"}
	switch {
	case r.planFile != "":
		file, keep = "-plan", append(keep, "plan")
	case r.scenarioFile != "":
		file, keep = "-scenarios", append(keep, "scenarios", "start", "nats-server", "url", "nats", "protocol", "pid", "name", "token-file", "floor")
	default:
		return nil
	}
	var names []string
	f.Visit(func(one *flag.Flag) {
		if !slices.Contains(keep, one.Name) {
			names = append(names, "-"+one.Name)
		}
	})
	if len(names) > 0 {
		return fmt.Errorf("%s has no effect beside %s: write it into the file", strings.Join(names, ", "), file)
	}
	return nil
}

// check reports, before a run, files that cannot be written.
func (r *runFlags) check() error {
	if r.into != "" {
		text, err := os.ReadFile(r.into)
		if err != nil {
			return err
		}
		if _, err := report.Insert(text, new(result.Report), ""); err != nil {
			return fmt.Errorf("%s: %w", r.into, err)
		}
	}
	folders := []string{r.svg}
	for _, file := range []string{r.json, r.html, r.markdown} {
		if file != "" {
			folders = append(folders, filepath.Dir(file))
		}
	}
	for _, dir := range folders {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		f, err := os.CreateTemp(dir, ".new")
		if err != nil {
			return err
		}
		if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// narrow removes the targets and scenarios that -targets and -only do not name.
func (r *runFlags) narrow() error {
	known := func(flag, list string, have func(string) bool) error {
		for _, n := range strings.Split(list, ",") {
			if n = strings.TrimSpace(n); n != "" && !have(n) {
				return fmt.Errorf("-%s: there is no %s", flag, n)
			}
		}
		return nil
	}
	err := errors.Join(known("targets", r.only, func(n string) bool {
		return slices.ContainsFunc(r.plan.Targets, func(t plan.Target) bool { return t.Name == n })
	}), known("only", r.scenes, func(n string) bool {
		return slices.ContainsFunc(r.plan.Scenarios, func(s plan.Scenario) bool { return s.Name == n || s.Name == "" && s.Kind == n })
	}))
	if err != nil {
		return err
	}
	names := func(list string) map[string]bool {
		m := map[string]bool{}
		for _, n := range strings.Split(list, ",") {
			m[strings.TrimSpace(n)] = true
		}
		return m
	}
	if r.only != "" {
		want, kept := names(r.only), []plan.Target(nil)
		for _, t := range r.plan.Targets {
			if want[t.Name] {
				kept = append(kept, t)
			}
		}
		r.plan.Targets = kept
		for i := range r.plan.Scenarios {
			s := &r.plan.Scenarios[i]
			if len(s.Targets) == 0 {
				continue
			}
			var left []string
			for _, name := range s.Targets {
				if want[name] {
					left = append(left, name)
				}
			}
			s.Targets = left
			if len(left) == 0 {
				s.Kind = "" // it has no target left
			}
		}
	}
	want, kept := names(r.scenes), []plan.Scenario(nil)
	for _, s := range r.plan.Scenarios {
		name := s.Name
		if name == "" {
			name = s.Kind
		}
		if (r.scenes == "" || want[name]) && (s.Kind != "" || r.only == "") {
			kept = append(kept, s)
		}
	}
	for i := range kept {
		s := &kept[i]
		if !slices.ContainsFunc(kept, func(o plan.Scenario) bool { return o.Name == s.Beside }) {
			s.Beside = ""
		}
	}
	r.plan.Scenarios = kept
	if len(r.plan.Targets) == 0 || len(kept) == 0 {
		return errors.New("no target or no scenario is left")
	}
	return nil
}

// commandLine returns the command for the report. It omits the folders of absolute paths,
// which describe the machine and not the run.
func commandLine(args []string) string {
	words := []string{"sluice-load", "run"}
	for _, a := range args {
		a = secret.Text(folders.ReplaceAllString(a, "$1"))
		if strings.ContainsAny(a, " \t") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

var folders = regexp.MustCompile(`(^|[\s=])/(?:[^\s/]+/)+`)

// keep writes the JSON so far, so that an interrupted run keeps its results.
func (r *runFlags) keep(rep *result.Report) {
	if r.json != "" {
		_ = save(r.json, rep.WriteJSON) // the last write reports the error
	}
}

// write writes all files that the flags name.
func (r *runFlags) write(rep *result.Report) error {
	var errs []error
	if r.json != "" {
		errs = append(errs, save(r.json, rep.WriteJSON))
	}
	if r.html != "" {
		errs = append(errs, save(r.html, func(w writer) error { return report.HTML(w, rep) }))
	}
	if r.markdown != "" {
		errs = append(errs, save(r.markdown, func(w writer) error { return report.Markdown(w, rep) }))
	}
	if r.svg != "" {
		errs = append(errs, os.MkdirAll(r.svg, 0o755))
		for _, c := range report.Charts(rep) {
			errs = append(errs, os.WriteFile(filepath.Join(r.svg, c.Name+".svg"), []byte(c.Standalone()), 0o644))
		}
	}
	if r.into != "" {
		errs = append(errs, r.insert(rep))
	}
	return errors.Join(errs...)
}

// insert writes the summary between the marks of a Markdown file.
func (r *runFlags) insert(rep *result.Report) error {
	text, err := os.ReadFile(r.into)
	if err != nil {
		return err
	}
	folder := ""
	if r.svg != "" {
		// Rel needs both absolute, or neither.
		to, err1 := filepath.Abs(filepath.Dir(r.into))
		from, err2 := filepath.Abs(r.svg)
		if err = errors.Join(err1, err2); err != nil {
			return err
		}
		if folder, err = filepath.Rel(to, from); err != nil {
			return err
		}
	}
	if text, err = report.Insert(text, rep, filepath.ToSlash(folder)); err != nil {
		return fmt.Errorf("%s: %w", r.into, err)
	}
	return save(r.into, func(w writer) error {
		_, err := w.Write(text)
		return err
	})
}
