//go:build linux

package loadtest

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
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
	Unsent   int64   `json:"unsent"`   // requests that were due and could not be made: all clients waited for answers
	Events   int64   `json:"events"`
	Seconds  float64 `json:"seconds"`           // from the first due time to the last unit
	Rate     float64 `json:"rate"`              // units per second
	AtLeast  bool    `json:"atLeast,omitempty"` // Rate is a lower bound: Limit kept it from being higher
	AtMost   bool    `json:"atMost,omitempty"`  // latencies are upper bounds: Limit added to them
	Limit    string  `json:"limit,omitempty"`   // of the highest rate, if not the server: clients or harness

	Latency hist.Summary            `json:"latency"`         // µs, from when it was due
	Hist    hist.Sparse             `json:"hist,omitempty"`  // the same, in steps of two per cent
	Kinds   map[string]hist.Summary `json:"kinds,omitempty"` // where units are of several kinds
	Series  []Point                 `json:"series,omitempty"`
	Trials  []Trial                 `json:"trials,omitempty"`

	CPU      Cost    `json:"cpu"`      // of the server
	Switches float64 `json:"switches"` // context switches per unit
	Writes   float64 `json:"writes"`   // write and writev calls per unit
	NATS     float64 `json:"nats"`     // µs of CPU per unit of a NATS server beside the gateway
	Client   float64 `json:"client"`   // µs of CPU per unit of clients
	Bytes    float64 `json:"bytes"`    // that clients read per unit, as they came over the wire
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
	Shrunk  int64  `json:"shrunk"` // messages that came compressed
	Slow    *Slow  `json:"slow,omitempty"`
	Message string `json:"message,omitempty"` // the last error of a client

	// Refused says which figures are not the server's, and why: keys are cpu,
	// latency, rate, memory and sockets.
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
	Late      int64   `json:"late"`     // µs, of the harness
	Sustained bool    `json:"sustained"`
	Why       string  `json:"why,omitempty"`   // if not
	Limit     string  `json:"limit,omitempty"` // what was, if not the server: clients or harness
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
// its rounds. Rounds that refuse a figure do not count for it; a figure that
// half of the rounds or more refuse is refused. A median is a bound if any round
// that counts is. Histograms and series are those of the round with the median
// CPU.
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

// The figures that may be refused.
var figures = []string{"cpu", "latency", "rate", "memory", "sockets"}

func median(cells []Cell) Cell {
	ran := slices.DeleteFunc(slices.Clone(cells), func(c Cell) bool { return c.Error != "" })
	if len(ran) == 0 {
		return cells[len(cells)-1]
	}
	good := map[string][]Cell{} // by figure, the rounds that count
	refused := map[string]string{}
	var notes []string
	for _, figure := range figures {
		var why string
		for _, c := range ran {
			if c.OK(figure) {
				good[figure] = append(good[figure], c)
			} else if why == "" {
				why = c.Refused[figure]
			}
		}
		switch n := len(good[figure]); {
		case n == len(ran):
		case 2*n > len(ran):
			notes = append(notes, fmt.Sprintf("%s: the median of %d of %d rounds; not counted: %s", figure, n, len(ran), why))
		default:
			refused[figure], good[figure] = why, ran
		}
	}
	byCPU := slices.Clone(good["cpu"])
	slices.SortStableFunc(byCPU, func(a, b Cell) int { return compare(a.CPU.Total, b.CPU.Total) })
	m := byCPU[(len(byCPU)-1)/2]
	m.Round, m.Refused, m.Notes = 0, nil, nil
	m.medianFigures(good)
	m.AtLeast = refused["rate"] == "" && slices.ContainsFunc(good["rate"], func(c Cell) bool { return c.AtLeast })
	m.AtMost = refused["latency"] == "" && slices.ContainsFunc(good["latency"], func(c Cell) bool { return c.AtMost })
	var limits []string
	for _, c := range good["rate"] {
		if c.Limit != "" {
			limits = append(limits, c.Limit)
		}
	}
	slices.Sort(limits)
	m.Limit = strings.Join(slices.Compact(limits), " and the ")
	m.Lost, m.Unsent, m.Closed, m.Failed, m.Errors = 0, 0, 0, 0, 0
	for _, c := range ran {
		m.Lost, m.Unsent, m.Closed = m.Lost+c.Lost, m.Unsent+c.Unsent, m.Closed+c.Closed
		m.Failed, m.Errors = m.Failed+c.Failed, m.Errors+c.Errors
		notes = append(notes, c.Notes...)
	}
	for _, c := range cells {
		if c.Error != "" {
			notes = append(notes, fmt.Sprintf("round %d: %s", c.Round, c.Error))
		}
	}
	for _, n := range notes {
		if !slices.Contains(m.Notes, n) {
			m.Notes = append(m.Notes, n)
		}
	}
	for figure, why := range refused {
		m.refuse(figure, why)
	}
	return m
}

