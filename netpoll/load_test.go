package netpoll

import (
	"testing"
	"time"

	"sluice/internal/metrics"
	"sluice/internal/owner"
)

// The time in which a loop waits does not count as busy, also while the wait lasts.
func TestBusy(t *testing.T) {
	var m LoopMetrics
	is := func(now, want time.Duration) {
		t.Helper()
		if got := m.Busy(now); got != want {
			t.Errorf("at %d busy for %d, want %d", now, got, want)
		}
	}
	is(5, 0) // not started
	m.waits(6)
	is(7, 0)
	m.works(10)
	is(10, 0)
	is(15, 5)
	m.works(16) // it works already
	is(20, 10)
	m.waits(30)
	is(30, 20)
	is(1000, 20)
	m.waits(1001)
	m.works(1100)
	m.waits(1101)
	is(1<<40, 21)
	m.works(0) // a clock that goes back changes nothing by more than that
	is(0, 0)
}

func latencyOf(l *Loop) (n uint64, sum time.Duration) {
	var h metrics.Histogram
	h.AddDurations(&l.measured.Latency)
	return h.Count(), time.Duration(h.Sum()*1e9 + 0.5)
}

// Events are timed until the last of the connections that were queued with them is written to.
func TestEventLatency(t *testing.T) {
	l := looseLoop(t, 1<<20)
	l.output.flusher = acceptAllFlusher{}
	clock := l.clock.(*owner.ManualClock)
	start := clock.Now()
	send := func(conns []*Conn, at time.Duration) {
		before := l.Sent()
		for _, c := range conns {
			c.Send([]byte("x"))
		}
		if at > 0 {
			at += start - time.Second
		}
		l.Time(at, before)
	}
	conns := make([]*Conn, directMax+queueBatch)
	for i := range conns {
		conns[i] = looseConn(l, -1)
	}
	is := func(wantN uint64, wantSum time.Duration) {
		t.Helper()
		if n, sum := latencyOf(l); n != wantN || sum != wantSum {
			t.Errorf("%d events, %v in all; want %d, %v", n, sum, wantN, wantSum)
		}
	}
	send(conns[:1], time.Second)
	send(conns[:1], time.Second)
	send(nil, time.Second) // without subscribers
	send(conns[:1], 0)     // unknown
	send(conns[:2], 900*time.Millisecond)
	clock.Advance(time.Second)
	l.end()
	is(3, 3100*time.Millisecond)

	l.begin()
	send(conns, 2*time.Second) // more than one iteration writes
	l.end()
	is(3, 3100*time.Millisecond)
	clock.Advance(time.Second)
	for l.begin(); l.output.queue.len() > 0; l.begin() {
		l.end()
	}
	is(4, 4100*time.Millisecond)

	l.end()
	l.begin()
	for i := range 2 * maxTimed { // more than are remembered
		send(conns[:1], time.Duration(i+1))
	}
	l.end()
	if n, _ := latencyOf(l); n != 4+maxTimed {
		t.Errorf("%d events are timed, want %d more", n, maxTimed)
	}
	if l.timing.n != 0 {
		t.Errorf("%d are left", l.timing.n)
	}
}

func TestFlushBatches(t *testing.T) {
	l := looseLoop(t, 1<<20)
	l.output.flusher = acceptAllFlusher{}
	for range 3 {
		looseConn(l, -1).Send([]byte("x"))
	}
	l.end()
	var h metrics.Histogram
	h.AddSizes(&l.measured.Batches)
	if h.Count() != 1 || h.Sum() != 3 {
		t.Errorf("%d flushes to %v connections, want 1 to 3", h.Count(), h.Sum())
	}
}

func TestTimeAlloc(t *testing.T) {
	l := looseLoop(t, 1<<20)
	l.output.flusher = acceptAllFlusher{}
	c := looseConn(l, -1)
	frame := []byte("x")
	clock := l.clock.(*owner.ManualClock)
	clock.Advance(1)
	n := testing.AllocsPerRun(200, func() {
		l.begin()
		before := l.Sent()
		c.Send(frame)
		l.Time(1, before)
		l.measured.works(1)
		l.measured.waits(1)
		l.end()
	})
	if n != 0 && !raceEnabled {
		t.Errorf("%v allocations per iteration", n)
	}
}
