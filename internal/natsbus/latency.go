package natsbus

import (
	"bytes"
	"sync/atomic"
	"time"

	"sluice/internal/limit"
	"sluice/internal/metrics"
)

// Result is how a request that was sent has ended.
type Result uint8

// The results. Requests that were not sent, or given up, have none.
const (
	ResultOK           Result = iota // the service replied
	ResultError                      // the service replied with an error
	ResultTimeout                    // no reply in time
	ResultNoResponders               // NATS knows no service that subscribes to the subject
	ResultCut                        // the connection to NATS was lost
	Results
)

func (r Result) String() string {
	return [...]string{"ok", "error", "timeout", "no_responders", "cut"}[r]
}

// latency is the time from sending a request until its end, by kind and result; nil: there was no
// such request. A Caller has one of its own. Its owner writes it, any goroutine reads it.
type latency [limit.Kinds][Results]atomic.Pointer[metrics.Durations]

// of returns the time of a kind of requests with a result. Owner only.
func (l *latency) of(k limit.Kind, r Result) *metrics.Durations {
	d := l[k][r].Load()
	if d == nil {
		d = new(metrics.Durations)
		l[k][r].Store(d)
	}
	return d
}

// callerMetrics is an element of a list to which callers are added at the front.
type callerMetrics struct {
	latency latency
	next    *callerMetrics
}

// addCaller returns the metrics of a new caller. Any goroutine may call it.
func (m *Metrics) addCaller() *callerMetrics {
	c := new(callerMetrics)
	for {
		c.next = m.callers.Load()
		if m.callers.CompareAndSwap(c.next, c) {
			return c
		}
	}
}

// Latency returns the latency of all callers' requests of a kind with a result. Any goroutine may
// call it.
func (m *Metrics) Latency(k limit.Kind, r Result) *metrics.Histogram {
	h := new(metrics.Histogram)
	h.AddDurations(new(metrics.Durations)) // it has the buckets of durations in any case
	for c := m.callers.Load(); c != nil; c = c.next {
		if d := c.latency[k][r].Load(); d != nil {
			h.AddDurations(d)
		}
	}
	return h
}

// callers is the head of the list of callerMetrics.
type callers = atomic.Pointer[callerMetrics]

// measure records how long a request took that has ended.
func (c *Caller) measure(s *slot, r *Reply) {
	if s.stage() == unsent {
		return
	}
	var result Result
	ended := c.now()
	switch r.Err {
	case nil:
		ended = r.at
		if isError(r.Data) {
			result = ResultError
		}
	case ErrNoResponders:
		ended, result = r.at, ResultNoResponders
	case ErrTimeout, ErrDisconnected:
		result = ResultTimeout
	case ErrCut:
		result = ResultCut
	default:
		return
	}
	c.metrics.latency.of(s.kind, result).Observe(ended-time.Duration(s.sentAt.Load()), 1)
}

// errorWithin is in how many bytes of a reply isError looks for an error.
const errorWithin = 1 << 10

// isError reports whether a reply has an error member (RES.md 3.1). It reads only the beginning: in
// front of the error it expects no other members but a short meta, or null.
func isError(b []byte) bool {
	b = b[:min(len(b), errorWithin)]
	b, ok := bytes.CutPrefix(trim(b), []byte("{"))
	for ok {
		var key []byte
		if b, ok = bytes.CutPrefix(trim(b), []byte(`"`)); !ok {
			return false
		}
		if key, b, ok = bytes.Cut(b, []byte(`"`)); !ok {
			return false
		}
		if b, ok = bytes.CutPrefix(trim(b), []byte(":")); !ok {
			return false
		}
		rest, null := bytes.CutPrefix(trim(b), []byte("null"))
		switch {
		case null:
			b = rest
		case string(key) == "error":
			return true
		case string(key) == "meta":
			b = skipObject(trim(b))
		default:
			return false
		}
		b, ok = bytes.CutPrefix(trim(b), []byte(","))
	}
	return false
}

func trim(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

// skipObject returns what follows a JSON object at the beginning of b; nil if it has no end there.
func skipObject(b []byte) []byte {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth <= 0 {
				return b[i+1:]
			}
		}
	}
	return nil
}
