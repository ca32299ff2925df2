package loadtest

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"sluice/loadtest/hist"
)

// Report is everything that a run has measured; it is what the JSON file holds.
type Report struct {
	Schema   int       `json:"schema"` // of this structure: 1
	Title    string    `json:"title"`
	Date     time.Time `json:"date"`
	Seconds  float64   `json:"seconds"` // that the run took
	Machine  Machine   `json:"machine"`
	Command  string    `json:"command"` // without paths of the machine
	Plan     Plan      `json:"plan"`
	Versions []string  `json:"versions"`
	Cells    []Cell    `json:"cells"`
}

// Machine describes where a run took place, without its name or paths.
type Machine struct {
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Memory  int64  `json:"memory"` // bytes
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
	Virtual bool   `json:"virtual"` // runs on a hypervisor
	Server  []int  `json:"server"`  // cores of servers
	Clients []int  `json:"clients"` // cores of clients, services and NATS
}

// Cell is one scenario, run once on one target with one number of clients. A
// figure that could not be measured is -1.
type Cell struct {
	Target   string `json:"target"`
	Scenario string `json:"scenario"`
	Kind     string `json:"kind"`
	N        int    `json:"n"`
	Round    int    `json:"round"`
	Error    string `json:"error,omitempty"` // it could not be run to its end; figures are missing

	Unit     string  `json:"unit"`     // what Units counts: delivery, connection or request
	Units    int64   `json:"units"`    // done
	Expected int64   `json:"expected"` // that should have been done
	Lost     int64   `json:"lost"`     // of these: not done
	Events   int64   `json:"events"`
	Seconds  float64 `json:"seconds"` // from the first due time to the last unit
	Rate     float64 `json:"rate"`    // units per second

	Latency hist.Summary            `json:"latency"`         // µs, from when it was due
	Hist    hist.Sparse             `json:"hist,omitempty"`  // the same, raw
	Kinds   map[string]hist.Summary `json:"kinds,omitempty"` // where units are of several kinds
	Series  []Point                 `json:"series,omitempty"`
	Trials  []Trial                 `json:"trials,omitempty"`

	CPU      Cost    `json:"cpu"`      // of the server
	Switches float64 `json:"switches"` // context switches per unit
	Writes   float64 `json:"writes"`   // write and writev calls per unit
	NATS     float64 `json:"nats"`     // µs of CPU per unit of a NATS server beside the gateway
	Client   float64 `json:"client"`   // µs of CPU per unit of clients
	Memory   Memory  `json:"memory"`

	ServerBusy float64 `json:"serverBusy"` // part of the server's cores that it used
	ClientBusy float64 `json:"clientBusy"` // part of the clients' cores that clients, service and NATS used
	OtherBusy  float64 `json:"otherBusy"`  // cores that were busy with what is no part of the run
	Steal      float64 `json:"steal"`      // part of the time that the hypervisor took
	Late       int64   `json:"late"`       // µs, 99th percentile: how late the harness itself sent events

	Live    int    `json:"live"`   // connections at the end
	Closed  int    `json:"closed"` // by the server, meanwhile
	Failed  int    `json:"failed"` // never became ready
	Errors  int64  `json:"errors"` // answers that were errors
	Slow    *Slow  `json:"slow,omitempty"`
	Message string `json:"message,omitempty"` // the last error of a client

	// Refused says which figures are not the server's, and why: keys are cpu,
	// latency, rate and memory.
	Refused map[string]string `json:"refused,omitempty"`
	Notes   []string          `json:"notes,omitempty"`
}

// Cost is CPU time per unit, in microseconds; for idle connections per
// connection and second.
type Cost struct {
	Total float64 `json:"total"`
	User  float64 `json:"user"`
	Sys   float64 `json:"sys"`
}

// Memory is in bytes.
type Memory struct {
	Before    int64   `json:"before"`    // RSS of the server without clients
	RSS       int64   `json:"rss"`       // with them
	PSS       int64   `json:"pss"`       // with them
	PerConn   float64 `json:"perConn"`   // RSS that came with each connection
	PSSConn   float64 `json:"pssConn"`   // PSS that came with each
	SocketCon float64 `json:"socketCon"` // kernel memory for sockets per connection, both ends
}

// Slow is what became of clients that read slowly.
type Slow struct {
	Clients    int   `json:"clients"`
	Alive      int   `json:"alive"` // after they had read all that waited for them
	Deliveries int64 `json:"deliveries"`
}

// Point is a moment of a run.
type Point struct {
	T    float64 `json:"t"` // seconds since its begin
	Rate float64 `json:"rate"`
	P50  int64   `json:"p50"` // µs, of what came since the point before
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
	Busy      float64 `json:"busy"`     // part of the server's cores
	Client    float64 `json:"client"`   // part of the clients' cores
	Sustained bool    `json:"sustained"`
	Why       string  `json:"why,omitempty"` // if not
}

