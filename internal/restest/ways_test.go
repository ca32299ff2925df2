package restest

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway"
	"sluice/internal/resmodel"
)

const (
	waysEach   = 4   // clients of each kind
	waysEvents = 300 // rounds of events
)

// TestOneResourceThreeWays: WebSocket clients, streams and plain GETs of the same resource, begun
// together, cost one get request on NATS; while it changes, none of them sees a state that never
// was; at the end they all have the same one.
func TestOneResourceThreeWays(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout.name, func(t *testing.T) {
			w := newWays(t, layout.loops, layout.shards)
			w.begin()
			for n := 1; n <= waysEvents; n++ {
				w.round(n)
			}
			w.end()
		})
	}
}

// ways is the service and its clients. The test's goroutine owns it, except what getter names.
type ways struct {
	t       *testing.T
	service *Service
	store   *resmodel.Store
	wake    chan struct{}
	base    string // of resources over HTTP

	sockets []*Client
	streams []*HTTP
	views   map[any]*resmodel.View // of both
	done    map[any]int            // last events seen, one of each resource

	getters sync.WaitGroup
	stop    chan struct{}
	gone    chan struct{} // closed when all getters have ended
	bodies  [waysEach]string
	asked   map[string]int // requests, by subject
}

func newWays(t *testing.T, loops, shards int) *ways {
	ns := startNATS(t)
	w := &ways{t: t, store: resmodel.NewStore(), wake: make(chan struct{}, 1), views: map[any]*resmodel.View{}, done: map[any]int{},
		stop: make(chan struct{}), gone: make(chan struct{}), asked: map[string]int{}}
	var err error
	if w.service, err = NewService(ns.ClientURL(), w.notify); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.service.Close)
	g, err := startGateway(Start{NATS: ns.ClientURL(), Log: slog.New(slog.DiscardHandler)}, func(c *gateway.Config) {
		c.Loops, c.Shards, c.RequestTimeout = loops, shards, time.Minute
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	w.store.Set("test.list", []any{"first", map[string]any{"rid": "test.child"}})
	w.store.Set("test.child", map[string]any{"n": 0, "again": 0})
	addr := strings.TrimSuffix(strings.TrimPrefix(g.URL(), "ws://"), "/")
	w.base = "http://" + addr + "/api"
	for i := range waysEach {
		c, err := Dial(fmt.Sprintf("socket%d", i), g.URL(), w.notify)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Cut)
		w.sockets = append(w.sockets, c)
		h, err := DialHTTP(fmt.Sprintf("stream%d", i), addr, w.notify)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.Cut)
		w.streams = append(w.streams, h)
	}
	return w
}

