//go:build linux

package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"sluice/loadtest/judge"
	"sluice/loadtest/plan"
	"sluice/loadtest/result"
)

// section is a scenario's medians, ordered by client count, then by target. Figures of the
// scenario to show beside it precede the scenario's own of the same target.
type section struct {
	report   *result.Report
	scenario plan.Scenario
	cells    []result.Cell
}

// sections returns the sections of a report, in the order of its plan.
func sections(r *result.Report) []section {
	var all []section
	medians := judge.Medians(r)
	for _, s := range r.Plan.Scenarios {
		if slices.ContainsFunc(r.Plan.Scenarios, func(o plan.Scenario) bool { return o.Beside == s.Name && s.Name == plan.PlainName(o.Name) }) {
			continue // its figures are in the other's section
		}
		sec := section{report: r, scenario: s}
		for _, c := range medians {
			if c.Scenario == s.Name || s.Beside != "" && c.Scenario == s.Beside {
				sec.cells = append(sec.cells, c)
			}
		}
		slices.SortStableFunc(sec.cells, func(a, b result.Cell) int {
			own := func(c result.Cell) int { return map[bool]int{true: 1}[sec.own(c)] }
			return cmp.Or(a.N-b.N, color(r, a.Target)-color(r, b.Target), own(a)-own(b))
		})
		if slices.ContainsFunc(sec.cells, sec.own) {
			all = append(all, sec)
		}
	}
	return all
}

// own reports whether c is of the section's scenario, not of the one beside it.
func (s section) own(c result.Cell) bool { return c.Scenario == s.scenario.Name }

// label returns the name of a cell's target, with the scenario if it is not the section's.
func (s section) label(c result.Cell) string {
	name := label(s.report, c.Target)
	switch {
	case s.own(c):
		return name
	case s.scenario.Beside == plan.PlainName(s.scenario.Name):
		return name + ", plain"
	}
	return name + ", " + s.scenario.Beside
}

// ratios compares a section's CPU with that of the scenario beside it, one per line.
func (s section) ratios() (all []string) {
	for i, c := range s.cells {
		if i == 0 || !s.own(c) || s.own(s.cells[i-1]) {
			continue
		}
		base := s.cells[i-1]
		if ratio, ok := judge.Ratio(c, base); ok {
			all = append(all, fmt.Sprintf("%s, %d clients: %.2f times the CPU per %s of %s", s.label(c), c.N, ratio, c.Unit, s.label(base)))
		}
	}
	return all
}

func (s section) title() string {
	if s.scenario.Title != "" {
		return s.scenario.Title
	}
	return s.scenario.Name
}

// unit returns what the cells count. A cell that failed may have no unit.
func (s section) unit() string {
	for _, c := range s.cells {
		if c.Unit != "" {
			return c.Unit
		}
	}
	return "none"
}

