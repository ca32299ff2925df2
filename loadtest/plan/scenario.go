//go:build linux

package plan

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/loadtest/client"
	"sluice/loadtest/hostile"
)

// Scenario is one measurement: what clients and service do to a target. A kind ignores
// the fields that it does not use.
type Scenario struct {
	Name    string   `yaml:"name" json:"name"`
	Title   string   `yaml:"title,omitempty" json:"title,omitempty"`
	Kind    string   `yaml:"kind" json:"kind"`                           // one of Kinds
	Targets []string `yaml:"targets,omitempty" json:"targets,omitempty"` // only these; empty: all whose protocol has it
	Rounds  int      `yaml:"rounds,omitempty" json:"rounds,omitempty"`   // 0: the plan's
	Beside  string   `yaml:"beside,omitempty" json:"beside,omitempty"`   // show that scenario's figures with these; tls, compressed and sse: their plain form, which Complete adds

	N           int           `yaml:"n,omitempty" json:"n"`                     // clients; 0: 1000 (unary and http: 64)
	Grow        []int         `yaml:"grow,omitempty" json:"grow,omitempty"`     // instead of N: one measurement for each
	Topics      int           `yaml:"topics,omitempty" json:"topics"`           // 0: 1
	PerClient   int           `yaml:"perClient,omitempty" json:"perClient"`     // subscriptions of each client; 0: 1
	Payload     int           `yaml:"payload,omitempty" json:"payload"`         // bytes of an event; 0: 128
	Rate        float64       `yaml:"rate,omitempty" json:"rate"`               // events or requests per second; requests: 0 is as fast as responses arrive
	Deliveries  float64       `yaml:"deliveries,omitempty" json:"deliveries"`   // instead of Rate: deliveries per second
	Load        float64       `yaml:"load,omitempty" json:"load,omitempty"`     // unary and http, instead of Rate: per cent of the highest rate, which is measured first; 0: none
	Burst       int           `yaml:"burst,omitempty" json:"burst"`             // events that are due together; 0: 1
	Duration    time.Duration `yaml:"duration,omitempty" json:"duration"`       // of the measurement; 0: 5s, of each trial of max 2s
	Settle      time.Duration `yaml:"settle,omitempty" json:"settle"`           // idle: time before memory is read; 0: 5s
	Trials      int           `yaml:"trials,omitempty" json:"trials"`           // max: at most so many; 0: 14
	Window      int           `yaml:"window,omitempty" json:"window"`           // requests in flight per client; 0: 1
	Slow        float64       `yaml:"slow,omitempty" json:"slow"`               // share of the clients that read slowly
	SlowRate    int           `yaml:"slowRate,omitempty" json:"slowRate"`       // bytes per second that each slow client reads; 0: none
	Collection  int           `yaml:"collection,omitempty" json:"collection"`   // events are adds to a collection of so many values
	Factor      float64       `yaml:"factor,omitempty" json:"factor,omitempty"` // overload: times Deliveries or Rate, or what a search finds; 0: 5
	Models      int           `yaml:"models,omitempty" json:"models"`           // mixed and spa: resources or pages to choose from; 0: 1000, pages 100
	Properties  int           `yaml:"properties,omitempty" json:"properties"`   // resources: of each model; 0: 4
	Inflight    int           `yaml:"inflight,omitempty" json:"inflight"`       // connects in flight; 0: 128
	ConnectRate float64       `yaml:"connectRate,omitempty" json:"connectRate"` // connections per second; 0: as fast as Inflight allows
	Kill        bool          `yaml:"kill,omitempty" json:"kill"`               // storm: kill the server and start it again first
	Workers     int           `yaml:"workers,omitempty" json:"workers"`         // reconnect: how many requests the service works on at a time; 0: 8
	Work        time.Duration `yaml:"work,omitempty" json:"work"`               // reconnect: how long on each access and call request; 0: 2ms
	Callers     int           `yaml:"callers,omitempty" json:"callers"`         // reconnect: clients that stay and make calls; 0: 16
	Upgrades    int           `yaml:"upgrades,omitempty" json:"upgrades"`       // upgrade: so many, with Settle after each; 0: 3
	BackOff     time.Duration `yaml:"backOff,omitempty" json:"backOff"`         // upgrade: clients that lose their connection come back after half to all of this, doubled with each attempt; 0: 500ms
	Streams     int           `yaml:"streams,omitempty" json:"streams"`         // upgrade: event streams beside the N WebSockets
	Getters     int           `yaml:"getters,omitempty" json:"getters"`         // upgrade: HTTP connections that make Rate GET requests together
	Attackers   int           `yaml:"attackers,omitempty" json:"attackers"`     // hostile: connections of attackers beside the N clients; 0: 4
	Attack      string        `yaml:"attack,omitempty" json:"attack,omitempty"` // hostile: deflate or plain, see package hostile; empty: deflate
	TLS         bool          `yaml:"tls,omitempty" json:"tls"`
	Compression bool          `yaml:"compression,omitempty" json:"compression"`
	Fresh       bool          `yaml:"fresh,omitempty" json:"fresh"` // do not share a stage with the scenario before
}

