package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/restest"
	"sluice/internal/testkit"
)

// counted is a service with models that count up. Each change is an event, and a custom event
// follows it.
type counted struct {
	t    *testing.T
	nc   *nats.Conn
	mu   sync.Mutex
	n    []int // state of the models, by number
	gets int
	stop chan struct{}
}

func newCounted(t *testing.T, url string, models int) *counted {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	s := &counted{t: t, nc: nc, n: make([]int, models), stop: make(chan struct{})}
	for subject, reply := range map[string]func(m *nats.Msg) string{
		"get.test.*":    s.get,
		"access.test.>": func(*nats.Msg) string { return `{"result":{"get":true,"call":"*"}}` },
		"call.test.>":   func(*nats.Msg) string { return `{"result":"done"}` },
	} {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			s.mu.Lock() // a reply keeps its place among the events
			defer s.mu.Unlock()
			_ = m.Respond([]byte(reply(m)))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return s
}

// get returns the reply to a get request; the caller holds mu.
func (s *counted) get(m *nats.Msg) string {
	s.gets++
	var i int
	if _, err := fmt.Sscanf(m.Subject, "get.test.%d", &i); err != nil || i >= len(s.n) {
		return `{"error":{"code":"system.notFound","message":"Not found"}}`
	}
	return fmt.Sprintf(`{"result":{"model":{"n":%d}}}`, s.n[i])
}

// run changes one model after the other until stop is closed.
func (s *counted) run(pace <-chan time.Time) (ended chan struct{}) {
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i = (i + 1) % len(s.n) {
			s.mu.Lock()
			s.n[i]++
			_ = s.nc.Publish(fmt.Sprintf("event.test.%d.change", i), fmt.Appendf(nil, `{"values":{"n":%d}}`, s.n[i]))
			s.mu.Unlock()
			_ = s.nc.Publish(fmt.Sprintf("event.test.%d.bang", i), nil)
			select {
			case <-pace:
			case <-s.stop:
				return
			}
		}
	}()
	return ended
}

func (s *counted) state() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int(nil), s.n...)
}

func (s *counted) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets
}

// holder is a client that subscribes to models, and keeps what it is told.
type holder struct {
	*restest.Client
	t    *testing.T
	n    map[int]int // by model
	open map[int]int // the model of each subscription that has no response; -1: a call
	last int         // id of the newest request
}

func (h *holder) subscribe(i int) { h.send(i, fmt.Sprintf("subscribe.test.%d", i)) }

func (h *holder) send(i int, method string) {
	h.t.Helper()
	h.last++
	h.open[h.last] = i
	if err := h.Send(fmt.Sprintf(`{"id":%d,"method":%q}`, h.last, method)); err != nil {
		h.t.Fatal(err)
	}
}

// fold takes what has arrived. A subscription that failed is tried again.
func (h *holder) fold() {
	h.t.Helper()
	for text, ok := h.Next(); ok; text, ok = h.Next() {
		var m struct {
			ID     int
			Error  *struct{ Code string }
			Result struct {
				Models map[string]struct{ N int }
			}
			Event string
			Data  struct {
				Values struct{ N int }
				Reason struct{ Code string }
			}
		}
		if err := json.Unmarshal([]byte(text), &m); err != nil && !strings.Contains(text, `"done"`) {
			h.t.Fatalf("%v: %s", err, text)
		}
		if m.ID != 0 {
			i := h.open[m.ID]
			delete(h.open, m.ID)
			if m.Error != nil && !unanswered(m.Error.Code) {
				h.t.Errorf("a request ended with %s", text)
			}
			if m.Error != nil && i >= 0 {
				h.subscribe(i)
			}
			for rid, model := range m.Result.Models {
				h.set(rid, model.N)
			}
			continue
		}
		if rid, ok := strings.CutSuffix(m.Event, ".change"); ok {
			h.set(rid, m.Data.Values.N)
		} else if rid, ok := strings.CutSuffix(m.Event, ".unsubscribe"); ok && unanswered(m.Data.Reason.Code) {
			h.subscribe(modelOf(h.t, rid)) // its access was being asked for when the relay was killed
		} else if !strings.HasSuffix(m.Event, ".bang") {
			h.t.Errorf("unexpected: %s", text)
		}
	}
}

