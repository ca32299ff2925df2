//go:build linux

package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The charts are drawn here, in 200 lines, and not by a library. A chart must be a file that
// a README shows, and part of an HTML page that loads nothing. go-echarts and uPlot draw in
// a browser only, so they cannot write such a file. gonum/plot writes SVG; rendered beside
// these charts, it looked worse. It draws in fixed colors, so a README in dark mode gets
// light boxes. Its legend covered the lines, and its labels crossed the edges of the
// picture. It has no tooltips. It would replace the scale and its ticks, some 40 lines.

// Chart is a chart of one scenario.
type Chart struct {
	Name  string // of a file, without extension
	Title string
	Group string // the scenario's name
	svg   string
}

// Standalone returns the chart as an SVG file.
func (c Chart) Standalone() string {
	return strings.Replace(c.svg, "<svg ", `<svg xmlns="http://www.w3.org/2000/svg" `, 1)
}

// The colors and dashes of targets, in their order. The colors follow Okabe and Ito's palette
// for readers with colour blindness. All are legible on white and on dark grey. Lines differ
// by their dashes as well.
var (
	colors = []string{"#0f7ac7", "#d55e00", "#009e73", "#cc79a7", "#8a8f98", "#e69f00", "#56b4e9", "#a08c00"}
	dashes = []string{"", "6 3", "9 3 2 3", "3 3", "", "6 3", "2 2", "9 3"}
)

const style = `<style>.t{font:12px system-ui,sans-serif;fill:#24292f}.h{font:600 14px system-ui,sans-serif;fill:#24292f}.s{font:11px system-ui,sans-serif;fill:#57606a}.g{stroke:#d0d7de;stroke-width:1}.b{fill:#fff}@media(prefers-color-scheme:dark){.t,.h{fill:#e6edf3}.s{fill:#9da7b1}.g{stroke:#3d444d}.b{fill:#161b22}}</style>`

// line is one target's points in a line chart, in ascending order of x.
type line struct {
	name   string
	color  int
	points [][2]float64
}

// axis is an axis of a line chart.
type axis struct {
	label string
	log   bool                 // logarithmic
	form  func(float64) string // of ticks and tooltips
	bands []Band               // of an x axis: drawn behind the lines
}

const (
	width, plot  = 640, 222 // width of a chart; height of its plot area
	left, right  = 66, 28
	above, below = 62, 46 // with a legend of one row
	legendRow    = 16
)

// lineChart draws lines over a common x axis. The y axis begins at zero unless it is
// logarithmic. marks adds a circle with a tooltip to each point.
func lineChart(title string, x, y axis, lines []line, marks bool) string {
	xlo, xhi, ylo, yhi := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, l := range lines {
		for _, p := range l.points {
			if !math.IsNaN(p[1]) {
				xlo, xhi, ylo, yhi = min(xlo, p[0]), max(xhi, p[0]), min(ylo, p[1]), max(yhi, p[1])
			}
		}
	}
	if math.IsInf(xlo, 1) {
		return ""
	}
	xs, xticks := scale(xlo, xhi, x.log, false)
	ys, yticks := scale(ylo, yhi, y.log, true)
	at, rows := legend(lines)
	above := above + (rows-1)*legendRow
	height := above + plot + below
	px := func(v float64) float64 { return left + xs(v)*(width-left-right) }
	py := func(v float64) float64 { return float64(above) + (1-ys(v))*plot }
	var b strings.Builder
	begin(&b, title, height)
	for _, band := range x.bands {
		from, until := px(min(max(band.From, xlo), xhi)), px(min(max(band.Until, xlo), xhi))
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" fill-opacity="0.25"><title>%s</title></rect>`,
			from, above, max(until-from, 1.5), plot, colors[band.Color%len(colors)], html.EscapeString(band.Name))
	}
	for _, v := range yticks {
		fmt.Fprintf(&b, `<line class="g" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="s" x="%d" y="%.1f" text-anchor="end">%s</text>`, left, width-right, py(v), py(v), left-6, py(v)+4, html.EscapeString(y.form(v)))
	}
	for _, v := range xticks {
		fmt.Fprintf(&b, `<line class="g" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text class="s" x="%.1f" y="%d" text-anchor="middle">%s</text>`, px(v), px(v), height-below, height-below+4, px(v), height-below+17, html.EscapeString(x.form(v)))
	}
	fmt.Fprintf(&b, `<text class="s" x="%d" y="%d" text-anchor="middle">%s</text>`, (left+width-right)/2, height-8, html.EscapeString(x.label))
	fmt.Fprintf(&b, `<text class="s" x="%d" y="%d">%s</text>`, left-54, above-8, html.EscapeString(y.label))
	for i, l := range lines {
		color, dash := colors[l.color%len(colors)], dashes[l.color%len(dashes)]
		var path strings.Builder
		pen := 'M'
		for _, p := range l.points {
			if math.IsNaN(p[1]) { // nothing is known: the line is interrupted
				pen = 'M'
				continue
			}
			fmt.Fprintf(&path, "%c%.1f %.1f", pen, px(p[0]), py(p[1]))
			pen = 'L'
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-dasharray="%s" stroke-width="2" stroke-linejoin="round"/>`, path.String(), color, dash)
		if marks || len(l.points) == 1 {
			for _, p := range l.points {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%s: %s, %s</title></circle>`, px(p[0]), py(p[1]), color, html.EscapeString(l.name), html.EscapeString(x.form(p[0])), html.EscapeString(y.form(p[1])))
			}
		}
		x, y := at[i][0], at[i][1]
		fmt.Fprintf(&b, `<path d="M%.0f %.0fh22" stroke="%s" stroke-dasharray="%s" stroke-width="3"/><text class="t" x="%.0f" y="%.0f">%s</text>`, x, y-4, color, dash, x+27, y, html.EscapeString(l.name))
	}
	b.WriteString("</svg>")
	return b.String()
}

