package capacity

import (
	"math"
	"strings"
	"testing"
	"time"
)

// simple has costs that can be multiplied in the head.
var simple = Coefficients{Event: 100, Delivery: 1, Idle: 0, Connect: 100, Base: 1e6, PerClient: 1000, PerTopic: 10, Socket: 1000, Overhead: 10, NATSIn: 10, NATSOut: 10, NATSConnect: 10}

var big = Machine{Cores: 1000, Memory: 1e15, Network: 1e15, Connections: 1e12, Use: 1}

func TestMeasuredCoefficientsAreComplete(t *testing.T) {
	c, err := Measured()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

// The load is the work times its costs.
func TestLoad(t *testing.T) {
	w := Work{Clients: 1000, Topics: 10, PerClient: 2, Events: 3, Payload: 90, Churn: 50, Access: 0.1}
	l := simple.LoadAt(w, 4, 5)
	for _, v := range []struct {
		what      string
		got, want float64
	}{
		{"deliveries", l.Deliveries, 6000},
		{"received", l.Received, 15},
		{"cores", l.Cores, (4*15*100 + 6000 + 150*100) / 1e6},
		{"memory", l.Memory, 4*(1e6+50) + 1e6},
		{"sockets", l.Sockets, 1e6},
		{"bits", l.Bits, 8 * 6000 * (90 + 10 + Packet)},
		{"cores of NATS", l.NATSCores, (30*10 + 60*10 + 150*10) / 1e6},
		{"bits of NATS", l.NATSBits, 8 * 60 * 100},
	} {
		if math.Abs(v.got-v.want) > 1e-9*v.want {
			t.Errorf("%s: %v, want %v", v.what, v.got, v.want)
		}
	}
}

// A gateway has at most all topics, and no more than its clients have subscriptions.
func TestTopicsOfAGateway(t *testing.T) {
	for _, tt := range []struct{ topics, subscriptions, low, high float64 }{
		{1, 10, 1, 1},
		{1000, 1, 1, 1},
		{1000, 100, 90, 100},
		{1000, 1000, 630, 635},
		{1000, 1e6, 1000, 1000},
		{1e9, 1000, 999, 1000},
	} {
		if got := topicsOf(tt.topics, tt.subscriptions); got < tt.low-1e-6 || got > tt.high+1e-6 {
			t.Errorf("%v subscriptions to %v topics: %v, want %v to %v", tt.subscriptions, tt.topics, got, tt.low, tt.high)
		}
	}
}

// The number of gateways is the least that fits, and Limit says why it is not less.
func TestSize(t *testing.T) {
	work := Work{Clients: 1e6, Topics: 10, PerClient: 1, Events: 1, Payload: 90}
	for _, tt := range []struct {
		name     string
		work     Work
		change   func(*Machine)
		gateways float64
		limit    string
	}{
		{"one", work, func(*Machine) {}, 1, "one is enough"},
		{"connections", work, func(m *Machine) { m.Connections = 300e3 }, 4, "connections"},
		{"memory", work, func(m *Machine) { m.Memory = 1.01e9 }, 2, "memory"},
		{"network", work, func(m *Machine) { m.Network = 8 * 190e6 / 4.5 }, 5, "network"},
		{"CPU", work, func(m *Machine) { m.Cores = 0.25 }, 5, "CPU"}, // 1 core for deliveries, 0.001 for each gateway's events
		{"half of the CPU", work, func(m *Machine) { m.Cores, m.Use = 0.5, 0.5 }, 5, "CPU"},
	} {
		m := big
		tt.change(&m)
		n, err := simple.Size(tt.work, m, big)
		if err != nil || n.Gateways != tt.gateways || n.Limit != tt.limit || n.NATSServers != 3 {
			t.Errorf("%s: %+v, %v; want %v gateways by %s", tt.name, n, err, tt.gateways, tt.limit)
		}
		m.Use = min(m.Use, 1)
		if l := simple.Load(tt.work, n.Gateways); l.Cores > n.Gateways*m.Cores*m.Use || l.Memory+l.Sockets > n.Gateways*m.Memory*m.Use || l.Bits > n.Gateways*m.Network*m.Use {
			t.Errorf("%s: it does not fit: %+v", tt.name, l)
		}
	}
}

// NATS servers grow with what gateways get; there are at least three.
func TestNATSServers(t *testing.T) {
	w := Work{Clients: 1e6, Topics: 1e5, PerClient: 1, Events: 10, Payload: 90}
	m := big
	m.Connections = 1e5
	n, err := simple.Size(w, m, Machine{Cores: 4, Network: 1e12, Use: 0.5})
	if err != nil || n.NATSServers != math.Ceil(n.Load.NATSCores/2) || n.NATSServers <= 3 {
		t.Errorf("%+v, %v", n, err)
	}
}

// Where each gateway gets more events than it can take, no number of gateways helps.
func TestNoNumberIsEnough(t *testing.T) {
	w := Work{Clients: 1e12, Topics: 100, PerClient: 100, Events: 1000, Payload: 90}
	m := big
	m.Cores = 1
	if _, err := simple.Size(w, m, big); err == nil || !strings.Contains(err.Error(), "Spread the topics") {
		t.Error(err)
	}
}

func TestWrongInput(t *testing.T) {
	good := Work{Clients: 1, Topics: 1, PerClient: 1}
	for what, f := range map[string]func() error{
		"no clients":      func() error { _, err := simple.Size(Work{Topics: 1, PerClient: 1}, big, big); return err },
		"no cores":        func() error { m := big; m.Cores = 0; _, err := simple.Size(good, m, big); return err },
		"more than all":   func() error { m := big; m.Use = 1.5; _, err := simple.Size(good, m, big); return err },
		"no memory":       func() error { m := big; m.Memory = 0; _, err := simple.Size(good, m, big); return err },
		"negative cost":   func() error { c := simple; c.Event = -1; _, err := c.Size(good, big, big); return err },
		"no cost":         func() error { _, err := Coefficients{}.Size(good, big, big); return err },
		"all fail":        func() error { _, _, err := simple.Plan(good, Regions{2, 2}, big, big); return err },
		"no regions":      func() error { _, _, err := simple.Plan(good, Regions{}, big, big); return err },
		"a cost of NaN":   func() error { c := simple; c.Idle = math.NaN(); return c.Check() },
		"negative events": func() error { w := good; w.Events = -1; _, err := simple.Size(w, big, big); return err },
	} {
		if f() == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

// The regions that are left have the machines to take the clients of those that fail.
func TestRegions(t *testing.T) {
	w := Work{Clients: 30e6, Topics: 10, PerClient: 1, Events: 1, Payload: 90}
	m := Machine{Cores: 4, Memory: 1e12, Network: 1e12, Connections: 1e6, Use: 0.5}
	before, after, err := simple.Plan(w, Regions{Regions: 30, Failed: 1}, m, m)
	if err != nil {
		t.Fatal(err)
	}
	if before.Gateways != after.Gateways || after.Gateways != 2 || after.Limit != "connections" {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if got := before.PerGateway; got != 500e3 {
		t.Errorf("%v clients of a gateway", got)
	}
	if got, want := after.PerGateway, 30e6/29/2; math.Abs(got-want) > 1 {
		t.Errorf("%v clients of a gateway while a region is away, want %v", got, want)
	}
	// 34,483 clients come at 100 µs each, to what of eight cores events do not need.
	want := time.Duration(1e6 / 29 * 100 / (8 - after.Load.Cores) * float64(time.Microsecond))
	if d := after.Restore - want; d < -time.Millisecond || d > time.Millisecond {
		t.Errorf("%v until clients are back, want %v", after.Restore, want)
	}
}
