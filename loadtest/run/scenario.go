//go:build linux

package run

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"sluice/loadtest/client"
	"sluice/loadtest/judge"
	"sluice/loadtest/plan"
	"sluice/loadtest/result"
)

// perform runs a scenario on a connected stage, fills the cell, and has it judged.
func (st *stage) perform(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	var err error
	switch s.Kind {
	case plan.KindIdle:
		err = st.idle(ctx, s, c)
	case plan.KindStorm:
		err = st.storm(ctx, s, c)
	case plan.KindMax:
		err = st.search(ctx, s, c)
	case plan.KindUnary, plan.KindHTTP:
		err = st.requests(ctx, s, c)
	case plan.KindOverload:
		err = st.overload(ctx, s, c)
	case plan.KindReconnect:
		err = st.reconnect(ctx, s, c)
	case plan.KindFailover:
		err = st.failover(ctx, s, c)
	case plan.KindUpgrade:
		err = st.upgrade(ctx, s, c)
	case plan.KindResources:
		err = st.resources(ctx, s, c)
	case plan.KindSPA:
		err = st.pages(ctx, s, c)
	case plan.KindDeploy:
		err = st.deploy(ctx, s, c)
	case plan.KindHostile:
		err = st.hostile(ctx, s, c)
	case plan.KindMixed:
		err = st.mixed(ctx, s, c)
	case plan.KindSlow:
		if err = st.paced(ctx, s, c, s.EventRate(st.layout.n)); err == nil {
			err = st.afterSlow(ctx, c)
		}
	default:
		err = st.paced(ctx, s, c, s.EventRate(st.layout.n))
	}
	if err == nil {
		judge.Cell(c, s)
	}
	return err
}

// leadIn is the time between the command to begin and the first due time.
const leadIn = 50 * time.Millisecond

// paced sends events at a rate, in events per second, for the scenario's duration. It
// measures until the clients have received all of them.
func (st *stage) paced(ctx context.Context, s plan.Scenario, c *result.Cell, rate float64) error {
	start := client.Now() + int64(leadIn)
	if err := st.clients.Begin(start); err != nil {
		return err
	}
	m := st.measure(c, start, result.Delivery, client.Delivery)
	p := newPacer(start, rate, s.Burst, int64(s.Duration))
	m.length = s.Duration
	sender := st.send(p, s)
	defer close(sender.stop)
	c.Events = int64(p.count)
	if err := m.until(ctx, time.Now().Add(time.Duration(p.end()-client.Now()))); err != nil {
		return err
	}
	if err := m.waitFor(ctx, sender); err != nil {
		return err
	}
	c.Late = sender.late
	expected := expectedOf(st.subs, p.count)
	if err := m.drain(ctx, expected); err != nil {
		return err
	}
	m.finish(expected, m.last.Deliveries)
	return nil
}

// waitFor polls until the sender has sent all events. It may be late if the server reads
// slowly: its lateness is in the latencies.
func (m *measurement) waitFor(ctx context.Context, s *sender) error {
	for began := time.Now(); ; {
		if err := m.poll(); err != nil {
			return err
		}
		select {
		case <-s.done:
			if s.err != nil {
				return fmt.Errorf("send events: %w", s.err)
			}
			return nil
		default:
		}
		if time.Since(began) >= drainLimit {
			return fmt.Errorf("the server took none of the events for %v", drainLimit)
		}
		if err := pause(ctx, drainEvery); err != nil {
			return err
		}
	}
}

// sender is a goroutine that publishes a pacer's events.
type sender struct {
	stop chan struct{} // the owner closes it to end the goroutine early
	done chan struct{} // the goroutine closes it; what follows may be read then
	late int64         // µs, 99th percentile
	sent int           // events
	err  error
}

