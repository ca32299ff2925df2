//go:build linux

package scale

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/loadtest/client"
	"sluice/loadtest/hist"
	"sluice/loadtest/proc"
	"sluice/loadtest/result"
	"sluice/loadtest/run"
	"sluice/loadtest/service"
	"sluice/loadtest/wire"
	"sluice/wsproto"
)

// ways are the topologies whose latencies are compared, the first with all others.
var ways = []string{Cluster, Leaf, Within, Relay}

// Kinds of samples.
const (
	kindEvent  = "event"
	kindGet    = "get"
	kindCached = "get, cached in the relay"
	kindCall   = "call"
)

var kinds = []string{kindEvent, kindGet, kindCached, kindCall}

// WayOptions say what to run.
type WayOptions struct {
	Gateway string // program
	NATS    string // program, nats-server
	Samples int    // of each kind and way (1,000)
	Payload int    // bytes of an event's payload (128)
	Limit   time.Duration
	Say     func(line string)
}

// Ways is what each way between a service and a gateway's client costs in latency: one client at
// each gateway, and one event or request at a time, so nothing waits for anything else.
type Ways struct {
	Date    string
	Machine result.Machine
	Samples int
	Other   float64 // cores that programs of others used meanwhile

	latencies map[string]map[string]*hist.Hist // by kind and way
}

// wayClient is a client of the gateway of one way.
type wayClient struct {
	way    string
	conn   *wire.Conn
	frames chan wire.Frame
}

// MeasureWays starts a gateway for each way, all with the same NATS server of the services, and
// takes the samples in turn: what disturbs the machine disturbs all ways alike.
func MeasureWays(ctx context.Context, o WayOptions) (w *Ways, err error) {
	if o.Samples == 0 {
		o.Samples = 1000
	}
	if o.Payload == 0 {
		o.Payload = 128
	}
	if o.Limit == 0 {
		o.Limit = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("the run takes longer than %v: take fewer samples", o.Limit))
	defer cancel()
	dir, err := os.MkdirTemp("", "ways")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s := &stand{dir: dir}
	defer func() { err = errors.Join(err, s.close()) }()
	hub, err := s.startWays(&o)
	if err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	defer close(stop)
	var clients []*wayClient
	for i, g := range s.gateways {
		c, err := dialWay(ways[i], g.addr, stop)
		if err != nil {
			return nil, err
		}
		defer c.conn.Close()
		clients = append(clients, c)
	}
	edge, err := service.DialNATS(hub.edge, 0, false, 0, false) // for requests as gateways make them
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, edge.Close()) }()
	w = &Ways{Date: time.Now().UTC().Format(time.DateOnly), Machine: run.Describe(nil, nil), Samples: o.Samples, latencies: map[string]map[string]*hist.Hist{}}
	for _, k := range kinds {
		w.latencies[k] = map[string]*hist.Hist{}
		for _, way := range ways {
			w.latencies[k][way] = hist.New()
		}
	}
	before, err := s.used()
	if err != nil {
		return nil, err
	}
	for i := range o.Samples + warmUp {
		if err := w.sample(ctx, s, clients, edge, i, o.Payload); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return nil, err
		}
		if i == warmUp-1 {
			for _, of := range w.latencies {
				for _, h := range of {
					h.Reset()
				}
			}
		}
		if done := i + 1 - warmUp; o.Say != nil && done > 0 && done%500 == 0 {
			o.Say(fmt.Sprintf("%d of %d", done, o.Samples))
		}
	}
	after, err := s.used()
	if err != nil {
		return nil, err
	}
	w.Other = result.Round(max(float64(after.machine-before.machine-(after.all-before.all))/float64(after.at-before.at), 0), 2)
	return w, nil
}

// warmUp is the number of samples of each kind that do not count.
const warmUp = 20

// wayServers are addresses of NATS servers.
type wayServers struct{ home, edge string }

// startWays starts the servers, the relay, a gateway for each way, and the service.
func (s *stand) startWays(o *WayOptions) (hub wayServers, err error) {
	clients, leaves, err := s.startCluster(o.NATS)
	if err != nil {
		return hub, err
	}
	// All at one node: a hop within the cluster would be in some of the figures.
	hub.home = clients[0]
	leaf, err := s.startLeaf(o.NATS, leaves[:1])
	if err != nil {
		return hub, err
	}
	if s.service, err = service.DialNATS(hub.home, 1, true, 0, false); err != nil {
		return hub, err
	}
	edge, err := s.startRelay(o.Gateway, o.NATS, clients[:1])
	if err != nil {
		return hub, err
	}
	hub.edge = edge[0]
	for i, way := range ways {
		urls := map[string][]string{Cluster: clients[:1], Leaf: leaf, Within: leaves[:1], Relay: edge}[way]
		if err := s.startGateway(o.Gateway, i, way, urls); err != nil {
			return hub, err
		}
	}
	return hub, nil
}

// dialWay connects a client, which subscribes to the topic of the events.
func dialWay(way, addr string, stop chan struct{}) (*wayClient, error) {
	tcp, err := net.DialTimeout("tcp", addr, startLimit)
	if err != nil {
		return nil, err
	}
	conn, err := wire.Upgrade(tcp, wire.Options{Limit: 1 << 20})
	if err != nil {
		return nil, err
	}
	c := &wayClient{way: way, conn: conn, frames: make(chan wire.Frame, 16)}
	go conn.Receive(c.frames, stop)
	for end := time.Now().Add(startLimit); ; {
		reply, err := c.ask(context.Background(), `{"id":1,"method":"subscribe.`+client.Topic(0)+`"}`)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", way, err)
		case strings.Contains(reply, `"result"`):
			return c, nil
		case time.Now().After(end): // a leaf node may not know of the service yet
			return nil, fmt.Errorf("%s: the subscription failed: %s", way, reply)
		}
		time.Sleep(pollEvery)
	}
}

