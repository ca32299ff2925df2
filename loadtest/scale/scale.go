//go:build linux

// Package scale measures how the cost of gateways grows with their number: several gateways with
// their own clients on a cluster of NATS servers, directly, over a leaf node, or over a relay. From
// the figures of a single gateway it derives the coefficients of package capacity, and compares
// what these predict for several with what was measured.
//
// It owns the processes that it starts. It never measures latency beyond a check that all is well:
// gateways, clients and NATS share the cores of one machine, which several gateways would not do.
package scale

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"sluice/loadtest/capacity"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
)

// Topologies, by how gateways reach the cluster.
const (
	Cluster = "cluster" // each is a client of one of its nodes
	Leaf    = "leaf"    // each is a client of one leaf node
	Within  = "within"  // each has a leaf node within its process
	Relay   = "relay"   // each is a client of an edge server, with a relay between it and the cluster
)

// Options say what to run.
type Options struct {
	Gateway    string           // program
	NATS       string           // program, nats-server
	Worker     func() *exec.Cmd // a client process; nil: clients run in this process
	Gateways   []int            // numbers of gateways, in ascending order, beginning with 1
	Clients    int              // of each gateway
	Topics     []int
	Topologies []string
	Rate       float64       // events per topic and second
	Payload    int           // bytes
	Window     time.Duration // of events, in three parts, of which the median counts; idle clients are watched for a third of it
	Limit      time.Duration // of the whole run; what is not measured then is left out
	Say        func(line string)
	Keep       func(*Result) error // gets the result after each cell; nil: it is not kept
	Before     *Result             // what an earlier run has kept, and is not measured again; nil: nothing
}

// Check fills in defaults, and returns what is wrong.
func (o *Options) Check() error {
	if len(o.Gateways) == 0 {
		o.Gateways = []int{1, 2, 4, 5}
	}
	if len(o.Topics) == 0 {
		o.Topics = []int{1, 1000}
	}
	if len(o.Topologies) == 0 {
		o.Topologies = []string{Cluster, Leaf, Within, Relay}
	}
	o.Clients = max(o.Clients, 0)
	if o.Clients == 0 {
		o.Clients = 19_000
	}
	if o.Rate == 0 {
		o.Rate = 1
	}
	if o.Payload == 0 {
		o.Payload = 128
	}
	if o.Window == 0 {
		o.Window = 15 * time.Second
	}
	if o.Limit == 0 {
		o.Limit = 15 * time.Minute
	}
	for _, t := range o.Topologies {
		if t != Cluster && t != Leaf && t != Within && t != Relay {
			return fmt.Errorf("there is no topology %q: use cluster, leaf, within or relay", t)
		}
	}
	switch {
	case !slices.IsSorted(o.Gateways) || o.Gateways[0] != 1:
		return errors.New("the numbers of gateways must ascend from 1, which the others are compared with")
	case slices.Min(o.Topics) < 1:
		return errors.New("there must be at least one topic")
	case o.Clients < 40:
		return errors.New("a gateway needs at least 40 clients, or there is nothing to measure")
	case o.Rate < 0 || o.Payload < 0 || o.Window < 3*time.Second:
		return errors.New("the rate and the payload must not be negative, and the window at least three seconds")
	}
	return nil
}

// Schema is the version of the JSON form of Result.
const Schema = 1

// Result is everything that a run measured.
type Result struct {
	Schema       int                   `json:"schema"`
	Date         string                `json:"date"`
	Seconds      float64               `json:"seconds"` // length of the run
	Machine      result.Machine        `json:"machine"`
	Clients      int                   `json:"clients"` // of each gateway, but for the cells that say otherwise
	Rate         float64               `json:"rate"`    // events per topic and second
	Payload      int                   `json:"payload"` // bytes
	Cells        []Cell                `json:"cells"`
	Left         []Left                `json:"left,omitempty"` // what was not measured
	Coefficients capacity.Coefficients `json:"coefficients"`
}

// Left is a cell that was left out.
type Left struct {
	Topology string `json:"topology"`
	Gateways int    `json:"gateways"`
	Clients  int    `json:"clients"` // of each gateway
	Topics   int    `json:"topics"`
	Why      string `json:"why"`
}

// Cell is one stand: a number of gateways with so many clients each. CPU time is in microseconds.
type Cell struct {
	Topology string  `json:"topology"`
	Gateways int     `json:"gateways"`
	Clients  int     `json:"clients"` // of each gateway
	Topics   int     `json:"topics"`
	Each     []Usage `json:"each"` // of each gateway

	Seconds    float64 `json:"seconds"`    // of events, until the last was delivered
	Events     int64   `json:"events"`     // published
	Expected   int64   `json:"expected"`   // deliveries
	Deliveries int64   `json:"deliveries"` // that were made
	Bytes      float64 `json:"bytes"`      // that clients read for each delivery
	P99        int64   `json:"p99"`        // µs from when an event was due until a client had it

	Relay       float64 `json:"relay,omitempty"`       // CPU of the relay while events were sent
	RelayMemory int64   `json:"relayMemory,omitempty"` // bytes of memory of the relay

	NATS        float64 `json:"nats"`        // CPU of all NATS servers while events were sent
	NATSIdle    float64 `json:"natsIdle"`    // CPU of all NATS servers for each second without events
	NATSConnect float64 `json:"natsConnect"` // CPU of all NATS servers while clients connected
	Socket      float64 `json:"socket"`      // bytes of the kernel for each connection, one of its ends
	Other       float64 `json:"other"`       // cores that programs of others used while events were sent
}

