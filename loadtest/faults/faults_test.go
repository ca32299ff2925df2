//go:build linux

package faults

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sluice/internal/resmodel"
	"sluice/internal/testkit"
	"sluice/loadtest/plan"
)

// Programs of the tests, built once.
var gateway, natsServer string

func TestMain(m *testing.M) {
	testkit.Main(m, map[*string]string{&gateway: "sluice/cmd/sluice", &natsServer: "github.com/nats-io/nats-server/v2"})
}

func options(t *testing.T) Options {
	return Options{
		Targets: []plan.Target{{Name: "sluice", Title: "Sluice", Protocol: "res", Start: gateway + " --addr 127.0.0.1 --port {port} --nats nats://127.0.0.1:{nats}"}},
		NATS:    natsServer, Short: true, Say: func(line string) { t.Log(line) },
	}
}

// Each fault, with few clients: the gateway keeps what docs/reliability.md says.
func TestFaults(t *testing.T) {
	for _, r := range Rows() {
		t.Run(r.Name, func(t *testing.T) {
			o := options(t)
			o.Rows = []string{r.Name}
			table, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if !table.OK(0) {
				t.Errorf("%s: %+v", r.Fault, table.Cells)
			}
		})
	}
}

// What is wrong is found: a gateway that ends, one that uses too much memory, and clients whose
// state is not what the service says.
func TestFaultsAreFound(t *testing.T) {
	o := options(t)
	o.Rows = []string{"nats-restart"}
	o.Targets[0].Start += " --nats-grace 0 --nats-loss-exit"
	if got := outcome(t, o); got.Word != Closed || !strings.Contains(got.Detail, "the process ended") {
		t.Errorf("a gateway that ends: %+v", got)
	}
	o = options(t)
	o.Rows, o.Memory = []string{"garbage"}, 8<<20
	if got := outcome(t, o); got.Word != OutOfMemory {
		t.Errorf("a gateway with 8 MiB: %+v", got)
	}
	s := &stand{world: &world{}}
	s.world.states[3] = map[string]any{"a": "new"}
	c := &client{topic: "load.t3", speaks: centrifuge{map[string]string{"load.t3": `{"a":"old"}`}}, ended: make(chan struct{})}
	if n := s.wrong([]*client{c}); n != 1 {
		t.Errorf("%d clients are wrong, want 1", n)
	}
	s.world.states[3] = map[string]any{"a": "old"}
	if n := s.wrong([]*client{c}); n != 0 {
		t.Errorf("%d clients are wrong, want 0", n)
	}
}

func outcome(t *testing.T, o Options) Outcome {
	t.Helper()
	table, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return table.Cells[0][0]
}

func TestDialects(t *testing.T) {
	c := centrifuge{map[string]string{}}
	c.subscribe(2, "load.t1")
	for _, step := range []struct {
		text, reply, value string
		responses          map[int]string
	}{
		{"{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"data\":{\"a\":1}}}", "", `{"a":1}`, map[int]string{1: "", 2: ""}},
		{`{"push":{"channel":"load.t1","pub":{"data":{"a":2}}}}`, "", `{"a":2}`, map[int]string{}},
		{`{}`, "{}", `{"a":2}`, map[int]string{}},
		{`{"id":3,"error":{"code":100,"message":"internal server error"}}`, "", `{"a":2}`, map[int]string{3: "internal server error"}},
	} {
		responses, reply, err := c.received(step.text)
		if err != nil || reply != step.reply || fmt.Sprint(responses) != fmt.Sprint(step.responses) || c.value("load.t1") != step.value {
			t.Errorf("%s: %v, %q, %v, %s", step.text, responses, reply, err, c.value("load.t1"))
		}
	}
	r := res{resmodel.NewView()}
	r.hello()
	r.subscribe(2, "load.t1")
	for _, step := range []struct {
		text, value string
		responses   map[int]string
	}{
		{`{"id":1,"result":{"protocol":"1.2.3"}}`, "", map[int]string{1: ""}},
		{`{"id":2,"result":{"models":{"load.t1":{"a":1}}}}`, `{"a":1}`, map[int]string{2: ""}},
		{`{"event":"load.t1.change","data":{"values":{"a":2}}}`, `{"a":2}`, nil},
	} {
		responses, _, err := r.received(step.text)
		if err != nil || fmt.Sprint(responses) != fmt.Sprint(step.responses) || r.value("load.t1") != step.value {
			t.Errorf("%s: %v, %v, %s", step.text, responses, err, r.value("load.t1"))
		}
	}
	if _, _, err := r.received(`{"event":"load.t9.change","data":{"values":{"a":2}}}`); err == nil {
		t.Error("an event of what the client does not hold passes")
	}
}

func TestInsert(t *testing.T) {
	table := &Table{Targets: []plan.Target{{Name: "a", Version: "1"}}, Rows: Rows()[:1], Cells: [][]Outcome{{{Word: Kept, Detail: "x"}}}, Memory: 512 << 20}
	text, err := table.Insert([]byte("before\n" + markBegin + "former\n" + markEnd + "after\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before\n" + markBegin, "| a 1 |", "| **kept**: x |", "512 MiB", markEnd + "after\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "former") {
		t.Errorf("the old table is still there:\n%s", text)
	}
	if _, err := table.Insert([]byte("no marks")); err == nil {
		t.Error("a text without marks passes")
	}
}

// Each row of the document is one of Rows, and the document has all of them.
func TestDocumentHasAllRows(t *testing.T) {
	text, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Rows() {
		if !strings.Contains(string(text), "| "+r.Fault+" | "+r.Kept+" |") {
			t.Errorf("docs/reliability.md has not this fault; run make reliability: %s", r.Fault)
		}
	}
}

func TestCheck(t *testing.T) {
	good := plan.Target{Name: "a", Start: "x", Protocol: "res"}
	for name, o := range map[string]Options{
		"no target":   {NATS: "x"},
		"no NATS":     {Targets: []plan.Target{good}},
		"no command":  {NATS: "x", Targets: []plan.Target{{Name: "a", Protocol: "res"}}},
		"a protocol":  {NATS: "x", Targets: []plan.Target{{Name: "a", Start: "x", Protocol: "floor"}}},
		"no such row": {NATS: "x", Targets: []plan.Target{good}, Rows: []string{"earthquake"}},
	} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%s passes", name)
		}
	}
}
