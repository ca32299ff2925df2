//go:build linux

package report

import (
	"flag"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write the tables into testdata")

// The tables are those of testdata. Unless it is wide, no line is longer than a terminal, however
// long the names and the remarks are.
func TestTables(t *testing.T) {
	long := sample()
	long.Plan.Targets[0].Title = "A gateway with a name that is much too long for a column"
	long.Cells[0].Rate, long.Cells[0].AtLeast = 123_456_789, true
	long.Cells[0].Notes = []string{strings.Repeat("a remark of some length, ", 9)}
	for _, wide := range []bool{false, true} {
		var b strings.Builder
		if err := Table(&b, long, wide); err != nil {
			t.Fatal(err)
		}
		file := map[bool]string{false: "testdata/table.txt", true: "testdata/wide.txt"}[wide]
		if *rewrite {
			if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s differs (go test ./loadtest/report -run Tables -rewrite writes it again):\n%s", file, diff)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > terminalWidth && !wide {
				t.Errorf("a line of %d columns: %s", n, line)
			}
		}
	}
}

func TestColumnsExist(t *testing.T) {
	all := strings.Join(columns, "\n") + "\n"
	for _, name := range essential {
		if !strings.Contains(all, name+"\n") {
			t.Errorf("there is no column %q", name)
		}
	}
}
