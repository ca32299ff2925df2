//go:build linux

package loadtest

import "fmt"

// The limits of what passes as the server's figure.
const (
	clientFull = 0.90  // part of the clients' cores: beyond it they are late themselves
	serverFull = 0.85  // part of the server's cores: below it, it was not the limit
	otherLimit = 0.20  // cores busy with what is no part of the run
	stealLimit = 0.05  // part of all cores' time taken by the hypervisor
	lateLimit  = 5_000 // µs: 99th percentile of the harness's own lateness
)

// judge refuses the figures that are not the server's, and says why. It is
// called with a cell that is otherwise complete.
//
// CPU per unit survives full clients and a late harness, because it is what the
// kernel charged the server; rates and latencies become bounds, unless it may be
// the server that kept the harness waiting. Other programs and a hypervisor that
// takes time spoil caches and clocks, and with them everything.
func (c *Cell) judge(s Scenario) {
	both := func(why string) {
		c.refuse("latency", why)
		c.refuse("rate", why)
	}
	if c.OtherBusy > otherLimit {
		why := fmt.Sprintf("the machine: other programs used %.1f cores", c.OtherBusy)
		both(why)
		c.refuse("cpu", why)
		c.refuse("sockets", why)
		if c.CPU.Total < 0 && c.Units > 0 {
			c.Notes = append(c.Notes, "the gateway itself counts as another program if it runs on this machine: name its process (-pid)")
		}
	}
	if c.Memory.SocketCon < -1 {
		c.refuse("sockets", "the machine: the kernel counts all sockets, and others were closed meanwhile")
	}
	if c.Steal > stealLimit {
		why := fmt.Sprintf("the machine: the hypervisor took %.0f%% of the time", c.Steal*100)
		both(why)
		c.refuse("cpu", why)
	}
	if c.ClientBusy > clientFull {
		c.bound("clients")
	}
	switch {
	case c.Late <= lateLimit:
	case c.AtMost || c.ServerBusy < serverFull:
		c.bound("harness")
	default: // perhaps because a full server did not read
		both(fmt.Sprintf("the harness: it sent events up to %.1f ms late", float64(c.Late)/1000))
	}
	if c.Kind == KindMax && c.Rate > 0 && !c.AtLeast && !c.sawServerFull() {
		c.refuse("rate", "no trial filled the server's cores")
	}
	if c.Failed > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d connections failed: %s", c.Failed, c.Message))
	}
	if c.Closed > 0 && s.Slow == 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d connections were closed by the server: %s", c.Closed, c.Message))
	}
	if c.Live < c.N && s.Slow == 0 {
		why := fmt.Sprintf("only %d of %d connections were alive at the end", c.Live, c.N)
		both(why)
		c.refuse("cpu", why)
		c.refuse("memory", why)
		c.refuse("sockets", why)
	}
	if c.Lost > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d of %d were lost", c.Lost, c.Expected))
		both(fmt.Sprintf("%d lost", c.Lost))
	}
	if c.Unsent > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d requests were due and not made, because all clients waited for answers", c.Unsent))
		both("requests could not be made in time")
	}
	if c.Errors > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d answers were errors", c.Errors))
		both("answers were errors")
	}
	if s.Compression && c.Shrunk == 0 && c.Unit == "delivery" {
		c.refuse("cpu", "the server compressed nothing")
		c.Notes = append(c.Notes, "the server compressed nothing")
	}
	if c.Units > 0 && c.CPU.Total < 0 {
		c.refuse("cpu", "the server's process is not known")
	}
}

// bound notes that the clients or the harness were the limit. They can only
// lower the rate and add to the latencies, which count from when an event or a
// request was due until a client has read what it led to.
func (c *Cell) bound(limit string) {
	if !c.AtMost {
		c.AtLeast, c.AtMost, c.Limit = true, true, limit
	}
}

// sawServerFull is true if any trial showed the server at its limit, and the
// clients not.
func (c *Cell) sawServerFull() bool {
	for _, t := range c.Trials {
		if t.Busy > serverFull && t.Client < clientFull {
			return true
		}
	}
	return false
}
