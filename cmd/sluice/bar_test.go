package main

import (
	"regexp"
	"strings"
	"testing"

	"sluice/internal/takeover"
)

// While clients move, a terminal has one line that changes, and another output none.
func TestBar(t *testing.T) {
	seconds := regexp.MustCompile(` +\d+\.\d s  `)
	for _, tt := range []struct {
		name string
		live bool
		want string
	}{
		{"terminal", true, "it serves\n" +
			"[------------------------] 0 of 10000 clients, 1 resources" +
			"\r\x1b[K[#########---------------] 4000 of 10000 clients, 12 resources" +
			"\r\x1b[K[########################] 10000 of 10000 clients, 12 resources\nall have moved\n"},
		{"file", false, "it serves\nall have moved\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			b := newBar(&out)
			b.live = tt.live
			for _, p := range []takeover.Progress{
				{Text: "it serves"},
				{Clients: 0, Of: 10000, Resources: 1},
				{Clients: 4000, Of: 10000, Resources: 12},
				{Clients: 10000, Of: 10000, Resources: 12},
				{Text: "all have moved"},
			} {
				b.show(p)
			}
			b.end()
			if got := seconds.ReplaceAllString(out.String(), ""); got != tt.want {
				t.Errorf("got %q", got)
			}
		})
	}
}
