//go:build linux

package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/loadtest/client"
	"sluice/loadtest/hist"
	"sluice/loadtest/plan"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
	"sluice/loadtest/service"
)

const (
	upgradeLimit = 2 * time.Minute        // for an upgrade, until all clients are there
	pauseAfter   = 500 * time.Millisecond // after it: the pauses of clients end with the next event
)

// company is clients beside those of the stage, in this process.
type company struct {
	engine *client.Engine
	count  int
	subs   []int  // subscribers of each topic
	kind   string // of load; "": they only receive
	last   client.Counters
	begun  client.Load
}

// window is what clients and servers did in a part of the measurement.
type window struct {
	hists map[string]*hist.Hist // latencies by kind
	peak  proc.Memory           // of all processes of the server together
}

func newWindow() *window {
	return &window{hists: map[string]*hist.Hist{}, peak: proc.Memory{RSS: -1, PSS: -1}}
}

// add adds latencies.
func (w *window) add(kind string, s hist.Sparse) {
	if w.hists[kind] == nil {
		w.hists[kind] = hist.New()
	}
	w.hists[kind].Add(s)
}

func (w *window) summary(kind client.Kind) hist.Summary {
	if h := w.hists[kind.String()]; h != nil {
		return h.Summary()
	}
	return hist.Summary{}
}

// upgrading is the measurement of upgrades.
type upgrading struct {
	st      *stage
	m       *measurement
	company []*company
	outside *window
	during  *window
	probe   *probe
	out     *result.Upgrade
	waited  *hist.Hist // the pauses of clients in upgrades
	ratio   float64    // the highest of both processes' memory to one's
}

// upgrade has other processes take the server's place, one after the other, while clients get
// events, make requests and connect.
func (st *stage) upgrade(ctx context.Context, s plan.Scenario, c *result.Cell) (err error) {
	w, ok := st.service.(worker)
	if !ok || st.server == nil {
		return fmt.Errorf("%s cannot be upgraded: it was not started here, or its service does not count requests", st.target.Name)
	}
	u := &upgrading{st: st, outside: newWindow(), during: newWindow(), out: new(result.Upgrade), waited: hist.New()}
	defer func() {
		for _, one := range u.company {
			err = errors.Join(err, one.engine.Close())
		}
	}()
	if err := u.invite(ctx, s); err != nil {
		return err
	}
	w.Begin(service.Work{Workers: 1}) // they count
	defer w.End()

	start := client.Now() + int64(leadIn)
	if err := st.clients.Begin(start); err != nil {
		return err
	}
	u.m = st.measure(c, start, result.Delivery, client.Delivery)
	u.m.dense = true
	until := start + int64(endless)
	for _, one := range u.company {
		if err := one.begin(start, s.Rate, until); err != nil {
			return err
		}
	}
	events := s
	events.Rate = 0
	sender := st.send(newPacer(start, events.EventRate(st.layout.n), 1, int64(endless)), s)
	stopped := false
	stop := func() {
		if !stopped {
			close(sender.stop)
			<-sender.done
			stopped = true
		}
	}
	defer stop()
	if u.probe, err = startProbe(st.config); err != nil {
		return err
	}
	defer u.probe.end()

	if err := u.before(ctx, s.Duration); err != nil {
		return err
	}
	before := w.(asked).Asked()
	for i := range s.Upgrades {
		st.run.say("%s: %s: upgrade %d of %d", st.target.Name, s.Name, i+1, s.Upgrades)
		if err := u.once(ctx); err != nil {
			return fmt.Errorf("upgrade %d of %d: %w", i+1, s.Upgrades, err)
		}
		if err := u.watch(ctx, u.outside, s.Settle, nil); err != nil {
			return err
		}
	}
	for _, one := range u.company {
		if err := one.end(); err != nil {
			return err
		}
	}
	stop()
	if sender.err != nil {
		return fmt.Errorf("send events: %w", sender.err)
	}
	after := w.(asked).Asked()
	u.out.Access, u.out.Gets = after.Topics.Access-before.Topics.Access, after.Topics.Gets-before.Topics.Gets
	c.Events, c.Late = int64(sender.sent), sender.late
	return u.finish(ctx, s, c, sender.sent)
}

// asked is a service that counts requests.
type asked interface{ Asked() service.Worked }

