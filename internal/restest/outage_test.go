package restest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/natstest"
	"sluice/internal/owner"
	"sluice/internal/testkit"
)

// outage is a gateway and a service on a NATS server that goes away.
type outage struct {
	t     *testing.T
	ns    *natstest.Server
	clock *owner.ManualClock
	url   string

	news chan struct{} // has room for one: something arrived or was logged

	mu      sync.Mutex
	logged  []string
	models  map[string]string // the service's resources: rid to JSON
	denied  map[string]bool
	mute    bool // the service does not reply
	hush    bool // nor to calls
	unheard []string
}

const outageGrace = time.Minute

func newOutage(t *testing.T, change ...func(*gateway.Config)) *outage {
	o := &outage{t: t, ns: natstest.Start(t), clock: owner.NewManualClock(), news: make(chan struct{}, 1),
		models: map[string]string{"test.a": `{"n":1}`, "test.secret": `{"word":"x"}`, "test.b": `{"n":4}`}, denied: map[string]bool{}}
	nc := o.ns.Client()
	if _, err := nc.Subscribe("*.test.>", o.serve); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	g, err := startGateway(Start{NATS: o.ns.URL(), Clock: o.clock, Log: slog.New(o)},
		func(c *gateway.Config) {
			c.NATSGrace, c.PingInterval = outageGrace, gateway.Off
			for _, f := range change {
				f(c)
			}
		})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	o.url = g.URL()
	return o
}

// serve answers the gateway's requests.
func (o *outage) serve(m *nats.Msg) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kind, rid, _ := strings.Cut(m.Subject, ".")
	if o.mute || o.hush && kind == "call" {
		o.unheard = append(o.unheard, m.Subject)
		o.wake()
		return
	}
	answer := `{"result":{"get":true,"call":"*"}}`
	switch {
	case kind == "call":
		answer = `{"result":true}`
	case kind == "get":
		answer = `{"result":{"model":` + o.models[rid] + `}}`
	case o.denied[rid]:
		answer = `{"result":{"get":false}}`
	}
	_ = m.Respond([]byte(answer)) // NATS may go at any time: the gateway asks again
}

func (o *outage) wake() {
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// until waits until cond holds. A clock advances while it waits, so that the gateway retries
// requests to services that reconnect later than the gateway.
func (o *outage) until(what string, clock *owner.ManualClock, cond func() bool) {
	o.t.Helper()
	giveUp := time.After(30 * time.Second)
	for !cond() {
		var pace <-chan time.Time
		if clock != nil {
			pace = time.After(20 * time.Millisecond)
		}
		select {
		case <-o.news:
		case <-pace:
			clock.Advance(time.Second)
		case <-giveUp:
			o.t.Fatalf("timed out waiting: %s; dropped requests: %v; the log:\n%s", what, o.unheard, strings.Join(o.logged, "\n"))
		}
	}
}

// says waits for a log record that contains text, and drops the log up to it.
func (o *outage) says(text string) {
	o.t.Helper()
	o.until(text, nil, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		i := slices.IndexFunc(o.logged, func(l string) bool { return strings.Contains(l, text) })
		if i < 0 {
			return false
		}
		o.logged = o.logged[i+1:]
		return true
	})
}

// next waits for a message.
func (o *outage) next(c *Client, clock *owner.ManualClock) (m string) {
	o.t.Helper()
	o.until("a message to "+c.Name, clock, func() bool {
		got, ok := c.Next()
		m = got
		return ok
	})
	return m
}

func (o *outage) dial() (*Client, error) { return Dial("a", o.url, o.wake) }

// subscribed returns a client of everything.
func (o *outage) subscribed() *Client {
	o.t.Helper()
	c, err := o.dial()
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(c.Cut)
	for _, m := range []string{`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`,
		`{"id":2,"method":"subscribe.test.a"}`, `{"id":3,"method":"subscribe.test.secret"}`} {
		if err := c.Send(m); err != nil {
			o.t.Fatal(err)
		}
		if m := o.next(c, nil); !strings.Contains(m, `"result":{`) {
			o.t.Fatal(m)
		}
	}
	return c
}