// Usage is what one gateway used.
type Usage struct {
	CPU     float64 `json:"cpu"`     // while events were sent
	Idle    float64 `json:"idle"`    // for each client and second, without events
	Connect float64 `json:"connect"` // for each client that connected
	Empty   int64   `json:"empty"`   // bytes of memory without clients
	Memory  int64   `json:"memory"`  // bytes of memory with clients, after the events
	Events  int64   `json:"events"`  // that came from NATS
	Due     int64   `json:"due"`     // of the events published, those on topics that its clients have
}

// PerDelivery returns the gateways' CPU time for each delivery, in microseconds.
func (c Cell) PerDelivery() float64 {
	sum := 0.0
	for _, u := range c.Each {
		sum += u.CPU
	}
	return sum / float64(max(c.Deliveries, 1))
}

// Memory returns the gateways' memory, all together.
func (c Cell) Memory() (bytes float64) {
	for _, u := range c.Each {
		bytes += float64(u.Memory)
	}
	return bytes
}

// OnceEach reports whether each gateway got each event of its clients' topics exactly once, and
// each client got it.
func (c Cell) OnceEach() bool {
	return c.Deliveries == c.Expected && !slices.ContainsFunc(c.Each, func(u Usage) bool { return u.Events != u.Due })
}

// small are the numbers of clients of single gateways from which the coefficients come, and the one
// that is only predicted.
func (o *Options) small() []int {
	all := []int{o.Clients / 40, o.Clients / 2}
	if beside := o.predicted(); beside != o.Clients && !slices.Contains(all, beside) {
		all = append(all, beside)
	}
	return all
}

// predicted returns a small number of clients for which the model is compared, too.
func (o *Options) predicted() int { return min(1000, max(o.Clients/10, 1)) }

// plan lists the cells of a run.
func (o *Options) plan() (cells []Cell) {
	for _, n := range o.small() {
		for _, topics := range o.Topics {
			cells = append(cells, Cell{Topology: Cluster, Gateways: 1, Clients: n, Topics: topics})
		}
	}
	for _, g := range o.Gateways {
		for _, topics := range o.Topics {
			cells = append(cells, Cell{Topology: Cluster, Gateways: g, Clients: o.Clients, Topics: topics})
		}
	}
	for _, topology := range o.Topologies {
		if topology == Cluster {
			continue
		}
		for _, topics := range o.Topics {
			cells = append(cells, Cell{Topology: topology, Gateways: min(2, slices.Max(o.Gateways)), Clients: o.Clients, Topics: topics})
		}
	}
	return cells
}

// of reports whether the two are of the same stand.
func (c Cell) of(o Cell) bool {
	return c.Topology == o.Topology && c.Gateways == o.Gateways && c.Clients == o.Clients && c.Topics == o.Topics
}

func (c Cell) String() string {
	return fmt.Sprintf("%s, %d gateways with %d clients each, %d topics", c.Topology, c.Gateways, c.Clients, c.Topics)
}

// begin returns the result that a run adds to: a new one, or that of an earlier run.
func (o *Options) begin(m result.Machine) (*Result, error) {
	r := &Result{Schema: Schema, Date: time.Now().UTC().Format(time.DateOnly), Machine: m, Clients: o.Clients, Rate: o.Rate, Payload: o.Payload}
	b := o.Before
	if b == nil {
		return r, nil
	}
	if b.Clients != r.Clients || b.Rate != r.Rate || b.Payload != r.Payload || b.Machine.CPU != r.Machine.CPU || b.Machine.Cores != r.Machine.Cores {
		return nil, errors.New("the run to resume had other clients, another rate, payload or machine: begin a new one")
	}
	b.Left = nil
	return b, nil
}

// Run measures all cells. One that fails, or for which the time is too short, is left out: then Run
// returns what was measured with an error, unless only the time was too short. Without enough to
// derive the coefficients it is an error, too.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	return o.run(ctx, machine(proc.Cores()))
}

func (o *Options) run(ctx context.Context, m result.Machine) (*Result, error) {
	r, err := o.begin(m)
	if err != nil {
		return nil, err
	}
	limit, cancel := context.WithTimeout(ctx, o.Limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "scale")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	say := func(format string, args ...any) {
		if o.Say != nil {
			o.Say(fmt.Sprintf(format, args...))
		}
	}
	began := time.Now()
	var failed []error
	todo := o.plan()
	for i, c := range todo {
		if slices.ContainsFunc(r.Cells, c.of) {
			say("%d of %d: %v: measured before", i+1, len(todo), c)
			continue
		}
		err := limit.Err()
		if err == nil {
			err = o.measure(limit, dir, r.Machine, &c)
		}
		switch {
		case ctx.Err() != nil:
			return r, ctx.Err()
		case limit.Err() != nil:
			err = fmt.Errorf("the run may not take longer than %v", o.Limit)
		case err != nil:
			failed = append(failed, fmt.Errorf("%v: %w", c, err))
		}
		if err != nil {
			r.Left = append(r.Left, Left{c.Topology, c.Gateways, c.Clients, c.Topics, err.Error()})
			say("%d of %d: %v: left out: %v", i+1, len(todo), c, err)
			continue
		}
		r.Cells = append(r.Cells, c)
		r.Seconds = result.Round(r.Seconds+time.Since(began).Seconds(), 1)
		began = time.Now()
		say("%d of %d: %v: %.2f µs of CPU per delivery, p99 %.1f ms", i+1, len(todo), c, c.PerDelivery(), float64(c.P99)/1e3)
		if o.Keep != nil {
			if err := o.Keep(r); err != nil {
				return r, err
			}
		}
	}
	if r.Coefficients, err = r.fit(); err != nil {
		failed = append(failed, fmt.Errorf("the coefficients: %w", err))
	}
	return r, errors.Join(failed...)
}