// invite connects the clients beside those of the stage.
func (u *upgrading) invite(ctx context.Context, s plan.Scenario) error {
	first := u.st.layout.n
	join := func(count int, kind string, change func(*client.Config)) error {
		if count == 0 {
			return nil
		}
		cfg := u.st.config
		cfg.First, cfg.Count, cfg.PerClient, cfg.Inflight, cfg.ConnectRate, cfg.Threads = first, count, 1, count, 0, 1
		change(&cfg)
		first += count
		e, err := u.st.startEngine(ctx, cfg)
		if err != nil {
			return fmt.Errorf("clients beside the others: %w", err)
		}
		u.company = append(u.company, &company{engine: e, count: count, subs: cfg.Subscribers(count), kind: kind})
		return nil
	}
	kind := "churn"
	if u.st.target.Protocol != client.ProtocolRES {
		kind = client.Call.String()
	}
	// The callers hold the topic that they call, so no call needs an access request.
	err := join(s.Callers, kind, func(cfg *client.Config) { cfg.Topics = 1 })
	if err == nil {
		err = join(s.Streams, "", func(cfg *client.Config) { cfg.Streams = apiOf(u.st.target) })
	}
	if err == nil {
		// Not of a topic: GET requests have an access request each.
		err = join(s.Getters, client.Get.String(), func(cfg *client.Config) {
			cfg.HTTP, cfg.HTTPTarget, cfg.Numbered = true, apiOf(u.st.target)+"load/l0", false
		})
	}
	return err
}

// begin begins the phase of the clients, and their requests.
func (c *company) begin(at int64, rate float64, until int64) error {
	if err := c.engine.Begin(at); err != nil || c.kind == "" {
		return err
	}
	c.begun = client.Load{Kind: c.kind, Rate: rate, Window: 4, Until: until}
	return c.engine.Load(c.begun)
}

// end ends the requests of the clients.
func (c *company) end() error {
	if c.kind == "" {
		return nil
	}
	c.begun.Until = client.Now()
	return c.engine.Load(c.begun)
}

// poll samples everything, into a window. pauses are the longest waits of the clients since they
// were asked for the last time, nil if they are not asked for.
func (u *upgrading) poll(w *window, pauses *hist.Hist) error {
	s, err := u.st.clients.Sample(pauses != nil)
	if err != nil {
		return err
	}
	take := func(s client.Sample) {
		if pauses != nil {
			pauses.Add(s.Hists[client.Pause.String()])
		}
		delete(s.Hists, client.Pause.String())
		for kind, h := range s.Hists {
			w.add(kind, h)
		}
	}
	take(s)
	u.m.add(s)
	for _, one := range u.company {
		s, err := one.engine.Sample(pauses != nil)
		if err != nil {
			return err
		}
		one.last = s.Count
		delete(s.Hists, client.Delivery.String()) // latencies of deliveries are those of the WebSockets
		take(s)
	}
	if u.probe != nil {
		w.add(client.Connect.String(), u.probe.take())
	}
	if m := u.st.memory(); m.PSS > w.peak.PSS || m.RSS > w.peak.RSS {
		w.peak = proc.Memory{RSS: max(w.peak.RSS, m.RSS), PSS: max(w.peak.PSS, m.PSS)}
	}
	return nil
}

// watch polls until done says so, which must be within the limit; without done for all of it.
func (u *upgrading) watch(ctx context.Context, w *window, limit time.Duration, done func() (bool, error)) error {
	for end := time.Now().Add(limit); ; {
		if err := u.poll(w, nil); err != nil {
			return err
		}
		if done != nil {
			if ok, err := done(); ok || err != nil {
				return err
			}
		} else if err := u.st.failure(); err != nil {
			return err
		}
		left := time.Until(end)
		switch {
		case left > 0:
		case done == nil:
			return nil
		default:
			return fmt.Errorf("%d of %d clients are connected after %v: %s", u.m.last.Ready, u.st.layout.n, limit, u.m.last.LastError)
		}
		if err := pause(ctx, min(pollEvery, max(left, time.Millisecond))); err != nil {
			return err
		}
	}
}

// before measures for some time without an upgrade.
func (u *upgrading) before(ctx context.Context, length time.Duration) error {
	used, known := u.st.serverUsage()
	if err := u.watch(ctx, u.outside, length, nil); err != nil {
		return err
	}
	quiet := hist.New()
	if err := u.poll(u.outside, quiet); err != nil {
		return err
	}
	now, _ := u.st.serverUsage()
	u.out.CPUBefore = -1
	if n := u.m.last.Deliveries; known && n > 0 {
		u.out.CPUBefore = result.Round(float64(now.CPU-used.CPU)/1e3/float64(n), 4)
	}
	u.out.Usual = u.outside.summary(client.Delivery).P50
	u.out.Quiet = beyond(quiet, u.out.Usual).Summary()
	return nil
}

