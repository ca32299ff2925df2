//go:build linux

package differential

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"sluice/internal/testkit"
	"sluice/loadtest/plan"
)

var writeDocs = flag.Bool("write-docs", false, "write the table of differences into docs/resgate.md; see \"make docs\"")

// Programs of the tests, built once.
var gateway, natsServer string

func TestMain(m *testing.M) {
	testkit.Main(m, map[*string]string{&gateway: "sluice/cmd/sluice", &natsServer: "github.com/nats-io/nats-server/v2"})
}

func options(t *testing.T, flags ...string) Options {
	o := Options{NATS: natsServer, Seed: 1, Count: 8, Steps: 30, Say: func(line string) { t.Log(line) }}
	for i := range 2 {
		start := gateway + " --addr 127.0.0.1 --port {port} --nats nats://127.0.0.1:{nats}"
		if i < len(flags) {
			start += flags[i]
		}
		o.Targets = append(o.Targets, plan.Target{Name: fmt.Sprintf("sluice%d", i), Protocol: "res", Start: start})
	}
	return o
}

// A gateway does not differ from itself, but for the order of what a reset changes: what the
// comparison finds does not come from chance.
func TestSame(t *testing.T) {
	o := options(t)
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	delete(r.Allowed, "events before the end of a subscription")
	delete(r.Allowed, "which event brings a resource")
	if r.Conversations != o.Count || len(r.Found) > 0 || len(r.Allowed) > 0 || r.Ended > 0 {
		t.Errorf("%+v", r)
	}
}

// A difference is found, and the conversation that shows it is short.
func TestDifferenceIsFound(t *testing.T) {
	r, err := Run(t.Context(), options(t, "", " --apiencoding jsonflat"))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Found) == 0 {
		t.Fatal("another encoding is not noticed")
	}
	for _, d := range r.Found {
		if last := d.Steps[len(d.Steps)-1]; last.HTTP == nil || len(d.Steps) > 10 || !strings.Contains(d.String(), "first only:") {
			t.Errorf("%v", d.String())
		}
	}
}

// The first gateway's end is an error that says so.
func TestEndIsAnError(t *testing.T) {
	o := options(t)
	o.Targets[0].Start = "/bin/false"
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "sluice0") {
		t.Errorf("%v", err)
	}
}

