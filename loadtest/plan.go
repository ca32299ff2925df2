//go:build linux

package loadtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"sluice/loadtest/client"
)

// Plan is what a run does: its scenarios, each on each target, round by round,
// so that what changes on the machine meanwhile meets all targets alike.
type Plan struct {
	Title     string     `yaml:"title" json:"title"`
	Rounds    int        `yaml:"rounds" json:"rounds"`       // medians are over these; 0: 1
	Targets   []Target   `yaml:"targets" json:"targets"`     // in the order in which they are run
	Scenarios []Scenario `yaml:"scenarios" json:"scenarios"` // neighbours with the same clients share a stage

	ServerCores []int `yaml:"serverCores,omitempty" json:"serverCores"` // empty: the last core, if there are several
	ClientCores []int `yaml:"clientCores,omitempty" json:"clientCores"` // clients, service and NATS; empty: all others
	Threads     int   `yaml:"threads,omitempty" json:"threads"`         // of each client process; 0: one per client core, at most 4
	PerProcess  int   `yaml:"perProcess,omitempty" json:"perProcess"`   // clients of one process; 0: 19000, or as many as its descriptors allow
}

// Target is a server to measure. Command lines are split at white space and may
// hold {port}, {nats} and {feed} (ports), {self} (this program), {cert} and
// {key} (files of a certificate made for the run).
type Target struct {
	Name     string   `yaml:"name" json:"name"`
	Title    string   `yaml:"title,omitempty" json:"title,omitempty"`       // for tables and charts; empty: Name
	Protocol string   `yaml:"protocol" json:"protocol"`                     // res, centrifuge, nats or floor
	Start    string   `yaml:"start,omitempty" json:"start,omitempty"`       // empty: it runs already, at Addr
	Addr     string   `yaml:"addr,omitempty" json:"addr,omitempty"`         // ip:port of a target that runs already
	Path     string   `yaml:"path,omitempty" json:"path,omitempty"`         // of WebSocket upgrades; empty: the protocol's usual one
	API      string   `yaml:"api,omitempty" json:"api,omitempty"`           // of web resources; empty: /api/
	NATS     string   `yaml:"nats,omitempty" json:"nats,omitempty"`         // command of a NATS server to start before; empty: none
	NATSURL  string   `yaml:"natsUrl,omitempty" json:"natsUrl,omitempty"`   // where services reach NATS; empty: 127.0.0.1:{nats}
	TLS      string   `yaml:"tls,omitempty" json:"tls,omitempty"`           // added to Start for TLS
	Compress string   `yaml:"compress,omitempty" json:"compress,omitempty"` // added to Start for compression
	PID      int      `yaml:"pid,omitempty" json:"pid,omitempty"`           // of a target that runs already, to measure it
	Env      []string `yaml:"env,omitempty" json:"env,omitempty"`           // name=value, added to the environment; placeholders as in commands
	Kinds    []string `yaml:"kinds,omitempty" json:"kinds,omitempty"`       // of scenarios that are run on it, beside those that name it; empty: all that can
	Version  string   `yaml:"version,omitempty" json:"version,omitempty"`   // for the report
}

// Label is the target's title for readers.
func (t Target) Label() string {
	if t.Title != "" {
		return t.Title
	}
	return t.Name
}

