//go:build linux

package plan

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPlanDefaultsAndChecks(t *testing.T) {
	p := Plan{Targets: []Target{{Name: "a", Protocol: "res", Start: "x"}}, Scenarios: []Scenario{{Kind: KindTopics}, {Kind: KindGrowth}, {Kind: KindUnary}, {Kind: KindMax}}}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	s := p.Scenarios
	if s[0].Topics != 1000 || s[0].PerClient != 5 || len(s[1].Grow) != 4 || s[2].N != 64 || s[2].Rate != 0 || s[3].Duration >= s[0].Duration {
		t.Errorf("%+v", s)
	}
	if got := s[0].EventRate(10_000); got != 400 { // 20,000 deliveries/s at 50 subscribers of each topic
		t.Errorf("%v events per second", got)
	}
	second := Plan{Targets: p.Targets, Scenarios: []Scenario{{Kind: KindResources}, {Kind: KindSPA}, {Kind: KindLarge}, {Kind: KindLarge, Name: "small", Payload: 64}, {Kind: KindDeploy}}}
	if err := second.Complete(); err != nil {
		t.Fatal(err)
	}
	s2 := second.Scenarios
	if s2[0].Topics != 100_000 || s2[0].Properties != 4 || s2[1].N != 500 || s2[1].Deliveries != 0 || s2[2].Deliveries*float64(s2[2].Payload) != largeBytes || s2[3].Deliveries != usualDeliveries || s2[4].Topics != 1000 {
		t.Errorf("%+v", s2)
	}
	upgraded := Plan{Targets: []Target{{Name: "a", Protocol: "res", Start: "x", NATS: "y", Upgrade: UpgradeSignal}}, Scenarios: []Scenario{{Kind: KindUpgrade}, {Name: "few", Kind: KindUpgrade, N: 10, Deliveries: 5}}}
	if err := upgraded.Complete(); err != nil {
		t.Fatal(err)
	}
	s3 := upgraded.Scenarios
	if s3[0].N != 10_000 || s3[0].Topics != 100 || s3[0].Deliveries != 40_000 || s3[0].EventRate(10_000) != 400 || s3[0].Upgrades != 3 || s3[0].Callers != 16 || s3[0].BackOff != 500*time.Millisecond || s3[1].Topics != 10 || s3[1].Deliveries != 5 {
		t.Errorf("%+v", s3)
	}
	loaded := Plan{Targets: p.Targets, Scenarios: []Scenario{{Kind: KindUnary, Load: 80}, {Kind: KindHTTP, Load: 100}, {Name: "low", Kind: KindHTTP, Load: 0.5}}}
	if err := loaded.Complete(); err != nil || loaded.Scenarios[0].Rate != 0 || loaded.Scenarios[1].N != 64 {
		t.Errorf("%v, %+v", err, loaded.Scenarios)
	}
	packs := []Target{{Name: "a", Protocol: "res", Start: "x", Compress: "-z"}}
	attacked := Plan{Targets: packs, Scenarios: []Scenario{{Kind: KindHostile}, {Name: "plain", Kind: KindHostile, Attack: "plain", Attackers: 2, N: 20}}}
	if err := attacked.Complete(); err != nil {
		t.Fatal(err)
	}
	if s := attacked.Scenarios; s[0].N != 1000 || s[0].Topics != 50 || s[0].Attackers != 4 || !s[0].Squeezes() || s[0].Compression || s[1].Topics != 20 || s[1].Squeezes() {
		t.Errorf("%+v", s)
	}
	for what, bad := range map[string]Plan{
		"attack elsewhere":      {Targets: []Target{{Name: "a", Protocol: "res", Addr: "192.0.2.1:80"}}, Scenarios: []Scenario{{Kind: KindHostile}}},
		"no compression":        {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindHostile}}},
		"unknown attack":        {Targets: packs, Scenarios: []Scenario{{Kind: KindHostile, Attack: "x"}}},
		"too many attackers":    {Targets: packs, Scenarios: []Scenario{{Kind: KindHostile, Attackers: 65}}},
		"minus attackers":       {Targets: packs, Scenarios: []Scenario{{Kind: KindHostile, Attackers: -1}}},
		"attack over TLS":       {Targets: packs, Scenarios: []Scenario{{Kind: KindHostile, TLS: true}}},
		"attackers of fanout":   {Targets: packs, Scenarios: []Scenario{{Kind: KindFanout, Attackers: 1}}},
		"a load of too much":    {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindUnary, Load: 101}}},
		"a negative load":       {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindUnary, Load: -1}}},
		"no number":             {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindUnary, Load: math.NaN()}}},
		"load and rate":         {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindUnary, Load: 80, Rate: 5}}},
		"load of events":        {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindFanout, Load: 80}}},
		"no way to upgrade":     {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindUpgrade}}},
		"unknown upgrade":       {Targets: []Target{{Name: "a", Protocol: "res", Start: "x", NATS: "y", Upgrade: "x"}}, Scenarios: s},
		"upgrade of NATS":       {Targets: []Target{{Name: "a", Protocol: "nats", Start: "x", NATS: "y", Upgrade: UpgradeRestart}}, Scenarios: []Scenario{{Kind: KindUpgrade}}},
		"streams elsewhere":     {Targets: []Target{{Name: "a", Protocol: "centrifuge", Start: "x", NATS: "y", Upgrade: UpgradeRestart}}, Scenarios: []Scenario{{Kind: KindUpgrade, Streams: 1}}},
		"bursts in an upgrade":  {Targets: upgraded.Targets, Scenarios: []Scenario{{Kind: KindUpgrade, Burst: 2}}},
		"minus upgrades":        {Targets: upgraded.Targets, Scenarios: []Scenario{{Kind: KindUpgrade, Upgrades: -1}}},
		"too many upgrades":     {Targets: upgraded.Targets, Scenarios: []Scenario{{Kind: KindUpgrade, Upgrades: 1001}}},
		"streams":               {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindSSE, Topics: 2, PerClient: 2}}},
		"no target":             {Scenarios: s},
		"bad kind":              {Targets: p.Targets, Scenarios: []Scenario{{Kind: "x"}}},
		"bad protocol":          {Targets: []Target{{Name: "a", Protocol: "x", Start: "x"}}, Scenarios: s},
		"twice":                 {Targets: append(p.Targets, p.Targets...), Scenarios: s},
		"unknown":               {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindIdle, Targets: []string{"b"}}}},
		"kinds":                 {Targets: []Target{{Name: "a", Protocol: "res", Start: "x", Kinds: []string{"x"}}}, Scenarios: s},
		"subscriptions":         {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindIdle, PerClient: 3}}},
		"same name":             {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindIdle}, {Kind: KindIdle}}},
		"no target supports it": {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindTLS}}},
		"beside an unknown one": {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindIdle, Beside: "x"}}},
		"all slow":              {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindSlow, Slow: 1}}},
		"minus rounds":          {Targets: p.Targets, Scenarios: s, Rounds: -1},
		"minus burst":           {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindBurst, Burst: -1}}},
		"minus settle":          {Targets: p.Targets, Scenarios: []Scenario{{Kind: KindIdle, Settle: -1}}},
	} {
		if err := bad.Complete(); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// A tls or compressed scenario gets its plain form beside it, except on targets that speak TLS
// only.
func TestPlainBesideTLS(t *testing.T) {
	p := Plan{
		Targets: []Target{{Name: "a", Protocol: "res", Start: "x", TLS: "-tls", Compress: "-z"}, {Name: "b", Protocol: "res", Start: "x"}, {Name: "url", Protocol: "res", Addr: "127.0.0.1:1"}, {Name: "always", Protocol: "res", Start: "x -tls", TLS: " "}},
		Scenarios: []Scenario{{Kind: KindTLS, Title: "Over TLS", Payload: 300}, {Name: "z", Kind: KindCompressed}, {Name: "only", Kind: KindTLS, Targets: []string{"url"}},
			{Name: "own", Kind: KindTLS, Beside: "z"}},
	}
	for range 2 { // a report's plan is completed again
		if err := p.Complete(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range p.Scenarios {
			got = append(got, fmt.Sprintf("%s %s %v %v %d beside %q on %v", s.Name, s.Kind, s.TLS, s.Compression, s.Payload, s.Beside, p.supportedTargets(s)))
		}
		want := []string{
			`tls-plain fanout false false 300 beside "" on [a]`,
			`tls tls true false 300 beside "tls-plain" on [a url always]`,
			`z-plain fanout false false 512 beside "" on [a url]`,
			`z compressed false true 512 beside "z-plain" on [a url]`,
			`only tls true false 128 beside "" on [url]`,
			`own tls true false 128 beside "z" on [a url always]`,
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

// Mercure's clients read event streams only: there is no plain form, no calls, and no hub that runs
// already.
func TestMercureTargets(t *testing.T) {
	p := Plan{
		Targets:   []Target{{Name: "a", Protocol: "res", Start: "x"}, {Name: "hub", Protocol: "mercure", Start: "x"}, {Name: "room", Protocol: "socketio", Start: "x"}},
		Scenarios: []Scenario{{Kind: KindSSE}, {Name: "only", Kind: KindSSE, Targets: []string{"hub"}}, {Kind: KindFanout}, {Kind: KindUnary}},
	}
	if err := p.Complete(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range p.Scenarios {
		got = append(got, fmt.Sprintf("%s beside %q on %v", s.Name, s.Beside, p.supportedTargets(s)))
	}
	want := []string{`sse-plain beside "" on [a]`, `sse beside "sse-plain" on [a hub]`, `only beside "" on [hub]`, `fanout beside "" on [a hub room]`, `unary beside "" on [a]`}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	running := Plan{Targets: []Target{{Name: "hub", Protocol: "mercure", Addr: "127.0.0.1:1"}}, Scenarios: []Scenario{{Kind: KindFanout}}}
	if err := running.Complete(); err == nil || !strings.Contains(err.Error(), "give the command that starts it") {
		t.Errorf("%v", err)
	}
}

// What a target needs for TLS and compression goes to its command line, or to its environment.
func TestCommandOfTarget(t *testing.T) {
	target := Target{Start: "x -a {port}", Env: []string{"A=1"}, TLS: " -tls {cert} B_2={key} -c=D=1", Compress: "ZIP=true"}
	for _, c := range []struct {
		tls, compress bool
		line, env     string
	}{
		{false, false, "x -a {port}", "A=1"},
		{true, false, "x -a {port} -tls {cert} -c=D=1", "A=1 B_2={key}"},
		{false, true, "x -a {port}", "A=1 ZIP=true"},
		{true, true, "x -a {port} -tls {cert} -c=D=1", "A=1 B_2={key} ZIP=true"},
	} {
		if line, env := target.Command(c.tls, c.compress); line != c.line || strings.Join(env, " ") != c.env {
			t.Errorf("%v, %v: %q with %v", c.tls, c.compress, line, env)
		}
	}
}

// A run that uses servers outside cannot have a network of its own.
func TestReachable(t *testing.T) {
	own := Target{Name: "own", Start: "x"}
	for want, targets := range map[string][]Target{
		"":                                    {own, own},
		"url uses a server that runs already": {own, {Name: "url", Addr: "127.0.0.1:1"}},
		"bus uses a server that runs already": {{Name: "bus", Start: "x", NATSURL: "nats://127.0.0.1:1"}},
	} {
		if got := (Plan{Targets: targets}).Reachable(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestInvalidPlanFiles(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "holds nothing",
		"scenarios: [":                      "yaml: line 1",
		"scenarios: [{kindd: idle}]":        "field kindd not found",
		"scenarios: [{duration: 300}]":      "durations have a unit",
		"scenarios: [{name: x, n: plenty}]": "cannot unmarshal",
	} {
		file := filepath.Join(t.TempDir(), "plan.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPasswordsAreNotReported(t *testing.T) {
	p := Plan{Targets: []Target{{NATSURL: "nats://me:secret@host:4222", Start: "x --nats nats://me:secret@host:4222 --port 1"}}}
	got := p.Redacted().Targets[0]
	if got.NATSURL != "nats://…@host:4222" || got.Start != "x --nats nats://…@host:4222 --port 1" || p.Targets[0].NATSURL != "nats://me:secret@host:4222" {
		t.Errorf("%+v of %+v", got, p.Targets[0])
	}
}
