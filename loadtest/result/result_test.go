//go:build linux

package result

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/loadtest/hist"
)

func TestReportRoundTrip(t *testing.T) {
	c := Cell{Target: "a", Scenario: "s", N: 10, Round: 1, Unit: Delivery, Units: 100, Latency: hist.Summary{Count: 100, P99: 7}}
	c.Hist, c.Series, c.Trials = hist.Sparse{{5, 10}, {7, 90}}, []Point{{T: 1, P99: 7}}, []Trial{{Offered: 5, Sustained: true}}
	r := New()
	r.Title, r.Cells = "t", []Cell{c}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, got); d != "" {
		t.Error(d)
	}
	if _, err := Read(strings.NewReader(`{"schema":9}`)); err == nil {
		t.Error("a report of another schema is accepted")
	}
}
