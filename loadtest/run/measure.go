//go:build linux

package run

import (
	"context"
	"fmt"
	"os"
	"time"

	"sluice/loadtest/client"
	"sluice/loadtest/hist"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
)

// usage is the CPU time used by all parts of a run up to a moment.
type usage struct {
	at      int64 // client.Now
	server  proc.Usage
	known   bool // reports whether server was read
	nats    time.Duration
	clients time.Duration // client processes, and the harness
	machine proc.Machine
	dropped int64          // packets
	cores   proc.CoreUsage // of the clients, if packets arrive there
}

// usage reads what all parts of the run have used so far.
func (st *stage) usage() usage {
	u := usage{at: client.Now()}
	u.server, u.known = st.serverUsage()
	cpu := func(pid int) time.Duration {
		s, err := proc.ReadUsage(pid)
		if err != nil {
			return 0
		}
		return s.CPU
	}
	if st.nats != nil {
		u.nats = cpu(st.nats.PID())
	}
	for _, pid := range st.workers {
		u.clients += cpu(pid)
	}
	u.clients += cpu(os.Getpid())
	u.machine, _ = proc.ReadMachine() // zeros reject no figure
	u.dropped, _ = proc.DroppedPackets()
	if st.run.options.Steered {
		u.cores, _ = proc.ReadCores(st.run.plan.ClientCores)
	}
	return u
}

// measurement computes a cell's figures. It samples the clients and the server from
// measure to finish.
type measurement struct {
	st     *stage
	cell   *result.Cell
	start  int64 // client.Now: the first due time
	begin  usage
	kinds  []client.Kind         // whose latencies are the cell's
	hists  map[string]*hist.Hist // by kind
	all    *hist.Hist            // of kinds, together
	last   client.Counters       // the last sample
	done   int64                 // client.Now of the sample that was complete; 0: not yet
	length time.Duration         // expected, for the interval of points and the progress line
	dense  bool                  // points are as close as those of a short measurement

	// The series' next point: what the clients and the server had done at the last one, and
	// the latencies since.
	point struct {
		at    int64
		units int64
		cpu   time.Duration
		hist  *hist.Hist
	}
}

const (
	pointEvery = 500 * time.Millisecond
	pollEvery  = 50 * time.Millisecond
	drainEvery = 10 * time.Millisecond
	quietLimit = 3 * time.Second // without a delivery: the rest is lost
	drainLimit = 60 * time.Second
)

// measure begins a measurement. unit is what the cell counts; kinds are the latencies that
// it reports.
func (st *stage) measure(c *result.Cell, start int64, unit string, kinds ...client.Kind) *measurement {
	c.Unit, c.N = unit, st.layout.n
	m := &measurement{st: st, cell: c, start: start, begin: st.usage(), kinds: kinds, hists: map[string]*hist.Hist{}, all: hist.New()}
	m.point.at, m.point.cpu, m.point.hist = start, m.begin.server.CPU, hist.New()
	return m
}

// units returns how many units the clients have completed.
func (m *measurement) units(c client.Counters) int64 {
	switch m.cell.Unit {
	case result.Connection:
		return int64(c.Ready)
	case result.Request:
		return c.Answers
	case result.Page:
		return c.Answers / 2
	}
	return c.Deliveries
}

// poll takes a sample of the clients, and adds a point to the series if one is due.
func (m *measurement) poll() error {
	s, err := m.st.clients.Sample(false)
	if err == nil {
		m.add(s)
	}
	return err
}

// add adds a sample of the clients, and a point to the series if one is due.
func (m *measurement) add(s client.Sample) {
	m.last = s.Count
	for kind, sparse := range s.Hists {
		if m.hists[kind] == nil {
			m.hists[kind] = hist.New()
		}
		m.hists[kind].Add(sparse)
	}
	for _, k := range m.kinds {
		m.all.Add(s.Hists[k.String()])
		m.point.hist.Add(s.Hists[k.String()])
	}
	now := client.Now()
	if took := time.Duration(now - m.point.at); took >= m.pointEvery() {
		m.addPoint(now, took)
	}
}

// pointEvery returns the time between two points. A short measurement has ten as well.
func (m *measurement) pointEvery() time.Duration {
	switch {
	case m.dense:
		return pointEvery / 5
	case m.length == 0:
		return pointEvery
	}
	return min(max(m.length/10, pointEvery/5), pointEvery)
}

func (m *measurement) addPoint(now int64, took time.Duration) {
	units, q := m.units(m.last), m.point.hist.Summary()
	p := result.Point{
		T:    result.Round(float64(now-m.start)/1e9, 3),
		Rate: result.Round(float64(units-m.point.units)/took.Seconds(), 1),
		P50:  q.P50, P99: q.P99, Max: q.Max,
		CPU: -1, RSS: m.st.memory().RSS, Live: m.last.Ready,
	}
	if u, known := m.st.serverUsage(); known {
		p.CPU = result.Round(float64(u.CPU-m.point.cpu)/float64(took), 3)
		m.point.cpu = u.CPU
	}
	m.cell.Series = append(m.cell.Series, p)
	m.point.at, m.point.units = now, units
	m.point.hist.Reset()
	m.st.run.progress(m, p)
}

// until polls until a time.
func (m *measurement) until(ctx context.Context, end time.Time) error {
	return m.every(ctx, pollEvery, end, func(client.Counters) bool { return false })
}

