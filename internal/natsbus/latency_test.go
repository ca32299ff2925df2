package natsbus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/limit"
)

func TestIsError(t *testing.T) {
	long := strings.Repeat("x", errorWithin)
	for text, want := range map[string]bool{
		`{"error":{"code":"a"}}`:                     true,
		" {\n\"error\" : {} }":                       true,
		`{"result":null,"error":{}}`:                 true,
		`{"meta":{"header":{"A":["}"]}},"error":{}}`: true,
		`{"meta":{"a":"\"}"} , "error":{}}`:          true,
		`{"meta":null,"error":{}}`:                   true,
		`{"error":null}`:                             false,
		`{"error":null,"result":1}`:                  false,
		`{"result":{"error":1}}`:                     false,
		`{"result":1,"error":{}}`:                    false,
		`{"resource":{"rid":"error"}}`:               false,
		`{"meta":{"a":"` + long + `"},"error":{}}`:   false,
		`{"meta":{"error":1},"result":null}`:         false,
		``:                                           false,
		`{`:                                          false,
		`{}`:                                         false,
		`{"error"`:                                   false,
		`{"error":`:                                  true,
		`{"error`:                                    false,
		`["error"]`:                                  false,
		`{"meta":"x","error":{}}`:                    false,
		`{"meta":`:                                   false,
		`timeout:"1000"`:                             false,
		strings.Repeat(" ", errorWithin) + `{"error":{}}`: false,
	} {
		if got := isError([]byte(text)); got != want {
			t.Errorf("%.60s: %v, want %v", text, got, want)
		}
	}
}

func FuzzIsError(f *testing.F) {
	f.Add([]byte(`{"meta":{"a":"\"}"} , "error":{}}`))
	f.Fuzz(func(_ *testing.T, b []byte) { isError(b) })
}

// latencies returns the numbers and sums of all results that occurred.
func latencies(m *Metrics) string {
	var all []string
	for k := range limit.Kinds {
		for r := range Results {
			if h := m.Latency(k, r); h.Count() > 0 {
				all = append(all, fmt.Sprintf("%v %v %d %.3g", k, r, h.Count(), h.Sum()))
			}
		}
	}
	return strings.Join(all, ", ")
}

// The latency of a request counts from when it was sent, under its kind and result.
func TestLatency(t *testing.T) {
	h := newHarness(t)
	m := h.bus.Metrics()
	other := h.bus.NewCaller(7, h.wheel, h.clock.Now)
	request := func(c *Caller, subject string, reply Reply) {
		t.Helper()
		done := false
		c.Request(Request{Name: "a", Subject: subject}, func([]byte, error) { done = true })
		s := c.slot(0)
		if !s.claim(s.gen(), h.clock.Now()) { // as the publisher does when it sends
			t.Fatal("the request cannot be sent")
		}
		reply.slot, reply.gen, reply.at = 0, s.gen(), h.clock.Now()+time.Second
		c.Deliver(reply)
		if !done {
			t.Error("the request has not ended")
		}
	}
	request(h.caller, "get.a", Reply{Data: []byte(`{"result":1}`)})
	request(h.caller, "get.a", Reply{Data: []byte(`{"error":{}}`)})
	request(h.caller, "access.a", Reply{Err: ErrNoResponders})
	request(h.caller, "call.a.b", Reply{Err: ErrClosed}) // not measured
	request(h.caller, "_INBOX.1", Reply{})
	request(other, "get.a", Reply{})
	request(other, "auth.a.b", Reply{})
	want := "access no_responders 1 1, get ok 2 2, get error 1 1, auth ok 1 1, query ok 1 1"
	if got := latencies(m); got != want {
		t.Errorf("latencies are %s; want %s", got, want)
	}
	h.caller.Request(Request{Name: "a", Subject: "get.a"}, func([]byte, error) {})
	h.caller.Deliver(Reply{Err: ErrOverloaded, slot: 0, gen: h.caller.slot(0).gen()}) // was not sent
	if got := latencies(m); got != want {
		t.Errorf("with a request that was not sent, latencies are %s", got)
	}
}

// A timeout is measured as the time for which the service had the request, and NATS's own replies
// count as such.
func TestLatencyOfTimeouts(t *testing.T) {
	h := newHarness(t)
	asked := make(chan struct{}, 1)
	h.service("call.a.b", func(*nats.Conn, *nats.Msg) { asked <- struct{}{} })
	nobody := h.request("b", "get.b", "{}")
	h.caller.Flush()
	h.finish(nobody)
	o := h.request("a", "call.a.b", "{}")
	h.caller.Flush()
	<-asked
	h.advance(3*time.Second + time.Millisecond)
	h.finish(o)
	if got, want := latencies(h.bus.Metrics()), "get no_responders 1 0, call timeout 1 3"; got != want {
		t.Errorf("latencies are %s; want %s", got, want)
	}
}