// Clients stay while the gateway finds a server that accepts connections and says nothing, which
// costs the time of an attempt. When another server is back, they get the differences.
func TestSilentNATSServer(t *testing.T) {
	silent := natstest.StartSilent(t, false)
	o := newOutage(t, func(c *gateway.Config) { c.NATSURL += gateway.NATSURL("," + silent.URL()) })
	c := o.subscribed()
	tried := silent.Accepted() // the first server is chosen at random
	o.ns.Stop()
	o.says("NATS connection lost")
	testkit.Until(t, "the silent server is tried", func() bool { return silent.Accepted() > tried })
	if err := c.Send(`{"id":9,"method":"subscribe.test.a"}`); err != nil {
		t.Fatal(err)
	}
	if m := o.next(c, nil); !strings.Contains(m, `"id":9`) {
		t.Error(m)
	}
	o.mu.Lock()
	o.models["test.a"] = `{"n":2}`
	o.mu.Unlock()
	o.ns.Start()
	o.says("NATS connected") // no time passes before
	if m := o.next(c, o.clock); !sameJSON(m, `{"event":"test.a.change","data":{"values":{"n":2}}}`) {
		t.Error(m)
	}
}

// What happens while NATS is away reaches clients as the difference when it is back: of resources
// and of access alike. They stay connected.
func TestNATSGoesAndComesBack(t *testing.T) {
	o := newOutage(t)
	c := o.subscribed()
	for round := range 2 {
		o.ns.Stop()
		o.says("clients are kept")
		value, denied := `{"n":2}`, true
		if round == 1 {
			value, denied = `{"n":3}`, false
		}
		o.mu.Lock()
		o.models["test.a"], o.denied["test.secret"] = value, denied
		o.mu.Unlock()
		o.ns.Start()
		o.says("connection to NATS restored")

		want := []string{`{"event":"test.a.change","data":{"values":` + value + `}}`}
		if denied {
			want = append(want, `{"event":"test.secret.unsubscribe","data":{"reason":{"code":"system.accessDenied","message":"Access denied"}}}`)
		}
		var got []string
		for range want {
			got = append(got, o.next(c, o.clock))
		}
		slices.Sort(got)
		if !slices.EqualFunc(got, want, sameJSON) {
			t.Errorf("round %d: got %q, want %q", round, got, want)
		}
	}
	if err := c.Send(`{"id":4,"method":"unsubscribe.test.a"}`); err != nil {
		t.Fatal(err)
	}
	if m := o.next(c, nil); m != `{"id":4}` {
		t.Errorf("not the response: %s", m)
	}
}

// A second cut loses the requests that the first one caused. The gateway does not wait for their
// timeout: clients receive the changes without an advance of the clock.
func TestNATSIsCutTwice(t *testing.T) {
	o := newOutage(t)
	c := o.subscribed()
	o.mu.Lock()
	o.mute = true
	o.mu.Unlock()
	o.ns.Cut("sluice")
	o.until("everything is asked again", nil, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.unheard) == 4
	})
	o.mu.Lock()
	o.mute, o.models["test.a"], o.denied["test.secret"] = false, `{"n":2}`, true
	o.mu.Unlock()
	o.ns.Cut("sluice")
	want := []string{`{"event":"test.a.change","data":{"values":{"n":2}}}`,
		`{"event":"test.secret.unsubscribe","data":{"reason":{"code":"system.accessDenied","message":"Access denied"}}}`}
	got := []string{o.next(c, nil), o.next(c, nil)}
	slices.Sort(got)
	if !slices.EqualFunc(got, want, sameJSON) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Access and get requests in flight when NATS is cut are sent again on the next connection, also a
