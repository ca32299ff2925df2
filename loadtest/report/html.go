//go:build linux

package report

import (
	"html/template"
	"io"
	"strings"

	"sluice/loadtest/result"
)

// HTML writes the report as one page that loads nothing: the facts of the run, and for each
// scenario its charts, its table and remarks.
func HTML(w io.Writer, r *result.Report) error {
	type part struct {
		ID, Title, About string
		Charts           []template.HTML
		Columns          []string
		Rows             [][]string
		Remarks          []string
		Trials           []trialRow
	}
	page := struct {
		Title, Bounds string
		Facts         []string
		Parts         []part
	}{Title: r.Title, Bounds: boundsAbout}
	for _, f := range facts(r) {
		page.Facts = append(page.Facts, strings.ReplaceAll(f, "`", ""))
	}
	charts := Charts(r)
	for _, s := range sections(r) {
		p := part{ID: slug(s.scenario.Name), Title: s.title(), About: s.describe() + " Unit: " + s.unit() + ".", Columns: columns}
		for _, c := range charts {
			if c.Group == s.scenario.Name {
				p.Charts = append(p.Charts, template.HTML(c.svg)) // svg.go escapes the names in it
			}
		}
		for _, c := range s.cells {
			p.Rows = append(p.Rows, s.row(c))
			for _, t := range c.Trials {
				p.Trials = append(p.Trials, trialRow{s.label(c), c.N, number(t.Offered), number(t.Achieved), micros(t.P99), percent(t.Busy), percent(t.Client), t.Sustained, t.Why, t.Limit})
			}
		}
		p.Remarks = s.notes()
		page.Parts = append(page.Parts, p)
	}
	return pageTemplate.Execute(w, page)
}

// trialRow is a step of the search for the highest rate.
type trialRow struct {
	Target                               string
	N                                    int
	Offered, Achieved, P99, Busy, Client string
	Sustained                            bool
	Why, Limit                           string
}

// percent formats a share of 0 to 1.
func percent(v float64) string { return digits(v*100) + " %" }

// PageStyle is the style sheet of the pages, for other pages with these charts.
const PageStyle = `:root{color-scheme:light dark;--fg:#24292f;--bg:#f6f8fa;--card:#fff;--line:#d0d7de;--dim:#57606a}
@media(prefers-color-scheme:dark){:root{--fg:#e6edf3;--bg:#0d1117;--card:#161b22;--line:#3d444d;--dim:#9da7b1}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);margin:0 auto;padding:1.5rem;max-width:1360px}
h1{font-size:1.6rem;margin:0 0 .5rem}h2{font-size:1.25rem;margin:2.5rem 0 .3rem}
nav a{margin-right:1rem}a{color:#0f7ac7}
.facts{color:var(--dim);padding-left:1.1rem}.about{color:var(--dim);margin:.2rem 0 1rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));gap:14px}
.charts svg{width:100%;border:1px solid var(--line);border-radius:6px;display:block}
.wide{overflow-x:auto;margin-top:14px}
table{border-collapse:collapse;font-size:12px;font-variant-numeric:tabular-nums;background:var(--card);white-space:nowrap}
th,td{border:1px solid var(--line);padding:3px 6px;text-align:right}th{font-weight:600}td:first-child,th:first-child{text-align:left}
ul.remarks{color:var(--dim);font-size:13px}details{margin-top:10px;font-size:13px}td.why{text-align:left}
`

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{{.Title}}</title>
<style>
` + PageStyle + `</style></head><body>
<h1>{{.Title}}</h1>
<ul class="facts">{{range .Facts}}<li>{{.}}</li>{{end}}</ul>
<p>CPU is the server process's own, per unit of work. Latencies count from when an event or request was <em>due</em>, not from when it was sent. Figures in parentheses are not the server's; the remarks below each table give the reason. {{.Bounds}}</p>
<nav>{{range .Parts}}<a href="#{{.ID}}">{{.Title}}</a>{{end}}</nav>
{{range .Parts}}<section id="{{.ID}}"><h2>{{.Title}}</h2><p class="about">{{.About}}</p>
<div class="charts">{{range .Charts}}<div>{{.}}</div>{{end}}</div>
<div class="wide"><table><thead><tr>{{range .Columns}}<th>{{.}}</th>{{end}}</tr></thead><tbody>
{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>{{end}}</tbody></table></div>
{{if .Remarks}}<ul class="remarks">{{range .Remarks}}<li>{{.}}</li>{{end}}</ul>{{end}}
{{if .Trials}}<details><summary>Steps of the search</summary><div class="wide"><table><thead><tr><th>server</th><th>clients</th><th>offered/s</th><th>achieved/s</th><th>p99</th><th>server busy</th><th>clients busy</th><th>sustained</th><th>why not</th><th>limit, if not the server</th></tr></thead><tbody>
{{range .Trials}}<tr><td>{{.Target}}</td><td>{{.N}}</td><td>{{.Offered}}</td><td>{{.Achieved}}</td><td>{{.P99}}</td><td>{{.Busy}}</td><td>{{.Client}}</td><td>{{if .Sustained}}yes{{else}}no{{end}}</td><td class="why">{{.Why}}</td><td>{{.Limit}}</td></tr>{{end}}</tbody></table></div></details>{{end}}
</section>{{end}}
</body></html>
`))
