//go:build linux

package result

import (
	"encoding/json"
	"io"
	"time"

	"sluice/loadtest/hist"
	"sluice/loadtest/plan"
)

// schema is the version of the JSON file's structure.
const schema = 1

// Report is everything that a run measured, and what the JSON file holds.
type Report struct {
	Schema   int       `json:"schema"` // of this structure: 1
	Title    string    `json:"title"`
	Date     time.Time `json:"date"`
	Seconds  float64   `json:"seconds"` // length of the run
	Machine  Machine   `json:"machine"`
	Command  string    `json:"command"` // without paths of the machine
	Plan     plan.Plan `json:"plan"`
	Versions []string  `json:"versions"`
	Cells    []Cell    `json:"cells"`
}

// Machine describes where a run took place, without host name or paths.
type Machine struct {
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Memory  int64  `json:"memory"` // bytes
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
	Virtual bool   `json:"virtual"` // runs on a hypervisor
	Server  []int  `json:"server"`  // cores of servers
	Clients []int  `json:"clients"` // cores of clients, services and NATS

	// Steered reports whether the kernel processes what arrives at the loopback on the clients'
	// cores. Otherwise it does so on the sender's core, for the reason Unsteered.
	Steered   bool   `json:"steered,omitempty"`
	Unsteered string `json:"unsteered,omitempty"`
}

// Figures that a cell can reject; see Cell.Rejected.
const (
	CPU     = "cpu"
	Latency = "latency"
	Rate    = "rate"
	Mem     = "memory"
	Sockets = "sockets"
)

// Figures lists all of them.
var Figures = []string{CPU, Latency, Rate, Mem, Sockets}

// What a cell's units are.
const (
	Delivery   = "delivery"
	Connection = "connection"
	Request    = "request"
	Page       = "page" // opened and left
	Subscribed = "subscription"
)

// What can keep a rate below the server's own limit; see Cell.Limit.
const (
	LimitClients = "clients"
	LimitHarness = "harness"
)

// Cell is one scenario, run once on one target with one number of clients. A figure
// that could not be measured is -1.
type Cell struct {
	Target   string `json:"target"`
	Scenario string `json:"scenario"`
	Kind     string `json:"kind"`
	N        int    `json:"n"` // clients
	Round    int    `json:"round"`
	Error    string `json:"error,omitempty"` // why the scenario did not complete; then figures are missing

	Unit     string  `json:"unit"`     // Delivery, Connection, Request, Page or Subscribed
	Units    int64   `json:"units"`    // completed
	Expected int64   `json:"expected"` // should have been completed
	Lost     int64   `json:"lost"`     // expected and not completed
	Unsent   int64   `json:"unsent"`   // requests that were due and not made, because the window of every client was full
	Events   int64   `json:"events"`
	Seconds  float64 `json:"seconds"`           // from the first due time to the last unit
	Rate     float64 `json:"rate"`              // units per second
	AtLeast  bool    `json:"atLeast,omitempty"` // Rate is a lower bound: Limit kept it from being higher
	AtMost   bool    `json:"atMost,omitempty"`  // latencies are upper bounds: Limit added to them
	Limit    string  `json:"limit,omitempty"`   // what limited the rate, if not the server: LimitClients or LimitHarness

	Latency hist.Summary            `json:"latency"`         // µs, from the due time
	Hist    hist.Sparse             `json:"hist,omitempty"`  // the same, in steps of two per cent
	Kinds   map[string]hist.Summary `json:"kinds,omitempty"` // by kind, where units are of several kinds
	Series  []Point                 `json:"series,omitempty"`
	Trials  []Trial                 `json:"trials,omitempty"`

	CPU      Cost    `json:"cpu"`      // of the server
	Switches float64 `json:"switches"` // context switches per unit
	Writes   float64 `json:"writes"`   // write and writev calls per unit
	NATS     float64 `json:"nats"`     // µs of CPU per unit of a NATS server beside the gateway
	Client   float64 `json:"client"`   // µs of CPU per unit of clients
	Bytes    float64 `json:"bytes"`    // that clients read per unit, as received from the socket
	Memory   Memory  `json:"memory"`

	ServerBusy float64 `json:"serverBusy"`        // utilisation of the server's cores, 0 to 1
	ClientBusy float64 `json:"clientBusy"`        // utilisation of the clients' cores by clients, service and NATS
	OtherBusy  float64 `json:"otherBusy"`         // cores used by processes that are no part of the run
	Steal      float64 `json:"steal"`             // share of the time that the hypervisor took
	Dropped    int64   `json:"dropped,omitempty"` // packets that the kernel dropped because a core's queue of them was full
	Late       int64   `json:"late"`              // µs, 99th percentile: how late the harness itself sent events

	Live     int       `json:"live"`           // connections at the end
	Closed   int       `json:"closed"`         // by the server during the measurement
	Failed   int       `json:"failed"`         // never became ready
	Errors   int64     `json:"errors"`         // responses that were errors
	Shrunk   int64     `json:"shrunk"`         // messages received compressed
	Load     *Load     `json:"load,omitempty"` // of requests at a share of the highest rate
	Slow     *Slow     `json:"slow,omitempty"`
	Overload *Overload `json:"overload,omitempty"` // of a scenario of that kind

	Reconnect *Reconnect `json:"reconnect,omitempty"` // of a scenario of that kind
	Deploy    *Deploy    `json:"deploy,omitempty"`    // of a scenario of that kind
	Upgrade   *Upgrade   `json:"upgrade,omitempty"`   // of a scenario of that kind
	Hostile   *Hostile   `json:"hostile,omitempty"`   // of a scenario of that kind

	Message string `json:"message,omitempty"` // the last error of a client

	// Rejected maps each figure that is not the server's to the reason. The keys are of
	// Figures.
	Rejected map[string]string `json:"refused,omitempty"`
	Notes    []string          `json:"notes,omitempty"`
}