// every polls at an interval until ok reports that the measurement is complete, or until
// the limit, which is no error. It returns an error if a part of the stage has ended.
func (m *measurement) every(ctx context.Context, interval time.Duration, limit time.Time, ok func(client.Counters) bool) error {
	for {
		if err := m.poll(); err != nil {
			return err
		}
		if ok(m.last) {
			m.done = client.Now()
			return nil
		}
		now := time.Now()
		if now.After(limit) {
			return nil
		}
		if err := m.st.failure(); err != nil {
			return err
		}
		if m.cell.Unit != result.Connection && m.last.Ready == 0 && m.last.Closed > 0 {
			return fmt.Errorf("all connections were lost: %s", m.last.LastError)
		}
		if err := pause(ctx, min(interval, limit.Sub(now)+time.Millisecond)); err != nil {
			return err
		}
	}
}

// drain waits until all expected units are complete, or until none was for quietLimit.
func (m *measurement) drain(ctx context.Context, expected int64) error {
	lastUnits, since := int64(-1), time.Now()
	return m.every(ctx, drainEvery, time.Now().Add(drainLimit), func(c client.Counters) bool {
		units := m.units(c)
		if units != lastUnits {
			lastUnits, since = units, time.Now()
		}
		return units >= expected || time.Since(since) > quietLimit
	})
}

// finish computes the cell's figures from the samples since the measurement began.
func (m *measurement) finish(expected, units int64) {
	c, st := m.cell, m.st
	end := st.usage()
	until := m.done
	if until == 0 || until > end.at {
		until = end.at
	}
	wall := time.Duration(end.at - m.begin.at)
	c.Expected, c.Units, c.Lost = expected, units, max(expected-units, 0)
	c.Seconds = result.Round(float64(until-m.start)/1e9, 4)
	c.Rate = result.Round(float64(units)/max(c.Seconds, 1e-9), 1)
	c.Latency, c.Hist = m.all.Summary(), m.all.Sparse().Coarse(0.02)
	if len(m.hists) > 1 {
		c.Kinds = map[string]hist.Summary{}
		for k, h := range m.hists {
			c.Kinds[k] = h.Summary()
		}
	}
	c.Live, c.Closed, c.Failed, c.Errors, c.Message = m.last.Ready, m.last.Closed, m.last.Failed, m.last.Errors, m.last.LastError
	c.Shrunk = m.last.Compressed

	per := func(v float64) float64 {
		if units == 0 || v < 0 {
			return -1
		}
		return result.Round(v/float64(units), 4)
	}
	micros := func(d time.Duration) float64 { return float64(d) / 1e3 }
	c.CPU, c.Switches, c.Writes = result.Cost{Total: -1, User: -1, Sys: -1}, -1, -1
	used := end.server.Sub(m.begin.server)
	if end.known && m.begin.known {
		c.CPU = result.Cost{Total: per(micros(used.CPU)), User: -1, Sys: -1}
		if used.User+used.Sys > 0 || used.CPU == 0 { // else too short for the ticks that split it
			c.CPU.User, c.CPU.Sys = per(micros(used.User)), per(micros(used.Sys))
		}
		c.Switches, c.Writes = per(float64(used.Switches)), per(float64(used.Writes))
		c.ServerBusy = st.busy(used.CPU, wall, st.run.plan.ServerCores)
	}
	c.Bytes = per(float64(m.last.Bytes))
	nats, clients := end.nats-m.begin.nats, end.clients-m.begin.clients
	machine := end.machine.Sub(m.begin.machine)
	c.Dropped = end.dropped - m.begin.dropped
	ours := nats + clients
	if end.known {
		ours += used.CPU
	}
	if st.run.options.Steered {
		// Packets arrive there in any process, or in none. So what the cores did without NATS
		// counts as the clients'. Of other programs' time as much is overlooked as packets took in
		// clients.
		cores := end.cores.Sub(m.begin.cores)
		clients = max(clients, cores.Busy-nats)
		ours += cores.SoftIRQs
	}
	c.NATS, c.Client = per(micros(nats)), per(micros(clients))
	c.ClientBusy = st.busy(nats+clients, wall, st.run.plan.ClientCores)
	c.OtherBusy = result.Round(max(float64(machine.Busy-ours)/float64(wall), 0), 3)
	if all := machine.Busy + machine.Idle + machine.Steal; all > 0 {
		c.Steal = result.Round(float64(machine.Steal)/float64(all), 4)
	}
	m.fillMemory()
}

// busy returns the utilisation of cores by CPU time, 0 to 1. No cores means all of them.
func (st *stage) busy(cpu, wall time.Duration, cores []int) float64 {
	n := len(cores)
	if n == 0 {
		n = st.run.report.Machine.Cores
	}
	return result.Round(float64(cpu)/float64(wall)/float64(max(n, 1)), 3)
}

// fillMemory computes the cell's memory figures.
func (m *measurement) fillMemory() {
	st, now := m.st, m.st.memory()
	mem := result.Memory{Before: st.empty.RSS, RSS: now.RSS, PSS: now.PSS, PerConn: -1, PSSConn: -1, SocketCon: -1}
	if n := float64(m.last.Ready); n > 0 {
		if now.RSS >= 0 && st.empty.RSS >= 0 {
			mem.PerConn = result.Round(float64(now.RSS-st.empty.RSS)/n, 1)
		}
		if now.PSS >= 0 && st.empty.PSS >= 0 {
			mem.PSSConn = result.Round(float64(now.PSS-st.empty.PSS)/n, 1)
		}
		if s := proc.SocketMemory(); s >= 0 && st.emptySock >= 0 {
			mem.SocketCon = result.Round(float64(s-st.emptySock)/n, 1)
		}
	}
	m.cell.Memory = mem
}

// pause waits for d. If ctx is done before, it returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
