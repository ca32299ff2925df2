package restest

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/owner"
	"sluice/internal/testkit"
)

// serial is a service that handles its requests one by one, in the order of arrival, as go-res
// does for those of one resource.
type serial struct {
	t     *testing.T
	nc    *nats.Conn
	url   string
	slow  string        // whose get sends a pre-response, and takes long
	busy  chan struct{} // has room for one: the slow get has begun
	ready chan struct{} // closed when the slow get may end
	stop  chan struct{} // closed when the test ends

	mu   sync.Mutex
	seen []string // subjects of requests
}

func newSerial(t *testing.T, loops, shards int, slow string, clock *owner.ManualClock) *serial {
	ns := startNATS(t)
	nc, err := nats.Connect(ns.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	s := &serial{t: t, nc: nc, slow: slow, busy: make(chan struct{}, 1), ready: make(chan struct{}), stop: make(chan struct{})}
	requests := make(chan *nats.Msg, 1000)
	for _, subjects := range []string{"access.>", "get.>", "call.>", "auth.>"} {
		if _, err := nc.ChanSubscribe(subjects, requests); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case m := <-requests:
				s.serve(m)
			case <-s.stop:
				return
			}
		}
	}()
	t.Cleanup(func() { nc.Close(); close(s.stop); <-ended })
	g, err := startGateway(Start{NATS: ns.ClientURL(), Clock: clock, Log: slog.New(slog.DiscardHandler)}, func(c *gateway.Config) {
		c.Loops, c.Shards, c.RequestTimeout, c.PingInterval = loops, shards, 3*time.Second, gateway.Off
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	s.url = g.URL()
	return s
}

func (s *serial) serve(m *nats.Msg) {
	s.mu.Lock()
	s.seen = append(s.seen, m.Subject)
	s.mu.Unlock()
	kind, name, _ := strings.Cut(m.Subject, ".")
	answer := `{"result":{"get":true,"call":"*"}}`
	switch kind {
	case "call", "auth":
		answer = `{"resource":{"rid":"` + name + `"}}`
	case "get":
		answer = `{"result":{"model":{"x":1}}}`
		if name == s.slow {
			_ = m.Respond([]byte(`timeout:"60000"`))
			_ = s.nc.Publish("event.test.other.slow", nil) // after the pre-response
			s.busy <- struct{}{}
			select {
			case <-s.ready:
			case <-s.stop:
			}
		}
	}
	_ = m.Respond([]byte(answer)) // fails if the test has ended
}

// order checks that access to a resource was asked before the resource, and what was asked before
// both.
func (s *serial) order(name string, before ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, subject := range s.seen {
		if subject == "access."+name || subject == "get."+name || slices.Contains(before, subject) {
			got = append(got, subject)
		}
	}
	if want := append(before, "access."+name, "get."+name); !slices.Equal(got, want) {
		s.t.Errorf("asked %v, want %v", got, want)
	}
}

// serialClient is a WebSocket client of the service.
type serialClient struct {
	*Client
	t    *testing.T
	news chan struct{}
}

func (s *serial) client() *serialClient {
	s.t.Helper()
	news := make(chan struct{}, 1)
	c, err := Dial("a", s.url, func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Cut)
	return &serialClient{c, s.t, news}
}

func (c *serialClient) send(m string) {
	c.t.Helper()
	if err := c.Send(m); err != nil {
		c.t.Fatal(err)
	}
}

func (c *serialClient) next() string {
	c.t.Helper()
	giveUp := time.After(30 * time.Second)
	for {
		if m, ok := c.Next(); ok {
			return m
		}
		select {
		case <-c.news:
		case <-giveUp:
			c.t.Fatal("no message was received")
		}
	}
}

func (c *serialClient) want(m string) {
	c.t.Helper()
	if got := c.next(); !sameJSON(got, m) {
		c.t.Fatalf("got %s, want %s", got, m)
	}
}

// TestSlowGetDoesNotStarveAccess: a service asks for more time for a get, which then takes longer
// than the request timeout. The access request was sent before it.
func TestSlowGetDoesNotStarveAccess(t *testing.T) {
	clock := owner.NewManualClock()
	s := newSerial(t, 1, 1, "test.slow", clock) // one owner each: what was sent before the event has taken effect when the event arrives
	c := s.client()
	c.send(`{"id":1,"method":"subscribe.test.other"}`)
	c.want(`{"id":1,"result":{"models":{"test.other":{"x":1}}}}`)
	c.send(`{"id":2,"method":"subscribe.test.slow"}`)
	<-s.busy
	c.want(`{"event":"test.other.slow"}`)
	testkit.Advance(t, clock, 10*time.Second)
	close(s.ready)
	c.want(`{"id":2,"result":{"models":{"test.slow":{"x":1}}}}`)
}

// TestAccessLeavesFirst: the access request of a resource precedes its get, and follows the
// client's earlier requests.
func TestAccessLeavesFirst(t *testing.T) {
	for _, owners := range []struct{ loops, shards int }{{1, 1}, {2, 4}} {
		t.Run(fmt.Sprintf("%d loops, %d shards", owners.loops, owners.shards), func(t *testing.T) {
			s := newSerial(t, owners.loops, owners.shards, "", nil)
			c := s.client()
			c.send(`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`)
			c.next()
			for i := range 20 {
				n := fmt.Sprint(i)
				c.send(`{"id":2,"method":"subscribe.test.s` + n + `"}`)
				c.next()
				s.order("test.s" + n)
				c.send(`{"id":3,"method":"get.test.g` + n + `"}`)
				c.next()
				s.order("test.g" + n)
				c.send(`{"id":4,"method":"auth.test.a.b` + n + `"}`) // answered with test.a.b…
				c.send(`{"id":5,"method":"subscribe.test.p` + n + `"}`)
				c.next()
				c.next()
				s.order("test.p"+n, "auth.test.a.b"+n)
				s.order("test.a.b" + n)

				r, err := http.Get(strings.Replace(strings.TrimSuffix(s.url, "/"), "ws:", "http:", 1) + "/api/test/h" + n)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(r.Body)
				_ = r.Body.Close()
				if err != nil || string(body) != `{"x":1}` {
					t.Fatalf("%s, %v", body, err)
				}
				s.order("test.h" + n)
			}
		})
	}
}