// ask sends a request and returns the response, which is the next message.
func (c *wayClient) ask(ctx context.Context, request string) (string, error) {
	if err := c.conn.Send(wsproto.OpText, request); err != nil {
		return "", err
	}
	return c.next(ctx)
}

// next returns the next message.
func (c *wayClient) next(ctx context.Context) (string, error) {
	for {
		select {
		case f := <-c.frames:
			switch f.Op {
			case wsproto.OpText:
				return f.Text, nil
			case wsproto.OpClose:
				return "", fmt.Errorf("%s: the connection has ended: %d %s", c.way, f.Code, f.Text)
			}
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// sample takes one sample of each kind. Resources have numbers of their own, so no gateway has one
// of them in its cache.
func (w *Ways) sample(ctx context.Context, s *stand, clients []*wayClient, edge *service.NATS, i, payload int) error {
	if err := s.failure(); err != nil {
		return err
	}
	// The order goes round: the first pays for what the caches of the cores have lost.
	turn := i % len(clients)
	order := slices.Concat(clients[turn:], clients[:turn])
	if err := w.event(ctx, s, order, payload); err != nil {
		return err
	}
	for k, c := range order {
		number := strconv.Itoa(1 + i*(len(clients)+1) + k)
		if err := w.request(ctx, c, kindGet, `{"id":2,"method":"get.load.t`+number+`"}`); err != nil {
			return err
		}
		if err := w.request(ctx, c, kindCall, `{"id":3,"method":"call.`+client.Topic(0)+`.set","params":{"x":1}}`); err != nil {
			return err
		}
		if c.way != Relay {
			continue
		}
		other := strconv.Itoa((i + 1) * (len(clients) + 1))
		if err := edge.Request(ctx, "get.load.t"+other); err != nil {
			return fmt.Errorf("a get at the edge: %w", err)
		}
		if err := w.request(ctx, c, kindCached, `{"id":4,"method":"get.load.t`+other+`"}`); err != nil {
			return err
		}
	}
	return nil
}

// event publishes an event, and waits until each client has it.
func (w *Ways) event(ctx context.Context, s *stand, clients []*wayClient, payload int) error {
	type arrival struct {
		way, text string
		at        int64
		err       error
	}
	arrivals := make(chan arrival, len(clients))
	for _, c := range clients {
		go func() {
			text, err := c.next(ctx)
			arrivals <- arrival{c.way, text, client.Now(), err}
		}()
	}
	due := client.Now()
	err := s.service.Publish(0, client.AppendEvent(nil, due, payload))
	if err != nil {
		return err
	}
	for range clients {
		a := <-arrivals
		switch {
		case a.err != nil:
			err = a.err
		case !strings.Contains(a.text, strconv.FormatInt(due, 10)):
			err = fmt.Errorf("%s: got %.200s instead of the event", a.way, a.text)
		}
		w.latencies[kindEvent][a.way].Record(a.at - due)
	}
	return err
}

// request measures a request of a client.
func (w *Ways) request(ctx context.Context, c *wayClient, kind, text string) error {
	began := client.Now()
	reply, err := c.ask(ctx, text)
	took := client.Now() - began
	if err != nil {
		return err
	}
	if !strings.Contains(reply, `"result"`) {
		return fmt.Errorf("%s, %s: %.200s", c.way, kind, reply)
	}
	w.latencies[kind][c.way].Record(took)
	return nil
}

// Markdown renders the table.
func (w *Ways) Markdown() string {
	var b strings.Builder
	cores := max(len(proc.Cores()), 1)
	fmt.Fprintf(&b, "Measured on %s, on %s with %d cores, %s samples of each kind. ", w.Date, w.Machine.CPU, w.Machine.Cores, count(float64(w.Samples)))
	if w.Other > 0.05*float64(cores) {
		fmt.Fprintf(&b, "**The machine was busy**: other programs used %.2f cores meanwhile,\nso the figures are upper bounds, and those of p99 say little.\n\n", w.Other)
	} else {
		fmt.Fprintf(&b, "The machine did nothing else.\n\n")
	}
	b.WriteString("| what | way | median | p99 | median added | p99 added |\n|---|---|---|---|---|---|\n")
	ms := func(us int64) string { return fmt.Sprintf("%.2f ms", float64(us)/1e3) }
	for _, kind := range kinds {
		of := w.latencies[kind]
		base := of[ways[0]]
		if kind == kindCached {
			base = w.latencies[kindGet][ways[0]]
		}
		for _, way := range ways {
			h := of[way]
			if h.Count() == 0 {
				continue
			}
			p50, p99 := h.Quantile(0.5), h.Quantile(0.99)
			added50, added99 := "–", "–"
			if h != base {
				added50, added99 = fmt.Sprintf("%+.2f ms", float64(p50-base.Quantile(0.5))/1e3), fmt.Sprintf("%+.2f ms", float64(p99-base.Quantile(0.99))/1e3)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", kind, wayNames[way], ms(p50), ms(p99), added50, added99)
		}
	}
	return b.String()
}

var wayNames = map[string]string{
	Cluster: "gateway – home",
	Leaf:    "gateway – leaf node – home",
	Within:  "gateway that is a leaf node – home",
	Relay:   "gateway – edge – relay – home",
}

const (
	waysBegin = "<!-- latency: written by make relay -->\n"
	waysEnd   = "<!-- /latency -->\n"
)

// Insert puts the table between the marks of a Markdown text.
func (w *Ways) Insert(text []byte) ([]byte, error) {
	return result.Between(text, waysBegin, waysEnd, w.Markdown())
}
