package restest

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/natstest"
	"sluice/internal/owner"
	"sluice/internal/testkit"
)

// TestClusterPartition: the gateway's NATS server loses those of the services while all
// connections stay up. Clients keep theirs, and get what has changed when the servers are together
// again.
func TestClusterPartition(t *testing.T) {
	cluster := natstest.StartCluster(t, 3)
	o := &outage{t: t, ns: cluster.Nodes[0], clock: owner.NewManualClock(), news: make(chan struct{}, 1),
		models: map[string]string{"test.a": `{"n":1}`, "test.secret": `{"word":"x"}`}, denied: map[string]bool{}}
	service := cluster.Nodes[1].Client(nats.NoReconnect())
	if _, err := service.Subscribe("*.test.*", o.serve); err != nil {
		t.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	g, err := startGateway(Start{NATS: cluster.Nodes[0].URL(), Clock: o.clock, Log: slog.New(o)}, func(c *gateway.Config) {
		c.PingInterval = gateway.Off
		c.NATSClusterPing = 20 * time.Millisecond
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	o.url = g.URL()
	for range 2 {
		o.says("watching a server of the NATS cluster")
	}
	c := o.subscribed() // the interest in services has reached the gateway's server, as beats do

	cluster.Partition(t)
	o.says("NATS servers do not pass messages to each other")
	o.mu.Lock()
	o.models["test.a"] = `{"n":2}`
	o.mu.Unlock()
	if err := service.Publish("event.test.a.change", []byte(`{"values":{"n":2}}`)); err != nil {
		t.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	cluster.Heal(t)
	o.says("messages between NATS servers were lost")
	if m := o.next(c, o.clock); !strings.Contains(m, `"test.a.change"`) || !strings.Contains(m, `"n":2`) {
		t.Errorf("the client got %s", m)
	}
	if code, closed := c.Closed(); closed {
		t.Errorf("the client was closed with %d", code)
	}
}

// TestNATSLossExit: with natsLossExit, the end of the grace period is the end of the gateway.
func TestNATSLossExit(t *testing.T) {
	o := &outage{t: t, ns: natstest.Start(t), clock: owner.NewManualClock(), news: make(chan struct{}, 1)}
	g, err := gateway.New(gateway.Config{
		Addr: "127.0.0.1", Port: gateway.FreePort, NATSURL: gateway.NATSURL(o.ns.URL()), DrainTimeout: gateway.Off,
		NATSGrace: outageGrace, NATSLossExit: true, Clock: o.clock, Log: slog.New(o),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Stop(t.Context()) })
	o.ns.Stop()
	o.says("clients are kept")
	testkit.Advance(t, o.clock, outageGrace-1)
	select {
	case err := <-g.Done():
		t.Fatalf("ended before the grace period was over: %v", err)
	default:
	}
	testkit.Advance(t, o.clock, 1)
	failed := errors.New("it goes on")
	o.until("the gateway ends", o.clock, func() bool {
		select {
		case failed = <-g.Done():
			return true
		default:
			return false
		}
	})
	if failed == nil || !strings.Contains(failed.Error(), "natsLossExit") {
		t.Errorf("it ended with %v", failed)
	}
}