// once has one other process take the server's place.
func (u *upgrading) once(ctx context.Context) error {
	st := u.st
	alone := u.outside.peak
	u.outside.peak, u.during.peak = proc.Memory{RSS: -1, PSS: -1}, proc.Memory{RSS: -1, PSS: -1}
	if err := u.poll(u.outside, hist.New()); err != nil { // the pauses of the upgrade begin here
		return err
	}
	began := client.Now()
	type replaced struct {
		by  *proc.Process
		err error
	}
	result := make(chan replaced, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		by, err := replacer{st}.replace(ctx)
		result <- replaced{by, err}
	}()
	running := true
	take := func(r replaced) error {
		running = false
		if r.by != nil {
			if used, err := st.server.Used(); err == nil {
				used.Writes = st.used[st.server.PID()].Writes
				st.used[st.server.PID()] = used
			}
			st.server = r.by
		}
		st.heir.Store(0)
		return r.err
	}
	defer func() {
		cancel()
		if running {
			_ = take(<-result) // the measurement has failed for another reason
		}
	}()
	err := u.watch(ctx, u.during, upgradeLimit, func() (bool, error) {
		if running {
			select {
			case r := <-result:
				if err := take(r); err != nil {
					return false, err
				}
			default:
				return false, nil
			}
		}
		if err := st.failure(); err != nil {
			return false, err
		}
		return u.complete(), nil
	})
	if err != nil {
		return err
	}
	ended := client.Now()
	u.out.Spans = append(u.out.Spans, [2]float64{u.seconds(began), u.seconds(ended)})
	if one, both := memoryOf(alone), memoryOf(u.during.peak); one > 0 && float64(both)/float64(one) > u.ratio {
		u.ratio, u.out.Alone, u.out.Both = float64(both)/float64(one), one, both
	}
	if err := u.watch(ctx, u.outside, pauseAfter, nil); err != nil {
		return err
	}
	return u.poll(u.outside, u.waited)
}

// memoryOf returns the PSS, or the RSS where the kernel does not report that.
func memoryOf(m proc.Memory) int64 {
	if m.PSS >= 0 {
		return m.PSS
	}
	return m.RSS
}

// seconds returns a time of client.Now in seconds since the measurement began.
func (u *upgrading) seconds(at int64) float64 { return result.Round(float64(at-u.m.start)/1e9, 3) }

// complete reports whether all clients are connected.
func (u *upgrading) complete() bool {
	return u.m.last.Ready == u.st.layout.n && !slices.ContainsFunc(u.company, func(c *company) bool { return c.last.Ready < c.count })
}

// finish waits until all events and responses are there, and computes the figures.
func (u *upgrading) finish(ctx context.Context, s plan.Scenario, c *result.Cell, sent int) error {
	st, out := u.st, u.out
	expected := expectedOf(st.subs, sent)
	// lost returns the events that clients with so many subscriptions to each topic did not get.
	lost := func(subscribers []int, n client.Counters) int64 {
		return expectedOf(subscribers, sent) - (n.Deliveries - n.Repeated)
	}
	all := func() (missing, waiting int64) {
		missing = lost(st.subs, u.m.last)
		for _, one := range u.company {
			waiting += one.last.Waiting
			if one.kind == "" {
				missing += lost(one.subs, one.last)
			}
		}
		return missing, waiting
	}
	missing, waiting := all()
	since := time.Now()
	err := u.watch(ctx, u.outside, drainLimit, func() (bool, error) {
		if m, w := all(); m != missing || w != waiting {
			missing, waiting, since = m, w, time.Now()
		}
		return missing <= 0 && waiting == 0 || time.Since(since) > quietLimit, st.failure()
	})
	if err != nil {
		return err
	}
	u.m.done = client.Now()
	u.m.finish(expected, u.m.last.Deliveries)
	u.probe.end()
	u.outside.add(client.Connect.String(), u.probe.take())
	out.Probes, out.Refused, out.Failed = u.probe.counts()
	out.Lost, out.Repeated, out.Closed = missing, u.m.last.Repeated, u.m.last.Closed
	for _, one := range u.company {
		if n := one.last; n.Missed+n.Repeated > 0 || n.Closed > 0 {
			st.run.say("%s: %s: %d of the clients that make the requests %q lost %d connections, missed %d events and got %d again: %s",
				st.target.Name, s.Name, one.count, one.kind, n.Closed, n.Missed, n.Repeated, n.LastError)
		}
	}
	for _, one := range u.company {
		n := one.last
		out.Repeated += n.Repeated
		out.Closed += n.Closed
		out.Unanswered += n.Unanswered
		out.Errors += n.Errors
		if one.kind != "" {
			out.Lost += n.Missed // of churning clients, the last ones are not known
		}
	}
	c.Lost = out.Lost
	out.Pause = beyond(u.waited, out.Usual).Summary()
	for i, w := range []*window{u.outside, u.during} {
		out.Deliveries[i], out.Calls[i], out.Connects[i] = w.summary(client.Delivery), w.summary(client.Call), w.summary(client.Connect)
	}
	c.Kinds, c.Upgrade = nil, out
	return nil
}

// beyond returns latencies less the usual one, in µs.
func beyond(h *hist.Hist, usual int64) *hist.Hist {
	less := h.Sparse()
	for i := range less {
		less[i][0] = max(less[i][0]-usual, 0)
	}
	return hist.From(less)
}
