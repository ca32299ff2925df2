// Package capacity computes what a number of clients needs: gateways, NATS servers, memory and
// bandwidth. It multiplies what a unit of work costs, which package scale measures, by the work.
//
// It owns the model. It never measures anything, and knows no gateway.
package capacity

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// Coefficients are what a unit of work costs on the machine of the measurement. CPU time is in
// microseconds of one core.
type Coefficients struct {
	Machine string `json:"machine"` // of the measurement
	Date    string `json:"date"`

	Event    float64 `json:"event"`    // of a gateway, for each event that it gets from NATS
	Delivery float64 `json:"delivery"` // of a gateway, for each client that an event is written to
	Idle     float64 `json:"idle"`     // of a gateway, for each client and second: pings, timers
	Itself   float64 `json:"itself"`   // of a gateway without clients, for each second
	Connect  float64 `json:"connect"`  // of a gateway, for each client that connects and subscribes, access included

	Base      float64 `json:"base"`      // bytes, resident memory of a gateway without clients
	PerClient float64 `json:"perClient"` // bytes, for each client
	PerTopic  float64 `json:"perTopic"`  // bytes, for each resource that clients of the gateway have
	Socket    float64 `json:"socket"`    // bytes of the kernel, for each connection of a gateway
	Overhead  float64 `json:"overhead"`  // bytes of a delivery beyond the payload: the event around it, the frame

	NATSIn      float64 `json:"natsIn"`      // of all NATS servers together, for each event that a service publishes
	NATSOut     float64 `json:"natsOut"`     // of all NATS servers together, for each gateway that gets an event
	NATSItself  float64 `json:"natsItself"`  // of all NATS servers together without events, for each second
	NATSConnect float64 `json:"natsConnect"` // of all NATS servers together, for each client that connects: its access request
}

//go:embed measured.json
var measured []byte

// Measured returns the coefficients that this program was built with.
func Measured() (Coefficients, error) {
	var c Coefficients
	err := json.Unmarshal(measured, &c)
	return c, err
}

// Check returns what is wrong with coefficients, nil if nothing is.
func (c Coefficients) Check() error {
	for name, v := range map[string]float64{"event": c.Event, "delivery": c.Delivery, "idle": c.Idle, "itself": c.Itself, "natsItself": c.NATSItself, "connect": c.Connect, "base": c.Base,
		"perClient": c.PerClient, "perTopic": c.PerTopic, "socket": c.Socket, "overhead": c.Overhead, "natsIn": c.NATSIn, "natsOut": c.NATSOut, "natsConnect": c.NATSConnect} {
		if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("the coefficient %s is %v: it must not be negative", name, v)
		}
	}
	if c.Delivery == 0 || c.PerClient == 0 {
		return errors.New("the coefficients delivery and perClient must not be zero")
	}
	return nil
}

// Work is what clients and services do.
type Work struct {
	Clients   float64 // subscribers, all together
	Topics    float64 // different resources that they subscribe to
	PerClient float64 // subscriptions of each client
	Events    float64 // per topic and second
	Payload   float64 // bytes of an event's payload
	Churn     float64 // clients that connect per second, all together
	Access    float64 // access requests per client and second, beside those of new subscriptions
}

// Machine is what one gateway or NATS server runs on.
type Machine struct {
	Cores       float64
	Memory      float64 // bytes
	Network     float64 // bits per second
	Connections float64 // at most, for a gateway: descriptors, or how many a restart may move
	Use         float64 // share of CPU, memory and network that may be used, 0 to 1
}

// Packet is what the headers of Ethernet, IP and TCP add to a delivery, in bytes: each is a packet
// of its own while a client gets few events.
const Packet = 38 + 20 + 32

// Load is what gateways use, all together unless it says otherwise.
type Load struct {
	Deliveries float64 // per second
	Received   float64 // events per second, of one gateway
	Cores      float64
	Memory     float64 // bytes, without that of the kernel's sockets
	Sockets    float64 // bytes, that of the kernel's sockets
	Bits       float64 // per second, to clients
	NATSCores  float64
	NATSBits   float64 // per second, to gateways
}

// topicsOf returns how many different topics the clients of a gateway have. Clients choose theirs
// independently of each other, and are spread over the gateways at random.
func topicsOf(topics, subscriptions float64) float64 {
	if topics <= 1 {
		return topics
	}
	return topics * -math.Expm1(subscriptions*math.Log1p(-1/topics))
}

// Load returns what gateways use for w, with clients spread evenly over them.
func (c Coefficients) Load(w Work, gateways float64) Load {
	return c.LoadAt(w, gateways, topicsOf(w.Topics, w.Clients*w.PerClient/gateways))
}

