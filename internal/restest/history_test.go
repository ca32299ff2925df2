package restest

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/natstest"
	"sluice/internal/resmodel"
	"sluice/internal/testkit"
)

// access is what a client or the service did with the model's version: the input of an operation of
// a history.
type access struct {
	writes bool
	final  bool // a read after everything has come to rest
	client int  // 0: the service
}

// seen is the state of a history: what was written, and what the client has read of it.
type seen struct{ written, read int }

// versions is how a client may see a resource that has versions: it never goes back, it never sees
// what was not written yet, and in the end it has the last version. It may miss versions in
// between. There is a history for each connection of a client, with all writes.
var versions = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		of := map[int][]porcupine.Operation{}
		var writes []porcupine.Operation
		for _, op := range history {
			if a := op.Input.(access); a.writes {
				writes = append(writes, op)
			} else {
				of[a.client] = append(of[a.client], op)
			}
		}
		for _, reads := range of {
			parts = append(parts, append(reads, writes...))
		}
		return parts
	},
	Init: func() any { return seen{} },
	Step: func(state, input, output any) (bool, any) {
		s, a, v := state.(seen), input.(access), output.(int)
		switch {
		case a.writes:
			return v == s.written+1, seen{v, s.read}
		case v < s.read, v > s.written, a.final && v != s.written:
			return false, s
		}
		return true, seen{s.written, v}
	},
	DescribeOperation: func(input, output any) string {
		switch a := input.(access); {
		case a.writes:
			return fmt.Sprintf("write %v", output)
		case a.final:
			return fmt.Sprintf("client %d ends with %v", a.client, output)
		default:
			return fmt.Sprintf("client %d reads %v", a.client, output)
		}
	},
}

// history collects operations of several goroutines.
type history struct {
	began time.Time

	mu      sync.Mutex
	ops     []porcupine.Operation
	clients int
}

// client returns the number of a new client.
func (h *history) client() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients++
	return h.clients
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

// add records an operation that began at a time and has ended now.
func (h *history) add(a access, began int64, version int) {
	end := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: a.client, Input: a, Call: began, Output: version, Return: end})
}

// A history that goes back, sees the future or ends early is found; one that skips versions is not.
func TestVersionsModel(t *testing.T) {
	write := func(v int, from, to int64) porcupine.Operation {
		return porcupine.Operation{Input: access{writes: true}, Output: v, Call: from, Return: to}
	}
	read := func(v int, from, to int64) porcupine.Operation {
		return porcupine.Operation{ClientId: 1, Input: access{client: 1}, Output: v, Call: from, Return: to}
	}
	final := func(v int, at int64) porcupine.Operation {
		return porcupine.Operation{ClientId: 1, Input: access{client: 1, final: true}, Output: v, Call: at, Return: at}
	}
	writes := []porcupine.Operation{write(1, 0, 10), write(2, 20, 30), write(3, 40, 50)}
	for what, c := range map[string]struct {
		reads []porcupine.Operation
		ok    bool
	}{
		"all":                   {[]porcupine.Operation{read(1, 11, 12), read(2, 31, 32), read(3, 51, 52), final(3, 60)}, true},
		"late, and one skipped": {[]porcupine.Operation{read(1, 31, 32), read(3, 58, 59), final(3, 60)}, true},
		"during the write":      {[]porcupine.Operation{read(1, 5, 6), final(3, 60)}, true},
		"back":                  {[]porcupine.Operation{read(2, 31, 32), read(1, 33, 34), final(3, 60)}, false},
		"the future":            {[]porcupine.Operation{read(2, 11, 12), final(3, 60)}, false},
		"never written":         {[]porcupine.Operation{read(7, 55, 56), final(3, 60)}, false},
		"the end is lost":       {[]porcupine.Operation{read(2, 31, 32), final(2, 60)}, false},
	} {
		if got := porcupine.CheckOperations(versions, append(c.reads, writes...)); got != c.ok {
			t.Errorf("%s: %v", what, got)
		}
	}
}

