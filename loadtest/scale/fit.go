//go:build linux

package scale

import (
	"errors"
	"fmt"
	"slices"

	"sluice/loadtest/capacity"
	"sluice/loadtest/result"
	"sluice/loadtest/run"
)

// machine describes this machine, and divides its cores: the last is the gateways', the others are
// those of clients, services and NATS.
func machine(cores []int) result.Machine {
	if len(cores) < 2 {
		return run.Describe(nil, nil)
	}
	last := len(cores) - 1
	m := run.Describe(cores[last:], cores[:last])
	run.PinSelf(m.Clients)
	return m
}

// line is a straight line through points by least squares of the errors relative to y. Points at
// which nothing was used do not count; if there are no others, it is zero everywhere.
func line(x, y []float64) (at0, slope float64, err error) {
	var w, wx, wy, wxx, wxy float64
	for i := range x {
		if y[i] <= 0 {
			continue
		}
		k := 1 / (y[i] * y[i])
		w, wx, wy, wxx, wxy = w+k, wx+k*x[i], wy+k*y[i], wxx+k*x[i]*x[i], wxy+k*x[i]*y[i]
	}
	if w == 0 {
		return 0, 0, nil
	}
	d := w*wxx - wx*wx
	if d <= 1e-9*w*wxx {
		return 0, 0, errors.New("two different points are needed for a line")
	}
	at0, slope = (wxx*wy-wx*wxy)/d, (w*wxy-wx*wy)/d
	switch { // neither can be negative: then the other alone explains the points best
	case at0 < 0:
		return 0, wxy / wxx, nil
	case slope < 0:
		return wy / w, 0, nil
	}
	return at0, slope, nil
}

// calibrates reports whether a cell is one of those from which a gateway's coefficients come.
func (r *Result) calibrates(c Cell) bool {
	return c.Topology == Cluster && c.Gateways == 1 && (c.Clients == r.Clients/40 || c.Clients == r.Clients/2)
}

// fit derives the coefficients. Those of a gateway come from single gateways with a fortieth and
// half of the clients; those of NATS from all numbers of gateways but the largest, if there are
// three. What is compared with the measurement beside them is another.
func (r *Result) fit() (c capacity.Coefficients, err error) {
	if len(r.Cells) == 0 {
		return c, errors.New("nothing was measured")
	}
	c.Machine, c.Date = fmt.Sprintf("%s, %d cores", r.Machine.CPU, r.Machine.Cores), r.Date
	var subscribers, perEvent, clients, memory, all, idle, sockets, natsIdle []float64
	few, many := r.Cells[0].Topics, r.Cells[0].Topics
	for _, cell := range r.Cells {
		few, many = min(few, cell.Topics), max(many, cell.Topics)
	}
	for _, cell := range r.Cells {
		if !r.calibrates(cell) {
			continue
		}
		u := cell.Each[0]
		if cell.Clients == r.Clients/2 {
			c.Connect = max(c.Connect, u.Connect)
			c.NATSConnect = max(c.NATSConnect, cell.NATSConnect/float64(cell.Clients))
			c.Overhead = max(c.Overhead, cell.Bytes-float64(r.Payload))
			sockets = append(sockets, cell.Socket)
		}
		all, idle, natsIdle = append(all, float64(cell.Clients)), append(idle, u.Idle*float64(cell.Clients)), append(natsIdle, cell.NATSIdle)
		if cell.Topics == few {
			clients, memory = append(clients, float64(cell.Clients)), append(memory, float64(u.Memory))
		}
	}
	if len(sockets) == 0 {
		return c, errors.New("there is no single gateway with a fortieth and half of the clients, from which coefficients come")
	}
	if c.Itself, c.Idle, err = line(all, idle); err != nil {
		return c, fmt.Errorf("idle clients: %w", err)
	}
	slices.Sort(natsIdle)
	c.NATSItself = natsIdle[len(natsIdle)/2]
	// For each event that a gateway gets: a part that is always the same, and one for each client.
	for _, cell := range r.Cells {
		if !r.calibrates(cell) || cell.Each[0].Events == 0 {
			continue
		}
		u := cell.Each[0]
		subscribers = append(subscribers, float64(cell.Deliveries)/float64(u.Events))
		perEvent = append(perEvent, max(u.CPU-(c.Itself+c.Idle*float64(cell.Clients))*cell.Seconds, 0)/float64(u.Events))
	}
	if c.Event, c.Delivery, err = line(subscribers, perEvent); err != nil {
		return c, fmt.Errorf("events: %w", err)
	}
	if c.Base, c.PerClient, err = line(clients, memory); err != nil {
		return c, fmt.Errorf("memory: %w", err)
	}
	for _, cell := range r.Cells { // what is left is that of the topics
		if r.calibrates(cell) && cell.Topics == many && many > few && cell.Clients == r.Clients/2 {
			c.PerTopic = max(float64(cell.Each[0].Memory)-c.Base-c.PerClient*float64(cell.Clients), 0) / float64(min(cell.Clients, many))
		}
	}
	c.Socket = slices.Max(sockets)
	var gateways, nats []float64
	most := slices.MaxFunc(r.Cells, func(a, b Cell) int { return a.Gateways - b.Gateways }).Gateways
	numbers := map[int]bool{}
	for _, cell := range r.Cells {
		numbers[cell.Gateways] = true
	}
	for _, cell := range r.Cells {
		if cell.Topology == Cluster && cell.Topics > 1 && cell.Clients == r.Clients && (len(numbers) < 3 || cell.Gateways < most) {
			gateways, nats = append(gateways, float64(cell.Gateways)), append(nats, max(cell.NATS-c.NATSItself*cell.Seconds, 0)/float64(cell.Events))
		}
	}
	if c.NATSIn, c.NATSOut, err = line(gateways, nats); err != nil {
		return c, fmt.Errorf("NATS: %w", err)
	}
	for _, v := range []*float64{&c.Event, &c.Delivery, &c.Idle, &c.Itself, &c.NATSItself, &c.Connect, &c.Overhead, &c.NATSIn, &c.NATSOut, &c.NATSConnect} {
		*v = result.Round(*v, 4)
	}
	for _, v := range []*float64{&c.Base, &c.PerClient, &c.PerTopic, &c.Socket} {
		*v = result.Round(*v, 0)
	}
	return c, c.Check()
}

