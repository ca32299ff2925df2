//go:build linux

package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/loadtest/client"
	"sluice/loadtest/plan"
	"sluice/loadtest/result"
	"sluice/loadtest/service"
)

// resources reports what each subscription has cost, after all clients have connected.
func (st *stage) resources(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	st.run.say("%s: %s: settling for %v", st.target.Name, s.Name, s.Settle)
	if err := pause(ctx, s.Settle); err != nil {
		return err
	}
	sample, err := st.clients.Sample(false)
	if err != nil {
		return err
	}
	st.fromConnect(c)
	m := measurement{st: st, cell: c, last: sample.Count}
	m.fillMemory()
	each := float64(s.PerClient)
	c.Unit = result.Subscribed
	c.Units, c.Expected, c.Lost = c.Units*int64(s.PerClient), c.Expected*int64(s.PerClient), c.Lost*int64(s.PerClient)
	c.Rate = result.Round(c.Rate*each, 1)
	for _, v := range []*float64{&c.CPU.Total, &c.CPU.User, &c.CPU.Sys, &c.Switches, &c.Writes, &c.NATS, &c.Client, &c.Bytes} {
		if *v > 0 {
			*v = result.Round(*v/each, 4)
		}
	}
	if c.Memory.PerSub = c.Memory.PerConn; c.Memory.PerConn > 0 {
		c.Memory.PerSub = result.Round(c.Memory.PerConn/each, 1)
	}
	return nil
}

// fromConnect fills the cell with what it cost to connect all clients at first.
func (st *stage) fromConnect(c *result.Cell) {
	round, scenario, kind := c.Round, c.Scenario, c.Kind
	*c = st.connected
	c.Round, c.Scenario, c.Kind, c.Target = round, scenario, kind, st.target.Name
}

// pages lets the clients open pages and leave them.
func (st *stage) pages(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	return st.load(ctx, s, c, result.Page, client.Load{Kind: "page", Rate: 2 * s.Rate}, client.Open)
}

// restarter is a service that can start again with other states.
type restarter interface {
	worker
	Restart(event []byte) error
	Asked() service.Worked
}

const (
	deployLimit = time.Minute            // for all clients to have the new states
	quietAfter  = 500 * time.Millisecond // after the last request that is expected, none follows
	patience    = 20 * time.Second       // a gateway that has asked for less access until then does not ask for all
)

// deploy restarts the service with another state of each resource. It measures until all clients
// have the new states, and the gateway has asked for their access.
func (st *stage) deploy(ctx context.Context, s plan.Scenario, c *result.Cell) error {
	svc, ok := st.service.(restarter)
	if !ok {
		return errors.New("this target's service cannot start again")
	}
	svc.Begin(service.Work{Workers: 1}) // they count
	defer svc.End()
	start := client.Now()
	if err := st.clients.Begin(start); err != nil {
		return err
	}
	m := st.measure(c, start, result.Delivery, client.Delivery)
	if err := svc.Restart(client.AppendEvent(nil, start, s.Payload)); err != nil {
		return err
	}
	c.Events = 1
	expected := int64(0)
	for _, subscribers := range st.subs {
		expected += int64(subscribers)
	}
	out := &result.Deploy{States: -1}
	c.Deploy = out
	var asked service.Worked
	last := client.Now() // when the service was asked, or a client got a state
	delivered := int64(0)
	err := m.every(ctx, drainEvery, time.Now().Add(deployLimit), func(n client.Counters) bool {
		now := client.Now()
		if got := svc.Asked(); got != asked || n.Deliveries != delivered {
			asked, delivered, last = got, n.Deliveries, now
		}
		if n.Deliveries >= expected && out.States < 0 {
			out.States = result.Round(float64(now-start)/1e9, 3)
		}
		quiet := quietAfter
		if asked.Access < expected {
			quiet = patience
		}
		return out.States >= 0 && now-last > int64(quiet)
	})
	if err != nil {
		return err
	}
	if m.done != 0 {
		m.done = last
	}
	m.finish(expected, m.last.Deliveries)
	out.Gets, out.Access = asked.Gets, asked.Access
	states := fmt.Sprintf("all clients had the new states after %.2f s", out.States)
	if out.States < 0 {
		states = fmt.Sprintf("not all clients had the new states after %v", deployLimit)
	}
	c.Notes = append(c.Notes, fmt.Sprintf("%s; the service got %d get and %d access requests until %.2f s", states, out.Gets, out.Access, c.Seconds))
	return nil
}