// The kinds of scenarios.
const (
	KindFanout     = "fanout"     // events at a rate to all subscribers
	KindMax        = "max"        // search for the highest sustained rate
	KindBurst      = "burst"      // several events back to back
	KindTopics     = "topics"     // many topics, several per client
	KindIdle       = "idle"       // memory and CPU of idle connections
	KindStorm      = "storm"      // all clients connect and subscribe together
	KindUnary      = "unary"      // calls
	KindHTTP       = "http"       // GET of a resource
	KindMixed      = "mixed"      // subscribe, call, unsubscribe, with references, during events
	KindSlow       = "slow"       // a share of the clients reads slowly or not at all
	KindCollection = "collection" // adds to a collection of a given size
	KindGrowth     = "growth"     // fanout over a list of client counts
	KindOverload   = "overload"   // more changes of a model than the server can deliver
	KindReconnect  = "reconnect"  // all clients lose their connections, and subscribe again to a service that has work to do
	KindFailover   = "failover"   // the server is killed, and its clients come to another one, to a service that has work to do
	KindUpgrade    = "upgrade"    // other processes take the server's place, under load
	KindResources  = "resources"  // each subscription has a resource of its own
	KindSPA        = "spa"        // pages of 50 references are opened and left
	KindLarge      = "large"      // events of many kilobytes
	KindSSE        = "sse"        // fanout to event streams
	KindDeploy     = "deploy"     // a service starts again, with other states, and resets what clients hold
	KindHostile    = "hostile"    // a few connections send what costs most to read; figures are of the others
	KindTLS        = "tls"        // fanout over TLS
	KindCompressed = "compressed" // fanout with permessage-deflate
)

// Kinds lists all kinds.
var Kinds = []string{KindFanout, KindMax, KindBurst, KindTopics, KindIdle, KindStorm, KindUnary, KindHTTP, KindMixed, KindSlow, KindCollection, KindGrowth, KindOverload, KindReconnect, KindFailover, KindUpgrade, KindResources, KindSPA, KindLarge, KindDeploy, KindSSE, KindHostile, KindTLS, KindCompressed}

// maxClients bounds a scenario: source addresses and memory are finite.
const maxClients = 2_000_000

// complete fills in the defaults of the scenario's kind and checks the result.
func (s *Scenario) complete() error {
	if !slices.Contains(Kinds, s.Kind) {
		return fmt.Errorf("unknown kind %q: use one of %v", s.Kind, Kinds)
	}
	s.setDefaults()
	return s.check()
}

