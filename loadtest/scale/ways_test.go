//go:build linux

package scale

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"sluice/loadtest/hist"
	"sluice/loadtest/result"
)

// Each way carries events, gets and calls, and each has its samples.
func TestMeasureWays(t *testing.T) {
	t.Parallel()
	w, err := MeasureWays(t.Context(), WayOptions{Gateway: gatewayProgram, NATS: natsServer, Samples: 5})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		for _, way := range ways {
			want := int64(5)
			if kind == kindCached && way != Relay {
				want = 0
			}
			if n := w.latencies[kind][way].Count(); n != want {
				t.Errorf("%s, %s: %d samples", kind, way, n)
			}
		}
	}
}

// The table has the differences from the direct way, and says that other programs ran.
func TestWaysTable(t *testing.T) {
	w := &Ways{Date: "2026-01-02", Machine: result.Machine{CPU: "CPU", Cores: 2}, Samples: 1, Other: 1.5, latencies: map[string]map[string]*hist.Hist{}}
	for _, kind := range kinds {
		w.latencies[kind] = map[string]*hist.Hist{}
		for i, way := range ways {
			w.latencies[kind][way] = hist.New()
			if kind != kindCached || way == Relay {
				w.latencies[kind][way].Record(int64(i+1) * 1e6)
			}
		}
	}
	text := w.Markdown()
	for _, want := range []string{"**The machine was busy**: other programs used 1.50 cores", "| event | gateway – home | 1.00 ms | 1.00 ms | – | – |",
		"| call | gateway – edge – relay – home | 4.00 ms | 4.00 ms | +3.00 ms | +3.00 ms |", "| get, cached in the relay | gateway – edge – relay – home | 4.00 ms | 4.00 ms | +3.00 ms |"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
	w.Other = 0
	if text := w.Markdown(); !strings.Contains(text, "did nothing else") {
		t.Error(text)
	}
	page, err := os.ReadFile("../../docs/relay.md")
	if err != nil {
		t.Fatal(err)
	}
	once, err := w.Insert(page)
	if err != nil {
		t.Fatal(err)
	}
	if twice, err := w.Insert(once); err != nil || !bytes.Equal(once, twice) {
		t.Errorf("%v:\n%s", err, twice)
	}
}

// What is missing is named.
func TestMeasureWaysFails(t *testing.T) {
	if _, err := MeasureWays(t.Context(), WayOptions{Gateway: "/nowhere/sluice", NATS: natsServer}); err == nil || !strings.Contains(err.Error(), "/nowhere/sluice") {
		t.Error(err)
	}
}
