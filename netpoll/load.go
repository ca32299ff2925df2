package netpoll

import (
	"sync/atomic"
	"time"

	"sluice/internal/metrics"
)

// LoopMetrics measures what one loop does. The loop writes it, any goroutine may read it.
type LoopMetrics struct {
	Latency metrics.Durations // of events, from Loop.Time's at until the write to the last socket
	Batches metrics.Sizes     // connections per flush

	// busy is how long the loop has not waited, as one word, so that a reader needs no lock. While
	// the loop waits, it is that time. While it works, it is -1-x: then the time is now-x.
	busy atomic.Int64
}

// Busy returns for how long the loop has worked since its start, at the present time of its clock.
func (m *LoopMetrics) Busy(now time.Duration) time.Duration {
	if b := m.busy.Load(); b < 0 {
		return max(now+time.Duration(b)+1, 0)
	} else {
		return time.Duration(b)
	}
}

// waits notes that the loop waits from now on. Loop only, as works is.
func (m *LoopMetrics) waits(now time.Duration) {
	if b := m.busy.Load(); b < 0 {
		m.busy.Store(max(int64(now)+b+1, 0))
	}
}

// works notes that the loop works from now on.
func (m *LoopMetrics) works(now time.Duration) {
	if b := m.busy.Load(); b >= 0 {
		m.busy.Store(-1 - max(int64(now)-b, 0))
	}
}

// Measured returns what each loop measures, by its index. Any goroutine may call it.
func (e *Engine) Measured() []*LoopMetrics {
	all := make([]*LoopMetrics, len(e.loops))
	for i, l := range e.loops {
		all[i] = l.measured
	}
	return all
}

// maxTimed is how many arrival times of events a loop remembers until they are written. Events of
// the same time need one. Beyond it events are not timed, so under load they are a sample.
const maxTimed = 64

// timing is the events that a loop has to write. Owned by the loop.
type timing struct {
	events  [maxTimed]timedEvents // the first n, in the order of their fan-out
	n       int
	settled int // of them, those whose until is set
}

// timedEvents is events with the same time of arrival.
type timedEvents struct {
	at    time.Duration
	n     uint64
	until uint64 // position in the write queue up to which connections may wait for them
}

// Sent returns how many frames the loop has queued in this iteration, for Time.
func (l *Loop) Sent() uint64 { return l.stats.frames }

// Time measures how long an event takes that arrived at the time at of the loop's clock: until all
// output is written that is queued at the end of this iteration. before is the result of Sent
// before its fan-out; if nothing was queued since, the event is not counted. at may be 0: unknown.
func (l *Loop) Time(at time.Duration, before uint64) {
	if at == 0 || l.stats.frames == before {
		return
	}
	t := &l.timing
	if t.n > t.settled && t.events[t.n-1].at == at {
		t.events[t.n-1].n++
		return
	}
	if t.n < maxTimed {
		t.events[t.n] = timedEvents{at: at, n: 1}
		t.n++
	}
}

// written measures the events whose connections have all been written to, or could not be.
func (t *timing) written(l *Loop) {
	q := &l.output.queue
	for ; t.settled < t.n; t.settled++ {
		t.events[t.settled].until = q.pushed
	}
	done := 0
	for done < t.n && t.events[done].until <= q.popped {
		done++
	}
	if done == 0 {
		return
	}
	now := l.clock.Now()
	for _, e := range t.events[:done] {
		l.measured.Latency.Observe(now-e.at, e.n)
	}
	t.n = copy(t.events[:], t.events[done:t.n])
	t.settled = t.n
}
