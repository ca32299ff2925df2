//go:build linux

package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/resmodel"
	loadclient "sluice/loadtest/client"
)

const (
	topics    = 10
	fields    = 8 // of a topic; each change sets one of them
	largeName = "load.large"
	natsWait  = 10 * time.Second
)

// world is the service behind a gateway, and what is true. On NATS it is a RES service, or
// publishes whole states as raw payloads; over HTTP it answers gateways that ask that way.
// Its methods may be called from any goroutine.
type world struct {
	raw  bool // publish states without RES
	conn *nats.Conn
	http *http.Server

	mu     sync.Mutex // orders replies and events
	states [topics]map[string]any
	number int

	slow    chan func() // work of the slow part: checks of access
	waiting int         // in slow, or being worked on
	highest int         // of waiting
	ended   chan struct{}
}

// slowWork is how the service checks access: so many workers, each check so long.
type slowWork struct {
	workers int
	each    time.Duration
}

// newWorld starts the service. NATS must run. The feed is the port of HTTP.
func newWorld(natsURL, feed string, raw bool, work slowWork) (*world, error) {
	w := &world{raw: raw, slow: make(chan func(), 1<<20), ended: make(chan struct{})}
	for i := range w.states {
		w.states[i] = map[string]any{"pad": ""}
		for f := range fields {
			w.states[i][fieldName(f)] = json.Number("0")
		}
	}
	for range work.workers {
		go func() {
			for {
				select {
				case f := <-w.slow:
					if work.each > 0 {
						pause(work.each)
					}
					f()
					w.mu.Lock()
					w.waiting--
					w.mu.Unlock()
				case <-w.ended:
					return
				}
			}
		}()
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", feed))
	if err != nil {
		return nil, err
	}
	w.http = &http.Server{Handler: http.HandlerFunc(w.serveHTTP), ReadHeaderTimeout: time.Minute}
	go func() { _ = w.http.Serve(l) }()
	// What services do: libraries for RES reconnect, and then reset what they own, since events
	// may have been lost.
	w.conn, err = nats.Connect(natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.ReconnectBufSize(-1),
		nats.Timeout(natsWait), nats.ReconnectHandler(func(c *nats.Conn) { w.reset() }))
	if err != nil {
		return nil, errors.Join(err, w.http.Close())
	}
	if raw {
		return w, nil
	}
	_, err1 := w.conn.Subscribe("access.load.>", func(m *nats.Msg) {
		w.work(func() { _ = m.Respond([]byte(`{"result":{"get":true,"call":"*"}}`)) })
	})
	_, err2 := w.conn.Subscribe("get.load.*", w.get)
	_, err3 := w.conn.Subscribe("call.load.>", func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":{"value":42}}`)) })
	return w, errors.Join(err1, err2, err3, w.conn.FlushTimeout(natsWait))
}

func fieldName(i int) string { return fmt.Sprintf("f%d", i) }

// work queues a check of access.
func (w *world) work(f func()) {
	w.mu.Lock()
	w.waiting++
	w.highest = max(w.highest, w.waiting)
	w.mu.Unlock()
	w.slow <- f
}

// most returns how many checks of access have waited at a time.
func (w *world) most() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.highest
}

// get replies to a get request. Replies and events leave in the order of the states.
func (w *world) get(m *nats.Msg) {
	name := strings.TrimPrefix(m.Subject, "get.")
	w.mu.Lock()
	defer w.mu.Unlock()
	var i int
	switch _, err := fmt.Sscanf(name, "load.t%d", &i); {
	case name == largeName:
		_ = m.Respond([]byte(`{"result":{"model":{"pad":"` + strings.Repeat("x", largeBytes) + `"}}}`))
	case err != nil || i < 0 || i >= topics:
		_ = m.Respond([]byte(`{"error":{"code":"system.notFound","message":"Not found"}}`))
	default:
		_ = m.Respond([]byte(`{"result":{"model":` + resmodel.Encode(w.states[i]) + `}}`))
	}
}

// serveHTTP answers a proxied subscription with the state, after a check of access, and a proxied
// call.
func (w *world) serveHTTP(rw http.ResponseWriter, r *http.Request) {
	var q struct{ Channel, Method string }
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &q) != nil {
		http.Error(rw, "not understood", http.StatusBadRequest)
		return
	}
	if q.Method != "" {
		data := "42"
		if q.Method == "state" {
			data = w.truth(0)
		}
		_, _ = io.WriteString(rw, `{"result":{"data":`+data+`}}`)
		return
	}
	done := make(chan struct{})
	w.work(func() { close(done) })
	select {
	case <-done:
	case <-w.ended:
		return
	}
	var i int
	if _, err := fmt.Sscanf(q.Channel, "load.t%d", &i); err != nil || i < 0 || i >= topics {
		_, _ = io.WriteString(rw, `{"result":{}}`)
		return
	}
	_, _ = io.WriteString(rw, `{"result":{"data":`+w.truth(i)+`}}`)
}

// truth returns the state of a topic as JSON.
func (w *world) truth(i int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return resmodel.Encode(w.states[i])
}

// change changes a field of a topic, and its pad if that is not 0 bytes, and publishes it. An event
// is lost while NATS is away, as it is for any service.
func (w *world) change(topic, pad int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.number++
	next := maps.Clone(w.states[topic])
	values := map[string]any{fieldName(w.number % fields): json.Number(fmt.Sprint(w.number))}
	if pad > 0 {
		values["pad"] = fmt.Sprintf("%0*d", pad, w.number)
	}
	maps.Copy(next, values)
	w.states[topic] = next
	name := fmt.Sprintf("load.t%d", topic)
	if w.raw {
		_ = w.conn.Publish(name, []byte(resmodel.Encode(next)))
	} else {
		_ = w.conn.Publish("event."+name+".change", []byte(`{"values":`+resmodel.Encode(values)+`}`))
	}
}

// changeAll changes each topic so often that all of its fields are new.
func (w *world) changeAll() {
	for range fields {
		for i := range topics {
			w.change(i, 0)
			w.change(i, 0)
		}
	}
}

// stamp publishes a change of the first topic that loadtest/client dates, and returns its time. It
// is not part of the topic's state.
func (w *world) stamp(size int) (at int64) {
	at = loadclient.Now()
	subject, event := "load.t0", loadclient.AppendEvent(nil, at, size)
	if !w.raw {
		subject, event = "event.load.t0.change", fmt.Appendf(nil, `{"values":{"stamp":{"data":%s}}}`, event)
	}
	_ = w.conn.Publish(subject, event)
	return at
}

// publishLarge sends largeBytes to whom subscribes to largeName, without RES.
func (w *world) publishLarge() error {
	return errors.Join(w.conn.Publish(largeName, []byte(`{"pad":"`+strings.Repeat("x", largeBytes)+`"}`)), w.conn.FlushTimeout(natsWait))
}

// reset tells gateways that events may have been lost. There is no such thing without RES.
func (w *world) reset() {
	if !w.raw {
		_ = w.conn.Publish("system.reset", []byte(`{"resources":["load.>"],"access":["load.>"]}`))
	}
}

func (w *world) close() {
	close(w.ended)
	_ = w.http.Close()
	w.conn.Close()
}