// comparison is what the model says of a cell, and what was measured.
type comparison struct {
	cell                Cell
	what, unit          string
	predicted, measured float64
}

// off returns by how much the prediction is wrong, relative to the measurement.
func (c comparison) off() float64 {
	if c.measured == 0 {
		return 0
	}
	return c.predicted/c.measured - 1
}

// compare predicts the cells that the coefficients do not come from: few clients, one gateway, and
// the most gateways. It predicts for the rate at which events were delivered: a machine that cannot
// keep the one that was asked for says nothing about the model.
func (r *Result) compare() (all []comparison) {
	most := slices.MaxFunc(r.Cells, func(a, b Cell) int { return a.Gateways - b.Gateways }).Gateways
	for _, cell := range r.Cells {
		if cell.Topology != Cluster || r.calibrates(cell) || cell.Gateways != 1 && cell.Gateways != most {
			continue
		}
		w := capacity.Work{Clients: float64(cell.Gateways * cell.Clients), Topics: float64(cell.Topics), PerClient: 1, Events: float64(cell.Events) / float64(cell.Topics) / cell.Seconds, Payload: float64(r.Payload)}
		l := r.Coefficients.LoadAt(w, float64(cell.Gateways), float64(min(cell.Clients, cell.Topics)))
		cpu, received := 0.0, int64(0)
		for _, u := range cell.Each {
			cpu, received = cpu+u.CPU, received+u.Events
		}
		add := func(what, unit string, predicted, measured float64) {
			all = append(all, comparison{cell, what, unit, predicted, measured})
		}
		add("CPU of gateways", "% of a core", 100*l.Cores, 100*cpu/1e6/cell.Seconds)
		add("memory of gateways", "MB", l.Memory/1e6, cell.Memory()/1e6)
		add("bytes to clients", "MB/s", l.Deliveries*(w.Payload+r.Coefficients.Overhead)/1e6, float64(cell.Deliveries)*cell.Bytes/1e6/cell.Seconds)
		add("events from NATS", "per second", float64(cell.Gateways)*l.Received, float64(received)/cell.Seconds)
		if cell.Topics > 1 { // with few events it is what the servers do of themselves
			add("CPU of NATS", "% of a core", 100*l.NATSCores, 100*cell.NATS/1e6/cell.Seconds)
		}
	}
	return all
}
