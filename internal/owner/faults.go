package owner

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"sluice/internal/invariants"
	"sluice/internal/loglimit"
)

// Part is what a contained panic happened in.
type Part uint8

// The parts of a gateway that have goroutines.
const (
	Loop       Part = iota // an event loop
	Shard                  // a cache shard
	Dispatcher             // of a NATS connection
	Publisher              // of a NATS connection
	Handshake              // a worker for TLS handshakes
	Encoder                // of long HTTP responses
	HTTP                   // a request or a connection at net/http
	Alarms                 // what a clock calls
	Verifier               // a worker for clients' tokens, or a fetch of their keys
	Exporter               // of spans
	Parts                  // how many there are
)

func (p Part) String() string {
	return [Parts]string{"loop", "shard", "dispatcher", "publisher", "handshake", "encoder", "http", "alarm", "verifier", "exporter"}[p]
}

// faultsEvery is how often panics of one part are logged. All are counted.
const faultsEvery = 10 * time.Second

// Faults counts and logs panics that were contained: the process goes on, what
// the panic left in doubt is closed or fetched again. Builds with assertions die
// instead, see Containing. Any goroutine may use it.
type Faults struct {
	clock Clock
	log   *slog.Logger
	parts [Parts]struct {
		count atomic.Uint64
		log   loglimit.Limiter
	}
}

// NewFaults returns Faults that log to log.
func NewFaults(clock Clock, log *slog.Logger) *Faults { return &Faults{clock: clock, log: log} }

// Containing reports whether panics are contained. A deferred function that
// recovers asks first; it is not so in builds with assertions, whose panics tests
// are to see.
const Containing = !invariants.Enabled

// Note notes a panic that was contained: value is what recover returned. It is to
// be called by the deferred function that recovered, while the stack is there.
// On a nil Faults it does nothing.
func (f *Faults) Note(p Part, value any, attrs ...any) {
	if f == nil {
		return
	}
	s := &f.parts[p]
	s.count.Add(1)
	suppressed, ok := s.log.Allow(f.clock.Now(), faultsEvery)
	if !ok {
		return // before the stack is written out
	}
	f.log.Error("panic contained; please report it with the stack",
		append([]any{"in", p.String(), "panic", fmt.Sprint(value), "suppressed", suppressed, "stack", string(debug.Stack())}, attrs...)...)
}

// Contain is deferred by work that must not end its goroutine: it recovers from a
// panic of that and notes it. On a nil Faults it only recovers.
func (f *Faults) Contain(p Part, attrs ...any) {
	if !Containing {
		return
	}
	if value := recover(); value != nil {
		f.Note(p, value, attrs...)
	}
}

// Count returns how many panics of a part were contained.
func (f *Faults) Count(p Part) uint64 { return f.parts[p].count.Load() }
