package limit

import (
	"math"
	"time"
)

const (
	start        = 100  // requests in flight before anything is known of a service
	leastShare   = 0.5  // of the limit that one window leaves
	mostShare    = 1.25 // of the limit that one window makes of it, if there is no queue at all
	smoothing    = 0.5  // part of the way to a new limit that one window goes
	leastSamples = 8
	windowMin    = 100 * time.Millisecond // so that a busy machine's delays do not fill it
	windowMax    = time.Second
	probeWindow  = 25 * time.Millisecond // windowMin in a probe
	probeEvery   = 10 * time.Second
	probeSoon    = time.Second // after the limit has halved, and 32 times the latency
	probeMax     = 5 * time.Second
	probeShare   = 8 // the part of the limit that a probe leaves is 1/probeShare
)

// queueing is how long a queue at a service may be: requests take up to tolerance times the base
// latency, and slack more. The limit is raised by growth·√limit in each window to find out whether
// the service takes more.
type queueing struct {
	tolerance, growth float64
	slack             time.Duration
}

var (
	// longQueue is for a service that only requests for connections that come back wait for.
	longQueue = queueing{tolerance: 1.5, growth: 1, slack: time.Millisecond}
	// shortQueue is for a service that receives calls, each of which waits in its queue.
	shortQueue = queueing{tolerance: 1.25, growth: 0.5, slack: time.Millisecond / 4}
)

// control is the algorithm of a service's limit; see the package's comment. One goroutine at a time
// uses it.
type control struct {
	estimate float64
	min, max float64
	base     [Kinds]time.Duration // latency without a queue; 0: unknown
	calm     time.Duration        // when the limit was last not needed, or probed
	trusted  float64              // the estimate at the last probe
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
	n        [Kinds]int
	lowest   [Kinds]time.Duration
	timeouts int
	limited  bool // a request had to wait for a place
	high     int  // most requests in flight
}

func newControl(low, high int) control {
	return control{estimate: float64(min(max(start, low), high)), min: float64(low), max: float64(high), calm: never}
}

// bound changes the bounds of the limit.
func (c *control) bound(low, high int) {
	c.min, c.max = float64(low), float64(high)
	c.estimate = min(max(c.estimate, c.min), c.max)
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
func (c *control) need() int {
	if c.probe != noProbe {
		return max(c.limit(), leastSamples/2) // the service is not busy meanwhile
	}
	return max(c.limit(), leastSamples)
}

// least returns how long a window is, at least.
func (c *control) least() time.Duration {
	if c.probe != noProbe {
		return probeWindow
	}
	return windowMin
}

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
		c.calm, c.trusted = now, c.estimate
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
	queue := longQueue
	if w.n[KindCall]+w.n[KindAuth] > 0 {
		queue = shortQueue
	}
	quiet := !w.limited && w.high*probeShare <= int(c.estimate)
	var sum, weight float64
	var latency time.Duration
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
		sum += float64(n) * min((queue.tolerance*float64(*base)+float64(queue.slack))/float64(max(lowest, 1)), mostShare)
		latency = max(latency, lowest)
		weight += float64(n)
	}
	weight += float64(w.timeouts)
	if measured {
		c.trusted = c.estimate
	}
	if weight == 0 || measured {
		return
	}
	if !w.limited {
		c.calm, c.trusted = now, max(c.trusted, c.estimate)
	}
	next := c.estimate*max(sum/weight, leastShare) + queue.growth*math.Sqrt(c.estimate)
	switch {
	case next > c.estimate && !w.limited:
	case next < c.estimate && float64(w.high) < c.estimate/2:
	default:
		c.estimate = min(max(c.estimate+(next-c.estimate)*smoothing, c.min), c.max)
	}
	every := probeEvery
	if c.estimate <= max(c.trusted/2, c.min) {
		every = min(max(32*latency, probeSoon), every)
	}
	if w.limited && now-c.calm >= every {
		c.probe, c.began = draining, now
	}
}