// describe returns a sentence about the scenario.
func (s section) describe() string {
	sc := s.scenario
	events := fmt.Sprintf("%s of %d bytes", map[bool]string{true: "events", false: "bursts of " + strconv.Itoa(sc.Burst) + " events"}[sc.Burst <= 1], sc.Payload)
	rate := fmt.Sprintf("%s events/s", number(sc.Rate))
	if sc.Deliveries > 0 {
		rate = fmt.Sprintf("%s deliveries/s", number(sc.Deliveries))
	}
	subs := "one topic"
	if sc.Topics > 1 {
		subs = fmt.Sprintf("%d topics, %d per client", sc.Topics, sc.PerClient)
	}
	switch sc.Kind {
	case plan.KindIdle:
		return fmt.Sprintf("Clients with %s that do nothing, after %v. CPU is per connection and second.", map[bool]string{true: "one subscription", false: strconv.Itoa(sc.PerClient) + " subscriptions"}[sc.PerClient == 1], sc.Settle)
	case plan.KindStorm:
		if sc.Kill {
			return "The server is killed and started again; all clients connect and subscribe together."
		}
		return "All clients connect and subscribe together."
	case plan.KindMax:
		return fmt.Sprintf("The highest rate that is sustained: %s on %s.", events, subs)
	case plan.KindUnary, plan.KindHTTP:
		what := map[string]string{plan.KindUnary: "Calls", plan.KindHTTP: "GET requests of one resource"}[sc.Kind]
		switch {
		case sc.Rate > 0:
			return fmt.Sprintf("%s, %s per second.", what, number(sc.Rate))
		case sc.Load > 0:
			return fmt.Sprintf("%s at %g%% of each server's highest rate, which is measured before for as long, %d in flight per client.", what, sc.Load, sc.Window)
		}
		return fmt.Sprintf("%s as fast as responses arrive, %d in flight per client.", what, sc.Window)
	case plan.KindResources:
		return fmt.Sprintf("Each client subscribes to %s resources that no other has, models of %d properties where the server keeps states. CPU is of connecting and subscribing; memory is read after %v.", number(float64(sc.PerClient)), sc.Properties, sc.Settle)
	case plan.KindSPA:
		what := "as fast as responses arrive"
		if sc.Rate > 0 {
			what = number(sc.Rate) + " per second"
		}
		return fmt.Sprintf("Clients open pages, which lead to 50 models in three levels, and leave them, %s; there are %d pages. Latency is of opening.", what, sc.Models)
	case plan.KindDeploy:
		return fmt.Sprintf("The service of %d resources, %d per client, starts again: each has another state then, and it resets them and their access.", sc.Topics, sc.PerClient)
	case plan.KindHostile:
		return fmt.Sprintf("%s to %s, %s, while %d connections send frames of 1 MiB that cost most to read (%s), and connect again when they are closed. Latency is of the others.", strings.ToUpper(events[:1])+events[1:], subs, rate, sc.Attackers, sc.Attack)
	case plan.KindMixed:
		return "Clients subscribe to models with references, call, and unsubscribe, while the service publishes events."
	case plan.KindCollection:
		return fmt.Sprintf("Adds to the middle of a collection of %s values, at %s.", number(float64(sc.Collection)), rate)
	case plan.KindOverload:
		return fmt.Sprintf("A model changes %s times as often as the server can deliver, for %v. How many changes a client gets is up to the server; each must have the last one.", number(sc.Factor), sc.Duration)
	case plan.KindUpgrade:
		return fmt.Sprintf("Other processes take the server's place, %d times, with %v in between: where the server can by a signal, else it is ended and started again, and clients come back after %v to %v, longer if that fails. %s on %s, at %s; %d clients make %s requests per second, and new ones connect.%s CPU is of all processes of the server.",
			sc.Upgrades, sc.Settle, sc.BackOff/2, sc.BackOff, strings.ToUpper(events[:1])+events[1:], subs, rate, sc.Callers, number(sc.Rate), company(sc))
	case plan.KindReconnect, plan.KindFailover:
		lost := "All clients lose their connections at once, connect,"
		if sc.Kind == plan.KindFailover {
			lost = "The gateway of all clients is killed. They connect to another one, which has clients of its own,"
		}
		return fmt.Sprintf("%s and subscribe to %d resources each. The service works on %d requests at a time, for %v each. Others make %s calls per second meanwhile.", lost, sc.PerClient, sc.Workers, sc.Work, number(sc.Rate))
	case plan.KindSlow:
		how := "do not read at all"
		if sc.SlowRate > 0 {
			how = fmt.Sprintf("read %d bytes per second", sc.SlowRate)
		}
		return fmt.Sprintf("%s on %s, at %s; %.0f%% of the clients %s. Figures are of the others.", strings.ToUpper(events[:1])+events[1:], subs, rate, sc.Slow*100, how)
	}
	extra := ""
	if sc.TLS {
		extra += ", over TLS"
	}
	if sc.Kind == plan.KindSSE {
		extra += ", as server-sent events"
	}
	if sc.Compression {
		extra += ", compressed"
	}
	return strings.ToUpper(events[:1]) + events[1:] + " on " + subs + ", at " + rate + extra + "."
}

// company describes the clients of an upgrade that have no WebSocket.
func company(sc plan.Scenario) (text string) {
	if sc.Streams > 0 {
		text += fmt.Sprintf(" Beside them are %s event streams.", number(float64(sc.Streams)))
	}
	if sc.Getters > 0 {
		text += fmt.Sprintf(" %s connections make as many GET requests.", number(float64(sc.Getters)))
	}
	return text
}