// Cost is CPU time per unit, in microseconds; for idle connections per connection and
// second.
type Cost struct {
	Total float64 `json:"total"`
	User  float64 `json:"user"`
	Sys   float64 `json:"sys"`
}

// Memory is in bytes.
type Memory struct {
	Before    int64   `json:"before"`           // RSS of the server without clients
	RSS       int64   `json:"rss"`              // with clients
	PSS       int64   `json:"pss"`              // with clients
	PerConn   float64 `json:"perConn"`          // growth of RSS per connection
	PerSub    float64 `json:"perSub,omitempty"` // growth of RSS per subscription, of a scenario whose units these are
	PSSConn   float64 `json:"pssConn"`          // growth of PSS per connection
	SocketCon float64 `json:"socketCon"`        // kernel memory for sockets per connection, both ends
}

// Load is how much of what a server can was asked of it.
type Load struct {
	Percent float64 `json:"percent"` // of Highest
	Highest float64 `json:"highest"` // requests per second, each client with the next one when it had the response
	Offered float64 `json:"offered"` // requests that were due per second
	// AtLeast reports whether the clients were the limit of Highest: then the server can more, and
	// its load was lower.
	AtLeast bool `json:"atLeast,omitempty"`
}

// Slow counts the clients that read slowly.
type Slow struct {
	Clients    int   `json:"clients"`
	Alive      int   `json:"alive"` // after they had read their backlog
	Deliveries int64 `json:"deliveries"`
}

// Overload is how a server took more changes than it can deliver.
type Overload struct {
	Offered   float64 `json:"offered"`   // deliveries per second, if each change reached each client
	Converged float64 `json:"converged"` // seconds from the last change to when all clients had it; -1: not all got it
	Before    int64   `json:"before"`    // RSS of the server with its clients before, bytes
	Highest   int64   `json:"highest"`   // and its highest during the overload
}

// Reconnect is what happened while all clients connected again.
type Reconnect struct {
	Ideal  float64 `json:"ideal"` // seconds that the service's workers needed for their requests, if none was ever idle
	Access int64   `json:"access"`
	Gets   int64   `json:"gets"`
	Calls  int64   `json:"calls"`
	Most   int64   `json:"most"` // access and call requests that were at the service at a time

	// Of the clients that stayed: their calls before and meanwhile, µs.
	Before    hist.Summary `json:"before"`
	Meanwhile hist.Summary `json:"meanwhile"`
	Failed    int64        `json:"failed"` // calls that got an error
}

// Deploy is what happened after a service had started again.
type Deploy struct {
	States float64 `json:"states"` // seconds until all clients had the new states
	Gets   int64   `json:"gets"`   // requests that the service got until it was quiet
	Access int64   `json:"access"`
}

// Upgrade is what clients noticed when other processes took a server's place, and what it cost.
type Upgrade struct {
	// From when to when each lasted, in seconds: until the old process had ended and all clients
	// were there.
	Spans [][2]float64 `json:"spans"`

	Closed     int   `json:"closed"`     // connections that clients lost, of all kinds
	Probes     int   `json:"probes"`     // connects of new clients, all the time
	Refused    int   `json:"refused"`    // of these, those that the kernel refused
	Failed     int   `json:"failed"`     // and those that got no WebSocket for another reason
	Lost       int64 `json:"lost"`       // events that clients did not get
	Repeated   int64 `json:"repeated"`   // events that clients got after the same or a later one
	Unanswered int64 `json:"unanswered"` // requests whose connection was lost before the response
	Errors     int64 `json:"errors"`     // requests whose response was an error

	// Requests that the service got from the first upgrade on for what clients held.
	Access int64 `json:"access"`
	Gets   int64 `json:"gets"`

	// The longest that each client waited, in each upgrade, for an event that was due, less the
	// usual latency: the median before the first upgrade. Quiet is the same in the time before. In
	// µs.
	Pause hist.Summary `json:"pause"`
	Quiet hist.Summary `json:"quiet"`
	Usual int64        `json:"usual"`

	// Latencies outside of upgrades and during them, in µs.
	Deliveries [2]hist.Summary `json:"deliveries"`
	Calls      [2]hist.Summary `json:"calls"`
	Connects   [2]hist.Summary `json:"connects"` // of new clients

	CPUBefore float64 `json:"cpuBefore"` // µs of the server per delivery before the first upgrade; -1: not known

	// The highest PSS of the server before an upgrade, and of both processes together in it, in
	// bytes: those of the upgrade in which the second was the largest multiple of the first.
	Alone int64 `json:"alone"`
	Both  int64 `json:"both"`
}