const (
	historyWrites = 400
	historyEach   = 2 // clients of each kind at each gateway
)

// TestHistory: WebSocket clients and plain GETs at two gateways observe a model while NATS
// restarts, connections to it are cut, and a gateway is replaced. Each observation fits the order
// of versions, and all clients end with the last one.
func TestHistory(t *testing.T) {
	h := &history{began: time.Now()}
	ns := natstest.Start(t)
	w := newWriter(t, ns, h)
	var gateways [2]Gateway
	for i := range gateways {
		gateways[i] = historyGateway(t, ns)
	}
	stop, readers := make(chan struct{}), new(sync.WaitGroup)
	var sockets []*observer
	watch := func(g Gateway) {
		for range historyEach {
			sockets = append(sockets, newObserver(t, h, g))
			readers.Go(func() { poll(t, h, g, stop) })
		}
	}
	for _, g := range gateways {
		watch(g)
	}
	for n := 1; n <= historyWrites; n++ {
		w.write()
		switch n {
		case historyWrites / 5:
			ns.Restart()
		case 2 * historyWrites / 5:
			ns.Cut("sluice")
		case 3 * historyWrites / 5: // a gateway is replaced: its clients are closed, others come to the new one
			close(stop)
			readers.Wait()
			gateways[1].Stop()
			stop = make(chan struct{})
			gateways[1] = historyGateway(t, ns)
			for _, g := range gateways[:1] {
				readers.Go(func() { poll(t, h, g, stop) })
			}
			watch(gateways[1])
		case 4 * historyWrites / 5:
			ns.Restart()
		}
		w.pause(n)
		if n%(historyWrites/10) == 0 { // before the next fault all have noticed the one before
			for _, o := range sockets {
				o.await(n)
			}
		}
	}
	for _, o := range sockets {
		o.end()
	}
	close(stop)
	readers.Wait()
	if !porcupine.CheckOperations(versions, h.ops) {
		result, info := porcupine.CheckOperationsVerbose(versions, h.ops, testkit.Patience)
		t.Errorf("%v: %d operations do not fit", result, len(h.ops))
		_ = porcupine.Visualize(versions, info, &testWriter{t})
	}
	t.Logf("%d operations of %d clients", len(h.ops), h.clients)
}

// testWriter logs what it gets.
type testWriter struct{ t *testing.T }

func (w *testWriter) Write(b []byte) (int, error) { w.t.Logf("%s", b); return len(b), nil }

func historyGateway(t *testing.T, ns *natstest.Server) Gateway {
	t.Helper()
	g, err := startGateway(Start{NATS: ns.URL(), Log: slog.New(slog.DiscardHandler)}, func(c *gateway.Config) { c.NATSGrace, c.RequestTimeout = time.Hour, time.Minute })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	return g
}

// writer is the service.
type writer struct {
	t       *testing.T
	h       *history
	nc      *nats.Conn
	mu      sync.Mutex
	version int
}

