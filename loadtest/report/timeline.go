//go:build linux

package report

import "html/template"

// Band is a time that a timeline marks behind its lines.
type Band struct {
	From, Until float64 // seconds
	Name        string  // shown when the pointer rests on it
	Color       int     // in the order of the charts' colors
}

// Series is a line of a timeline: pairs of seconds and a value, in order of time. A value that is
// NaN interrupts the line.
type Series struct {
	Name   string
	Points [][2]float64
}

// Timeline draws values over time, as SVG for an HTML page; "" without values.
func Timeline(title, unit string, series []Series, bands []Band) template.HTML {
	var lines []line
	for i, s := range series {
		lines = append(lines, line{s.Name, i, s.Points})
	}
	// svg.go escapes the names in it.
	return template.HTML(lineChart(title, axis{label: "seconds", form: tick, bands: bands}, axis{label: unit, form: tick}, lines, false))
}