// MemoryRatio returns the memory of both processes as a multiple of one's, 0 if it is not known.
func (u *Upgrade) MemoryRatio() float64 {
	if u.Alone <= 0 {
		return 0
	}
	return float64(u.Both) / float64(u.Alone)
}

// Longest returns how long the longest of the upgrades lasted, in seconds.
func (u *Upgrade) Longest() (s float64) {
	for _, span := range u.Spans {
		s = max(s, span[1]-span[0])
	}
	return s
}

// Hostile is what attackers did while others got events, and what these got without attackers.
type Hostile struct {
	Attack     string        `json:"attack"`
	Attackers  int           `json:"attackers"`
	Before     hist.Summary  `json:"before"`     // latency of deliveries without attackers, µs; the cell's is with them
	BusyBefore float64       `json:"busyBefore"` // utilisation of the server's cores without attackers
	CPUBefore  float64       `json:"cpuBefore"`  // µs of the server per delivery without attackers; -1: not known
	Seconds    float64       `json:"seconds"`    // that the attack lasted
	Megabytes  float64       `json:"megabytes"`  // per second that attackers sent
	Frames     int64         `json:"frames"`     // sent as a whole
	Connects   int64         `json:"connects"`
	Failed     int64         `json:"failed"` // connects without a WebSocket
	Closed     int64         `json:"closed"` // connections that the server ended
	Closes     map[int]int64 `json:"closes"` // of these, by close code; 1006: without one
}

// Point is a sample during a measurement.
type Point struct {
	T    float64 `json:"t"` // seconds since the measurement began
	Rate float64 `json:"rate"`
	P50  int64   `json:"p50"` // µs, of what was received since the previous point
	P99  int64   `json:"p99"`
	Max  int64   `json:"max"`
	CPU  float64 `json:"cpu"` // cores that the server used
	RSS  int64   `json:"rss"`
	Live int     `json:"live"`
}

// Trial is a step of the search for the highest rate.
type Trial struct {
	Offered   float64 `json:"offered"`  // deliveries per second
	Achieved  float64 `json:"achieved"` // deliveries per second
	P99       int64   `json:"p99"`      // µs
	Busy      float64 `json:"busy"`     // utilisation of the server's cores
	Client    float64 `json:"client"`   // utilisation of the clients' cores
	Late      int64   `json:"late"`     // µs, of the harness
	Sustained bool    `json:"sustained"`
	Why       string  `json:"why,omitempty"`   // why it was not sustained
	Limit     string  `json:"limit,omitempty"` // what was the limit, if not the server: LimitClients or LimitHarness
}

// New returns an empty report.
func New() *Report { return &Report{Schema: schema} }

// Read reads what WriteJSON wrote.
func Read(r io.Reader) (*Report, error) {
	return Decode(r, func(r *Report) int { return r.Schema }, schema)
}

// WriteJSON writes the report with all its raw data.
func (r *Report) WriteJSON(w io.Writer) error {
	return json.NewEncoder(w).Encode(r)
}

// OK reports whether a figure is the server's.
func (c Cell) OK(figure string) bool { return c.Error == "" && c.Rejected[figure] == "" }

// Reject marks a figure as not the server's. The first reason stays.
func (c *Cell) Reject(figure, why string) {
	if c.Rejected == nil {
		c.Rejected = map[string]string{}
	}
	if c.Rejected[figure] == "" {
		c.Rejected[figure] = why
	}
}

// Bound marks the rate as a lower bound and latencies as upper bounds, because the
// clients or the harness were the limit. Their lateness only lowers the rate and only
// adds to latencies, which count from the due time until a client has read the result.
func (c *Cell) Bound(limit string) {
	if !c.AtMost {
		c.AtLeast, c.AtMost, c.Limit = true, true, limit
	}
}

// Round rounds v to so many decimal digits, half away from zero.
func Round(v float64, digits int) float64 {
	scale := 1.0
	for range digits {
		scale *= 10
	}
	if v < 0 {
		return float64(int64(v*scale-0.5)) / scale
	}
	return float64(int64(v*scale+0.5)) / scale
}