// legend returns the position of each line's name, in as many rows as they need.
func legend(lines []line) (at [][2]float64, rows int) {
	x, y := float64(left), 40.0
	rows = 1
	for _, l := range lines {
		w := 44 + 6.6*float64(len([]rune(l.name)))
		if x > left && x+w > width-right+16 {
			x, y, rows = left, y+legendRow, rows+1
		}
		at = append(at, [2]float64{x, y})
		x += w
	}
	return at, rows
}

// bar is one target's figure in a bar chart.
type bar struct {
	name     string
	color    int
	value    float64
	text     string
	rejected bool // not the server's figure: named, not drawn
}

// barChart draws groups of horizontal bars, all on one scale from zero. better says which
// end of it is good: lower or higher.
func barChart(title, better string, groups []string, bars [][]bar) string {
	top, rows, note := 0.0, 0, ""
	for _, g := range bars {
		rows += len(g)
		for _, v := range g {
			if !v.rejected {
				top = max(top, v.value)
				switch {
				case strings.HasPrefix(v.text, atLeast):
					note = "; ≥: at least"
				case strings.HasPrefix(v.text, atMost):
					note = "; ≤: at most"
				}
			}
		}
	}
	if rows == 0 {
		return ""
	}
	const names, rowHeight, groupHeight = 150, 22, 24
	high := 40 + rows*rowHeight + len(groups)*groupHeight
	var b strings.Builder
	begin(&b, title, high)
	fmt.Fprintf(&b, `<text class="s" x="%d" y="50" text-anchor="end">%s is better%s</text>`, width-16, better, note)
	y := 36.0
	for i, g := range bars {
		if len(g) == 0 {
			continue
		}
		fmt.Fprintf(&b, `<text class="s" x="16" y="%.0f">%s</text>`, y+14, html.EscapeString(groups[i]))
		y += groupHeight - 4
		for _, v := range g {
			w := 0.0
			if top > 0 && !v.rejected {
				w = max(v.value/top*(width-names-120), 1)
			}
			text := v.text
			if v.rejected {
				text = "not the server's figure"
			}
			fmt.Fprintf(&b, `<text class="t" x="%d" y="%.0f" text-anchor="end">%s</text><rect x="%d" y="%.0f" width="%.1f" height="15" rx="2" fill="%s"/><text class="t" x="%.1f" y="%.0f">%s</text>`,
				names-8, y+13, html.EscapeString(v.name), names, y+1, w, colors[v.color%len(colors)], names+w+6, y+13, html.EscapeString(text))
			y += rowHeight
		}
		y += 4
	}
	b.WriteString("</svg>")
	return b.String()
}

// begin writes the start of a chart, with its title.
func begin(b *strings.Builder, title string, high int) {
	fmt.Fprintf(b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">%s<rect class="b" width="%d" height="%d" rx="6"/><text class="h" x="16" y="22">%s</text>`,
		width, high, html.EscapeString(title), style, width, high, html.EscapeString(title))
}

// scale returns a function that maps lo to hi onto 0 to 1, and the ticks. zero makes a linear
// scale begin at zero.
func scale(lo, hi float64, log, zero bool) (func(float64) float64, []float64) {
	if log {
		lo = math.Pow(10, math.Floor(math.Log10(max(lo, 1e-3))))
		hi = max(math.Pow(10, math.Ceil(math.Log10(max(hi, 1e-3)))), lo*10)
		var ticks []float64
		for v := lo; v <= hi*1.001; v *= 10 {
			ticks = append(ticks, v)
		}
		return func(v float64) float64 { return math.Log10(max(v, lo)/lo) / math.Log10(hi/lo) }, ticks
	}
	if zero {
		lo = 0
	}
	if hi <= lo && !zero {
		return func(float64) float64 { return 0.5 }, []float64{lo}
	}
	if hi <= lo {
		hi = lo + 1
	}
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/4)))
	for _, f := range []float64{5, 2} {
		if (hi-lo)/(step*f) >= 3 {
			step *= f
			break
		}
	}
	if zero {
		hi = math.Ceil(hi/step) * step
	}
	var ticks []float64
	for v := math.Ceil(lo/step) * step; v <= hi+step/1e6; v += step {
		ticks = append(ticks, v)
	}
	return func(v float64) float64 { return (v - lo) / (hi - lo) }, ticks
}