// client's first ones: it gets its result, not a timeout. A call is not sent again, since the
// service may have handled it.
func TestRequestsInFlightAtACut(t *testing.T) {
	o := newOutage(t)
	c, err := o.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Cut)
	url := "http" + strings.TrimPrefix(o.url, "ws") + "api/test/"
	responses := make(chan string, 3)
	do := func(method, path string) {
		r, err := http.NewRequest(method, url+path, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			responses <- err.Error()
			o.wake()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		responses <- fmt.Sprint(method, " ", resp.StatusCode, " ", string(body), err)
		o.wake()
	}
	mute := func(mute bool) {
		o.mu.Lock()
		o.mute, o.unheard = mute, nil
		o.mu.Unlock()
	}
	heard := func(want ...string) {
		t.Helper()
		o.until(fmt.Sprint("the service has ", want), nil, func() bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			for _, w := range want {
				if !slices.Contains(o.unheard, w) {
					return false
				}
			}
			return true
		})
	}
	mute(true)
	if err := c.Send(`{"id":1,"method":"subscribe.test.a"}`); err != nil {
		t.Fatal(err)
	}
	go do("GET", "b")
	go do("POST", "c/m")
	heard("access.test.a", "get.test.a", "access.test.b", "get.test.b", "access.test.c")
	mute(false)
	o.ns.Cut("sluice")
	if m := o.next(c, nil); !strings.Contains(m, `"models":{"test.a":{"n":1}}`) {
		t.Errorf("subscribe: %s", m)
	}
	received := func(n int, clock *owner.ManualClock) (got []string) {
		t.Helper()
		o.until("responses", clock, func() bool {
			select {
			case r := <-responses:
				got = append(got, r)
			default:
			}
			return len(got) == n
		})
		slices.Sort(got)
		return got
	}
	got := received(2, nil)
	if want := []string{`GET 200 {"n":4}<nil>`, `POST 200 true<nil>`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	o.mu.Lock()
	o.hush = true
	o.mu.Unlock()
	go do("POST", "c/m")
	heard("call.test.c.m")
	o.ns.Cut("sluice")
	if r := received(1, o.clock)[0]; !strings.HasPrefix(r, `POST 404 {"code":"system.timeout"`) {
		t.Errorf("call in flight: %s", r)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.unheard) != 1 {
		t.Errorf("the service got %q, want one call", o.unheard)
	}
}

func sameJSON(a, b string) bool {
	var v, w any
	if json.Unmarshal([]byte(a), &v) != nil || json.Unmarshal([]byte(b), &w) != nil {
		return false
	}
	x, _ := json.Marshal(v)
	y, _ := json.Marshal(w)
	return string(x) == string(y)
}

// Clients that have waited for the grace period are closed with 1012, and new ones are refused
// until NATS is back.
func TestNATSStaysAway(t *testing.T) {
	o := newOutage(t)
	c := o.subscribed()
	o.ns.Stop()
	o.says("clients are kept")
	if _, err := o.dial(); err != nil {
		t.Errorf("a new client within the grace period: %v", err)
	}
	testkit.Advance(t, o.clock, outageGrace-1)
	if _, closed := c.Closed(); closed {
		t.Fatal("closed before the grace period was over")
	}
	testkit.Advance(t, o.clock, 1)
	o.until("the client is closed", nil, func() bool { _, closed := c.Closed(); return closed })
	if code, _ := c.Closed(); code != 1012 {
		t.Errorf("closed with %d", code)
	}
	var status ws.StatusError
	if _, err := o.dial(); !errors.As(err, &status) || int(status) != http.StatusServiceUnavailable {
		t.Errorf("a new client past the grace period: %v", err)
	}
	o.ns.Start()
	o.says("connection to NATS restored")
	o.until("the service is back", o.clock, func() bool {
		again, err := o.dial()
		if err != nil {
			t.Fatalf("a new client after NATS is restored: %v", err)
		}
		defer again.Cut()
		if err := again.Send(`{"id":1,"method":"get.test.a"}`); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(o.next(again, o.clock), `"n":1`)
	})
}

// Enabled implements slog.Handler.
func (o *outage) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (o *outage) Handle(_ context.Context, r slog.Record) error {
	o.mu.Lock()
	o.logged = append(o.logged, r.Message)
	o.mu.Unlock()
	o.wake()
	return nil
}

// WithAttrs implements slog.Handler.
func (o *outage) WithAttrs([]slog.Attr) slog.Handler { return o }

// WithGroup implements slog.Handler.
func (o *outage) WithGroup(string) slog.Handler { return o }
