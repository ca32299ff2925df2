package gateway

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
)

// The in-flight requests of a client that disconnects are released immediately, not when they time
// out: otherwise a client that connects, calls and disconnects repeatedly would fill the loop.
func TestRequestsOfGoneClients(t *testing.T) {
	g := startLive(t, func(c *Config) { c.Loops = 1 })
	g.serve("access.>", always(`{"result":{"get":true,"call":"*"}}`))
	calls := make(chan *nats.Msg, 100)
	g.serve("call.>", func(m *nats.Msg) string { calls <- m; return "" })
	const clients, each = 3, 20
	for range clients {
		c := g.dial()
		for i := range each {
			c.send(fmt.Sprintf(`{"id":%d,"method":"call.test.a.m"}`, i+1))
		}
		for range each {
			<-calls
		}
		c.conn.Close()
	}
	loop := g.firstLoop()
	done := make(chan string)
	ask := func() string {
		loop.Post(func() {
			done <- fmt.Sprint(loop.Upstream.Caller.Pending(), g.netMetrics.Open.Load())
		})
		return <-done
	}
	for ask() != "0 0" { // the clients' ends have still to be noticed
		if t.Context().Err() != nil {
			t.Fatal(ask())
		}
	}
	if n := g.busMetrics.Abandoned.Load(); n != clients*each {
		t.Errorf("%d requests were abandoned", n)
	}
}
