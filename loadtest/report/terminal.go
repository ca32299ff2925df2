//go:build linux

package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"sluice/loadtest/result"
)

// terminalWidth is the number of columns that Table's output fits into, unless it is wide.
const terminalWidth = 100

// labelWidth bounds the first column, so that the row fits into terminalWidth.
const labelWidth = 24

// essential are the columns that Table shows unless it is wide.
var essential = []string{"server", "clients", "CPU µs/unit", "units/s", "p50", "p99", "RSS/conn", "lost"}

// Table writes the figures for a terminal of 100 columns; wide adds the other columns, which need
// about 200. Figures in parentheses are not the server's; the remarks below the table give the
// reason.
func Table(w io.Writer, r *result.Report, wide bool) error {
	shown := essential
	if wide {
		shown = columns
	}
	var b strings.Builder
	for _, s := range sections(r) {
		fmt.Fprintf(&b, "\n%s\n", s.title())
		b.WriteString(wrap(fmt.Sprintf("%s Unit: %s. Latencies count from the due time.", s.describe(), s.unit()), "", ""))
		tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(tw, strings.Join(shown, "\t")+"\t")
		for _, c := range s.cells {
			fmt.Fprintln(tw, strings.Join(pick(s.row(c), shown), "\t")+"\t")
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		for _, line := range s.notes() {
			b.WriteString(wrap(line, "  ", "    "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// pick returns the cells of a row that belong to the shown columns. A row that failed ends early.
func pick(row, shown []string) []string {
	if len(shown) == len(columns) {
		return row
	}
	var cells []string
	for _, name := range shown {
		if i := slices.Index(columns, name); i < len(row) {
			cells = append(cells, row[i])
		}
	}
	if n := utf8.RuneCountInString(cells[0]); n > labelWidth {
		cells[0] = string([]rune(cells[0])[:labelWidth-1]) + "…"
	}
	return cells
}

// wrap returns text as lines of at most terminalWidth columns: the first one begins with first, the
// others with rest, which are spaces.
func wrap(text, first, rest string) string {
	var b strings.Builder
	line, width := first, len(first)
	start := true
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case start:
		case width+1+n > terminalWidth:
			b.WriteString(line + "\n")
			line, width = rest, len(rest)
		default:
			line += " "
			width++
		}
		line += word
		width += n
		start = false
	}
	return b.String() + line + "\n"
}
