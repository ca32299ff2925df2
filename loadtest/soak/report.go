//go:build linux

package soak

import (
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/loadtest/report"
)

// write writes the report to the folder.
func (e *env) write() error {
	f, err := os.Create(filepath.Join(e.opt.Out, "report.html"))
	if err != nil {
		return err
	}
	if err := e.result.HTML(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// Summary writes what the terminal shows in the end.
func (r *Result) Summary(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "soak of %.0f s, seed %d, %d clients: %s\n", r.Seconds, r.Options.Seed, r.Options.Clients, r.Verdict())
	for _, f := range r.facts() {
		fmt.Fprintf(&b, "  %s\n", f)
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "  - %s\n", f)
	}
	fmt.Fprintf(&b, "report and logs: %s\n", r.Options.Out)
	if !r.OK() {
		fmt.Fprintf(&b, "again with: sluice-load soak -time %v -clients %d -seed %d\n", r.Options.Time, r.Options.Clients, r.Options.Seed)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// facts are the figures of the whole run, a line each.
func (r *Result) facts() []string {
	j := r.journal
	facts := []string{
		fmt.Sprintf("%d messages to clients, %d of them custom events with a number; %d requests of clients, %d of them answered with an error; %d HTTP responses, %d of them not 200",
			j.messages.Load(), j.ticks.Load(), j.requests.Load(), j.errors.Load(), j.polled.Load(), j.unusual.Load()),
		fmt.Sprintf("custom events: %d lost and %d delivered late by NATS while a fault lasted, %d dropped for slow readers, %d lost without a reason, %d received twice",
			r.Lost.Explained, r.Lost.Delayed, r.Lost.Slow, r.Lost.Unexplained, r.Repeated),
		fmt.Sprintf("NATS lost without a fault, by the gateways' logs: %d times; on an idle machine that is to be 0", r.Stated),
		fmt.Sprintf("%d faults, %d connections of clients, %d connections with garbage, %d reloads of clients that held an error", len(j.spans)-r.Stated, j.connects.Load(), j.garbage.Load(), j.reloads.Load()),
	}
	for _, m := range r.Memory {
		facts = append(facts, fmt.Sprintf("gateway %s, not restarted between the checkpoint and the end: RSS %.1f and %.1f MB, in use after a collection %.1f and %.1f MB",
			m.gateway, m.was.rss/1e6, m.now.rss/1e6, m.was.live/1e6, m.now.live/1e6))
	}
	for _, l := range r.Leaks {
		facts = append(facts, fmt.Sprintf("gateway %s, %s: %.0f descriptors and %.0f goroutines with %.0f connections; it began with %.0f and %.0f",
			l.gateway, l.when, l.now.descriptors, l.now.goroutines, l.now.connections, l.base.descriptors, l.base.goroutines))
	}
	return facts
}

// faultRow is a fault in the report's table.
type faultRow struct{ At, Kind, Detail, Lasted, Healed string }

// HTML writes the report as one page that loads nothing.
func (r *Result) HTML(w io.Writer) error {
	j := r.journal
	page := struct {
		Title, Verdict  string
		OK              bool
		Facts, Failures []string
		Charts          []template.HTML
		Faults          []faultRow
		Codes           [][2]string
	}{
		Title:   fmt.Sprintf("Soak: %v, %d clients, seed %d", r.Options.Time, r.Options.Clients, r.Options.Seed),
		Verdict: r.Verdict(), OK: r.OK(), Failures: r.Failures, Charts: r.charts(),
	}
	page.Facts = append([]string{r.Date.UTC().Format("2006-01-02 15:04 UTC"), "Two gateways, three NATS nodes, four services. The bands are faults, from their begin until everything works again; the table below has them all."}, r.facts()...)
	for _, s := range j.spans {
		row := faultRow{At: fmt.Sprintf("%.1f", j.seconds(s.from)), Kind: s.kind, Detail: s.detail, Lasted: "–", Healed: "never"}
		if !s.until.IsZero() {
			row.Lasted = fmt.Sprintf("%.1f", s.until.Sub(s.from).Seconds())
		}
		if !s.healed.IsZero() {
			row.Healed = fmt.Sprintf("%.1f", s.healed.Sub(s.until).Seconds())
		}
		page.Faults = append(page.Faults, row)
	}
	for _, code := range slices.Sorted(maps.Keys(j.codes)) {
		page.Codes = append(page.Codes, [2]string{code, fmt.Sprint(j.codes[code])})
	}
	return pageTemplate.Execute(w, page)
}

// charts draws the figures over time.
func (r *Result) charts() []template.HTML {
	j := r.journal
	var bands []report.Band
	for _, s := range j.spans {
		until := s.healed
		if until.IsZero() {
			until = j.began.Add(time.Duration(r.Seconds * float64(time.Second)))
		}
		color := 4 // grey for those beside
		if slices.Contains(heavyKinds, faultKind(s.kind)) {
			color = 5
		}
		bands = append(bands, report.Band{From: j.seconds(s.from), Until: j.seconds(until), Name: fmt.Sprintf("%s %s", s.kind, s.detail), Color: color})
	}
	each := func(scale float64, value func(gatewaySample) float64) (all []report.Series) {
		for g, name := range gatewayNames {
			s := report.Series{Name: "gateway " + name}
			for _, p := range r.samples {
				v := value(p.gateways[g])
				if v = v / scale; v < 0 {
					v = math.NaN()
				}
				s.Points = append(s.Points, [2]float64{p.at, v})
			}
			all = append(all, s)
		}
		return all
	}
	one := func(name string, value func(sample) float64) report.Series {
		s := report.Series{Name: name}
		for _, p := range r.samples {
			s.Points = append(s.Points, [2]float64{p.at, value(p)})
		}
		return s
	}
	deliveries := append(each(1, func(g gatewaySample) float64 { return g.deliveries }), one("received by clients", func(p sample) float64 { return p.messages }))
	connections := append(each(1, func(g gatewaySample) float64 { return g.connections }), one("clients that are complete", func(p sample) float64 { return p.clients }))
	return []template.HTML{
		report.Timeline("Deliveries per second", "per second", deliveries, bands),
		report.Timeline("Connections", "connections", connections, bands),
		report.Timeline("Memory (RSS)", "MB", each(1e6, func(g gatewaySample) float64 { return g.rss }), bands),
		report.Timeline("Heap in use, garbage included", "MB", each(1e6, func(g gatewaySample) float64 { return g.heap }), bands),
		report.Timeline("Goroutines", "goroutines", each(1, func(g gatewaySample) float64 { return g.goroutines }), bands),
		report.Timeline("Descriptors", "descriptors", each(1, func(g gatewaySample) float64 { return g.descriptors }), bands),
		report.Timeline("Clients closed by the gateways, by code (1006: without a close frame)", "closed so far", r.closesOverTime(), bands),
		report.Timeline("Custom events not received", "events so far", r.lossesOverTime(), bands),
	}
}

// closesOverTime returns how many clients were closed with each code so far.
func (r *Result) closesOverTime() []report.Series {
	at := map[int][]float64{}
	for _, c := range r.journal.closes {
		at[c.code] = append(at[c.code], r.journal.seconds(c.closed))
	}
	var all []report.Series
	for _, code := range slices.Sorted(maps.Keys(at)) {
		all = append(all, r.cumulative(fmt.Sprint(code), at[code], nil))
	}
	return all
}

// lossesOverTime returns how many custom events were not received so far, or twice.
func (r *Result) lossesOverTime() []report.Series {
	j := r.journal
	explained, unexplained := [2][]float64{}, [2][]float64{}
	all := j.gaps
	for _, g := range all {
		j.gaps = []gap{g}
		l, _ := j.judgeGaps()
		into := &explained
		if l.Unexplained > 0 {
			into = &unexplained
		}
		into[0] = append(into[0], j.seconds(g.until))
		into[1] = append(into[1], float64(g.count))
	}
	j.gaps = all
	return []report.Series{
		r.cumulative("with a reason (faults, slow readers)", explained[0], explained[1]),
		r.cumulative("without", unexplained[0], unexplained[1]),
		r.cumulative("twice", nil, nil),
	}
}

// cumulative returns the sum of what happened at times, each counted once without counts, at the
// times of the samples.
func (r *Result) cumulative(name string, at, counts []float64) report.Series {
	s := report.Series{Name: name}
	for _, p := range r.samples {
		sum := 0.0
		for i, t := range at {
			switch {
			case t > p.at:
			case counts == nil:
				sum++
			default:
				sum += counts[i]
			}
		}
		s.Points = append(s.Points, [2]float64{p.at, sum})
	}
	return s
}

var pageTemplate = template.Must(template.New("soak").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{{.Title}}</title>
<style>
` + report.PageStyle + `
.verdict{font-weight:600}.failed{color:#d55e00}pre{white-space:pre-wrap;font-size:12px}
</style></head><body>
<h1>{{.Title}}</h1>
<p class="verdict{{if not .OK}} failed{{end}}">{{.Verdict}}</p>
{{if .Failures}}<ul class="failed">{{range .Failures}}<li><pre>{{.}}</pre></li>{{end}}</ul>{{end}}
<ul class="facts">{{range .Facts}}<li>{{.}}</li>{{end}}</ul>
<div class="charts">{{range .Charts}}<div>{{.}}</div>{{end}}</div>
<h2>Faults</h2>
<div class="wide"><table><thead><tr><th>fault</th><th>what</th><th>at (s)</th><th>lasted (s)</th><th>healed after (s)</th></tr></thead><tbody>
{{range .Faults}}<tr><td>{{.Kind}}</td><td>{{.Detail}}</td><td>{{.At}}</td><td>{{.Lasted}}</td><td>{{.Healed}}</td></tr>
{{end}}</tbody></table></div>
<h2>Clients closed by the gateways</h2>
<div class="wide"><table><thead><tr><th>kind and code</th><th>times</th></tr></thead><tbody>
{{range .Codes}}<tr><td>{{index . 0}}</td><td>{{index . 1}}</td></tr>
{{end}}</tbody></table></div>
</body></html>
`))