func TestOptions(t *testing.T) {
	for what, change := range map[string]func(*Options){
		"two gateways are compared": func(o *Options) { o.Targets = o.Targets[:1] },
		"how many conversations":    func(o *Options) { o.Count = 0 },
		"conversations are in RES":  func(o *Options) { o.Targets[1].Protocol = "centrifuge" },
	} {
		o := options(t)
		change(&o)
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
}

// Steps depend on the seed only.
func TestStepsRepeat(t *testing.T) {
	if a, b := fmt.Sprint(Steps(7, 50)), fmt.Sprint(Steps(7, 50)); a != b || a == fmt.Sprint(Steps(8, 50)) {
		t.Error("a seed does not stand for one conversation")
	}
}

// What is meant is allowed, and nothing else.
func TestRules(t *testing.T) {
	answer := func(lines ...string) Outcome {
		return Outcome{Clients: [2]Received{{Responses: lines, Events: map[string][]string{}}, {Events: map[string][]string{}}}}
	}
	events := func(rid string, held []string, lines ...string) Outcome {
		o := answer()
		o.Clients[0].Held = held
		if len(lines) > 0 {
			o.Clients[0].Events[rid] = lines
		}
		return o
	}
	http := func(lines ...string) Outcome { o := answer(); o.HTTP = lines; return o }
	broken := answer()
	broken.Clients[1].Broken = "the answer lacks a resource"
	stale := answer()
	stale.Clients[0].Stale = []string{"{s}.m0"}
	send := func(text string) []Step { return []Step{{Client: 0, Text: text}} }
	act := func(acts ...string) (all []Step) {
		for _, a := range acts {
			act, name, _ := strings.Cut(a, " ")
			all = append(all, Step{Client: -1, Act: act, Name: name})
		}
		return all
	}
	for _, c := range []struct {
		rule      string // "": not allowed
		steps     []Step
		got, want Outcome
	}{
		{"the reason of invalid parameters", send("x"), answer(`{"error":{"code":"system.invalidParams","data":{"reason":"why"},"message":"Invalid parameters"},"id":1}`),
			answer(`{"error":{"code":"system.invalidParams","message":"Invalid parameters"},"id":1}`)},
		{"", send("x"), answer(`{"error":{"code":"system.invalidParams","data":{"other":"why"},"message":"Invalid parameters"},"id":1}`),
			answer(`{"error":{"code":"system.invalidParams","message":"Invalid parameters"},"id":1}`)},
		{"the text of internal errors", send("x"), answer(`{"error":{"code":"system.internalError","message":"Internal error: a"}}`), answer(`{"error":{"code":"system.internalError","message":"Internal error: b"}}`)},
		{"where JSON is malformed", nil, http("400", `{"code":"system.badRequest","data":{"offset":1,"reason":"malformed JSON: expected a value"},"message":"Bad request"}`),
			http("400", `{"code":"system.badRequest","message":"Error decoding request body: invalid character"}`)},
		{"events without data", act("delete m0"), events("{s}.m0", nil, `{"event":"{s}.m0.delete"}`), events("{s}.m0", nil, `{"data":null,"event":"{s}.m0.delete"}`)},
		{"Allow", nil, http("405", "Allow: GET"), http("405")},
		{"", nil, http("405", "Allow: GET"), http("404")},
		{"requests on wsPath that are no upgrade", nil, http("400", "Content-Type: application/json; charset=utf-8", `{"code":"system.badRequest","message":"Bad request"}`),
			http("400", "Content-Type: text/plain; charset=utf-8", "Bad Request\n")},
		{"messages that no client can make sense of", send("x"), answer(), broken},
		{"", send("x"), broken, answer()},
		{"clients that are out of date", act("mutate m0"), answer(), stale},
		{"", act("mutate m0"), stale, answer()},
		{"events before the end of a subscription", act("reset *"), events("{s}.m0", nil, "x"), answer()},
		{"", act("reset *"), events("{s}.m0", []string{"{s}.m0"}, "x"), events("{s}.m0", []string{"{s}.m0"})},
		{"events of resources that a client holds", act("mutate m0"), events("{s}.m0", nil, `{"event":"{s}.m0.change"}`), answer()},
		{"", act("mutate m0"), answer(), events("{s}.m0", nil, `{"event":"{s}.m0.change"}`)},
		{"which event brings a resource", act("query q"),
			events("{s}.q?", nil, `{"data":{"idx":0,"models":{"a":{"x":1}}},"event":"{s}.q?.add"}`, `{"data":{"idx":1},"event":"{s}.q?.add"}`),
			events("{s}.q?", nil, `{"data":{"idx":0},"event":"{s}.q?.add"}`, `{"data":{"idx":1,"models":{"a":{"x":1}}},"event":"{s}.q?.add"}`)},
		{"", act("query q"),
			events("{s}.q?", nil, `{"data":{"idx":0,"models":{"a":{"x":1}}},"event":"{s}.q?.add"}`),
			events("{s}.q?", nil, `{"data":{"idx":0,"models":{"a":{"x":2}}},"event":"{s}.q?.add"}`)},
		{"health checks on /", []Step{{Client: -1, HTTP: &Exchange{Method: "HEAD", Path: "/"}}}, http("200"), http("400")},
		{"", []Step{{Client: -1, HTTP: &Exchange{Method: "GET", Path: "/"}}}, http("200"), http("400")},
		{"request IDs of any kind", send(`{"id":1.5,"method":"get.x"}`), answer(`{"id":1.5,"result":{}}`), answer()},
		{"a request without a method", send(`{"id":{id},"method":1}`), answer(`{"error":{"code":"system.invalidRequest"},"id":1}`), answer()},
		{"a version request without a version", append(send(`{"id":{id},"method":"version"}`), send("x")...), answer("a"), answer("b")},
		{"malformed events", act("oddevent c0"), answer(), events("{s}.c0", nil, "x")},
		{"resources after their deletion", append(act("delete m2"), send("get.{s}.m2")...), answer("not found"), answer("found")},
		{"", append(act("delete m2"), send("get.{s}.m1")...), answer("not found"), answer("found")},
	} {
		steps := c.steps
		if steps == nil {
			steps = []Step{{Client: -1, HTTP: &Exchange{}}}
		}
		names, _, ok := allow(steps, &c.got, &c.want)
		switch {
		case c.rule == "" && ok:
			t.Errorf("%v: allowed by %q", steps, names)
		case c.rule != "" && (!ok || names[len(names)-1] != c.rule):
			t.Errorf("%v: %q, want %q", steps, names, c.rule)
		}
	}
}

// Marks of the table in docs/resgate.md, which is written by "make docs".
const (
	page  = "../../docs/resgate.md"
	begin = "<!-- differences: written by make docs -->\n"
	end   = "<!-- /differences -->"
)

// TestDocs: the page has the table of the rules.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("docs/resgate.md has no marks for the table")
	}
	table := "\n| difference | why |\n|---|---|\n"
	for _, r := range Rules {
		table += "| " + r.Name + " | " + r.Reason + " |\n"
	}
	if table += "\n"; table == old {
		return
	}
	if !*writeDocs {
		t.Fatal("the table in docs/resgate.md is out of date: make docs")
	}
	if err := os.WriteFile(page, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