// Scenario is what is done to a target. What a kind does not use is ignored.
type Scenario struct {
	Name    string   `yaml:"name" json:"name"`
	Title   string   `yaml:"title,omitempty" json:"title,omitempty"`
	Kind    string   `yaml:"kind" json:"kind"`                           // one of Kinds
	Targets []string `yaml:"targets,omitempty" json:"targets,omitempty"` // only these; empty: all that can
	Rounds  int      `yaml:"rounds,omitempty" json:"rounds,omitempty"`   // 0: as many as the plan's
	Beside  string   `yaml:"beside,omitempty" json:"beside,omitempty"`   // show that scenario's figures with these; tls and compressed: the same without, which is added

	N           int           `yaml:"n,omitempty" json:"n"`                     // clients; 0: 1000 (unary and http: 64)
	Grow        []int         `yaml:"grow,omitempty" json:"grow,omitempty"`     // instead of N: one run for each
	Topics      int           `yaml:"topics,omitempty" json:"topics"`           // 0: 1
	PerClient   int           `yaml:"perClient,omitempty" json:"perClient"`     // subscriptions of each client; 0: 1
	Payload     int           `yaml:"payload,omitempty" json:"payload"`         // bytes of an event; 0: 128
	Rate        float64       `yaml:"rate,omitempty" json:"rate"`               // events (or requests) per second; requests: 0 is as fast as answers come
	Deliveries  float64       `yaml:"deliveries,omitempty" json:"deliveries"`   // instead of Rate: deliveries per second
	Burst       int           `yaml:"burst,omitempty" json:"burst"`             // events that are due together; 0: 1
	Duration    time.Duration `yaml:"duration,omitempty" json:"duration"`       // of the measurement; 0: 5s, of each trial of max 2s
	Settle      time.Duration `yaml:"settle,omitempty" json:"settle"`           // idle: time before memory is read; 0: 5s
	Trials      int           `yaml:"trials,omitempty" json:"trials"`           // max: how many at most; 0: 14
	Window      int           `yaml:"window,omitempty" json:"window"`           // requests under way per client; 0: 1
	Slow        float64       `yaml:"slow,omitempty" json:"slow"`               // part of the clients that read slowly
	SlowRate    int           `yaml:"slowRate,omitempty" json:"slowRate"`       // bytes per second that each of these reads; 0: none
	Collection  int           `yaml:"collection,omitempty" json:"collection"`   // events are adds to a collection of so many
	Models      int           `yaml:"models,omitempty" json:"models"`           // mixed: resources to choose from; 0: 1000
	Inflight    int           `yaml:"inflight,omitempty" json:"inflight"`       // connections being made at a time; 0: 128
	ConnectRate float64       `yaml:"connectRate,omitempty" json:"connectRate"` // connections per second; 0: as fast as Inflight allows
	Kill        bool          `yaml:"kill,omitempty" json:"kill"`               // storm: after the server was killed and started again
	TLS         bool          `yaml:"tls,omitempty" json:"tls"`
	Compression bool          `yaml:"compression,omitempty" json:"compression"`
	Fresh       bool          `yaml:"fresh,omitempty" json:"fresh"` // do not share a stage with the one before
}

// What a scenario can be.
const (
	KindFanout     = "fanout"     // events at a rate to all subscribers
	KindMax        = "max"        // the highest rate that is sustained
	KindBurst      = "burst"      // several events back to back
	KindTopics     = "topics"     // many topics, several per client
	KindIdle       = "idle"       // memory and CPU of connections that do nothing
	KindStorm      = "storm"      // all connect and subscribe at once
	KindUnary      = "unary"      // calls
	KindHTTP       = "http"       // GET of a resource
	KindMixed      = "mixed"      // subscribe, call, unsubscribe, with references, while events come
	KindSlow       = "slow"       // part of the clients read slowly or not at all
	KindCollection = "collection" // adds to a collection of a given size
	KindGrowth     = "growth"     // fanout over a list of client numbers
	KindTLS        = "tls"        // fanout over TLS
	KindCompressed = "compressed" // fanout with permessage-deflate
)

// Kinds are all of them.
var Kinds = []string{KindFanout, KindMax, KindBurst, KindTopics, KindIdle, KindStorm, KindUnary, KindHTTP, KindMixed, KindSlow, KindCollection, KindGrowth, KindTLS, KindCompressed}

// maxClients bounds a run: addresses and memory end somewhere.
const maxClients = 2_000_000

