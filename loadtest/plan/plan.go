//go:build linux

package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"sluice/internal/secret"
	"sluice/loadtest/client"
)

// Plan lists what a run measures: each scenario on each target, round by round. Rounds
// alternate between targets, so that drift of the machine affects all targets alike.
type Plan struct {
	Title     string     `yaml:"title" json:"title"`
	Rounds    int        `yaml:"rounds" json:"rounds"`       // medians are over these; 0: 1
	Targets   []Target   `yaml:"targets" json:"targets"`     // in the order in which they run
	Scenarios []Scenario `yaml:"scenarios" json:"scenarios"` // neighbours with the same clients share a stage

	ServerCores []int `yaml:"serverCores,omitempty" json:"serverCores"` // empty: the last core, if there are several
	ClientCores []int `yaml:"clientCores,omitempty" json:"clientCores"` // clients, service and NATS; empty: all others
	Threads     int   `yaml:"threads,omitempty" json:"threads"`         // per client process; 0: one per client core, at most 4
	// SharedNetwork keeps the run in the machine's network namespace. Otherwise package netns gives
	// it one of its own where that is possible.
	SharedNetwork bool `yaml:"sharedNetwork,omitempty" json:"sharedNetwork,omitempty"`

	PerProcess int `yaml:"perProcess,omitempty" json:"perProcess"` // clients per process; 0: 19000, or what its descriptor limit allows
}

// Target is a server to measure. Command lines are split at white space. They may
// contain {port}, {nats} and {feed} (ports), {self} (this program), {cert} and {key}
// (files of a certificate that the run creates), and {secret} (what tokens of a publisher are
// signed with, which the run draws).
type Target struct {
	Name     string   `yaml:"name" json:"name"`
	Title    string   `yaml:"title,omitempty" json:"title,omitempty"`       // for tables and charts; empty: Name
	Protocol string   `yaml:"protocol" json:"protocol"`                     // res, centrifuge, nats, socketio, mercure or floor
	Start    string   `yaml:"start,omitempty" json:"start,omitempty"`       // command; empty: the server runs already, at Addr
	Addr     string   `yaml:"addr,omitempty" json:"addr,omitempty"`         // ip:port of a server that runs already
	Path     string   `yaml:"path,omitempty" json:"path,omitempty"`         // of WebSocket upgrades; empty: the protocol's default
	API      string   `yaml:"api,omitempty" json:"api,omitempty"`           // path prefix of web resources; empty: /api/
	NATS     string   `yaml:"nats,omitempty" json:"nats,omitempty"`         // command of a NATS server to start first; empty: none
	NATSURL  string   `yaml:"natsUrl,omitempty" json:"natsUrl,omitempty"`   // where services reach NATS; empty: 127.0.0.1:{nats}
	TLS      string   `yaml:"tls,omitempty" json:"tls,omitempty"`           // appended to Start for TLS; words NAME=value, in capitals, are added to Env
	Compress string   `yaml:"compress,omitempty" json:"compress,omitempty"` // the same for compression
	PID      int      `yaml:"pid,omitempty" json:"pid,omitempty"`           // of a server that runs already, to measure its CPU and memory
	Env      []string `yaml:"env,omitempty" json:"env,omitempty"`           // name=value, added to the environment; placeholders as in commands
	Kinds    []string `yaml:"kinds,omitempty" json:"kinds,omitempty"`       // kinds of scenarios to run on it, apart from those that name it; empty: all that its protocol has
	Version  string   `yaml:"version,omitempty" json:"version,omitempty"`   // for the report

	// Upgrade is how another process takes the server's place: UpgradeSignal or UpgradeRestart;
	// empty: there are no upgrades of it.
	Upgrade string `yaml:"upgrade,omitempty" json:"upgrade,omitempty"`

	TokenFile string `yaml:"tokenFile,omitempty" json:"tokenFile,omitempty"` // file of the token that all clients send as Authorization: Bearer; empty: none
}

// How another process takes a server's place.
const (
	UpgradeSignal  = "signal"  // SIGUSR2 to the server, which starts the process as its child, and ends with code 0
	UpgradeRestart = "restart" // SIGTERM to the server; when it has ended, it is started again
)

// Label returns the target's title, or its name if it has none.
func (t Target) Label() string {
	if t.Title != "" {
		return t.Title
	}
	return t.Name
}

// local reports whether the target is on this machine's loopback.
func (t Target) local() bool {
	if t.Addr == "" {
		return true
	}
	addr, err := net.ResolveTCPAddr("tcp", t.Addr)
	return err == nil && addr.IP.IsLoopback()
}

// Command returns the command line that starts the target, and what is added to the environment.
// Placeholders are not filled in.
func (t Target) Command(tls, compress bool) (line string, env []string) {
	line, env = t.Start, slices.Clone(t.Env)
	more := ""
	if tls {
		more += " " + t.TLS
	}
	if compress {
		more += " " + t.Compress
	}
	for _, word := range strings.Fields(more) {
		if variable.MatchString(word) {
			env = append(env, word)
		} else {
			line += " " + word
		}
	}
	return line, env
}

// variable matches a word that is for the environment, not a flag.
var variable = regexp.MustCompile(`^[A-Z][A-Z0-9_]*=`)

