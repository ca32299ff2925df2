//go:build linux

// Package interest measures what subscriptions cost NATS servers: memory and CPU at the node that
// gateways are connected to and at the others of the cluster, churn, and for how long events are
// missing after a node has started again. Its connections subscribe as gateways do, by name, by one
// wildcard, and behind a leaf node.
//
// It owns the processes that it starts. It never measures a gateway.
package interest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"sluice/loadtest/proc"
)

// Schema is the version of the JSON form of a Result.
const Schema = 1

// Gateways is the number of connections, each of which has a part of the subscriptions.
const Gateways = 4

// How gateways subscribe.
const (
	Names     = "names"     // by name, each to resources of its own
	Wildcards = "wildcards" // by one wildcard each
	Leaf      = "leaf"      // by name, at a leaf node
	Same      = "same"      // all by the same names, at a leaf node
	Edge      = "edge"      // by one wildcard each, at a leaf node
	Isolated  = "isolated"  // by name, at a leaf node of a hub with isolate_leafnode_interest
)

// Options say what to run.
type Options struct {
	NATS  string // program, nats-server
	Sizes []int  // live subscriptions, ascending
	Limit time.Duration
	Say   func(line string)
	Keep  func(*Result) // called after each row
}

// Check fills in defaults, and returns what is wrong.
func (o *Options) Check() error {
	if len(o.Sizes) == 0 {
		o.Sizes = []int{100_000, 500_000, 1_000_000}
	}
	if o.Limit == 0 {
		o.Limit = 8 * time.Minute
	}
	for i, n := range o.Sizes {
		if n < 10*Gateways || i > 0 && n <= o.Sizes[i-1] {
			return fmt.Errorf("%d subscriptions: the sizes must ascend from %d at least", n, 10*Gateways)
		}
	}
	return nil
}

// Result is what a run has measured.
type Result struct {
	Schema  int     `json:"schema"`
	Date    string  `json:"date"`
	Machine string  `json:"machine"`
	Version string  `json:"version"` // of nats-server
	Seconds float64 `json:"seconds"`
	Rows    []Row   `json:"rows"`
}

// Row is one way to subscribe with one number of subscriptions. CPU is in microseconds, memory in
// bytes; those of routes are for each of the two other nodes.
type Row struct {
	Way       string  `json:"way"`
	Resources int     `json:"resources"`
	Error     string  `json:"error,omitempty"`
	Seconds   float64 `json:"seconds"`  // until each node has all
	CPU       float64 `json:"cpu"`      // for each resource, at the gateways' node
	RouteCPU  float64 `json:"routeCpu"` //
	Heap      float64 `json:"heap"`     // for each resource, garbage not counted
	RouteHeap float64 `json:"routeHeap"`
	RSS       int64   `json:"rss"` // all of the process
	RouteRSS  int64   `json:"routeRss"`

	Churn      float64 `json:"churn"`      // pairs of UNSUB and SUB per second, as fast as it goes; 0: not measured
	ChurnCPU   float64 `json:"churnCpu"`   // for each pair
	ChurnRoute float64 `json:"churnRoute"` //

	Resync  float64 `json:"resync"`  // seconds from when a restarted node takes connections until it has all; -1: not within resyncLimit
	Missing float64 `json:"missing"` // seconds from then to the last event published there that a gateway missed
	Lost    float64 `json:"lost"`    // share of events published there until Resync that were missed
	Copies  float64 `json:"copies"`  // gateways that get an event, on the average

	Hub   int     `json:"hub,omitempty"`   // subscriptions at each node of the hub
	Other int     `json:"other,omitempty"` // subscriptions at another leaf node
	Busy  float64 `json:"busy"`            // cores that were in use, of all programs
}

// Run measures all rows. A row that fails says why, and the others follow.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("the run takes longer than %v: use fewer subscriptions, or a machine that does nothing else", o.Limit))
	defer cancel()
	dir, err := os.MkdirTemp("", "interest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	r := &Result{Schema: Schema, Date: began.UTC().Format(time.DateOnly), Machine: fmt.Sprintf("%d cores", len(proc.Cores()))}
	rows := []Row{{Way: Wildcards, Resources: o.Sizes[0]}}
	for _, way := range []string{Leaf, Same, Edge, Isolated} {
		rows = append(rows, Row{Way: way, Resources: o.Sizes[0]})
	}
	for _, n := range o.Sizes {
		rows = append(rows, Row{Way: Names, Resources: n})
	}
	failed := 0
	for i, row := range rows {
		before, _ := proc.ReadMachine()
		start := time.Now()
		if err := o.measure(ctx, dir, r, &row); err != nil {
			row.Error = err.Error()
			failed++
		}
		if after, err := proc.ReadMachine(); err == nil {
			row.Busy = after.Sub(before).Busy.Seconds() / time.Since(start).Seconds()
		}
		r.Rows = append(r.Rows, row)
		r.Seconds = time.Since(began).Seconds()
		if o.Keep != nil {
			o.Keep(r)
		}
		if o.Say != nil {
			o.Say(fmt.Sprintf("%d of %d: %s, %d resources: %.1f s, %.2f + 2 × %.2f µs and %.0f + 2 × %.0f bytes for each, resync %.2f s %s",
				i+1, len(rows), row.Way, row.Resources, row.Seconds, row.CPU, row.RouteCPU, row.Heap, row.RouteHeap, row.Resync, row.Error))
		}
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
	}
	if failed > 0 {
		return r, errors.New("some rows failed: the table says which, and why")
	}
	return r, nil
}
