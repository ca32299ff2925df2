//go:build linux

package judge

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sluice/loadtest/plan"
	"sluice/loadtest/result"
)

// The limits of what counts as the server's figure.
const (
	clientFull = 0.90  // utilisation of the clients' cores: beyond it the clients are late
	serverFull = 0.85  // utilisation of the server's cores: below it, the server was not the limit
	otherLimit = 0.20  // cores used by processes that are no part of the run
	stealLimit = 0.05  // share of all cores' time that the hypervisor took
	lateLimit  = 5_000 // µs: 99th percentile of the harness's own lateness
)

// Cell rejects the figures of c that are not the server's, with the reason for each, or
// marks them as bounds. c must be complete otherwise.
//
// CPU per unit survives saturated clients and a late harness, because the kernel charged
// it to the server. Rates and latencies become bounds then, unless the server itself may
// have delayed the harness. Other programs and a hypervisor that takes time disturb
// caches and clocks, and with them every figure.
func Cell(c *result.Cell, s plan.Scenario) {
	timing := func(why string) {
		c.Reject(result.Latency, why)
		c.Reject(result.Rate, why)
	}
	if c.OtherBusy > otherLimit {
		why := fmt.Sprintf("the machine: other programs used %.1f cores", c.OtherBusy)
		timing(why)
		c.Reject(result.CPU, why)
		c.Reject(result.Sockets, why)
		if c.CPU.Total < 0 && c.Units > 0 {
			c.Notes = append(c.Notes, "a gateway on this machine counts as another program unless its process is known: give its process id (-pid)")
		}
	}
	if c.Dropped > 0 { // TCP sends them again, 200 ms later
		timing(fmt.Sprintf("the machine: it dropped %d packets, because a core's queue of them was full", c.Dropped))
	}
	if c.Memory.SocketCon < -1 {
		c.Reject(result.Sockets, "the machine: the kernel counts all sockets, and other sockets were closed during the measurement")
	}
	if c.Steal > stealLimit {
		why := fmt.Sprintf("the machine: the hypervisor took %.0f%% of the time", c.Steal*100)
		timing(why)
		c.Reject(result.CPU, why)
	}
	if c.ClientBusy > clientFull {
		c.Bound(result.LimitClients)
	}
	switch {
	case c.Late <= lateLimit:
	case c.AtMost || c.ServerBusy < serverFull:
		c.Bound(result.LimitHarness)
	default: // a saturated server may have stopped reading from the harness
		timing(fmt.Sprintf("the harness: it sent events up to %.1f ms late", float64(c.Late)/1000))
	}
	if c.Kind == plan.KindMax && c.Rate > 0 && !c.AtLeast && !saturatedServer(c.Trials) {
		c.Reject(result.Rate, "no trial filled the server's cores")
	}
	losses(c, s)
	if c.Hostile != nil {
		c.Notes = append(c.Notes, attacked(c)...)
	}
	if c.Load != nil {
		c.Notes = append(c.Notes, loaded(c))
	}
	if s.Compression && c.Shrunk == 0 && c.Unit == result.Delivery {
		c.Reject(result.CPU, "the server compressed nothing")
		c.Notes = append(c.Notes, "the server compressed nothing")
	}
	if c.Units > 0 && c.CPU.Total < 0 {
		c.Reject(result.CPU, "the server's process is not known")
	}
}

// losses rejects figures of a cell that lost connections, events or responses.
func losses(c *result.Cell, s plan.Scenario) {
	timing := func(why string) {
		c.Reject(result.Latency, why)
		c.Reject(result.Rate, why)
	}
	if c.Upgrade != nil { // what clients lost is what was measured
		c.Notes = append(c.Notes, upgraded(c.Upgrade)...)
		if c.Message != "" && c.Upgrade.Closed > 0 {
			c.Notes = append(c.Notes, "a client says: "+c.Message)
		}
		return
	}
	if c.Failed > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d connections failed: %s", c.Failed, c.Message))
	}
	if c.Closed > 0 && s.Slow == 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d connections were closed by the server: %s", c.Closed, c.Message))
	}
	if c.Live < c.N && s.Slow == 0 {
		why := fmt.Sprintf("only %d of %d connections were alive at the end", c.Live, c.N)
		timing(why)
		c.Reject(result.CPU, why)
		c.Reject(result.Mem, why)
		c.Reject(result.Sockets, why)
	}
	if c.Lost > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d of %d were lost", c.Lost, c.Expected))
		timing(fmt.Sprintf("%d lost", c.Lost))
	}
	if c.Unsent > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d requests were due and not made, because the window of every client was full", c.Unsent))
		timing("requests could not be made in time")
	}
	if c.Errors > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d responses were errors", c.Errors))
		timing("responses were errors")
	}
}