// ReadReport reads what WriteJSON wrote.
func ReadReport(r io.Reader) (*Report, error) {
	var rep Report
	if err := json.NewDecoder(r).Decode(&rep); err != nil {
		return nil, err
	}
	if rep.Schema != 1 {
		return nil, fmt.Errorf("the report has schema %d, this program reads 1", rep.Schema)
	}
	return &rep, nil
}

// WriteJSON writes the report with all its raw data.
func (r *Report) WriteJSON(w io.Writer) error {
	return json.NewEncoder(w).Encode(r)
}

// Key names what medians are taken of.
type Key struct {
	Scenario string
	N        int
	Target   string
}

// Medians returns, for each scenario, number of clients and target in the order
// in which they were first run, one cell with the median of each figure over
// its rounds. A figure that any of the rounds refuses is refused; histograms
// and series are those of the round with the median CPU.
func (r *Report) Medians() []Cell {
	var order []Key
	groups := map[Key][]Cell{}
	for _, c := range r.Cells {
		k := Key{c.Scenario, c.N, c.Target}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], c)
	}
	all := make([]Cell, 0, len(order))
	for _, k := range order {
		all = append(all, median(groups[k]))
	}
	return all
}

func median(cells []Cell) Cell {
	good := slices.DeleteFunc(slices.Clone(cells), func(c Cell) bool { return c.Error != "" })
	if len(good) == 0 {
		return cells[len(cells)-1]
	}
	slices.SortStableFunc(good, func(a, b Cell) int { return compare(a.CPU.Total, b.CPU.Total) })
	m := good[(len(good)-1)/2]
	of := func(f func(Cell) float64) float64 {
		v := make([]float64, len(good))
		for i, c := range good {
			v[i] = f(c)
		}
		return Median(v)
	}
	m.Rate = of(func(c Cell) float64 { return c.Rate })
	m.Seconds = of(func(c Cell) float64 { return c.Seconds })
	m.CPU = Cost{of(func(c Cell) float64 { return c.CPU.Total }), of(func(c Cell) float64 { return c.CPU.User }), of(func(c Cell) float64 { return c.CPU.Sys })}
	m.Switches, m.Writes = of(func(c Cell) float64 { return c.Switches }), of(func(c Cell) float64 { return c.Writes })
	m.NATS, m.Client = of(func(c Cell) float64 { return c.NATS }), of(func(c Cell) float64 { return c.Client })
	m.ServerBusy, m.ClientBusy = of(func(c Cell) float64 { return c.ServerBusy }), of(func(c Cell) float64 { return c.ClientBusy })
	m.Memory.PerConn = of(func(c Cell) float64 { return c.Memory.PerConn })
	m.Memory.PSSConn = of(func(c Cell) float64 { return c.Memory.PSSConn })
	m.Memory.SocketCon = of(func(c Cell) float64 { return c.Memory.SocketCon })
	m.Memory.RSS = int64(of(func(c Cell) float64 { return float64(c.Memory.RSS) }))
	l := &m.Latency
	l.Mean = of(func(c Cell) float64 { return c.Latency.Mean })
	for _, q := range []struct {
		to *int64
		f  func(hist.Summary) int64
	}{
		{&l.P50, func(s hist.Summary) int64 { return s.P50 }}, {&l.P90, func(s hist.Summary) int64 { return s.P90 }},
		{&l.P99, func(s hist.Summary) int64 { return s.P99 }}, {&l.P999, func(s hist.Summary) int64 { return s.P999 }},
		{&l.Max, func(s hist.Summary) int64 { return s.Max }},
	} {
		*q.to = int64(of(func(c Cell) float64 { return float64(q.f(c.Latency)) }))
	}
	m.Lost, m.Closed, m.Failed, m.Errors, m.Refused, m.Notes = 0, 0, 0, 0, nil, nil
	for _, c := range cells {
		m.Lost, m.Closed, m.Failed, m.Errors = m.Lost+c.Lost, m.Closed+c.Closed, m.Failed+c.Failed, m.Errors+c.Errors
		for figure, why := range c.Refused {
			m.refuse(figure, why)
		}
		for _, n := range c.Notes {
			if !slices.Contains(m.Notes, n) {
				m.Notes = append(m.Notes, n)
			}
		}
		if c.Error != "" {
			m.Notes = append(m.Notes, fmt.Sprintf("round %d: %s", c.Round, c.Error))
		}
	}
	m.Round = 0
	return m
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Median of v; 0 of none. It sorts v.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func (c *Cell) refuse(figure, why string) {
	if c.Refused == nil {
		c.Refused = map[string]string{}
	}
	if c.Refused[figure] == "" {
		c.Refused[figure] = why
	}
}

// OK reports whether a figure (cpu, latency, rate or memory) is the server's.
func (c Cell) OK(figure string) bool { return c.Error == "" && c.Refused[figure] == "" }