func newWriter(t *testing.T, ns *natstest.Server, h *history) *writer {
	// Libraries for services reset what they own when they are connected again.
	reset := func(nc *nats.Conn) { _ = nc.Publish("system.reset", []byte(`{"resources":["test.>"]}`)) }
	w := &writer{t: t, h: h, nc: ns.Client(nats.ReconnectBufSize(-1), nats.ReconnectHandler(reset))}
	_, err1 := w.nc.Subscribe("access.test.model", func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":{"get":true}}`)) })
	_, err2 := w.nc.Subscribe("get.test.model", func(m *nats.Msg) {
		w.mu.Lock()
		defer w.mu.Unlock()
		_ = m.Respond(fmt.Appendf(nil, `{"result":{"model":{"version":%d}}}`, w.version))
	})
	if err1 != nil || err2 != nil || w.nc.Flush() != nil {
		t.Fatal("the service cannot subscribe")
	}
	return w
}

// write makes the next version. Its event is lost while NATS is away, as any service's is.
func (w *writer) write() {
	began := w.h.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version++
	_ = w.nc.Publish("event.test.model.change", fmt.Appendf(nil, `{"values":{"version":%d}}`, w.version))
	w.h.add(access{writes: true}, began, w.version)
}

// pause lets others run: every tenth version waits until NATS has it, if there is NATS.
func (w *writer) pause(n int) {
	if n%10 == 0 {
		_ = w.nc.FlushTimeout(testkit.Patience)
	}
}

// observer is a WebSocket client. It records each version when it arrives.
type observer struct {
	t     *testing.T
	h     *history
	id    int
	c     *Client
	view  *resmodel.View
	news  chan struct{}
	ended chan struct{}
	last  atomic.Int64 // version that it has read
}

func newObserver(t *testing.T, h *history, g Gateway) *observer {
	t.Helper()
	o := &observer{t: t, h: h, id: h.client(), view: resmodel.NewView(), news: make(chan struct{}, 1), ended: make(chan struct{})}
	notify := func() {
		select {
		case o.news <- struct{}{}:
		default:
		}
	}
	var err error
	if o.c, err = Dial(fmt.Sprint("observer", o.id), g.URL(), notify); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.c.Cut)
	for _, m := range []string{`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`, `{"id":2,"method":"subscribe.test.model"}`} {
		o.view.Sent(m)
		if err := o.c.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	go o.run()
	return o
}

// run takes messages until the connection ends or the last version is there.
func (o *observer) run() {
	defer close(o.ended)
	for range o.news {
		for m, ok := o.c.Next(); ok; m, ok = o.c.Next() {
			at := o.h.now() // it was sent before
			if err := o.view.Received(m); err != nil {
				o.t.Errorf("client %d: %v: %s", o.id, err, m)
				return
			}
			if text, ok := o.view.Value("test.model"); ok {
				v := versionIn(o.t, text)
				o.h.add(access{client: o.id}, at, v)
				o.last.Store(int64(v))
			}
		}
		if _, closed := o.c.Closed(); closed || o.last.Load() == historyWrites {
			return
		}
	}
}

// await waits until the client has read a version, unless its connection has ended.
func (o *observer) await(version int) {
	o.t.Helper()
	testkit.Until(o.t, fmt.Sprintf("client %d has version %d", o.id, version), func() bool {
		_, closed := o.c.Closed()
		return closed || o.last.Load() >= int64(version)
	})
}

// end waits for the client's end. One whose gateway lives has the last version then.
func (o *observer) end() {
	testkit.Await(o.t, o.ended, fmt.Sprintf("the last version at client %d", o.id))
	if _, closed := o.c.Closed(); !closed {
		o.h.add(access{client: o.id, final: true}, o.h.now(), int(o.last.Load()))
	}
}

// poll gets the model again and again, on one connection.
func poll(t *testing.T, h *history, g Gateway, stop <-chan struct{}) {
	id := h.client()
	url := "http" + strings.TrimSuffix(strings.TrimPrefix(g.URL(), "ws"), "/") + "/api/test/model"
	client := &http.Client{Transport: &http.Transport{}, Timeout: testkit.Patience}
	defer client.CloseIdleConnections()
	for {
		began := h.now()
		r, err := client.Get(url)
		if err != nil {
			t.Errorf("client %d: %v", id, err)
			return
		}
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		switch {
		case err != nil:
			t.Errorf("client %d: %v", id, err)
			return
		case r.StatusCode == http.StatusOK: // otherwise NATS is away, and access cannot be checked
			h.add(access{client: id}, began, versionIn(t, string(body)))
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

func versionIn(t *testing.T, text string) int {
	var m struct{ Version int }
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	return m.Version
}
