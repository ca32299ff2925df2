package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"sluice/internal/takeover"
)

// barWidth is how many characters of a bar there are between its ends.
const barWidth = 24

// bar shows the progress of an upgrade: a line for each step, and on a terminal a line that changes
// while clients move.
type bar struct {
	out   io.Writer
	live  bool // out is a terminal
	open  bool // the line that changes is the last one
	began time.Time
}

func newBar(out io.Writer) *bar {
	b := &bar{out: out, began: time.Now()}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		b.live = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return b
}

func (b *bar) show(p takeover.Progress) {
	text := p.Text
	switch moving := p.Of > 0; {
	case moving && !b.live:
		return
	case moving:
		text = fmt.Sprintf("%s %d of %d clients, %d resources", drawBar(p.Clients, p.Of), p.Clients, p.Of, p.Resources)
		if b.open {
			fmt.Fprint(b.out, "\r\x1b[K")
		}
		b.open = true
	default:
		b.end()
		text += "\n"
	}
	fmt.Fprintf(b.out, "%6.1f s  %s", time.Since(b.began).Seconds(), text)
}

// end ends the line that changes.
func (b *bar) end() {
	if b.open {
		b.open = false
		fmt.Fprintln(b.out)
	}
}

func drawBar(n, of int) string {
	done := barWidth * min(max(n, 0), of) / of
	return "[" + strings.Repeat("#", done) + strings.Repeat("-", barWidth-done) + "]"
}
