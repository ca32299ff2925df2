// Package report renders a result.Report: as tables for the terminal, as Markdown,
// as SVG charts, and as one HTML page with everything, which loads nothing.
//
// It owns the form of figures. It never computes a figure; medians and ratios are
// judge's. It shows a figure that is not the server's in parentheses, with the
// reason, and never draws it.
package report