// unanswered reports whether a request ended so because its relay was killed, or there was none.
func unanswered(code string) bool { return code == "system.timeout" || code == "system.notFound" }

// modelOf returns the number of a model.
func modelOf(t *testing.T, rid string) (i int) {
	t.Helper()
	if _, err := fmt.Sscanf(rid, "test.%d", &i); err != nil {
		t.Fatalf("%s: %v", rid, err)
	}
	return i
}

func (h *holder) set(rid string, n int) {
	h.t.Helper()
	i := modelOf(h.t, rid)
	if n < h.n[i] {
		h.t.Errorf("%s goes back from %d to %d", rid, h.n[i], n)
	}
	h.n[i] = n
}

// exact waits until the client has a response to each request, and holds what the service has.
func (h *holder) exact(s *counted) {
	h.t.Helper()
	testkit.Until(h.t, "the client holds the service's state", func() bool {
		h.fold()
		if len(h.open) > 0 {
			return false
		}
		for i, n := range s.state() {
			if h.n[i] != n {
				return false
			}
		}
		return true
	})
}

// TestRelayKilled: relays are killed under traffic of changes, custom events, calls and
// subscriptions. A standby takes over; later there is none, and a new relay starts. Each time no
// request hangs, the client is exact afterwards, and edges pay one reset of everything.
func TestRelayKilled(t *testing.T) {
	const models, late = 30, 10
	home, edge := natstest.Start(t), natstest.Start(t)
	s := newCounted(t, home.URL(), models)
	start := func() *child {
		return spawn(t, nil, "relay", "--nats", home.URL(), "--downstream", edge.URL(), "--relay-lease", "2s", "--addr", "127.0.0.1")
	}
	active := func(c *child) { t.Helper(); c.after("msg=\"active: edges are served\" edge=") }
	first := start()
	active(first)
	standby := start()
	standby.after("msg=\"relay started\" home=")

	resets := make(chan *nats.Msg, 1000)
	if _, err := edge.Client().ChanSubscribe("system.reset", resets); err != nil {
		t.Fatal(err)
	}
	gateway := listening(t, "--nats", edge.URL(), "--resetthrottle", "4", "-r", "3000")
	c, err := restest.Dial("c", "ws://"+gateway.addr, func() {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Cut)
	h := &holder{Client: c, t: t, n: map[int]int{}, open: map[int]int{}}
	for i := range models - late {
		h.subscribe(i)
	}
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	ended := s.run(pace.C)
	seen := func(what string) {
		t.Helper()
		before := h.n[0]
		testkit.Until(t, what, func() bool { h.fold(); return h.n[0] > before+2 })
	}
	seen("changes arrive")

	// The standby takes over while requests are made.
	h.send(-1, "call.test.0.set")
	if err := first.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for i := range late {
		h.subscribe(models - late + i)
		h.send(-1, "call.test.1.set")
	}
	active(standby)
	seen("changes arrive through the standby")

	// There is no standby, and a new relay starts, with an empty cache.
	if err := standby.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-standby.exited
	h.send(-1, "call.test.2.set")
	for len(resets) > 0 {
		<-resets
	}
	before := s.asked()
	last := start()
	active(last)
	seen("changes arrive through the new relay")
	close(s.stop)
	testkit.Await(t, ended, "the end of the changes")
	h.exact(s)
	// A process that is not run for long loses its lease, and takes it again.
	times := last.output.Count("msg=\"active: edges are served\"")
	if n := s.asked() - before; n > (1+times)*models {
		t.Errorf("%d gets for %d models after a restart", n, models)
	}
	everything := 0
	for len(resets) > 0 {
		if m := <-resets; strings.Contains(string(m.Data), `">"`) {
			everything++
		}
	}
	if everything == 0 || everything > times {
		t.Errorf("%d resets of everything after %d activations", everything, times)
	}
}