func (s *Scenario) setDefaults() {
	def := func(v *int, usual int) {
		if *v == 0 {
			*v = usual
		}
	}
	requests := s.Kind == KindUnary || s.Kind == KindHTTP || s.Kind == KindSPA
	if requests && s.Kind != KindSPA {
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
		def(&s.Payload, 512) // gateways do not compress short messages
	case KindSlow:
		if s.Slow == 0 {
			s.Slow = 0.1
		}
	case KindOverload:
		if s.Factor == 0 {
			s.Factor = 5
		}
		if s.Duration == 0 {
			s.Duration = time.Minute
		}
	case KindReconnect, KindFailover:
		def(&s.PerClient, 5)
		def(&s.Topics, s.PerClient)
		def(&s.Workers, 8)
		def(&s.Callers, 16)
		def(&s.N, 1000)
		def(&s.Inflight, s.N) // they come back at once
		if s.Work == 0 {
			s.Work = 2 * time.Millisecond
		}
		if s.Rate == 0 {
			s.Rate = 200
		}
	case KindUpgrade:
		def(&s.N, 10_000)
		def(&s.Topics, min(s.N, 100))
		def(&s.Callers, 16)
		def(&s.Upgrades, 3)
		if s.Rate == 0 {
			s.Rate = 200
		}
		if s.Deliveries == 0 {
			s.Deliveries = 4 * float64(s.N)
		}
		if s.BackOff == 0 {
			s.BackOff = 500 * time.Millisecond
		}
	case KindHostile:
		def(&s.N, 1000)
		def(&s.Topics, min(s.N, 50)) // an event each millisecond finds each stall of the loop
		def(&s.Attackers, 4)
		if s.Attack == "" {
			s.Attack = hostile.Deflate
		}
	case KindResources:
		def(&s.N, 20)
		def(&s.PerClient, 5000)
		def(&s.Properties, 4)
		s.Topics = s.N * s.PerClient
	case KindSPA:
		def(&s.N, 500)
		def(&s.Models, 100)
	case KindLarge:
		def(&s.Payload, 64<<10)
		if s.Rate == 0 && s.Deliveries == 0 {
			s.Deliveries = min(usualDeliveries, largeBytes/float64(s.Payload))
		}
	case KindDeploy:
		def(&s.Topics, 1000)
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
	if s.Rate == 0 && s.Deliveries == 0 && !requests && s.Kind != KindOverload {
		s.Deliveries = usualDeliveries
	}
}

const (
	usualDeliveries = 20_000 // per second
	largeBytes      = 200e6  // per second, of large events
)

func (s *Scenario) check() error {
	for _, n := range append([]int{s.N}, s.Grow...) {
		if n < 1 || n > maxClients {
			return fmt.Errorf("%d clients: the harness takes 1 to %d", n, maxClients)
		}
	}
	for name, v := range map[string]float64{
		"topics": float64(s.Topics), "perClient": float64(s.PerClient), "burst": float64(s.Burst), "trials": float64(s.Trials), "window": float64(s.Window),
		"slowRate": float64(s.SlowRate), "workers": float64(s.Workers), "work": float64(s.Work), "attackers": float64(s.Attackers), "callers": float64(s.Callers), "upgrades": float64(s.Upgrades), "backOff": float64(s.BackOff), "streams": float64(s.Streams), "getters": float64(s.Getters), "collection": float64(s.Collection), "models": float64(s.Models), "properties": float64(s.Properties), "inflight": float64(s.Inflight), "rounds": float64(s.Rounds), "connectRate": s.ConnectRate, "settle": float64(s.Settle),
	} {
		if v < 0 {
			return fmt.Errorf("%s must not be negative", name)
		}
	}
	switch {
	case s.Slow < 0 || s.Slow >= 1:
		return errors.New("slow is a share of the clients: at least 0 and less than 1")
	case s.Factor < 0:
		return errors.New("factor must not be negative")
	case s.Kind == KindOverload && (s.Topics > 1 || s.Slow > 0):
		return errors.New("overload has one topic and no slow clients: each client must reach its last state")
	case s.Kind == KindSSE && (s.PerClient > 1 || s.Slow > 0):
		return errors.New("an event stream has one subscription, and no slow clients")
	case s.Kind == KindUpgrade && (s.PerClient > 1 || s.Burst > 1 || s.Slow > 0):
		return errors.New("in an upgrade each client has one subscription, of single events, and none is slow: their numbers show what it misses")
	case s.Kind != KindHostile && (s.Attackers > 0 || s.Attack != ""):
		return fmt.Errorf("attackers and attack are for %s", KindHostile)
	case s.Kind == KindHostile && s.Attackers > hostile.MaxAttackers:
		return fmt.Errorf("%d attackers: there must be at most %d", s.Attackers, hostile.MaxAttackers)
	case s.Kind == KindHostile && s.Attack != hostile.Deflate && s.Attack != hostile.Plain:
		return fmt.Errorf("unknown attack %q: use %s or %s", s.Attack, hostile.Deflate, hostile.Plain)
	case s.Kind == KindHostile && (s.TLS || s.Slow > 0):
		return errors.New("hostile is without TLS, and has no slow clients")
	case !(s.Load >= 0 && s.Load <= 100):
		return fmt.Errorf("a load of %v: it is in per cent of the highest rate, above 0 and up to 100", s.Load)
	case s.Load > 0 && s.Kind != KindUnary && s.Kind != KindHTTP:
		return fmt.Errorf("load is for %s and %s: %s has rate or deliveries", KindUnary, KindHTTP, s.Kind)
	case s.Load > 0 && s.Rate > 0:
		return errors.New("load and rate exclude each other: the one is a share of what the server can, the other requests per second")
	case s.Upgrades > 1000:
		return errors.New("there must be at most 1000 upgrades")
	case s.PerClient > s.Topics:
		return fmt.Errorf("%d subscriptions per client, but only %d topics", s.PerClient, s.Topics)
	case s.Duration < 100*time.Millisecond || s.Duration > 5*time.Minute:
		return errors.New("a duration must be between 100ms and 5m")
	case s.Work > time.Second:
		return errors.New("work must be at most 1s for each request")
	case s.Settle > 5*time.Minute:
		return errors.New("the time to settle must be at most 5m")
	case s.Rate < 0 || s.Deliveries < 0 || s.Payload < 64 || s.Payload > 512<<10:
		return errors.New("rates must not be negative, a payload must have 64 to 524288 bytes")
	}
	return nil
}

// RoundsOf returns how many rounds the scenario runs in p.
func (s Scenario) RoundsOf(p Plan) int {
	if s.Rounds > 0 {
		return s.Rounds
	}
	return p.Rounds
}

// ClientCounts returns the numbers of clients to measure with.
func (s Scenario) ClientCounts() []int {
	if len(s.Grow) > 0 {
		return s.Grow
	}
	return []int{s.N}
}

// EventRate returns the number of events per second for n clients.
func (s Scenario) EventRate(n int) float64 {
	if s.Deliveries > 0 {
		return s.Deliveries * float64(s.Topics) / float64(n*s.PerClient)
	}
	return s.Rate
}

// RunsOn reports whether the scenario runs on t: it names t, or names no target and t's
// kinds and protocol have it.
func (s Scenario) RunsOn(t Target) bool {
	if len(s.Targets) > 0 {
		return slices.Contains(s.Targets, t.Name)
	}
	if len(t.Kinds) > 0 && !slices.Contains(t.Kinds, s.Kind) {
		return false
	}
	return s.Unsupported(t) == ""
}

// Unsupported returns why a scenario that names no target cannot run on t, or "".
func (s Scenario) Unsupported(t Target) string {
	can := true
	switch s.Kind {
	case KindUnary:
		can = t.Protocol == client.ProtocolRES || t.Protocol == client.ProtocolCentrifuge || t.Protocol == client.ProtocolFloor
	case KindHTTP:
		can = t.Protocol == client.ProtocolRES || t.Protocol == client.ProtocolFloor
	case KindFailover:
		can = t.Protocol == client.ProtocolRES
	case KindReconnect, KindUpgrade, KindHostile:
		can = t.Protocol == client.ProtocolRES || t.Protocol == client.ProtocolCentrifuge
	case KindMixed, KindCollection, KindOverload, KindSPA, KindDeploy:
		can = t.Protocol == client.ProtocolRES
	case KindSSE:
		can = t.Protocol == client.ProtocolRES || t.Protocol == client.ProtocolMercure
	}
	switch {
	case len(s.Targets) > 0:
	case (s.Kind == KindFailover || s.Kind == KindUpgrade) && (t.Start == "" || t.NATS == "" && t.NATSURL == ""):
		return "it takes servers that the harness starts, and a NATS server beside them"
	case s.Kind == KindUpgrade && t.Upgrade == "":
		return "the plan does not say how to upgrade it: " + UpgradeSignal + " or " + UpgradeRestart
	case s.Kind == KindUpgrade && s.Streams+s.Getters > 0 && t.Protocol != client.ProtocolRES:
		return "there are no event streams and GET requests in its protocol, " + t.Protocol
	case !can:
		return fmt.Sprintf("there is no %s in its protocol, %s", s.Kind, t.Protocol)
	case s.TLS && t.Start != "" && t.TLS == "":
		return "the plan does not say how to start it with TLS"
	case (s.Compression || s.Squeezes()) && t.Start != "" && t.Compress == "":
		return "the plan does not say how to start it with compression"
	}
	return ""
}

// Squeezes reports whether the server needs compression for attackers, also if the clients do
// without.
func (s Scenario) Squeezes() bool { return s.Kind == KindHostile && s.Attack == hostile.Deflate }