// LoadAt is Load where the number of different topics that the clients of a gateway have is known.
func (c Coefficients) LoadAt(w Work, gateways, topics float64) Load {
	var l Load
	l.Deliveries = w.Clients * w.PerClient * w.Events
	l.Received = topics * w.Events
	l.Cores = (gateways*(l.Received*c.Event+c.Itself) + l.Deliveries*c.Delivery + w.Clients*c.Idle + (w.Churn+w.Clients*w.Access)*c.Connect) / 1e6
	l.Memory = gateways*(c.Base+topics*c.PerTopic) + w.Clients*c.PerClient
	l.Sockets = w.Clients * c.Socket
	l.Bits = 8 * l.Deliveries * (w.Payload + c.Overhead + Packet)
	l.NATSCores = (c.NATSItself + w.Topics*w.Events*c.NATSIn + gateways*l.Received*c.NATSOut + (w.Churn+w.Clients*w.Access)*c.NATSConnect) / 1e6
	l.NATSBits = 8 * gateways * l.Received * (w.Payload + c.Overhead)
	return l
}

// Need is how many machines a region needs.
type Need struct {
	Gateways    float64
	Limit       string // what asks for so many gateways
	NATSServers float64
	Load        Load
	PerGateway  float64       // clients
	Restore     time.Duration // how long the gateways need to take the clients of what fails, at full use of their CPU
}

// maxGateways bounds the search: more would not be one system.
const maxGateways = 1e6

// Size returns the least number of gateways that carry w, and the NATS servers that feed them. A
// cluster of NATS has at least three servers.
func (c Coefficients) Size(w Work, gateway, server Machine) (Need, error) {
	if err := c.Check(); err != nil {
		return Need{}, err
	}
	for _, m := range []Machine{gateway, server} {
		if m.Cores <= 0 || m.Network <= 0 || m.Use <= 0 || m.Use > 1 {
			return Need{}, errors.New("a machine needs cores, a network, and a share of them above 0 and up to 1")
		}
	}
	if gateway.Memory <= 0 || gateway.Connections <= 0 {
		return Need{}, errors.New("a gateway's machine needs memory and connections")
	}
	if w.Clients <= 0 || w.Topics < 1 || w.PerClient <= 0 || w.Events < 0 || w.Payload < 0 || w.Churn < 0 || w.Access < 0 {
		return Need{}, errors.New("there must be clients, topics and subscriptions, and no negative rate")
	}
	n := Need{Gateways: 1, Limit: "one is enough"}
	// Each gateway gets events of its own, so more gateways are also more work: the number grows
	// until the load fits, and there is none if the events of one topic set alone fill a gateway.
	for {
		n.Load = c.Load(w, n.Gateways)
		wanted, limit := n.Gateways, n.Limit
		for _, v := range []struct {
			name         string
			used, offers float64
		}{
			{"CPU", n.Load.Cores, gateway.Cores * gateway.Use},
			{"memory", n.Load.Memory + n.Load.Sockets, gateway.Memory * gateway.Use},
			{"network", n.Load.Bits, gateway.Network * gateway.Use},
			{"connections", w.Clients, gateway.Connections},
		} {
			if count := math.Ceil(v.used/v.offers - 1e-9); count > wanted {
				wanted, limit = count, v.name
			}
		}
		if wanted == n.Gateways {
			break
		}
		if wanted > maxGateways {
			return Need{}, fmt.Errorf("no number of gateways is enough: each gets %.0f events per second. Spread the topics over several systems", n.Load.Received)
		}
		n.Gateways, n.Limit = wanted, limit
	}
	n.PerGateway = w.Clients / n.Gateways
	n.NATSServers = max(3, math.Ceil(n.Load.NATSCores/(server.Cores*server.Use)-1e-9), math.Ceil(n.Load.NATSBits/(server.Network*server.Use)-1e-9))
	return n, nil
}

// Regions is a system in several regions, of which some may fail.
type Regions struct {
	Regions int
	Failed  int // that may fail at the same time: the others take their clients
}

// Plan returns what each region needs, with the clients of the failed ones, and its load before.
func (c Coefficients) Plan(w Work, r Regions, gateway, server Machine) (before, after Need, err error) {
	if r.Regions < 1 || r.Failed < 0 || r.Failed >= r.Regions {
		return before, after, fmt.Errorf("%d of %d regions cannot fail", r.Failed, r.Regions)
	}
	one := w
	one.Clients, one.Churn = w.Clients/float64(r.Regions), w.Churn/float64(r.Regions)
	if before, err = c.Size(one, gateway, server); err != nil {
		return before, after, err
	}
	more := w
	left := float64(r.Regions - r.Failed)
	more.Clients, more.Churn = w.Clients/left, w.Churn/left
	if after, err = c.Size(more, gateway, server); err != nil {
		return before, after, err
	}
	// The machines are those for after. What they have left before is for the clients that come.
	before.Gateways, before.NATSServers, before.Limit = after.Gateways, after.NATSServers, after.Limit
	before.Load = c.Load(one, after.Gateways)
	before.PerGateway = one.Clients / after.Gateways
	if coming := more.Clients - one.Clients; coming > 0 {
		// Clients come back while those that are there get their events: what is left of the CPU
		// for them shrinks as they come, so the load is that of all.
		spare := after.Gateways*gateway.Cores - after.Load.Cores
		if spare <= 0 {
			return before, after, errors.New("there is no CPU left for clients that come back: use less of each machine")
		}
		after.Restore = time.Duration(coming * c.Connect / 1e6 / spare * float64(time.Second))
	}
	return before, after, nil
}
