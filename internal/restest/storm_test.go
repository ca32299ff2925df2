package restest

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/natstest"
)

// TestStorm lets many clients connect and subscribe at once, to resources of a service with few
// workers. The service never has more requests than the maximum, no request comes twice, and every
// client gets everything.
func TestStorm(t *testing.T) {
	for _, layout := range []struct {
		name   string
		change func(*gateway.Config)
	}{
		{"default", func(*gateway.Config) {}},
		{"many", func(c *gateway.Config) { c.Loops, c.Shards, c.NATSConnections = 3, 4, 3 }},
		{"throttled", func(c *gateway.Config) { c.ReferenceThrottle, c.ResetThrottle = 1, 1 }},
	} {
		t.Run(layout.name, func(t *testing.T) { storm(t, layout.change) })
	}
}

func storm(t *testing.T, change func(*gateway.Config)) {
	const (
		clients = 300
		shared  = 4
		workers = 4
		most    = 20
	)
	ns := natstest.Start(t)
	var now, high, requests atomic.Int64
	var mu sync.Mutex
	asked := map[string]int{}
	queue := make(chan *nats.Msg, 1<<16)
	nc := ns.Client()
	for _, subject := range []string{"access.>", "get.>"} {
		sub, err := nc.Subscribe(subject, func(m *nats.Msg) {
			for n, before := now.Add(1), high.Load(); n > before && !high.CompareAndSwap(before, n); before = high.Load() {
			}
			requests.Add(1)
			queue <- m
		})
		if err == nil {
			err = sub.SetPendingLimits(-1, -1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	work := func(m *nats.Msg) {
		mu.Lock()
		asked[m.Subject+string(m.Data)]++
		mu.Unlock()
		<-time.After(time.Millisecond)
		now.Add(-1)
		reply := `{"result":{"get":true}}`
		switch {
		case strings.HasPrefix(m.Subject, "get.storm.list."):
			reply = `{"result":{"collection":[{"rid":"storm.shared.0"},{"rid":"storm.shared.1"},{"rid":"storm.leaf"}]}}`
		case strings.HasPrefix(m.Subject, "get."):
			reply = `{"result":{"model":{"n":1}}}`
		}
		_ = m.Respond([]byte(reply))
	}
	for range workers {
		go func() {
			for m := range queue {
				work(m)
			}
		}()
	}
	g, err := startGateway(Start{NATS: ns.URL(), Log: slog.New(slog.DiscardHandler)}, func(c *gateway.Config) {
		c.MaxServiceRequests = most
		c.RequestTimeout, c.QueueTimeout = time.Minute, time.Hour
		change(c)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	failed := make(chan error, clients)
	for i := range clients {
		go func() { failed <- stormClient(fmt.Sprint(i), g.URL(), shared) }()
	}
	for range clients {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	if n := high.Load(); n > most {
		t.Errorf("%d requests at the service, the maximum is %d", n, most)
	}
	mu.Lock()
	defer mu.Unlock()
	for request, n := range asked {
		if n > 1 {
			t.Errorf("%d times: %s", n, request)
		}
	}
	const want = clients*(shared+1) + clients + shared + 1 // access requests; gets of lists, shared models, the leaf
	if n := requests.Load(); n != want {
		t.Errorf("%d requests, want %d", n, want)
	}
}

// stormClient subscribes to a list of its own and to the shared resources, and awaits the
// responses.
func stormClient(name, url string, shared int) error {
	news := make(chan struct{}, 1)
	c, err := Dial(name, url, func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer c.Cut()
	rids := []string{"storm.list." + name}
	for i := range shared {
		rids = append(rids, fmt.Sprint("storm.shared.", i))
	}
	for i, rid := range rids {
		if err := c.Send(fmt.Sprintf(`{"id":%d,"method":"subscribe.%s"}`, i+1, rid)); err != nil {
			return err
		}
	}
	deadline := time.After(2 * time.Minute)
	for got := 0; got < len(rids); {
		m, ok := c.Next()
		switch {
		case ok && !strings.Contains(m, `"result"`):
			return fmt.Errorf("client %s: %s", name, m)
		case ok:
			got++
			continue
		}
		select {
		case <-news:
		case <-deadline:
			return fmt.Errorf("client %s has %d of %d responses", name, got, len(rids))
		}
	}
	return nil
}
