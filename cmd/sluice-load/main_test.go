//go:build linux

package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/natstest"
	"sluice/loadtest/plan"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
	"sluice/loadtest/run"
)

// The test binary acts as sluice-load when a run starts it: for client processes, the floor, and
// the run itself in namespaces of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"client", "floor", "within", "guard", "attack"}, os.Args[1]) {
		main()
		return
	}
	os.Exit(m.Run())
}

// measure runs a command line and returns its report. It fails the test if a scenario lost
// anything.
func measure(t *testing.T, args ...string) *result.Report {
	t.Helper()
	rep := measureLosses(t, args...)
	for _, c := range rep.Cells {
		if c.Lost != 0 || c.Errors != 0 || c.Failed != 0 {
			t.Errorf("%s %s: %+v", c.Target, c.Scenario, c)
		}
	}
	return rep
}

// measureLosses is measure of scenarios that may lose something.
func measureLosses(t *testing.T, args ...string) *result.Report {
	t.Helper()
	dir := t.TempDir()
	file, readme := filepath.Join(dir, "run.json"), filepath.Join(dir, "README.md")
	text, err := os.ReadFile("../../README.md") // with its marks
	if err == nil {
		err = os.WriteFile(readme, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"run", "-quiet", "-into", readme, "-json", file, "-html", filepath.Join(dir, "run.html"), "-md", filepath.Join(dir, "run.md"), "-svg", filepath.Join(dir, "charts")}, args...)
	var out strings.Builder
	if err := command(args, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rep, err := result.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Machine.Steered == (rep.Machine.Unsteered != "") {
		t.Errorf("where packets arrive: %+v", rep.Machine)
	}
	for _, c := range rep.Cells {
		if c.Error != "" || c.Units == 0 || c.CPU.Total < 0 {
			t.Errorf("%s %s: %+v", c.Target, c.Scenario, c)
		}
	}
	if got, err := os.ReadFile(readme); err != nil || !strings.Contains(string(got), "| scenario | figure |") {
		t.Errorf("the summary is not in the README: %v", err)
	}
	for _, name := range []string{"run.html", "run.md", "charts"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	// One path relative, the other absolute.
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, readme)
	if err != nil {
		t.Fatal(err)
	}
	if err := command([]string{"report", file, "-html", filepath.Join(dir, "again.html"), "-into", relative, "-svg", filepath.Join(dir, "charts")}, io.Discard); err != nil {
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
		if c.Target == "floor" && c.Kind == plan.KindBurst && c.Writes >= 0 && (c.Writes < 0.99 || c.Writes > 1.1) {
			t.Errorf("the floor made %v writes per delivery", c.Writes)
		}
		if c.Target == "floor-batched" && c.Kind == plan.KindBurst && c.Writes > 0.9 {
			t.Errorf("the batched floor made %v writes per delivery", c.Writes)
		}
	}
}

// Requests at a load: the highest rate is measured first, and is no cell of its own.
func TestLoadEndToEnd(t *testing.T) {
	rep := measure(t, "-floor", "single", "-kind", "unary,http", "-load", "40", "-n", "8", "-duration", "300ms")
	if len(rep.Cells) != 2 {
		t.Fatalf("%d measurements", len(rep.Cells))
	}
	for _, c := range rep.Cells {
		due := float64(0)
		if c.Load != nil {
			due = c.Load.Offered * 0.3
		}
		if c.Load == nil || c.Load.Percent != 40 || c.Load.Highest < 2*c.Load.Offered || c.Latency.Count != c.Units || float64(c.Units+c.Unsent) > due+10 {
			t.Errorf("%s: %+v of %+v", c.Scenario, c.Load, c)
		}
	}
}

// A run stays in the machine's network namespace if it is told to, or uses a server there.
func TestSharedNetwork(t *testing.T) {
	args := []string{"-floor", "single", "-kind", "fanout", "-n", "5", "-duration", "100ms"}
	rep := measure(t, args...)
	if os.Geteuid() != 0 && rep.Machine.Steered {
		t.Error("packets are steered without privileges")
	}
	t.Logf("steered: %v %s", rep.Machine.Steered, rep.Machine.Unsteered)
	if rep := measure(t, append(args, "-shared-network")...); rep.Machine.Unsteered != "as the plan says" {
		t.Errorf("%+v", rep.Machine)
	}
}

// buildGateway builds the gateway's binary.
func buildGateway(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.Command("go", "build", "-o", program, "sluice/cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// The harness against the gateway, as users run it.
func TestGatewayEndToEnd(t *testing.T) {
	program := buildGateway(t)
	start := program + " --embedded-nats --embedded-nats-listen 127.0.0.1:{nats} --addr 127.0.0.1 --port {port}"
	measure(t, "-start", start, "-kind", "storm,idle,fanout,burst,topics,unary,mixed,slow,collection", "-n", "20", "-topics", "4", "-per-client", "1", "-duration", "200ms", "-settle", "1ms", "-deliveries", "2000")
	measure(t, "-start", start+" --tls --tlscert {cert} --tlskey {key} --wscompression", "-kind", "tls", "-n", "5", "-duration", "100ms")
	if rep := measure(t, "-start", start+" --wscompression", "-kind", "compressed", "-n", "5", "-duration", "100ms"); len(rep.Cells) != 2 {
		t.Errorf("compressed: %d measurements, want one beside plain", len(rep.Cells))
	}
	rep := measure(t, "-start", start, "-kind", "overload", "-n", "20", "-duration", "500ms", "-deliveries", "20000", "-factor", "2")
	if c := rep.Cells[0]; c.Overload == nil || c.Overload.Converged < 0 || c.Overload.Offered != 40000 || c.Live != 20 {
		t.Errorf("overload: %+v", c.Overload)
	}
	rep = measure(t, "-start", start, "-kind", "reconnect", "-n", "20", "-duration", "300ms", "-work", "1ms", "-workers", "2", "-callers", "3")
	// Each client has 5 of 5 resources, and access is checked for each of them.
	if c := rep.Cells[0].Reconnect; c == nil || c.Access != 100 || c.Gets > 5 || c.Calls == 0 || c.Most == 0 || c.Ideal < 0.05 || c.Failed != 0 ||
		c.Before.Count == 0 || c.Meanwhile.Count == 0 {
		t.Errorf("reconnect: %+v", c)
	}
	bus := natstest.Start(t)
	start = program + " --nats " + bus.URL() + " --addr 127.0.0.1 --port {port}"
	rep = measure(t, "-start", start, "-nats", bus.URL(), "-kind", "failover", "-n", "20", "-duration", "300ms", "-work", "1ms", "-workers", "2", "-callers", "3")
	// The second gateway asks for itself: 5 resources, and access for each client and resource.
	if c := rep.Cells[0]; c.Live != 20 || c.Reconnect == nil || c.Reconnect.Access != 100 || c.Reconnect.Gets > 5 || c.Reconnect.Failed != 0 ||
		c.Reconnect.Before.Count == 0 || c.Reconnect.Meanwhile.Count == 0 {
		t.Errorf("failover: %+v", c)
	}
	start = program + " --embedded-nats --embedded-nats-listen 127.0.0.1:{nats} --addr 127.0.0.1 --port {port}"
	rep = measure(t, "-start", start, "-kind", "storm", "-kill", "-n", "20")
	if c := rep.Cells[0]; c.Live != 20 {
		t.Errorf("after the kill: %+v", c)
	}
}

// Clients of all kinds notice nothing of an upgrade; a restart is what it is compared with.
func TestUpgradeEndToEnd(t *testing.T) {
	bus := natstest.Start(t)
	start := buildGateway(t) + " --reqtimeout 60000 --nats " + bus.URL() + " --addr 127.0.0.1 --port {port}" // patience with a busy machine
	args := []string{"-start", start, "-nats", bus.URL(), "-kind", "upgrade", "-n", "20", "-topics", "4", "-duration", "300ms", "-settle", "10ms", "-callers", "3", "-rate", "50"}
	rep := measure(t, append(args, "-upgrades", "2", "-streams", "6", "-getters", "2")...)
	c := rep.Cells[0]
	u := c.Upgrade
	if u == nil {
		t.Fatalf("%+v", c)
	}
	if c.Live != 20 || len(u.Spans) != 2 || u.Closed != 0 || u.Refused != 0 || u.Failed != 0 || u.Lost != 0 || u.Repeated != 0 || u.Unanswered != 0 || u.Errors != 0 || u.Access != 0 {
		t.Errorf("%+v", u)
	}
	// Each process gets each resource once.
	if u.Gets != 2*4 || u.Probes == 0 || u.Pause.Count != 2*(20+6+3) || u.Quiet.Count == 0 || u.Calls[0].Count == 0 || u.Deliveries[1].Count == 0 || u.Connects[0].Count == 0 {
		t.Errorf("%+v", u)
	}
	if u.CPUBefore <= 0 || u.Alone <= 0 || u.MemoryRatio() <= 1 || u.Longest() <= 0 {
		t.Errorf("%+v", u)
	}

	rep = measureLosses(t, append(args, "-upgrade", "restart", "-upgrades", "1", "-back-off", "20ms")...)
	c, u = rep.Cells[0], rep.Cells[0].Upgrade
	if u == nil || c.Live != 20 || len(u.Spans) != 1 || u.Closed != 20+3 || u.Access < 20 || u.Repeated != 0 {
		t.Errorf("a restart: %+v", u)
	}
}

// The kinds of bench/second.yaml.
func TestSecondPlanEndToEnd(t *testing.T) {
	start := buildGateway(t) + " --embedded-nats --embedded-nats-listen 127.0.0.1:{nats} --addr 127.0.0.1 --port {port}"
	rep := measure(t, "-start", start, "-kind", "resources", "-n", "3", "-per-client", "40", "-settle", "1ms")
	if c := rep.Cells[0]; c.Units != 120 || c.Unit != result.Subscribed || c.Memory.PerSub <= 0 || c.CPU.Total > 10_000 {
		t.Errorf("resources: %+v", c)
	}
	rep = measure(t, "-start", start, "-kind", "spa", "-n", "10", "-duration", "1s")
	if c := rep.Cells[0]; c.Unit != result.Page || c.Latency.Count == 0 || c.Bytes < 50*60 {
		t.Errorf("spa: %+v", c)
	}
	rep = measure(t, "-start", start, "-floor", "single", "-kind", "large", "-n", "8", "-payload", "262144", "-deliveries", "80", "-duration", "300ms")
	if c := rep.Cells[0]; c.Units == 0 || c.Units != c.Events*8 || c.Bytes < 262144 || len(rep.Cells) != 2 {
		t.Errorf("large: %+v", c)
	}
	rep = measure(t, "-start", start, "-kind", "sse", "-n", "12", "-topics", "3", "-duration", "200ms", "-deliveries", "2000")
	if len(rep.Cells) != 2 || rep.Cells[1].Kind != plan.KindSSE || rep.Cells[1].Units == 0 || rep.Cells[1].Live != 12 {
		t.Errorf("sse: %+v", rep.Cells)
	}
	rep = measure(t, "-start", start, "-kind", "deploy", "-n", "20", "-topics", "5")
	// Each client has one resource; the gateway gets each once, and asks for each client's access.
	if c := rep.Cells[0]; c.Units != 20 || c.Deploy == nil || c.Deploy.States <= 0 || c.Deploy.Gets != 5 || c.Deploy.Access != 20 {
		t.Errorf("deploy: %+v, %+v", c, c.Deploy)
	}
	// What the others lose beside an attacker is up to the gateway and the machine.
	for _, attack := range []string{"deflate", "plain"} {
		rep = measureLosses(t, "-start", start+" --wscompression", "-kind", "hostile", "-n", "20", "-attackers", "1", "-attack", attack, "-duration", "200ms", "-deliveries", "2000")
		if c := rep.Cells[0]; c.Hostile == nil || c.Hostile.Attack != attack || c.Hostile.Attackers != 1 || c.Hostile.Before.Count == 0 || c.Latency.Count == 0 {
			t.Errorf("%s: %+v of %+v", attack, c.Hostile, c)
		}
	}
}

// A part of a run that is missing or ends early is named, and the cell has no figures.
func TestFailuresAreNamed(t *testing.T) {
	program := buildGateway(t)
	bus := natstest.Start(t)
	addr := closedPort(t)
	run := func(target plan.Target, during func()) string {
		t.Helper()
		const clients = 4
		target.Name, target.Protocol = "g", "res"
		p := plan.Plan{Targets: []plan.Target{target}, Scenarios: []plan.Scenario{{Kind: plan.KindFanout, N: clients, Rate: 20, Duration: time.Minute}}}
		points := 0 // with all clients: the first may be the last one of their connecting
		rep, err := run.Run(t.Context(), p, run.Options{Progress: func(s run.Status) {
			if s.Point.Live == clients && s.Point.Rate > 0 {
				points++
			}
			if during != nil && points == 2 {
				during()
				during = nil
			}
		}})
		if err != nil || len(rep.Cells) != 1 {
			t.Fatalf("%v, %+v", err, rep)
		}
		return rep.Cells[0].Error
	}
	wants := func(what, got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q", what, got)
		}
	}
	wants("closed port", run(plan.Target{Addr: addr, NATSURL: bus.URL()}, nil), "g does not run")
	wants("no such program", run(plan.Target{Start: program + "-none"}, nil), "no such file")
	wants("ends at once", run(plan.Target{Start: program + " --nonsense"}, nil), "ended before it was ready (exit status 2): sluice: unknown flag")
	wants("placeholder", run(plan.Target{Start: program + " --port {prt}"}, nil), "unknown placeholder")

	gateway := func() *proc.Process {
		t.Helper()
		g, err := proc.Start("g", program+" --addr 127.0.0.1 --port "+portOf(addr)+" --nats "+bus.URL(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Kill)
		if err := g.Ready(addr, time.Minute); err != nil {
			t.Fatal(err)
		}
		return g
	}
	g := gateway()
	target := plan.Target{Addr: addr, NATSURL: bus.URL(), PID: g.PID()}
	wants("dies in the middle", run(target, g.Kill), "all connections were lost")
	wants("no such process", run(plan.Target{Addr: addr, NATSURL: bus.URL(), PID: 1 << 30}, nil), "g does not run")
	target.PID = gateway().PID()
	wants("no NATS there", run(plan.Target{Addr: addr, NATSURL: "nats://me:secret@" + closedPort(t)}, nil), "nats://…@")
	wants("NATS dies in the middle", run(target, bus.Stop), "NATS")
	target.PID = 1 << 30
	wants("no such process", run(target, nil), "there is no process")
}

// An event is compressed once, whatever the number of its clients.
func TestOneCompressionPerEvent(t *testing.T) {
	bus, addr, figures := natstest.Start(t), closedPort(t), closedPort(t)
	g, err := proc.Start("g", buildGateway(t)+" --wscompression --loops 1 --addr 127.0.0.1 --port "+portOf(addr)+" --metricsport "+portOf(figures)+" --nats "+bus.URL(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Kill)
	if err := errors.Join(g.Ready(addr, time.Minute), g.Ready(figures, time.Minute)); err != nil {
		t.Fatal(err)
	}
	compressions := func() int64 {
		t.Helper()
		answer, err := http.Get("http://" + figures + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?m)^sluice_ws_compressions_total (\d+)$`).FindSubmatch(text)
		if found == nil {
			t.Fatalf("no compressions in\n%s", text)
		}
		n, err := strconv.ParseInt(string(found[1]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, n := range []int{1, 40} {
		before := compressions()
		p := plan.Plan{
			Targets:   []plan.Target{{Name: "g", Protocol: "res", Addr: addr, NATSURL: bus.URL(), PID: g.PID()}},
			Scenarios: []plan.Scenario{{Name: "z", Kind: plan.KindCompressed, N: n, Rate: 100, Duration: 200 * time.Millisecond}},
		}
		rep, err := run.Run(t.Context(), p, run.Options{})
		if err != nil {
			t.Fatal(err)
		}
		plain, c := rep.Cells[0], rep.Cells[1]
		if c.Error != "" || c.Events == 0 || c.Units != c.Events*int64(n) || c.Shrunk != c.Units || plain.Shrunk != 0 || c.Bytes > plain.Bytes/2 {
			t.Errorf("%+v beside %+v", c, plain)
		}
		if got := compressions() - before; got != c.Events {
			t.Errorf("%d compressions of %d events for %d clients", got, c.Events, n)
		}
	}
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// closedPort returns an address on which no process listens.
func closedPort(t *testing.T) string {
	t.Helper()
	port, err := proc.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1:" + strconv.Itoa(port)
}

func TestCommandLineOmitsFolders(t *testing.T) {
	got := commandLine([]string{"-start", "/a/b/sluice --config /c/d.json", "-html", "/tmp/x/y.html", "-plan", "bench/quick.yaml"})
	if want := "sluice-load run -start 'sluice --config d.json' -html y.html -plan bench/quick.yaml"; got != want {
		t.Errorf("%s", got)
	}
}

func TestRejectedCommands(t *testing.T) {
	dir := t.TempDir()
	plan := filepath.Join(dir, "plan.yaml")
	if err := os.WriteFile(plan, []byte("targets: [{name: a, protocol: res, start: x}]\nscenarios: [{kind: idle}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"walk":                                          `no command "walk"`,
		"run":                                           "say what to measure",
		"run -floor single -kind nothing":               `unknown kind "nothing"`,
		"run -floor single -kind idle,idle":             "two scenarios are named idle",
		"run -floor single -kind mixed":                 "no target can do mixed",
		"run -floor lower":                              "single, batched or both",
		"run -floor single stray":                       `"stray" is no flag`,
		"run -floor single -rounds -1":                  "must not be negative",
		"run -floor single -html " + plan + "/x":        "not a directory",
		"run -plan missing.yaml":                        "no such file",
		"run -floor single -into " + plan:               "the marks for the figures are missing",
		"run -plan " + plan + " -n 5 -url ws://h/":      "-n, -url has no effect beside -plan",
		"run -plan " + plan + " -targets b":             "-targets: there is no b",
		"run -plan " + plan + " -only b":                "-only: there is no b",
		"run -floor single -n 5 -scenarios " + plan:     "-n has no effect beside -scenarios",
		"run -url http://127.0.0.1:1/":                  "ws://host:port/path",
		"run -url 127.0.0.1:8080":                       "ws://host:port/path",
		"run -floor single -kind unary -load 180":       "above 0 and up to 100",
		"run -floor single -load 80":                    "load is for unary and http",
		"run -floor single -kind http -load 80 -rate 5": "exclude each other",
		"run -url ws://192.0.2.1:80/ -kind hostile":     "on this machine's loopback only",
		"run -start x -kind fanout -attack plain":       "attackers and attack are for hostile",
		"report":         "say which JSON file",
		"report " + plan: "is no report of a run",
	} {
		if err := command(strings.Fields(line), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
