package restest

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/natstest"
	"sluice/internal/owner"
	"sluice/internal/testkit"
)

// TestManyRequestsAtOnce: a client that resubscribes thousands of resources together gets all of
// them, however slow the service is, and clients that do so do not delay others.
func TestManyRequestsAtOnce(t *testing.T) {
	const (
		resources  = 8000
		greedy     = 5
		maxPending = 1024
	)
	many := func(client int) int { // that it wants
		if client > 0 {
			return 2 * maxPending
		}
		return resources
	}
	ns := natstest.Start(t)
	nc := ns.Client()
	var asked, answered atomic.Int64
	hold := make(chan struct{})
	queue := make(chan *nats.Msg, 1<<18)
	subscribe := func(subject string, f func(m *nats.Msg)) {
		t.Helper()
		sub, err := nc.Subscribe(subject, f)
		if err == nil {
			err = sub.SetPendingLimits(-1, -1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	subscribe("access.>", func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":{"get":true,"call":"*"}}`)) })
	subscribe("get.>", func(m *nats.Msg) { asked.Add(1); queue <- m })
	subscribe("call.>", func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":"quick"}`)) })
	go func() {
		<-hold
		for m := range queue {
			_ = m.Respond([]byte(`{"result":{"model":{"n":1}}}`))
			answered.Add(1)
		}
	}()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	g, err := startGateway(Start{NATS: ns.URL(), Clock: owner.NewManualClock(), Log: slog.New(slog.DiscardHandler)}, func(c *gateway.Config) {
		c.MaxServiceRequests = -1
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	news := make(chan struct{}, 1)
	notify := func() {
		select {
		case news <- struct{}{}:
		default:
		}
	}
	next := func(c *Client) string {
		t.Helper()
		for deadline := time.After(time.Minute); ; {
			if m, ok := c.Next(); ok {
				return m
			}
			select {
			case <-news:
			case <-time.After(time.Second): // another client's news
			case <-deadline:
				t.Fatalf("client %s receives nothing, after %d gets and %d replies", c.Name, asked.Load(), answered.Load())
			}
		}
	}
	dial := func(name string) *Client {
		t.Helper()
		c, err := Dial(name, g.URL(), notify)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Cut)
		return c
	}
	var clients []*Client
	for i := range greedy {
		c := dial(fmt.Sprint("greedy", i))
		clients = append(clients, c)
		go func() {
			for n := range many(i) {
				if c.Send(fmt.Sprintf(`{"id":%d,"method":"subscribe.test.%d.%d"}`, n+1, i, n)) != nil {
					return
				}
			}
		}()
	}
	for got := asked.Load(); got < greedy*maxPending; got = asked.Load() {
		testkit.Until(t, fmt.Sprintf("more than %d gets", got), func() bool { return asked.Load() > got })
	}
	sixth := dial("sixth")
	if err := sixth.Send(`{"id":1,"method":"call.test.it"}`); err != nil {
		t.Fatal(err)
	}
	if m := next(sixth); !strings.Contains(m, `"quick"`) {
		t.Fatal(m)
	}
	if n := asked.Load(); n != greedy*maxPending {
		t.Fatalf("%d gets are in flight, want %d for each of %d clients", n, maxPending, greedy)
	}
	close(hold)
	for i, c := range clients {
		seen := make(map[int]bool)
		for len(seen) < many(i) {
			var id, client, n int
			m := next(c)
			_, err := fmt.Sscanf(m, `{"id":%d,"result":{"models":{"test.%d.%d":{"n":1}}}}`, &id, &client, &n)
			if err != nil || client != i || id != n+1 || seen[n] {
				t.Fatalf("client %d: %s", i, m)
			}
			seen[n] = true
		}
	}
}
