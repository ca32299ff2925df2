//go:build linux

package client

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// follow checks the number of an event that is due at a time, and whose bytes after that begin with
// rest. What a client missed counts as late until an event after it has come.
func (c *Conn) follow(due int64, rest []byte) {
	t := c.t
	number, ok := numberOf(rest)
	switch {
	case !ok:
		return
	case number < c.expected:
		t.count.Repeated++
		return
	}
	first := due // of those that it had to wait for
	if missed := number - c.expected; missed > 0 {
		t.count.Missed += missed
		if c.expected > 0 { // they come at equal intervals
			first = c.newest + (due-c.newest)/(missed+1)
		}
	}
	c.pause = max(c.pause, t.now-first)
	c.expected, c.newest = number+1, due
}

// recordPauses records the longest waits of the clients that are ready, and begins to measure anew
// for all clients.
func (t *Thread) recordPauses() {
	for i := range t.conns {
		c := &t.conns[i]
		if c.state == stateReady && c.pause > 0 {
			t.hists[Pause].Record(c.pause)
		}
		c.pause = 0
	}
}

// absence is a client's between two connections.
type absence struct {
	until int64
	slot  int32
}

// absences is a heap by time.
type absences []absence

func (a absences) Len() int           { return len(a) }
func (a absences) Less(i, j int) bool { return a[i].until < a[j].until }
func (a absences) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *absences) Push(x any)        { *a = append(*a, x.(absence)) }
func (a *absences) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// longestWait bounds the wait of a client before it connects again.
const longestWait = 20 * time.Second

// backOff returns how long a client waits before it connects again, after so many attempts that
// failed. share, 0 to 1, spreads the clients over half of the time.
func backOff(first time.Duration, attempts uint8, share float64) time.Duration {
	wait := longestWait
	if attempts < 16 && first < longestWait>>attempts {
		wait = first << attempts
	}
	return time.Duration(float64(wait) * (0.5 + share/2))
}

// comeBack has a client that has no connection connect again later, if the configuration says so.
func (t *Thread) comeBack(c *Conn) {
	if t.cfg.Return <= 0 || c.fd >= 0 {
		return
	}
	wait := backOff(t.cfg.Return, c.attempts, rand.Float64())
	c.attempts = min(c.attempts, 254) + 1
	heap.Push((*absences)(&t.away), absence{until: Now() + int64(wait), slot: c.slot})
}

// connectAgain starts the connects of clients whose wait is over.
func (t *Thread) connectAgain(now int64) {
	for len(t.away) > 0 && t.away[0].until <= now {
		c := &t.conns[heap.Pop((*absences)(&t.away)).(absence).slot]
		if c.fd < 0 {
			t.dial(c, now)
		}
	}
}
