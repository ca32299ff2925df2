//go:build linux

package loadtest

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"sluice/loadtest/client"
)

// perform runs a scenario on a connected stage and fills the cell.
func (st *stage) perform(ctx context.Context, s Scenario, c *Cell) error {
	var err error
	switch s.Kind {
	case KindIdle:
		err = st.idle(ctx, s, c)
	case KindStorm:
		err = st.storm(ctx, s, c)
	case KindMax:
		err = st.search(ctx, s, c)
	case KindUnary, KindHTTP:
		err = st.requests(ctx, s, c)
	case KindMixed:
		err = st.mixed(ctx, s, c)
	case KindSlow:
		if err = st.paced(ctx, s, c, s.rate(st.layout.n)); err == nil {
			err = st.afterSlow(ctx, c)
		}
	default:
		err = st.paced(ctx, s, c, s.rate(st.layout.n))
	}
	if err == nil {
		c.judge(s)
	}
	return err
}

// leadIn lies between the order to begin and the first due time.
const leadIn = 50 * time.Millisecond

// paced sends events at a rate for the scenario's duration and measures until
// all have arrived.
func (st *stage) paced(ctx context.Context, s Scenario, c *Cell, rate float64) error {
	start := client.Now() + int64(leadIn)
	if err := st.clients.Begin(start); err != nil {
		return err
	}
	m := st.measure(c, start, "delivery", client.Delivery)
	p := newPacer(start, rate, s.Burst, int64(s.Duration))
	m.target = s.Duration
	sender := st.send(p, s)
	defer close(sender.stop)
	c.Events = int64(p.count)
	err := m.until(ctx, time.Now().Add(time.Duration(p.end()-client.Now())), func(client.Counters) bool { return false })
	if err != nil {
		return err
	}
	// The sender may be late where the server reads slowly: it gets its time,
	// and its lateness is in the latencies.
	expected := st.expected(p)
	for waited := time.Now(); ; {
		if err := m.poll(); err != nil {
			return err
		}
		select {
		case <-sender.done:
		default:
			if time.Since(waited) < drainLimit {
				if err := pause(ctx, drainEvery); err != nil {
					return err
				}
				continue
			}
			return fmt.Errorf("the server took none of the events for %v", drainLimit)
		}
		break
	}
	if sender.err != nil {
		return fmt.Errorf("send events: %w", sender.err)
	}
	c.Late = sender.late
	if err := m.drain(ctx, expected); err != nil {
		return err
	}
	m.finish(expected, m.last.Deliveries)
	return nil
}

// sender is a pacer at work in a goroutine of its own. late and err may be read
// after done is closed.
type sender struct {
	stop chan struct{}
	done chan struct{}
	late int64 // µs, 99th percentile
	err  error
}

func (st *stage) send(p pacer, s Scenario) *sender {
	out := &sender{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(out.done)
		runtime.LockOSThread() // for exact sleeps
		defer runtime.UnlockOSThread()
		var payload []byte
		late, _, err := p.run(sleepUntil, func(i int, due int64) error {
			payload = client.AppendEvent(payload[:0], due, s.Payload)
			return st.service.publish(i%s.Topics, payload)
		}, st.service.flush, out.stop)
		out.late, out.err = late.Quantile(0.99), err
	}()
	return out
}

// expected is the number of deliveries that all of a pacer's events make.
func (st *stage) expected(p pacer) int64 {
	all := int64(0)
	for topic, subs := range st.subs {
		events := p.count / len(st.subs)
		if topic < p.count%len(st.subs) {
			events++
		}
		all += int64(events) * int64(subs)
	}
	return all
}