func (w *ways) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// begin lets everybody ask, and answers the only get request when all have.
func (w *ways) begin() {
	for _, c := range w.sockets {
		v := resmodel.NewView()
		w.views[c] = v
		for _, m := range []string{`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`, `{"id":2,"method":"subscribe.test.list"}`} {
			v.Sent(m)
			if err := c.Send(m); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	for _, h := range w.streams {
		if err := h.Send(http.MethodGet, "/api/test/list", []string{"Accept: text/event-stream"}, ""); err != nil {
			w.t.Fatal(err)
		}
	}
	for i := range w.bodies {
		w.getters.Add(1)
		go w.getter(i)
	}
	go func() { w.getters.Wait(); close(w.gone); w.notify() }()
	var held *Request
	w.until("all have asked", func() bool {
		for {
			r := w.service.TakeAny("")
			if r == nil {
				return held != nil && w.asked["access.test.list"] == 3*waysEach
			}
			w.asked[r.Subject]++
			if r.Subject == "get.test.list" {
				held = r
				continue
			}
			w.answer(r)
		}
	})
	w.answer(held)
}

// getter gets the resource again and again and checks that it never goes back. It is a goroutine of
// its own; what it got last is the test's once all have ended.
func (w *ways) getter(i int) {
	defer w.getters.Done()
	last := 0
	for ending := false; ; {
		r, err := http.Get(w.base + "/test/list")
		if err != nil {
			w.t.Error(err)
			return
		}
		b, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK {
			w.t.Errorf("%d %s %v", r.StatusCode, b, err)
			return
		}
		n, err := childIn(string(b))
		if err != nil || n < last {
			w.t.Errorf("after %d the body is %s (%v)", last, b, err)
			return
		}
		if last, w.bodies[i] = n, string(b); ending {
			return
		}
		select {
		case <-w.stop:
			ending = true
		default:
		}
	}
}

// childIn returns the number that the nested child has twice.
func childIn(body string) (int, error) {
	v, err := resmodel.Decode(body)
	if err != nil {
		return 0, err
	}
	list, _ := v.([]any)
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && m["href"] == "/api/test/child" {
			child, _ := m["model"].(map[string]any)
			var n, again int
			_, err := fmt.Sscan(fmt.Sprint(child["n"], " ", child["again"]), &n, &again)
			if err == nil && n != again {
				err = fmt.Errorf("half a change: %s", body)
			}
			return n, err
		}
	}
	return 0, fmt.Errorf("no child in %s", body)
}

func (w *ways) answer(r *Request) {
	kind, name, _ := strings.Cut(r.Subject, ".")
	payload := w.store.Access(name)
	if kind == "get" {
		payload = w.store.Get(name, "")
	}
	if err := w.service.Answer(r, payload); err != nil {
		w.t.Fatal(err)
	}
}

// serve answers what was asked.
func (w *ways) serve() {
	for r := w.service.TakeAny(""); r != nil; r = w.service.TakeAny("") {
		w.asked[r.Subject]++
		w.answer(r)
	}
}

func (w *ways) publish(subject, payload string) {
	if err := w.service.Publish(subject, payload); err != nil {
		w.t.Fatal(err)
	}
}

// round changes both resources.
func (w *ways) round(n int) {
	w.serve()
	if n%10 == 0 {
		before := w.asked["access.test.list"]
		w.until("a GET comes in between", func() bool {
			w.serve()
			return w.asked["access.test.list"] > before
		})
	}
	w.publish("event.test.child.change", w.store.Change("test.child", map[string]any{"n": n, "again": n}))
	if n%3 == 0 {
		w.publish("event.test.list.remove", w.store.Remove("test.list", 0))
	} else {
		w.publish("event.test.list.add", w.store.Add("test.list", 0, n))
	}
	w.fold()
}

// fold gives clients' messages to their views.
func (w *ways) fold() {
	fold := func(c any, m string) {
		// The two may be in different shards, so the end of one does not imply that of the other.
		for _, event := range [...]string{"test.list.done", "test.child.done"} {
			if strings.Contains(m, event) {
				w.done[c]++
			}
		}
		var err error
		if v := w.views[c]; v == nil {
			w.views[c] = resmodel.NewView()
			err = w.views[c].Begin(m)
		} else {
			err = v.Received(m)
		}
		if err != nil {
			w.t.Fatalf("a client cannot follow: %v\n%s", err, m)
		}
	}
	for _, c := range w.sockets {
		for m, ok := c.Next(); ok; m, ok = c.Next() {
			fold(c, m)
		}
	}
	for _, h := range w.streams {
		for m, ok := h.NextMessage(); ok; m, ok = h.NextMessage() {
			if !strings.HasPrefix(m, ":") {
				fold(h, m)
			}
		}
	}
}

// until serves and folds until cond holds.
func (w *ways) until(what string, cond func() bool) {
	w.t.Helper()
	watchdog := time.NewTimer(time.Minute)
	defer watchdog.Stop()
	for !cond() {
		select {
		case <-w.wake:
		case <-watchdog.C:
			w.t.Fatalf("timed out waiting: %s; requests %v", what, w.asked)
		}
	}
}

// end waits until all clients have the last state and compares.
func (w *ways) end() {
	w.publish("event.test.list.done", "")
	w.publish("event.test.child.done", "")
	w.until("the last events have reached all", func() bool {
		w.serve()
		w.fold()
		for _, n := range w.done {
			if n < 2 {
				return false
			}
		}
		return len(w.done) == 2*waysEach
	})
	close(w.stop)
	w.until("the last GETs", func() bool {
		w.serve()
		select {
		case <-w.gone:
			return true
		default:
			return false
		}
	})
	list, _ := w.store.Value("test.list")
	child, _ := w.store.Value("test.child")
	for c, v := range w.views {
		for rid, want := range map[string]any{"test.list": list, "test.child": child} {
			got, _ := v.Value(rid)
			if err := Match(resmodel.Encode(want), got); err != nil {
				w.t.Errorf("%T has another %s: %v", c, rid, err)
			}
		}
	}
	nested := strings.Replace(resmodel.Encode(list), `{"rid":"test.child"}`, `{"href":"/api/test/child","model":`+resmodel.Encode(child)+`}`, 1)
	for i, got := range w.bodies {
		if err := Match(nested, got); err != nil {
			w.t.Errorf("the last GET of %d differs: %v", i, err)
		}
	}
	for subject, n := range w.asked {
		if strings.HasPrefix(subject, "get.") && n != 1 {
			w.t.Errorf("%d requests to %s", n, subject)
		}
	}
	if w.asked["get.test.list"] != 1 || w.asked["get.test.child"] != 1 {
		w.t.Errorf("get requests are missing: %v", w.asked)
	}
	w.t.Logf("%v", w.asked)
}