var columns = []string{"server", "clients", "CPU µs/unit", "user", "sys", "units/s", "p50", "p90", "p99", "p99.9", "max", "RSS/conn", "PSS/conn", "socket/conn", "switches/unit", "writes/unit", "bytes/unit", "server busy", "lost", "live"}

// row returns a cell's columns. Figures that are not the server's are in parentheses.
func (s section) row(c result.Cell) []string {
	if c.Error != "" {
		return []string{s.label(c), strconv.Itoa(c.N), "failed"}
	}
	late := func(us int64) string { return mark(latency(c, us), c.Latency.Count == 0, c.OK("latency")) }
	cpu := func(v float64) string { return mark(digits(v), v < 0, c.OK("cpu")) }
	per := func(v float64) string { return mark(digits(v), v < 0, true) }
	bytes := func(v float64, figure string) string { return mark(number(v), v == -1, c.OK(figure)) }
	return []string{
		s.label(c), strconv.Itoa(c.N),
		cpu(c.CPU.Total), cpu(c.CPU.User), cpu(c.CPU.Sys),
		mark(rate(c), c.Kind == plan.KindIdle, c.OK("rate")),
		late(c.Latency.P50), late(c.Latency.P90), late(c.Latency.P99), late(c.Latency.P999), late(c.Latency.Max),
		bytes(c.Memory.PerConn, "memory"), bytes(c.Memory.PSSConn, "memory"), bytes(c.Memory.SocketCon, "sockets"),
		per(c.Switches), per(c.Writes), per(c.Bytes),
		fmt.Sprintf("%.0f%%", c.ServerBusy*100), strconv.FormatInt(c.Lost, 10), strconv.Itoa(c.Live),
	}
}

// rate formats a cell's rate, which may be a lower bound.
func rate(c result.Cell) string {
	if c.AtLeast {
		return atLeast + number(c.Rate)
	}
	return number(c.Rate)
}

// latency formats one of a cell's latencies, which may be an upper bound.
func latency(c result.Cell, us int64) string {
	if c.AtMost {
		return atMost + micros(us)
	}
	return micros(us)
}

// Prefixes of bounds, and their explanation.
const (
	atLeast     = "≥ "
	atMost      = "≤ "
	boundsAbout = "≥ means at least, ≤ at most: the clients or the harness were the limit, and not the server."
)

// bounds returns which of a cell's figures are bounds, and why; "" if none is.
func bounds(c result.Cell) string {
	var what []string
	if c.AtLeast {
		what = append(what, "the rate is at least")
	}
	if c.AtMost {
		what = append(what, "latencies are at most")
	}
	if len(what) == 0 || c.Limit == "" { // older reports have a note instead
		return ""
	}
	verb := "were"
	if c.Limit == "harness" {
		verb = "was"
	}
	return fmt.Sprintf("the %s %s the limit: %s this", c.Limit, verb, strings.Join(what, ", "))
}

// mark formats a figure that may be missing or not the server's.
func mark(s string, missing, ok bool) string {
	switch {
	case missing:
		return "–"
	case !ok:
		return "(" + s + ")"
	}
	return s
}

// notes returns the remarks on a section, one per line.
func (s section) notes() (all []string) {
	for _, c := range s.cells {
		all = append(all, s.remarks(c)...)
	}
	return append(all, s.ratios()...)
}

// remarks returns the remarks on a cell, one per line.
func (s section) remarks(c result.Cell) []string {
	var all []string
	who := fmt.Sprintf("%s, %d clients: ", s.label(c), c.N)
	if c.Error != "" {
		all = append(all, who+c.Error)
	}
	byWhy := map[string][]string{}
	for figure, why := range c.Rejected {
		byWhy[why] = append(byWhy[why], figure)
	}
	for why, figures := range byWhy {
		slices.Sort(figures)
		all = append(all, fmt.Sprintf("%s%s not the server's: %s", who, strings.Join(figures, ", "), why))
	}
	for _, n := range append([]string{bounds(c)}, c.Notes...) {
		if n != "" {
			all = append(all, who+n)
		}
	}
	if s.scenario.Kind == plan.KindLarge && c.CPU.Total > 0 {
		all = append(all, fmt.Sprintf("%s%s MB of payload per second of the server's CPU", who, number(s.perCPU(c))))
	}
	if c.Unit == result.Subscribed && c.Memory.PerSub >= 0 {
		all = append(all, fmt.Sprintf("%s%s bytes of RSS per subscription", who, number(c.Memory.PerSub)))
	}
	if c.Slow != nil {
		all = append(all, fmt.Sprintf("%s%d slow clients, %d alive afterwards, %d events delivered to them", who, c.Slow.Clients, c.Slow.Alive, c.Slow.Deliveries))
	}
	slices.Sort(all)
	return all
}