// afterSlow lets the slow clients read, and counts those that are alive.
func (st *stage) afterSlow(ctx context.Context, c *Cell) error {
	if err := st.clients.Resume(); err != nil {
		return err
	}
	var last client.Counters
	before := int64(-1)
	for range 50 { // until nothing more comes
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
	c.Slow = &Slow{Clients: clients, Alive: last.Slow, Deliveries: last.SlowDeliveries}
	c.Live = last.Ready
	return nil
}

// idle lets the clients do nothing, and reads what they cost.
func (st *stage) idle(ctx context.Context, s Scenario, c *Cell) error {
	st.run.say("%s: %s: settling for %v", st.target.Name, s.Name, s.Settle)
	if err := pause(ctx, s.Settle); err != nil {
		return err
	}
	start := client.Now()
	if err := st.clients.Begin(start); err != nil {
		return err
	}
	m := st.measure(c, start, "connection")
	m.target = s.Duration
	if err := m.until(ctx, time.Now().Add(s.Duration), func(client.Counters) bool { return false }); err != nil {
		return err
	}
	n := int64(m.last.Ready)
	m.finish(int64(st.layout.n), n)
	// Per connection and second.
	for _, v := range []*float64{&c.CPU.Total, &c.CPU.User, &c.CPU.Sys, &c.Switches, &c.Writes, &c.NATS, &c.Client} {
		if *v > 0 {
			*v = round(*v/c.Seconds, 5)
		}
	}
	return nil
}

// storm reports what it cost to connect everybody. With Kill, the server is
// killed and started again before.
func (st *stage) storm(ctx context.Context, s Scenario, c *Cell) error {
	if s.Kill {
		if st.server == nil {
			return fmt.Errorf("%s cannot be killed: it was not started here", st.target.Name)
		}
		st.server.Kill()
		if err := st.service.close(); err != nil {
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
	round, scenario, kind := c.Round, c.Scenario, c.Kind
	*c = st.connected
	c.Round, c.Scenario, c.Kind, c.Target = round, scenario, kind, st.target.Name
	return nil
}

// requests makes calls or GETs: at a rate, or as fast as answers come.
func (st *stage) requests(ctx context.Context, s Scenario, c *Cell) error {
	kind := client.Call
	if s.Kind == KindHTTP {
		kind = client.Get
	}
	return st.load(ctx, s, c, client.Load{Kind: kind.String(), Rate: s.Rate, Window: s.Window}, kind)
}

func (st *stage) load(ctx context.Context, s Scenario, c *Cell, l client.Load, kinds ...client.Kind) error {
	start := client.Now()
	if err := st.clients.Begin(start); err != nil {
		return err
	}
	m := st.measure(c, start, "request", kinds...)
	m.target = s.Duration
	l.Until = start + int64(s.Duration)
	if err := st.clients.Load(l); err != nil {
		return err
	}
	if err := m.until(ctx, time.Now().Add(s.Duration), func(client.Counters) bool { return false }); err != nil {
		return err
	}
	err := m.every(ctx, drainEvery, time.Now().Add(quietLimit*2), func(n client.Counters) bool { return n.Waiting == 0 })
	if err != nil {
		return err
	}
	m.finish(m.last.Issued, m.last.Answers)
	c.Unsent = m.last.Unsent
	return nil
}

// mixed lets the clients churn while events come.
func (st *stage) mixed(ctx context.Context, s Scenario, c *Cell) error {
	rate := s.Rate
	if rate == 0 {
		rate = 500
	}
	events := s
	events.Rate = 0
	if events.Deliveries == 0 {
		events.Deliveries = 5000
	}
	p := newPacer(client.Now()+int64(leadIn), events.rate(st.layout.n), s.Burst, int64(s.Duration))
	sender := st.send(p, s)
	c.Events = int64(p.count)
	err := st.load(ctx, s, c, client.Load{Kind: "churn", Rate: rate}, client.Subscribe, client.Unsubscribe, client.Call)
	close(sender.stop)
	<-sender.done
	if err != nil {
		return err
	}
	return sender.err
}

// restore makes the stage whole again if clients were lost.
func (st *stage) restore(ctx context.Context) error {
	s, err := st.clients.Sample(false)
	if err != nil || s.Count.Ready == st.layout.n {
		return err
	}
	if err := st.clients.Drop(); err != nil {
		return err
	}
	var again Cell
	return st.connect(ctx, &again)
}