// Read reads a plan, or a file of scenarios only, from a YAML file.
func Read(path string) (Plan, error) {
	var p Plan
	b, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	switch err := d.Decode(&p); {
	case errors.Is(err, io.EOF):
		return p, fmt.Errorf("%s holds nothing", path)
	case err != nil && strings.Contains(err.Error(), "into time.Duration"):
		return p, fmt.Errorf("%s: %w (durations have a unit, as in 500ms or 10s)", path, err)
	case err != nil:
		return p, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Complete fills in defaults and checks the plan. It may be called again on a plan that
// is complete, as a report's is.
func (p *Plan) Complete() error {
	if p.Rounds < 0 || p.PerProcess < 0 || p.Threads < 0 {
		return errors.New("rounds, threads and clients per process must not be negative")
	}
	p.Rounds = max(p.Rounds, 1)
	if len(p.Targets) == 0 || len(p.Scenarios) == 0 {
		return errors.New("the plan needs at least one target and one scenario")
	}
	if err := p.checkTargets(); err != nil {
		return err
	}
	for i := range p.Scenarios {
		s := &p.Scenarios[i]
		if s.Name == "" {
			s.Name = s.Kind
		}
		if err := s.complete(); err != nil {
			return fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		for _, name := range s.Targets {
			if !slices.ContainsFunc(p.Targets, func(t Target) bool { return t.Name == name }) {
				return fmt.Errorf("scenario %s: there is no target %s", s.Name, name)
			}
		}
		if len(p.supportedTargets(*s)) == 0 {
			return fmt.Errorf("scenario %s: no target can do %s", s.Name, s.Kind)
		}
		for _, t := range p.Targets {
			if s.Kind == KindHostile && s.RunsOn(t) && !t.local() {
				return fmt.Errorf("scenario %s: %s runs at %s: attack servers on this machine's loopback only", s.Name, t.Name, t.Addr)
			}
		}
	}
	p.addPlain()
	names := map[string]bool{}
	for _, s := range p.Scenarios {
		if names[s.Name] {
			return fmt.Errorf("two scenarios are named %s", s.Name)
		}
		names[s.Name] = true
	}
	for _, s := range p.Scenarios {
		if s.Beside != "" && (!names[s.Beside] || s.Beside == s.Name) {
			return fmt.Errorf("scenario %s: there is no scenario %s to show beside it", s.Name, s.Beside)
		}
	}
	return nil
}

func (p *Plan) checkTargets() error {
	names := map[string]bool{}
	for _, t := range p.Targets {
		switch {
		case t.Name == "" || names[t.Name]:
			return fmt.Errorf("target %q: give each target a name of its own", t.Name)
		case t.Start == "" && t.Addr == "":
			return fmt.Errorf("target %s: give the command that starts it, or the address where it runs", t.Name)
		}
		if _, err := client.NewDriver(t.Protocol, t.Path); err != nil {
			return fmt.Errorf("target %s: %w", t.Name, err)
		}
		if t.Protocol == client.ProtocolMercure && t.Start == "" {
			return fmt.Errorf("target %s: give the command that starts it: a hub that runs already has another {secret}", t.Name)
		}
		if !slices.Contains([]string{"", UpgradeSignal, UpgradeRestart}, t.Upgrade) {
			return fmt.Errorf("target %s: unknown upgrade %q: use %s or %s", t.Name, t.Upgrade, UpgradeSignal, UpgradeRestart)
		}
		for _, k := range t.Kinds {
			if !slices.Contains(Kinds, k) {
				return fmt.Errorf("target %s: unknown kind %q: use some of %v", t.Name, k, Kinds)
			}
		}
		names[t.Name] = true
	}
	return nil
}

// supportedTargets returns the names of the targets that s runs on.
func (p *Plan) supportedTargets(s Scenario) (names []string) {
	for _, t := range p.Targets {
		if s.RunsOn(t) {
			names = append(names, t.Name)
		}
	}
	return names
}

// PlainName returns the name of the scenario that Complete adds beside a tls, compressed or sse
// one.
func PlainName(name string) string { return name + "-plain" }

// addPlain inserts, before each tls, compressed or sse scenario, the same scenario without TLS or
// compression, on WebSocket. The difference between the two is what TLS, compression or streams
// cost.
func (p *Plan) addPlain() {
	var all []Scenario
	for _, s := range p.Scenarios {
		if s.Beside == "" && (s.Kind == KindTLS || s.Kind == KindCompressed || s.Kind == KindSSE) {
			s.Beside = PlainName(s.Name)
			plain := s
			plain.Name, plain.Beside, plain.Kind, plain.TLS, plain.Compression = s.Beside, "", KindFanout, false, false
			plain.Title = s.Title + ", plain"
			if s.Title == "" {
				plain.Title = ""
			}
			// A target that speaks TLS or event streams only has no plain form.
			plain.Targets = slices.DeleteFunc(p.supportedTargets(s), func(name string) bool {
				return slices.ContainsFunc(p.Targets, func(t Target) bool {
					return t.Name == name && (s.TLS && strings.TrimSpace(t.TLS) == "" || t.Protocol == client.ProtocolMercure)
				})
			})
			if len(plain.Targets) > 0 {
				all = append(all, plain)
			} else {
				s.Beside = ""
			}
		}
		all = append(all, s)
	}
	p.Scenarios = all
}

// Reachable returns why the run cannot be in a network namespace of its own, or "".
func (p Plan) Reachable() string {
	for _, t := range p.Targets {
		if t.Start == "" || t.NATSURL != "" {
			return fmt.Sprintf("%s uses a server that runs already", t.Name)
		}
	}
	return ""
}

// Redacted returns a copy of the plan without user names, passwords and tokens, for a report.
func (p Plan) Redacted() Plan {
	p.Targets = slices.Clone(p.Targets)
	for i := range p.Targets {
		t := &p.Targets[i]
		t.Start, t.NATS, t.NATSURL = secret.Text(t.Start), secret.Text(t.NATS), secret.Text(t.NATSURL)
	}
	return p
}
