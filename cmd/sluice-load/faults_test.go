//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/loadtest/faults"
	"sluice/loadtest/plan"
)

// Each row is printed and written as soon as it is measured.
func TestFaultsRowByRow(t *testing.T) {
	into := filepath.Join(t.TempDir(), "table.md")
	const before, after = "before\n<!-- faults: written by make reliability -->\n", "<!-- /faults -->\nafter\n"
	if err := os.WriteFile(into, []byte(before+after), 0o600); err != nil {
		t.Fatal(err)
	}
	r := faultsFlags{into: into}
	table := &faults.Table{Targets: []plan.Target{{Name: "one"}}, Memory: 1 << 20}
	var out strings.Builder
	for _, word := range []string{faults.Kept, faults.Closed} {
		table.Rows = append(table.Rows, faults.Row{Fault: "fault of " + word})
		table.Cells = append(table.Cells, []faults.Outcome{{Word: word}})
		if err := r.row(table, &out); err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(into)
		if err != nil || !strings.HasPrefix(string(file), before) || !strings.HasSuffix(string(file), after) || !strings.Contains(string(file), table.Markdown()) {
			t.Errorf("%v: %s", err, file)
		}
		if !strings.HasSuffix(out.String(), table.Line(len(table.Rows)-1)) {
			t.Errorf("printed: %s", &out)
		}
	}
	if out.String()+table.Legend() != table.Markdown() {
		t.Errorf("printed in all: %s", &out)
	}
	r.into = filepath.Join(t.TempDir(), "none.md")
	if err := r.row(table, &out); err == nil || !strings.Contains(err.Error(), "none.md") {
		t.Error(err)
	}
}
