//go:build linux

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/loadtest"
)

// The test program stands in for sluice-load where a run starts it again, for
// its client processes and the floor.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "client" || os.Args[1] == "floor") {
		main()
		return
	}
	os.Exit(m.Run())
}

// measure runs a command line and returns its report. It fails the test if any
// scenario lost something.
func measure(t *testing.T, args ...string) *loadtest.Report {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "run.json")
	args = append([]string{"run", "-quiet", "-json", file, "-html", filepath.Join(dir, "run.html"), "-md", filepath.Join(dir, "run.md"), "-svg", filepath.Join(dir, "charts")}, args...)
	var out strings.Builder
	if err := command(args, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rep, err := loadtest.ReadReport(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range rep.Cells {
		if c.Error != "" || c.Lost != 0 || c.Errors != 0 || c.Failed != 0 || c.Units == 0 || c.CPU.Total < 0 {
			t.Errorf("%s %s: %+v", c.Target, c.Scenario, c)
		}
	}
	for _, name := range []string{"run.html", "run.md", "charts"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if err := command([]string{"report", file, "-html", filepath.Join(dir, "again.html")}, io.Discard); err != nil {
		t.Error(err)
	}
	return rep
}

func TestFloorEndToEnd(t *testing.T) {
	rep := measure(t, "-floor", "both", "-kind", "storm,idle,fanout,burst,topics,max,unary,http", "-n", "30", "-topics", "6", "-per-client", "2", "-duration", "150ms", "-settle", "1ms", "-deliveries", "3000", "-per-process", "16")
	if len(rep.Cells) != 16 {
		t.Errorf("%d measurements", len(rep.Cells))
	}
	for _, c := range rep.Cells {
		// One write per event and connection, which is what the floor is for.
		if c.Target == "floor" && c.Kind == loadtest.KindBurst && c.Writes >= 0 && (c.Writes < 0.99 || c.Writes > 1.1) {
			t.Errorf("the floor made %v writes per delivery", c.Writes)
		}
		if c.Target == "floor-batched" && c.Kind == loadtest.KindBurst && c.Writes > 0.9 {
			t.Errorf("the batched floor made %v writes per delivery", c.Writes)
		}
	}
}

// The whole of it against the gateway as users run it.
func TestGatewayEndToEnd(t *testing.T) {
	program := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.Command("go", "build", "-o", program, "sluice/cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	start := program + " --embedded-nats --embedded-nats-listen 127.0.0.1:{nats} --addr 127.0.0.1 --port {port}"
	measure(t, "-start", start, "-kind", "storm,idle,fanout,burst,topics,unary,mixed,slow,collection", "-n", "20", "-topics", "4", "-per-client", "1", "-duration", "200ms", "-settle", "1ms", "-deliveries", "2000")
	rep := measure(t, "-start", start, "-kind", "storm", "-kill", "-n", "20")
	if c := rep.Cells[0]; c.Live != 20 {
		t.Errorf("after the kill: %+v", c)
	}
}

func TestCommandLineIsKeptWithoutFolders(t *testing.T) {
	got := commandLine([]string{"-start", "/a/b/sluice --config /c/d.json", "-html", "/tmp/x/y.html", "-plan", "bench/quick.yaml"})
	if want := "sluice-load run -start 'sluice --config d.json' -html y.html -plan bench/quick.yaml"; got != want {
		t.Errorf("%s", got)
	}
}

func TestCommandsThatCannotRun(t *testing.T) {
	for _, args := range [][]string{{"walk"}, {"run"}, {"run", "-floor", "single", "-kind", "nothing"}, {"run", "-plan", "missing.yaml"}, {"report"}, {"run", "-floor", "single", "stray"}} {
		if err := command(args, io.Discard); err == nil {
			t.Errorf("%v runs", args)
		}
	}
}

// The plans of the comparison must stay readable.
func TestPlansOfTheComparison(t *testing.T) {
	for _, name := range []string{"compare", "quick"} {
		p, err := loadtest.ReadPlan(filepath.Join("..", "..", "bench", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Complete(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
