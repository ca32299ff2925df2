//go:build linux

package scale

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sluice/loadtest/client"
	"sluice/loadtest/hist"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
)

// used is the CPU time of all parts up to a moment.
type used struct {
	at       int64 // client.Now
	gateways []time.Duration
	nats     time.Duration
	relay    time.Duration
	all      time.Duration // gateways, NATS, relay, clients, and this process
	machine  time.Duration // of all processes there are
}

func (s *stand) used() (u used, err error) {
	u.at = client.Now()
	cpu := func(pid int) time.Duration {
		p, failed := proc.ReadUsage(pid)
		err = errors.Join(err, failed)
		u.all += p.CPU
		return p.CPU
	}
	for _, g := range s.gateways {
		u.gateways = append(u.gateways, cpu(g.PID()))
	}
	for _, p := range s.nats {
		u.nats += cpu(p.PID())
	}
	if s.relay != nil {
		u.relay = cpu(s.relay.PID())
	}
	for _, pid := range s.workers {
		cpu(pid)
	}
	cpu(os.Getpid())
	m, failed := proc.ReadMachine()
	u.machine = m.Busy
	return u, errors.Join(err, failed)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

const pollEvery = 20 * time.Millisecond

// measure runs a cell: clients connect, do nothing for a while, and then get events.
func (o *Options) measure(ctx context.Context, dir string, m result.Machine, c *Cell) (err error) {
	s, err := o.newStand(dir, m, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	c.Each = make([]Usage, c.Gateways)
	for i, g := range s.gateways {
		memory, err := proc.ReadMemory(g.PID())
		if err != nil {
			return err
		}
		c.Each[i].Empty = memory.RSS
	}
	kernel := proc.KernelMemory()
	if err := s.connect(ctx, c); err != nil {
		return err
	}
	if after := proc.KernelMemory(); kernel >= 0 && after >= kernel {
		c.Socket = result.Round(float64(after-kernel)/float64(2*c.Gateways*c.Clients), 1) // a connection has both ends here
	}
	if err := s.idle(ctx, c, o.Window/3); err != nil {
		return err
	}
	var parts []Cell
	for range windows {
		part := *c
		part.Each = slices.Clone(c.Each)
		if err := s.events(ctx, &part, o); err != nil {
			return err
		}
		parts = append(parts, part)
	}
	for _, p := range parts {
		if !p.OnceEach() {
			return fmt.Errorf("%d of %d deliveries were made; the gateways got events as follows: %+v", p.Deliveries, p.Expected, p.Each)
		}
	}
	// What disturbs one of them is in no figure.
	slices.SortFunc(parts, func(a, b Cell) int { return cmp.Compare(a.PerDelivery(), b.PerDelivery()) })
	*c = parts[len(parts)/2]
	for i, g := range s.gateways {
		memory, err := proc.ReadMemory(g.PID())
		if err != nil {
			return err
		}
		c.Each[i].Memory = memory.RSS
	}
	if s.relay != nil {
		memory, err := proc.ReadMemory(s.relay.PID())
		c.RelayMemory = memory.RSS
		return err
	}
	return nil
}

// windows is how often the events of a cell are measured.
const windows = 3

// connect connects all clients.
func (s *stand) connect(ctx context.Context, c *Cell) error {
	before, err := s.used()
	if err != nil {
		return err
	}
	if err := s.clients.Begin(client.Now()); err != nil {
		return err
	}
	if err := s.clients.Connect(); err != nil {
		return err
	}
	all := c.Gateways * c.Clients
	err = s.until(ctx, connectLimit, func(n client.Counters) (bool, error) {
		if n.Failed+n.Closed > 0 {
			return false, fmt.Errorf("%d clients failed, %d were closed: %s", n.Failed, n.Closed, n.LastError)
		}
		return n.Ready == all, nil
	})
	if err != nil {
		return err
	}
	after, err := s.used()
	if err != nil {
		return err
	}
	for i := range c.Each {
		c.Each[i].Connect = result.Round(micros(after.gateways[i]-before.gateways[i])/float64(c.Clients), 2)
	}
	c.NATSConnect = result.Round(micros(after.nats-before.nats), 0)
	return nil
}

// settle is how long clients that have connected are left alone, until what follows a connect is
// over.
const settle = 2 * time.Second

// idle watches clients that do nothing.
func (s *stand) idle(ctx context.Context, c *Cell, window time.Duration) error {
	if err := pause(ctx, settle); err != nil {
		return err
	}
	before, err := s.used()
	if err != nil {
		return err
	}
	if err := pause(ctx, window); err != nil {
		return err
	}
	after, err := s.used()
	if err != nil {
		return err
	}
	seconds := float64(after.at-before.at) / 1e9
	c.NATSIdle = result.Round(micros(after.nats-before.nats)/seconds, 1)
	for i := range c.Each {
		c.Each[i].Idle = result.Round(micros(after.gateways[i]-before.gateways[i])/float64(c.Clients)/seconds, 4)
	}
	return nil
}

// leadIn is the time between the command to begin and the first event.
const leadIn = 100 * time.Millisecond

// events publishes events at the rate, and waits until all clients have them.
func (s *stand) events(ctx context.Context, c *Cell, o *Options) error {
	rounds := max(int(o.Rate*o.Window.Seconds()/windows), 1) // each is one event of each topic
	c.Events = int64(rounds * c.Topics)
	c.Expected = int64(rounds * c.Gateways * c.Clients)
	received := make([]int64, len(s.gateways))
	for i, g := range s.gateways {
		var err error
		if received[i], err = g.events(ctx); err != nil {
			return err
		}
		// Topics go round among clients: a gateway's have as many different ones as they can.
		c.Each[i].Due = int64(rounds * min(c.Clients, c.Topics))
	}
	before, err := s.used()
	if err != nil {
		return err
	}
	start := client.Now() + int64(leadIn)
	if err := s.clients.Begin(start); err != nil {
		return err
	}
	if err := s.publish(ctx, start, c, o); err != nil {
		return err
	}
	var last client.Counters
	latency, quiet := hist.New(), time.Now()
	err = s.sample(ctx, connectLimit, func(sample client.Sample) (bool, error) {
		latency.Add(sample.Hists[client.Delivery.String()])
		n := sample.Count
		if n.Deliveries != last.Deliveries {
			quiet = time.Now()
		}
		last = n
		if n.Closed > 0 {
			return false, fmt.Errorf("%d clients were closed: %s", n.Closed, n.LastError)
		}
		return n.Deliveries >= c.Expected || time.Since(quiet) > stopLimit, nil
	})
	if err != nil {
		return err
	}
	after, err := s.used()
	if err != nil {
		return err
	}
	c.Deliveries, c.P99 = last.Deliveries, latency.Quantile(0.99)
	c.Seconds = result.Round(float64(after.at-start)/1e9, 3)
	c.Bytes = result.Round(float64(last.Bytes)/float64(max(last.Deliveries, 1)), 2)
	c.NATS = result.Round(micros(after.nats-before.nats), 0)
	c.Relay = result.Round(micros(after.relay-before.relay), 0)
	c.Other = result.Round(max(float64(after.machine-before.machine-(after.all-before.all))/float64(after.at-before.at), 0), 3)
	for i, g := range s.gateways {
		c.Each[i].CPU = result.Round(micros(after.gateways[i]-before.gateways[i]), 0)
		now, err := g.events(ctx)
		if err != nil {
			return err
		}
		c.Each[i].Events = now - received[i]
	}
	return nil
}

// publish sends one event of each topic in each round, spread evenly over the time.
func (s *stand) publish(ctx context.Context, start int64, c *Cell, o *Options) error {
	gap := float64(time.Second) / (o.Rate * float64(c.Topics))
	var payload []byte
	for i := range int(c.Events) {
		due := start + int64(float64(i)*gap)
		if client.Now() < due {
			// What is due together leaves together: a flush for each event would be the
			// harness's own cost.
			if err := s.service.Flush(); err != nil {
				return err
			}
			ts := unix.NsecToTimespec(due)
			_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil)
		}
		payload = client.AppendEvent(payload[:0], due, o.Payload)
		if err := s.service.Publish(i%c.Topics, payload); err != nil {
			return err
		}
		if i%1024 == 0 {
			if err := errors.Join(ctx.Err(), s.failure()); err != nil {
				return err
			}
		}
	}
	if err := s.service.Flush(); err != nil {
		return err
	}
	// The time after the last events is a part of their rate.
	return pause(ctx, time.Duration(start+int64(float64(c.Events)*gap)-client.Now()))
}

// until takes samples until ok reports that the work is done.
func (s *stand) until(ctx context.Context, limit time.Duration, ok func(client.Counters) (bool, error)) error {
	return s.sample(ctx, limit, func(sample client.Sample) (bool, error) { return ok(sample.Count) })
}

// sample takes samples of the clients until ok reports that the work is done.
func (s *stand) sample(ctx context.Context, limit time.Duration, ok func(client.Sample) (bool, error)) error {
	for end := time.Now().Add(limit); ; {
		sample, err := s.clients.Sample(false)
		if err != nil {
			return err
		}
		done, err := ok(sample)
		switch {
		case err != nil || done:
			return err
		case time.Now().After(end):
			return fmt.Errorf("not done after %v: %+v", limit, sample.Count)
		}
		if err := errors.Join(s.failure(), pause(ctx, pollEvery)); err != nil {
			return err
		}
	}
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
