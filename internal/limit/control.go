package limit

import (
	"math"
	"time"
)

const (
	start        = 100 // requests in flight before anything is known of a service
	tolerance    = 2   // times the base latency that is no queue
	slack        = time.Millisecond
	leastShare   = 0.5 // of the limit that one window leaves
	smoothing    = 0.5 // part of the way to a new limit that one window goes
	leastSamples = 8
	windowMax    = time.Second
	probeEvery   = 10 * time.Second
	probeMax     = 5 * time.Second
	probeShare   = 4 // the part of the limit that a probe leaves is 1/probeShare
)

// control is the algorithm of a service's limit; see the package's comment. One goroutine at a time
// uses it.
type control struct {
	estimate float64
	min, max float64
	base     [kinds]time.Duration // latency without a queue; 0: unknown
	calm     time.Duration        // when the limit was last not needed, or probed
	probe    probe
	began    time.Duration // the probe
}

// probe is the state of a probe.
type probe uint8

const (
	noProbe   probe = iota
	draining        // too many requests are in flight
	settling        // the replies awaited are still those of requests that met a queue
	measuring       // the window's lowest latencies are those without a queue
)

// totals is what happened in a window.
type totals struct {
	n        [kinds]int
	lowest   [kinds]time.Duration
	timeouts int
	limited  bool // a request had to wait for a place
	high     int  // most requests in flight
}

func newControl(low, high int) control {
	return control{estimate: float64(min(max(start, low), high)), min: float64(low), max: float64(high), calm: never}
}

const never time.Duration = -1

// limit returns how many requests may be in flight.
func (c *control) limit() int {
	if c.probe != noProbe {
		return max(int(c.estimate)/probeShare, 1)
	}
	return int(c.estimate)
}

// need returns after how many replies a window ends.
func (c *control) need() int { return max(c.limit(), leastSamples) }

// drained advances a probe that waits for the requests in flight.
func (c *control) drained(inFlight int) (done bool) {
	if c.probe != draining || inFlight > c.limit() {
		return false
	}
	c.probe = settling
	return true
}

// close ends a window.
func (c *control) close(now time.Duration, w *totals) {
	if c.calm == never {
		c.calm = now
	}
	measured := false
	switch c.probe {
	case draining, settling:
		if now-c.began < probeMax {
			if c.probe == settling {
				c.probe = measuring
			}
			return
		}
		c.probe, c.calm = noProbe, now
	case measuring:
		measured = true
		c.probe, c.calm = noProbe, now
	}
	quiet := !w.limited && w.high*probeShare <= int(c.estimate)
	var sum, weight float64
	for k, n := range w.n {
		if n == 0 {
			continue
		}
		lowest, base := w.lowest[k], &c.base[k]
		switch {
		case *base == 0 || measured:
			*base = lowest
		case lowest < *base:
			*base -= (*base - lowest) / 2 // one lucky reply is not believed
		case quiet:
			*base += (lowest - *base) / 4
		}
		sum += float64(n) * min(float64(tolerance**base+slack)/float64(max(lowest, 1)), 1)
		weight += float64(n)
	}
	weight += float64(w.timeouts)
	if weight == 0 || measured {
		return
	}
	if !w.limited {
		c.calm = now
	}
	next := c.estimate*max(sum/weight, leastShare) + math.Sqrt(c.estimate)
	switch {
	case next > c.estimate && !w.limited:
	case next < c.estimate && float64(w.high) < c.estimate/2:
	default:
		c.estimate = min(max(c.estimate+(next-c.estimate)*smoothing, c.min), c.max)
	}
	if w.limited && now-c.calm >= probeEvery {
		c.probe, c.began = draining, now
	}
}
