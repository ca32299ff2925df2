//go:build linux

package soak

import (
	"fmt"
	"time"
)

// Result is what happened in a soak.
type Result struct {
	Options  Options
	Date     time.Time
	Seconds  float64
	Failures []string // what went wrong, some of it if it is much
	Lost     losses
	Stated   int   // times that a gateway lost NATS without a fault, by its log
	Repeated int64 // custom events that came twice
	Calls    int64 // that the services executed since their last start
	Memory   []memoryLine
	Leaks    []leakLine

	failed  int // all failures
	samples []sample
	journal *journal // ended
}

// memoryLine is a gateway's memory at the checkpoint and at the end.
type memoryLine struct {
	gateway  string
	was, now footprint
}

// leakLine is what a gateway had left at some time, and what it began with.
type leakLine struct {
	gateway, when string
	base, now     footprint
}

// OK reports whether the gateway did nothing wrong.
func (r *Result) OK() bool { return r.failed == 0 }

// Verdict says in a line how the soak ended.
func (r *Result) Verdict() string {
	if r.OK() {
		return "passed: all clients were exact, nothing was lost without a reason, nothing came twice"
	}
	return fmt.Sprintf("FAILED in %d ways", r.failed)
}