// saturatedServer reports whether a trial found the server at its limit and the clients
// below theirs.
func saturatedServer(trials []result.Trial) bool {
	for _, t := range trials {
		if t.Busy > serverFull && t.Client < clientFull {
			return true
		}
	}
	return false
}

// Ratio returns the CPU per unit of c as a multiple of base's. ok is false if either is
// not the server's figure, or if the two are of different targets or client counts.
func Ratio(c, base result.Cell) (ratio float64, ok bool) {
	if c.Target != base.Target || c.N != base.N || !c.OK(result.CPU) || !base.OK(result.CPU) || base.CPU.Total <= 0 {
		return 0, false
	}
	return c.CPU.Total / base.CPU.Total, true
}

// loaded says at which load requests were made, and the percentiles that a narrow table leaves out.
func loaded(c *result.Cell) string {
	l := c.Load
	bound := ""
	if l.AtLeast {
		bound = "; the clients were the limit of the highest rate, so the server's load was lower"
	}
	return fmt.Sprintf("%.0f requests/s were due, %g%% of %.0f/s, the highest rate, and kept its core(s) %.0f%% busy: p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms%s",
		l.Offered, l.Percent, l.Highest, c.ServerBusy*100, float64(c.Latency.P50)/1e3, float64(c.Latency.P99)/1e3, float64(c.Latency.P999)/1e3, bound)
}

// attacked says what attackers did to the others, and what became of them.
func attacked(c *result.Cell) []string {
	h := c.Hostile
	ms := func(us int64) string { return fmt.Sprintf("%.1f ms", float64(us)/1e3) }
	var closes []string
	for _, code := range slices.Sorted(maps.Keys(h.Closes)) {
		closes = append(closes, fmt.Sprintf("%d × %d", h.Closes[code], code))
	}
	how := ""
	if len(closes) > 0 {
		how = " (" + strings.Join(closes, ", ") + ")"
	}
	return []string{
		fmt.Sprintf("latency without attackers: p50 %s, p99 %s, max %s; beside %d (%s): p50 %s, p99 %s, max %s; the server's core(s) %.0f%% and %.0f%% busy",
			ms(h.Before.P50), ms(h.Before.P99), ms(h.Before.Max), h.Attackers, h.Attack, ms(c.Latency.P50), ms(c.Latency.P99), ms(c.Latency.Max), h.BusyBefore*100, c.ServerBusy*100),
		fmt.Sprintf("attackers sent %d frames, %.0f MB/s, for %.1f s, and were closed %d times%s; %d of their connects failed", h.Frames, h.Megabytes, h.Seconds, h.Closed, how, h.Failed),
	}
}

// upgraded says what clients noticed of upgrades, and what these cost.
func upgraded(u *result.Upgrade) []string {
	ms := func(us int64) string { return fmt.Sprintf("%.0f ms", float64(us)/1e3) }
	lines := []string{
		fmt.Sprintf("%d upgrades, the longest took %.1f s: %d connections closed; %d events lost, %d repeated; %d requests without a response, %d with an error; of %d new clients %d were refused, %d failed",
			len(u.Spans), u.Longest(), u.Closed, u.Lost, u.Repeated, u.Unanswered, u.Errors, u.Probes, u.Refused, u.Failed),
		fmt.Sprintf("for what clients held the service got %d access and %d get requests", u.Access, u.Gets),
		fmt.Sprintf("pause of a client in an upgrade: p50 %s, p99 %s, max %s; without one p99 %s, max %s", ms(u.Pause.P50), ms(u.Pause.P99), ms(u.Pause.Max), ms(u.Quiet.P99), ms(u.Quiet.Max)),
		fmt.Sprintf("p99 outside and during upgrades: deliveries %s and %s, calls %s and %s, connects %s and %s", ms(u.Deliveries[0].P99), ms(u.Deliveries[1].P99),
			ms(u.Calls[0].P99), ms(u.Calls[1].P99), ms(u.Connects[0].P99), ms(u.Connects[1].P99)),
	}
	if u.Alone > 0 {
		lines = append(lines, fmt.Sprintf("memory of both processes together at most %.2f times one's: %.0f MB and %.0f MB (PSS)", u.MemoryRatio(), float64(u.Both)/1e6, float64(u.Alone)/1e6))
	}
	if u.CPUBefore > 0 {
		lines = append(lines, fmt.Sprintf("CPU per delivery before the first upgrade: %.1f µs", u.CPUBefore))
	}
	return lines
}
