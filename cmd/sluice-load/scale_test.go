//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/loadtest/capacity"
	"sluice/loadtest/scale"
)

func TestScaleFlags(t *testing.T) {
	r, err := parseScale([]string{"-quick", "-clients", "500", "-gateways", "1, 3"})
	if err != nil {
		t.Fatal(err)
	}
	if o := r.options; o.Clients != 500 || len(o.Gateways) != 2 || o.Gateways[1] != 3 || o.Window.Seconds() != 3 || o.Limit.Minutes() != 3 {
		t.Errorf("%+v", o)
	}
	for _, args := range [][]string{{"-gateways", "one"}, {"-topics", "1,x"}, {"-gateways", "2"}, {"-topologies", "ring"}, {"-resume"}, {"more"}} {
		if _, err := parseScale(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

// The tables of docs/scaling.md are those of the result and the coefficients in the tree: "make
// scale" writes all of them.
func TestScalingDocument(t *testing.T) {
	file, err := os.Open("../../bench/results/scale.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	res, err := scale.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := capacity.Measured()
	if err != nil {
		t.Fatal(err)
	}
	if res.Coefficients != c {
		t.Errorf("bench/results/scale.json and loadtest/capacity/measured.json have other coefficients: %+v, %+v", res.Coefficients, c)
	}
	text, err := os.ReadFile("../../docs/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := res.Insert(text)
	if err == nil {
		want, err = insertPlans(want, c)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Error("the tables of docs/scaling.md are not up to date: sluice-load scale -from bench/results/scale.json -into docs/scaling.md writes them")
	}
}

// A result that was measured before is rendered into the files that are asked for.
func TestScaleFrom(t *testing.T) {
	dir := t.TempDir()
	doc, coefficients := filepath.Join(dir, "scaling.md"), filepath.Join(dir, "measured.json")
	text, err := os.ReadFile("../../docs/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(doc, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := command([]string{"scale", "-from", "../../bench/results/scale.json", "-into", doc, "-coefficients", coefficients}, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "| `delivery` |") {
		t.Error(out.String())
	}
	var plan strings.Builder
	if err := command([]string{"plan", "-coefficients", coefficients}, &plan); err != nil || !strings.Contains(plan.String(), "| clients | 1,000,000 |") {
		t.Errorf("%v:\n%s", err, &plan)
	}
}

func TestLatencyFlags(t *testing.T) {
	for _, args := range [][]string{{"-samples", "0"}, {"more"}, {"-samples", "1", "-gateway", "/nowhere/sluice", "-nats-server", "/nowhere/nats-server"}} {
		if err := command(append([]string{"latency"}, args...), &strings.Builder{}); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"", []string{"| clients | 1,000,000 | 1,000,000 |", "| gateways | ", "| NATS servers | 3 |"}},
		{"-clients 100M -regions 30 -failed 1", []string{"| clients | 100,000,000 | 3,333,333 | 3,448,276 |", "while 1 of 30 regions is away", "until clients are back"}},
		{"-clients 100M -regions 30 -failed 3", []string{"3 of 30 regions are away"}},
		{"-clients 10k -memory 1Gi -network 1G", []string{"| clients | 10,000 |", "| gateways | 1 | 1, by one is enough |"}},
		{"-session 1m -access 5m -clients 1M", []string{"| gateways | "}},
	} {
		var out strings.Builder
		if err := command(append([]string{"plan"}, strings.Fields(tt.args)...), &out); err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: %q is missing:\n%s", tt.args, w, &out)
			}
		}
		// Each row has as many columns as the head.
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		for _, l := range lines {
			if strings.Count(l, "|") != strings.Count(lines[0], "|") {
				t.Errorf("%s: %q has other columns than %q", tt.args, l, lines[0])
			}
		}
	}
	for _, args := range []string{"-clients many", "-clients 1T", "-regions 2 -failed 2", "-session -1s", "-use 2", "-cores 0", "more", "-coefficients /nowhere.json"} {
		if err := command(append([]string{"plan"}, strings.Fields(args)...), &strings.Builder{}); err == nil {
			t.Errorf("%s is accepted", args)
		}
	}
}

func TestPlanMarks(t *testing.T) {
	c, err := capacity.Measured()
	if err != nil {
		t.Fatal(err)
	}
	once, err := insertPlans([]byte("a\n"+planBegin+"-clients 5M -->\nold\n"+planEnd+"b\n"+planBegin+"-clients 6M -->\n"+planEnd+"c\n"), c)
	if err != nil || !bytes.Contains(once, []byte("5,000,000")) || !bytes.Contains(once, []byte("6,000,000")) || bytes.Contains(once, []byte("old")) {
		t.Fatalf("%v:\n%s", err, once)
	}
	if twice, err := insertPlans(once, c); err != nil || !bytes.Equal(once, twice) {
		t.Errorf("%v:\n%s", err, twice)
	}
	for _, wrong := range []string{planBegin + "-clients 5M", planBegin + "-clients 5M -->\n", planBegin + "-clients x -->\n" + planEnd, planBegin + "-use 9 -->\n" + planEnd} {
		if _, err := insertPlans([]byte(wrong), c); err == nil {
			t.Errorf("%q is accepted", wrong)
		}
	}
}