func (c *Cell) medianFigures(good map[string][]Cell) {
	of := func(figure string, f func(Cell) float64) float64 {
		var v []float64
		for _, one := range good[figure] {
			v = append(v, f(one))
		}
		return Median(v)
	}
	for _, q := range []struct {
		to     *float64
		figure string
		f      func(Cell) float64
	}{
		{&c.Rate, "rate", func(c Cell) float64 { return c.Rate }},
		{&c.Seconds, "rate", func(c Cell) float64 { return c.Seconds }},
		{&c.CPU.Total, "cpu", func(c Cell) float64 { return c.CPU.Total }},
		{&c.CPU.User, "cpu", func(c Cell) float64 { return c.CPU.User }},
		{&c.CPU.Sys, "cpu", func(c Cell) float64 { return c.CPU.Sys }},
		{&c.Switches, "cpu", func(c Cell) float64 { return c.Switches }},
		{&c.Writes, "cpu", func(c Cell) float64 { return c.Writes }},
		{&c.Bytes, "cpu", func(c Cell) float64 { return c.Bytes }},
		{&c.NATS, "cpu", func(c Cell) float64 { return c.NATS }},
		{&c.Client, "cpu", func(c Cell) float64 { return c.Client }},
		{&c.ServerBusy, "cpu", func(c Cell) float64 { return c.ServerBusy }},
		{&c.ClientBusy, "cpu", func(c Cell) float64 { return c.ClientBusy }},
		{&c.Latency.Mean, "latency", func(c Cell) float64 { return c.Latency.Mean }},
		{&c.Memory.PerConn, "memory", func(c Cell) float64 { return c.Memory.PerConn }},
		{&c.Memory.PSSConn, "memory", func(c Cell) float64 { return c.Memory.PSSConn }},
		{&c.Memory.SocketCon, "sockets", func(c Cell) float64 { return c.Memory.SocketCon }},
	} {
		*q.to = of(q.figure, q.f)
	}
	c.Memory.RSS = int64(of("memory", func(c Cell) float64 { return float64(c.Memory.RSS) }))
	for _, q := range []struct {
		to *int64
		f  func(hist.Summary) int64
	}{
		{&c.Latency.P50, func(s hist.Summary) int64 { return s.P50 }},
		{&c.Latency.P90, func(s hist.Summary) int64 { return s.P90 }},
		{&c.Latency.P99, func(s hist.Summary) int64 { return s.P99 }},
		{&c.Latency.P999, func(s hist.Summary) int64 { return s.P999 }},
		{&c.Latency.Max, func(s hist.Summary) int64 { return s.Max }},
	} {
		*q.to = int64(of("latency", func(c Cell) float64 { return float64(q.f(c.Latency)) }))
	}
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

// OK reports whether a figure (cpu, latency, rate, memory or sockets) is the
// server's.
func (c Cell) OK(figure string) bool { return c.Error == "" && c.Refused[figure] == "" }