// Markdown writes a summary, then the tables, for a results folder.
func Markdown(w io.Writer, r *result.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", r.Title, strings.Join(facts(r), "  \n"))
	b.WriteString("CPU is the server process's own, per unit. Latencies count from when an event or request was due. Figures in parentheses are not the server's: the remarks below the table give the reason. " + boundsAbout + "\n")
	b.WriteString("\n" + summary(r) + "\n" + summaryAbout + "\n")
	for _, s := range sections(r) {
		fmt.Fprintf(&b, "\n## %s\n\n%s Unit: %s.\n\n", s.title(), s.describe(), s.unit())
		fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(columns, " | "), " --- |"+strings.Repeat(" ---: |", len(columns)-1))
		for _, c := range s.cells {
			cells := s.row(c)
			for len(cells) < len(columns) {
				cells = append(cells, "")
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
		}
		for i, line := range s.notes() {
			if i == 0 {
				b.WriteByte('\n')
			}
			b.WriteString("- " + line + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// facts returns the date, machine and versions of a run, one per line.
func facts(r *result.Report) []string {
	m := r.Machine
	virtual := ""
	if m.Virtual {
		virtual = ", virtual"
	}
	rounds := fmt.Sprintf("medians of %d round(s)", r.Plan.Rounds)
	for _, s := range r.Plan.Scenarios {
		if s.Rounds > 0 {
			rounds += fmt.Sprintf(", of %d for %s", s.Rounds, s.Name)
		}
	}
	all := []string{
		fmt.Sprintf("Date: %s, %s of measurement, %s", r.Date.Format("2006-01-02 15:04 MST"), seconds(r.Seconds), rounds),
		fmt.Sprintf("Machine: %s, %d cores%s, %.0f GB, %s; server on core(s) %v, clients, service and NATS on %v%s", m.CPU, m.Cores, virtual, float64(m.Memory)/1e9, m.Kernel, m.Server, m.Clients, arrival(m)),
		"Built with " + m.Go,
	}
	if len(r.Versions) > 0 {
		all = append(all, "Versions: "+strings.Join(r.Versions, ", "))
	}
	if r.Command != "" {
		all = append(all, "Command: `"+r.Command+"`")
	}
	return all
}

// arrival says on which cores packets arrive, if the report does.
func arrival(m result.Machine) string {
	switch {
	case m.Steered:
		return "; packets arrive on the clients' cores, in a network namespace"
	case m.Unsteered != "":
		return "; packets arrive on the core that sends them (" + m.Unsteered + ")"
	}
	return ""
}

// label returns a target's label.
func label(r *result.Report, name string) string {
	for _, t := range r.Plan.Targets {
		if t.Name == name {
			return t.Label()
		}
	}
	return name
}

// micros formats microseconds in the unit that suits them.
func micros(us int64) string {
	switch {
	case us >= 10_000_000:
		return fmt.Sprintf("%.0f s", float64(us)/1e6)
	case us >= 1_000_000:
		return fmt.Sprintf("%.1f s", float64(us)/1e6)
	case us >= 10_000:
		return fmt.Sprintf("%.0f ms", float64(us)/1e3)
	case us >= 1000:
		return fmt.Sprintf("%.1f ms", float64(us)/1e3)
	}
	return fmt.Sprintf("%d µs", us)
}

// seconds formats a length of time.
func seconds(s float64) string {
	if s < 120 {
		return fmt.Sprintf("%.0f s", s)
	}
	return fmt.Sprintf("%.0f min", s/60)
}

// digits formats a figure with about three significant digits.
func digits(v float64) string {
	switch {
	case v >= 100:
		return number(v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1 || v == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// number formats a whole number with separators.
func number(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
