package gateway

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/memory"
	"sluice/internal/testkit"
)

// pressed starts a gateway whose memory is in use to as many percent as the returned value says.
func pressed(t *testing.T, change func(*Config)) (*live, *atomic.Int64) {
	used := new(atomic.Int64)
	g := create(t, change)
	o := g.watchOptions(10000)
	o.Read = func() memory.Reading { return memory.Reading{Used: used.Load() * 100} }
	o.Collect = func() {}
	g.memory = memory.NewWatch(o)
	return start(t, g), used
}

// upgrade returns the status of the response to a WebSocket handshake.
func (g *live) upgrade() int {
	g.tb.Helper()
	c, err := net.Dial("tcp", g.Addr().String())
	if err != nil {
		g.tb.Fatal(err)
	}
	g.tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	var status int
	if _, err := fmt.Fscanf(c, "HTTP/1.1 %d", &status); err != nil {
		g.tb.Fatal(err)
	}
	return status
}

// TestMemoryPressure: above 90% of the memory limit the gateway sheds in the stated order, and
// serves those that are there.
func TestMemoryPressure(t *testing.T) {
	g, used := pressed(t, func(c *Config) {
		c.CacheEviction, c.PingInterval, c.OutboxBytes = 24*time.Hour, Off, 256<<20
	})
	g.serve("access.>", always(`{"result":{"get":true,"call":"*"}}`))
	g.serve("get.>", always(`{"result":{"model":{"n":1}}}`))
	result := `{"result":"` + strings.Repeat("x", 500_000) + `"}`
	g.serve("call.>", func(m *nats.Msg) string {
		if strings.HasSuffix(m.Subject, "long") {
			return result
		}
		return `{"result":1}`
	})
	until := func(what string, cond func() bool) { t.Helper(); testkit.Until(t, what, cond) }
	reader, slow := g.dial(), g.dial()
	if status, body := g.get("/api/test/cached"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	until("a resource is cached", func() bool { return g.cacheMetrics.Unused.Load() > 0 })
	for n := range 40 { // more than the sockets' buffers, and not so much that it takes long
		slow.send(fmt.Sprintf(`{"id":%d,"method":"call.test.model.long"}`, n))
	}
	until("a client is slow", func() bool { return g.netMetrics.BacklogBytes.Load() > 4<<20 })

	used.Store(91)
	until("the unused cache goes", func() bool { return g.cacheMetrics.Unused.Load() == 0 })
	if status := g.upgrade(); status != http.StatusSwitchingProtocols {
		t.Errorf("a new client got %d at 91%%", status)
	}
	used.Store(94)
	until("new clients get 503", func() bool { return g.upgrade() == http.StatusServiceUnavailable })
	if n := g.netMetrics.BacklogClosed.Load(); n != 0 {
		t.Errorf("%d slow clients were closed at 94%%", n)
	}
	used.Store(97)
	until("the slow client goes", func() bool { return g.netMetrics.BacklogClosed.Load() == 1 })
	reader.send(`{"id":1,"method":"call.test.model.short"}`)
	if m := reader.next(); !strings.Contains(m, `"result"`) {
		t.Errorf("a client that reads got %s", m)
	}
	used.Store(50)
	until("new clients are served again", func() bool { return g.upgrade() == http.StatusSwitchingProtocols })
	if g.memory.Level() != memory.Enough || g.memory.Raised(memory.Scarce) != 1 {
		t.Errorf("the level is %v", g.memory.Level())
	}
}

// TestHeldEventsAreShed: events that are held for a client that does not read count for
// backlogBytes. Beyond it the client goes, and the events with it.
func TestHeldEventsAreShed(t *testing.T) {
	g := start(t, create(t, func(c *Config) {
		c.PingInterval, c.OutboxBytes, c.BacklogBytes = Off, 256<<20, 16<<20
	}))
	g.serve("access.>", always(`{"result":{"get":true}}`))
	g.serve("get.>", always(`{"result":{"model":{"n":1}}}`))
	reader, slow := g.dial(), g.dial()
	for _, c := range []*wsClient{reader, slow} {
		c.send(`{"id":1,"method":"subscribe.test.model"}`)
		if m := c.next(); !strings.Contains(m, `"models"`) {
			t.Fatal(m)
		}
	}
	event := `"` + strings.Repeat("x", 200_000) + `"`
	publish := func() {
		g.publish("event.test.model.custom", event)
		if m := reader.next(); !strings.Contains(m, "test.model.custom") {
			t.Fatalf("%.200s", m)
		}
	}
	held := false
	for n := 0; n < 300 && g.netMetrics.BacklogClosed.Load() == 0; n++ {
		publish()
		held = held || g.sessionMetrics.HeldBytes.Load() > 0
	}
	if !held {
		t.Error("no event was held")
	}
	testkit.Until(t, "the slow client goes", func() bool { return g.netMetrics.BacklogClosed.Load() == 1 })
	testkit.Until(t, "nothing is held", func() bool { return g.sessionMetrics.HeldBytes.Load() == 0 })
	publish()
	if n := g.netMetrics.BacklogClosed.Load(); n != 1 {
		t.Errorf("%d clients were closed", n)
	}
}