// ReadPlan reads a plan or a file of scenarios only.
func ReadPlan(path string) (Plan, error) {
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

// Complete fills in defaults and checks the plan. It must be called before Run.
func (p *Plan) Complete() error {
	if p.Rounds < 0 || p.PerProcess < 0 || p.Threads < 0 {
		return errors.New("rounds, threads and clients per process must not be negative")
	}
	p.Rounds = max(p.Rounds, 1)
	names := map[string]bool{}
	for _, t := range p.Targets {
		switch {
		case t.Name == "" || names[t.Name]:
			return fmt.Errorf("target %q: names must be there and differ", t.Name)
		case t.Start == "" && t.Addr == "":
			return fmt.Errorf("target %s: say how to start it, or the address where it runs", t.Name)
		}
		if _, err := client.NewDriver(t.Protocol, t.Path); err != nil {
			return fmt.Errorf("target %s: %w", t.Name, err)
		}
		for _, k := range t.Kinds {
			if !slices.Contains(Kinds, k) {
				return fmt.Errorf("target %s: unknown kind %q: use some of %v", t.Name, k, Kinds)
			}
		}
		names[t.Name] = true
	}
	if len(p.Targets) == 0 || len(p.Scenarios) == 0 {
		return errors.New("the plan needs at least one target and one scenario")
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
			if !names[name] {
				return fmt.Errorf("scenario %s: there is no target %s", s.Name, name)
			}
		}
		if len(p.able(*s)) == 0 {
			return fmt.Errorf("scenario %s: no target can do %s", s.Name, s.Kind)
		}
	}
	p.addPlain()
	scenes := map[string]bool{}
	for _, s := range p.Scenarios {
		if scenes[s.Name] {
			return fmt.Errorf("two scenarios are named %s", s.Name)
		}
		scenes[s.Name] = true
	}
	for _, s := range p.Scenarios {
		if s.Beside != "" && (!scenes[s.Beside] || s.Beside == s.Name) {
			return fmt.Errorf("scenario %s: there is no scenario %s to show beside it", s.Name, s.Beside)
		}
	}
	return nil
}

// able are the names of the targets that a scenario runs on.
func (p *Plan) able(s Scenario) (names []string) {
	for _, t := range p.Targets {
		if s.runsOn(t) {
			names = append(names, t.Name)
		}
	}
	return names
}

// PlainName is the name of the scenario that is added beside a tls or
// compressed one.
func PlainName(name string) string { return name + "-plain" }

