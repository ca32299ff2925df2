//go:build linux

package soak

import (
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"
)

// span is when a fault lasted, what it was, and what it explains. The journal owns it.
type span struct {
	kind   string
	detail string
	from   time.Time
	until  time.Time // it was ended by the soak; zero while it lasts
	healed time.Time // everything worked again; zero while it does not

	// What may happen from from to healed.
	loses    bool  // messages on NATS are lost
	gateways []int // whose messages; and of which clients are closed
	services []int // whose messages; nil: all
	codes    []int // with which clients are closed
}

// covers reports whether the span may explain a loss of messages of a service to clients of a
// gateway, published between two times. slack is how late messages were at most.
func (s *span) covers(gateway, service int, from, until time.Time, slack time.Duration) bool {
	if !s.loses || gateway >= 0 && len(s.gateways) > 0 && !slices.Contains(s.gateways, gateway) {
		return false
	}
	if s.services != nil && !slices.Contains(s.services, service) {
		return false
	}
	return until.After(s.from.Add(-slack)) && (s.healed.IsZero() || from.Before(s.healed.Add(slack)))
}

// closing is a connection of a client that the gateway ended.
type closing struct {
	gateway int
	code    int
	opened  time.Time
	closed  time.Time
	who     string
	slow    bool // the client does not always read
}

// gap is a run of custom events that a client did not get.
type gap struct {
	gateway, service int
	count            uint64
	from, until      time.Time // when the events before and after it were published
	who              string
	slow             bool // the client did not read at the time
	late             bool // an event came after a younger one: the run is one event that NATS delivered late
}

// failure texts kept; more are only counted.
const maxFailures = 50

// journal collects what the parts of a soak notice. Its goroutine owns the state below ops; others
// go through do and the methods that use it.
type journal struct {
	began time.Time
	ops   chan func()
	done  chan struct{}

	// Counted by clients without the goroutine.
	messages  atomic.Int64 // that clients folded
	ticks     atomic.Int64 // custom events with a number
	requests  atomic.Int64 // of clients
	errors    atomic.Int64 // responses that were errors
	reloads   atomic.Int64 // reconnects of clients that held an error instead of a resource
	lateness  atomic.Int64 // nanoseconds: the longest way of a custom event to a client
	garbage   atomic.Int64 // connections that sent garbage
	polled    atomic.Int64 // HTTP responses
	connects  atomic.Int64
	unusual   atomic.Int64 // HTTP responses with a status other than 200
	failCount atomic.Int64

	log      io.Writer
	say      func(string)
	failures []string
	spans    []*span
	closes   []closing
	codes    map[string]int // closes by kind of client and code
	gaps     []gap
	repeated int64
}

func newJournal(log io.Writer, say func(string)) *journal {
	j := &journal{began: time.Now(), ops: make(chan func(), 1024), done: make(chan struct{}), log: log, say: say, codes: map[string]int{}}
	go func() {
		defer close(j.done)
		for op := range j.ops {
			op()
		}
	}()
	return j
}

// do runs f on the journal's goroutine and returns when it has run.
func (j *journal) do(f func()) {
	ran := make(chan struct{})
	j.ops <- func() { f(); close(ran) }
	<-ran
}

// close ends the goroutine. Nothing may be reported after it.
func (j *journal) close() {
	close(j.ops)
	<-j.done
}

// seconds is a time as the report shows it.
func (j *journal) seconds(t time.Time) float64 { return t.Sub(j.began).Seconds() }

// note writes a line to the log, and to the terminal.
func (j *journal) note(format string, args ...any) {
	line := fmt.Sprintf("%8.2f %s", time.Since(j.began).Seconds(), fmt.Sprintf(format, args...))
	j.do(func() {
		fmt.Fprintln(j.log, line)
		j.say(line)
	})
}

// fail records something that must not happen.
func (j *journal) fail(format string, args ...any) {
	if j.failCount.Add(1) > maxFailures {
		return
	}
	text := fmt.Sprintf(format, args...)
	at := time.Since(j.began).Seconds()
	j.do(func() {
		j.failures = append(j.failures, text)
		fmt.Fprintf(j.log, "%8.2f FAILED: %s\n", at, text)
		j.say(fmt.Sprintf("%8.2f FAILED: %.300s", at, text))
	})
}

// begin records the start of a fault.
func (j *journal) begin(s *span) *span {
	s.from = time.Now()
	j.note("%s %s", s.kind, s.detail)
	j.do(func() { j.spans = append(j.spans, s) })
	return s
}

// end records that the soak has ended the cause of a fault, heal that all works again.
func (j *journal) end(s *span) { j.do(func() { s.until = time.Now() }) }
func (j *journal) heal(s *span) {
	j.do(func() { s.healed = time.Now() })
	j.note("  %s is over, after %.1f s", s.kind, time.Since(s.from).Seconds())
}

// closed records that the gateway ended a client's connection.
func (j *journal) closed(kind string, c closing) {
	j.do(func() {
		j.codes[fmt.Sprintf("%s %d", kind, c.code)]++
		j.closes = append(j.closes, c)
	})
}

// missed records a gap.
func (j *journal) missed(g gap) { j.do(func() { j.gaps = append(j.gaps, g) }) }

// late records how long a custom event took to a client.
func (j *journal) late(d time.Duration) {
	for {
		old := j.lateness.Load()
		if int64(d) <= old || j.lateness.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}
