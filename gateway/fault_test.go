//go:build !invariants

package gateway

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"sluice/internal/owner"
)

// bombLog is a log handler that panics at one message, once: every owner logs in the middle of its
// work. It records all other messages.
type bombLog struct {
	*syncLog
}

type syncLog struct {
	mu    sync.Mutex
	bomb  string
	lines []string
}

func (b bombLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelDebug }
func (b bombLog) WithAttrs([]slog.Attr) slog.Handler           { return b }
func (b bombLog) WithGroup(string) slog.Handler                { return b }

func (b bombLog) Handle(_ context.Context, r slog.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bomb != "" && strings.Contains(r.Message, b.bomb) {
		b.bomb = ""
		panic("bomb: " + r.Message)
	}
	b.lines = append(b.lines, r.Message)
	return nil
}

func (b *syncLog) set(bomb string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bomb = bomb
}

func (b *syncLog) logged(message string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lines {
		if strings.Contains(l, message) {
			n++
		}
	}
	return n
}

// holds is what the service holds.
var holds atomic.Value

// startFaulty starts a gateway of one loop with two clients on one resource.
func startFaulty(t *testing.T) (g *live, log *syncLog, a, b *wsClient) {
	log = new(syncLog)
	g = startLive(t, func(c *Config) { c.Loops, c.Shards, c.Log = 1, 1, slog.New(bombLog{log}) })
	g.serve("access.>", func(m *nats.Msg) string {
		if m.Subject == "access.web" {
			return "{"
		}
		return `{"result":{"get":true,"call":"*"}}`
	})
	holds.Store("1")
	g.serve("get.>", func(*nats.Msg) string { return `{"result":{"model":{"n":` + holds.Load().(string) + `}}}` })
	g.serve("call.test.ping", always(`{"result":null}`))
	a, b = g.dial(), g.dial()
	for _, c := range []*wsClient{a, b} {
		c.ask("version", `{"protocol":"1.2.3"}`)
		if m, _ := c.ask("subscribe.test", ""); !strings.Contains(m, `"n":1`) {
			t.Fatal(m)
		}
	}
	return g, log, a, b
}

// served checks that a client receives responses and events.
func (g *live) served(c *wsClient, n string) {
	g.tb.Helper()
	holds.Store(n)
	g.publish("event.test.change", `{"values":{"n":`+n+`}}`)
	c.until(`"n":` + n)
	if m, _ := c.ask("call.test.ping", ""); !strings.Contains(m, `"payload":null`) {
		g.tb.Error(m)
	}
}

// A panic in the handling of a client's message closes that client with 1011, and no other.
func TestPanicInAMessage(t *testing.T) {
	g, log, a, b := startFaulty(t)
	log.set("message from client dropped")
	a.send(`{"id":1}`)
	a.send("no JSON")
	if code := a.end(); code != 1011 {
		t.Errorf("closed with %d", code)
	}
	g.served(b, "2")
	if n := g.faults.Count(owner.Loop); n != 1 || log.logged("panic contained") != 1 {
		t.Errorf("%d panics, %d lines", n, log.logged("panic contained"))
	}
	c := g.dial()
	if m, _ := c.ask("subscribe.test", ""); !strings.Contains(m, `"n":2`) {
		t.Error(m)
	}
}

// After a panic in a shard's handling of an event, all clients are connected and consistent.
func TestPanicInAShard(t *testing.T) {
	g, log, a, b := startFaulty(t)
	log.set("bad event dropped")
	g.publish("event.test.change", "{")
	g.served(a, "3")
	b.until(`"n":3`)
	if n := g.faults.Count(owner.Shard); n != 1 {
		t.Errorf("%d panics", n)
	}
}

// A panic of the dispatcher is followed by a gap, after which all clients are consistent.
func TestPanicInTheDispatcher(t *testing.T) {
	g, log, a, b := startFaulty(t)
	log.set("system.reset dropped")
	g.publish("system.reset", "{")
	g.served(a, "4")
	b.until(`"n":4`)
	if n := g.faults.Count(owner.Dispatcher); n != 1 {
		t.Errorf("%d panics", n)
	}
}

// A panic in a loop's mailbox that is not on behalf of a client closes none.
func TestPanicInALoop(t *testing.T) {
	g, _, a, b := startFaulty(t)
	l := g.firstLoop()
	l.Post(func() { panic("bomb: mailbox") })
	g.served(a, "5")
	b.until(`"n":5`)
	if n := g.faults.Count(owner.Loop); n != 1 {
		t.Errorf("%d panics", n)
	}
}

// A panic in the handling of a service's reply closes the client that sent the request, on
// WebSocket and HTTP.
func TestPanicInAReply(t *testing.T) {
	g, log, a, b := startFaulty(t)
	g.serve("call.test.bad", always(`{"result":`))
	log.set("invalid answer from a service")
	a.send(`{"id":7,"method":"call.test.bad"}`)
	if code := a.end(); code != 1011 {
		t.Errorf("closed with %d", code)
	}
	g.served(b, "6")
	log.set("invalid answer from a service")
	if status, body := g.get("/api/web"); status != 500 {
		t.Errorf("status %d: %s", status, body)
	}
	g.served(b, "7")
	if n := g.faults.Count(owner.Loop); n != 2 {
		t.Errorf("%d panics", n)
	}
}