// addPlain puts the same without TLS or compression before each scenario whose
// subject these are: what they cost is the difference.
func (p *Plan) addPlain() {
	var all []Scenario
	for _, s := range p.Scenarios {
		if s.Beside == "" && (s.Kind == KindTLS || s.Kind == KindCompressed) {
			s.Beside = PlainName(s.Name)
			plain := s
			plain.Name, plain.Beside, plain.Kind, plain.TLS, plain.Compression = s.Beside, "", KindFanout, false, false
			plain.Title = s.Title + ", plain"
			if s.Title == "" {
				plain.Title = ""
			}
			// What is connected to over TLS only has no plain form.
			plain.Targets = slices.DeleteFunc(p.able(s), func(name string) bool {
				return slices.ContainsFunc(p.Targets, func(t Target) bool { return t.Name == name && s.TLS && strings.TrimSpace(t.TLS) == "" })
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

func (s *Scenario) complete() error {
	if !slices.Contains(Kinds, s.Kind) {
		return fmt.Errorf("unknown kind %q: use one of %v", s.Kind, Kinds)
	}
	def := func(v *int, usual int) {
		if *v == 0 {
			*v = usual
		}
	}
	requests := s.Kind == KindUnary || s.Kind == KindHTTP
	if requests {
		def(&s.N, 64)
	}
	switch s.Kind {
	case KindTopics:
		def(&s.Topics, 1000)
		def(&s.PerClient, 5)
	case KindBurst:
		def(&s.Burst, 20)
	case KindCollection:
		def(&s.Collection, 1000)
		def(&s.N, 100)
	case KindTLS:
		s.TLS = true
	case KindCompressed:
		s.Compression = true
		def(&s.Payload, 512) // gateways leave what is short as it is
	case KindSlow:
		if s.Slow == 0 {
			s.Slow = 0.1
		}
	case KindGrowth:
		if len(s.Grow) == 0 {
			s.Grow = []int{1000, 5000, 10000, 19000}
		}
	}
	def(&s.N, 1000)
	def(&s.Topics, 1)
	def(&s.PerClient, 1)
	def(&s.Payload, 128)
	def(&s.Burst, 1)
	def(&s.Trials, 14)
	def(&s.Window, 1)
	def(&s.Models, 1000)
	if s.Duration == 0 && s.Kind == KindMax {
		s.Duration = 2 * time.Second
	}
	if s.Duration == 0 {
		s.Duration = 5 * time.Second
	}
	if s.Settle == 0 {
		s.Settle = 5 * time.Second
	}
	if s.Rate == 0 && s.Deliveries == 0 && !requests {
		s.Deliveries = 20_000
	}
	for _, n := range append([]int{s.N}, s.Grow...) {
		if n < 1 || n > maxClients {
			return fmt.Errorf("%d clients: the harness takes 1 to %d", n, maxClients)
		}
	}
	for name, v := range map[string]float64{
		"topics": float64(s.Topics), "perClient": float64(s.PerClient), "burst": float64(s.Burst), "trials": float64(s.Trials), "window": float64(s.Window),
		"slowRate": float64(s.SlowRate), "collection": float64(s.Collection), "models": float64(s.Models), "inflight": float64(s.Inflight), "rounds": float64(s.Rounds), "connectRate": s.ConnectRate, "settle": float64(s.Settle),
	} {
		if v < 0 {
			return fmt.Errorf("%s must not be negative", name)
		}
	}
	switch {
	case s.Slow < 0 || s.Slow >= 1:
		return errors.New("slow is a part of the clients: at least 0 and less than 1")
	case s.PerClient > s.Topics:
		return fmt.Errorf("%d subscriptions per client, but only %d topics", s.PerClient, s.Topics)
	case s.Duration < 100*time.Millisecond || s.Duration > 5*time.Minute:
		return errors.New("a duration must be between 100ms and 5m")
	case s.Settle > 5*time.Minute:
		return errors.New("the time to settle must be at most 5m")
	case s.Rate < 0 || s.Deliveries < 0 || s.Payload < 64 || s.Payload > 512<<10:
		return errors.New("rates must not be negative, a payload must have 64 to 524288 bytes")
	}
	return nil
}

// rounds is how often the scenario runs in a plan of so many rounds.
func (s Scenario) rounds(plan int) int {
	if s.Rounds > 0 {
		return s.Rounds
	}
	return plan
}

// numbers are the client numbers to run with.
func (s Scenario) numbers() []int {
	if len(s.Grow) > 0 {
		return s.Grow
	}
	return []int{s.N}
}

// rate is the number of events per second for n clients.
func (s Scenario) rate(n int) float64 {
	if s.Deliveries > 0 {
		return s.Deliveries * float64(s.Topics) / float64(n*s.PerClient)
	}
	return s.Rate
}

// runsOn reports whether the scenario is for the target, and whether the
// target's protocol has what it needs.
func (s Scenario) runsOn(t Target) bool {
	if len(s.Targets) > 0 {
		return slices.Contains(s.Targets, t.Name)
	}
	if len(t.Kinds) > 0 && !slices.Contains(t.Kinds, s.Kind) {
		return false
	}
	return s.leftOut(t) == ""
}

// leftOut says why a scenario that is for all targets is not for this one; ""
// if it is.
func (s Scenario) leftOut(t Target) string {
	can := true
	switch s.Kind {
	case KindUnary:
		can = t.Protocol != client.ProtocolNATS
	case KindHTTP:
		can = t.Protocol == client.ProtocolRES || t.Protocol == client.ProtocolFloor
	case KindMixed, KindCollection:
		can = t.Protocol == client.ProtocolRES
	}
	switch {
	case len(s.Targets) > 0:
	case !can:
		return fmt.Sprintf("there is no %s in its protocol, %s", s.Kind, t.Protocol)
	case s.TLS && t.Start != "" && t.TLS == "":
		return "the plan does not say how to start it with TLS"
	case s.Compression && t.Start != "" && t.Compress == "":
		return "the plan does not say how to start it with compression"
	}
	return ""
}

var secret = regexp.MustCompile(`(://[^:/@\s]*):[^@/\s]*@`)

// Redact hides the password of each URL in a text.
func Redact(text string) string { return secret.ReplaceAllString(text, "$1:…@") }

// redacted is the plan as a report may show it.
func (p Plan) redacted() Plan {
	p.Targets = slices.Clone(p.Targets)
	for i := range p.Targets {
		t := &p.Targets[i]
		t.Start, t.NATS, t.NATSURL = Redact(t.Start), Redact(t.NATS), Redact(t.NATSURL)
	}
	return p
}

// layout is what scenarios must share to share a stage.
type layout struct {
	n, topics, perClient, collection, models, inflight, slowRate int
	slow, connectRate                                            float64
	http, tls, compression                                       bool
}

func (s Scenario) layout(n int) layout {
	return layout{n: n, topics: s.Topics, perClient: s.PerClient, collection: s.Collection, models: s.Models, inflight: s.Inflight, slow: s.Slow, slowRate: s.SlowRate, connectRate: s.ConnectRate, http: s.Kind == KindHTTP, tls: s.TLS, compression: s.Compression}
}
