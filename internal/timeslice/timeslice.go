// Package timeslice has long computations leave the processors to event loops. Go preempts a
// goroutine after 10 ms, and looks at sockets only when nothing else can run, or after as long: a
// loop that shares a processor with a computation waits for several such periods until it has read
// an event and handled it. So computations work for half a millisecond at a time and then rest as
// long, and few of them work at a time.
//
// It owns those turns. It never preempts: a computation that does not yield keeps its processor.
package timeslice

import (
	"runtime"
	"time"
)

// Slice is for how long a computation works between two rests.
const Slice = 500 * time.Microsecond

// turns are what computations take in order of arrival: one for every two processors.
var turns = func() chan *turn {
	c := make(chan *turn, max(runtime.GOMAXPROCS(0)/2, 1))
	for range cap(c) {
		c <- &turn{now: sinceStart, sleep: time.Sleep}
	}
	return c
}()

var start = time.Now()

func sinceStart() time.Duration { return time.Since(start) }

// Do waits for a turn and calls work, which calls yield every millisecond or more often: that rests
// when a slice is over. Any goroutine may call Do, but no owner, which it would hold up. Do returns
// when work has returned or panicked.
func Do(work func(yield func())) {
	t := <-turns
	defer func() {
		t.end()
		turns <- t
	}()
	t.begin()
	work(t.yield)
}

// turn is what one computation at a time has. A rest that one owes at its end is the next one's, so
// that many short computations leave as much to others as a long one.
type turn struct {
	now   func() time.Duration
	sleep func(time.Duration)

	began time.Duration // of the work since the last rest; of the end of it between computations
	owed  time.Duration // work before began that no rest has followed
}

func (t *turn) begin() {
	now := t.now()
	t.owed = max(t.owed-(now-t.began), 0) // nothing has worked meanwhile
	t.began = now
	t.yield()
}

func (t *turn) yield() {
	now := t.now()
	worked := t.owed + now - t.began
	if worked < Slice {
		return
	}
	t.sleep(worked)
	t.began, t.owed = t.now(), 0
}

func (t *turn) end() {
	now := t.now()
	t.owed += now - t.began
	t.began = now
}