// send starts a sender. It has a thread of its own, so that its sleeps are exact.
func (st *stage) send(p pacer, s plan.Scenario) *sender {
	out := &sender{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(out.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var payload []byte
		late, sent, err := p.run(sleepUntil, func(i int, due int64) error {
			if st.layout.numbered {
				payload = client.AppendNumbered(payload[:0], due, int64(i/s.Topics), s.Payload)
			} else {
				payload = client.AppendEvent(payload[:0], due, s.Payload)
			}
			return st.service.Publish(i%s.Topics, payload)
		}, st.service.Flush, out.stop)
		out.late, out.sent, out.err = late.Quantile(0.99), sent, err
	}()
	return out
}

// expectedOf returns the number of deliveries of so many events, to topics with so many
// subscribers.
func expectedOf(subscribers []int, sent int) int64 {
	all := int64(0)
	for topic, subs := range subscribers {
		events := sent / len(subscribers)
		if topic < sent%len(subscribers) {
			events++
		}
		all += int64(events) * int64(subs)
	}
	return all
}

// afterSlow lets the slow clients read their backlog, and counts those that are alive.
func (st *stage) afterSlow(ctx context.Context, c *result.Cell) error {
	if err := st.clients.Resume(); err != nil {
		return err
	}
	var last client.Counters
	before := int64(-1)
	for range 50 { // until no client receives more
		if err := pause(ctx, pollEvery*2); err != nil {
			return err
		}
		s, err := st.clients.Sample(false)
		if err != nil {
			return err
		}
		last = s.Count
		if got := last.SlowDeliveries + int64(last.Closed); got == before {
			break
		} else {
			before = got
		}
	}
	clients := 0
	cfg := client.Config{Slow: st.layout.slow}
	for i := range st.layout.n {
		if cfg.IsSlow(i) {
			clients++
		}
	}
	c.Slow = &result.Slow{Clients: clients, Alive: last.Slow, Deliveries: last.SlowDeliveries}
	c.Live = last.Ready
	return nil
}

// idle measures what connections cost while the clients do nothing.
func (st *stage) idle(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	st.run.say("%s: %s: settling for %v", st.target.Name, s.Name, s.Settle)
	if err := pause(ctx, s.Settle); err != nil {
		return err
	}
	start := client.Now()
	if err := st.clients.Begin(start); err != nil {
		return err
	}
	m := st.measure(c, start, result.Connection)
	m.length = s.Duration
	if err := m.until(ctx, time.Now().Add(s.Duration)); err != nil {
		return err
	}
	n := int64(m.last.Ready)
	m.finish(int64(st.layout.n), n)
	// These are per connection and second.
	for _, v := range []*float64{&c.CPU.Total, &c.CPU.User, &c.CPU.Sys, &c.Switches, &c.Writes, &c.NATS, &c.Client} {
		if *v > 0 {
			*v = result.Round(*v/c.Seconds, 5)
		}
	}
	return nil
}

// storm reports what it cost to connect all clients. With Kill, it kills the server and
// starts it again first.
func (st *stage) storm(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	if s.Kill {
		if st.server == nil {
			return fmt.Errorf("%s cannot be killed: it was not started here", st.target.Name)
		}
		st.server.Kill()
		if err := st.service.Close(); err != nil {
			return err
		}
		if err := st.startServer(); err != nil {
			return err
		}
		if err := st.startService(); err != nil {
			return err
		}
		st.empty = st.memory()
		if err := st.clients.Drop(); err != nil {
			return err
		}
		return st.connect(ctx, c)
	}
	st.fromConnect(c)
	return nil
}

// requests makes calls or GETs: at a rate, as fast as responses arrive, or at a share of the rate
// that this has.
func (st *stage) requests(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	kind := client.Call
	if s.Kind == plan.KindHTTP {
		kind = client.Get
	}
	l := client.Load{Kind: kind.String(), Rate: s.Rate, Window: s.Window}
	if s.Load > 0 {
		highest := result.Cell{Target: c.Target, Scenario: c.Scenario, Kind: c.Kind}
		if err := st.load(ctx, s, &highest, result.Request, l, kind); err != nil {
			return err
		}
		judge.Cell(&highest, s)
		share, err := shareOf(s.Load, highest)
		if err != nil {
			return err
		}
		st.run.say("%s: %s: %.0f requests/s, %g%% of %.0f", st.target.Name, s.Name, share.Offered, s.Load, share.Highest)
		c.Load, l.Rate = share, share.Offered
	}
	return st.load(ctx, s, c, result.Request, l, kind)
}

// shareOf returns a load in per cent of the rate of a cell whose requests were made as fast as
// responses arrived.
func shareOf(percent float64, highest result.Cell) (*result.Load, error) {
	if highest.Errors > 0 || highest.Lost > 0 || highest.Rate <= 0 {
		return nil, fmt.Errorf("the highest rate is not known: of %d requests %d got an error, and %d no response", highest.Expected, highest.Errors, highest.Lost)
	}
	return &result.Load{Percent: percent, Highest: highest.Rate, Offered: result.Round(highest.Rate*percent/100, 1), AtLeast: highest.AtLeast}, nil
}

// load lets the clients make requests for the scenario's duration, and measures until all
// are answered. A unit may be several requests.
func (st *stage) load(ctx context.Context, s plan.Scenario, c *result.Cell, unit string, l client.Load, kinds ...client.Kind) error {
	start := client.Now()
	if err := st.clients.Begin(start); err != nil {
		return err
	}
	m := st.measure(c, start, unit, kinds...)
	m.length = s.Duration
	l.Until = start + int64(s.Duration)
	if err := st.clients.Load(l); err != nil {
		return err
	}
	if err := m.until(ctx, time.Now().Add(s.Duration)); err != nil {
		return err
	}
	err := m.every(ctx, drainEvery, time.Now().Add(quietLimit*2), func(n client.Counters) bool { return n.Waiting == 0 })
	if err != nil {
		return err
	}
	issued := m.last
	issued.Answers = issued.Issued
	m.finish(m.units(issued), m.units(m.last))
	c.Unsent = m.last.Unsent
	return nil
}

// mixed lets the clients churn subscriptions while the service publishes events.
func (st *stage) mixed(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	rate := s.Rate
	if rate == 0 {
		rate = 500
	}
	events := s
	events.Rate = 0
	if events.Deliveries == 0 {
		events.Deliveries = 5000
	}
	p := newPacer(client.Now()+int64(leadIn), events.EventRate(st.layout.n), s.Burst, int64(s.Duration))
	sender := st.send(p, s)
	c.Events = int64(p.count)
	err := st.load(ctx, s, c, result.Request, client.Load{Kind: "churn", Rate: rate}, client.Subscribe, client.Unsubscribe, client.Call)
	close(sender.stop)
	<-sender.done
	if err != nil {
		return err
	}
	return sender.err
}

// search finds the highest sustained rate. All that it reports, rate, latencies and cost,
// is of the best trial, and the rate is the one achieved there.
func (st *stage) search(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	n, start := st.layout.n, s.Deliveries
	if start == 0 {
		start = s.Rate * float64(n)
	}
	events := s
	events.Deliveries = 0
	perEvent := float64(n*s.PerClient) / float64(s.Topics)
	blank := *c
	var chosen result.Cell
	var all judge.Search
	for range s.Trials {
		offered := all.Next(start)
		if offered == 0 {
			break
		}
		trial := blank
		if err := st.restore(ctx); err != nil {
			return err
		}
		rate := offered / perEvent
		if err := st.paced(ctx, events, &trial, rate); err != nil {
			return err
		}
		p := newPacer(0, rate, s.Burst, int64(s.Duration))
		behind := trial.Seconds - float64(p.end())/1e9
		t := judge.Trial(&trial, offered, behind, all.Grace(s.Duration.Seconds(), offered, perEvent))
		all = append(all, t)
		if all.Best() == len(all)-1 {
			chosen = trial
		}
		st.run.say("%s: %s: %.0f deliveries/s: %s", st.target.Name, s.Name, offered, remark(t))
	}
	if all.Best() < 0 {
		c.Unit, c.Trials = result.Delivery, all
		return fmt.Errorf("no rate was sustained, down to %.0f deliveries/s", all.Lowest())
	}
	*c = chosen
	all.Conclude(c)
	return nil
}

// remark returns a trial's verdict for the log.
func remark(t result.Trial) string {
	text := "sustained"
	if !t.Sustained {
		text = "not sustained: " + t.Why
	}
	if t.Limit != "" {
		text += ", with the " + t.Limit + " as the limit"
	}
	return text
}
