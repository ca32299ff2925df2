package restest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/nats-io/nats.go"
)

// fake is just enough of a gateway to test the runner: it answers version, subscribe (access and
// get, no references, no cache), get and auth, passes events on, and misbehaves on request. It
// keeps the order of what NATS sends by handling one message at a time.
type fake struct {
	nc   *nats.Conn
	l    net.Listener
	http *http.Server
	in   chan *nats.Msg
	stop chan struct{}

	faults

	mu      sync.Mutex
	replies map[string]func(data []byte)
	watch   map[string][]*fakeConn // by resource name
	next    int
}

// faults are what a fake does wrong.
type faults struct {
	superfluous bool // each event is sent twice
	deaf        bool // events are not passed on
	asksTwice   bool // each get request is sent twice
}

type fakeConn struct {
	conn   net.Conn
	cid    string
	stream bool // of server-sent events, in chunks
	mu     sync.Mutex
}

func (c *fakeConn) send(format string, a ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := fmt.Sprintf(format, a...)
	if !c.stream {
		_ = wsutil.WriteServerText(c.conn, []byte(m))
		return
	}
	if strings.Contains(m, ".bye") {
		_ = c.conn.Close()
		return
	}
	m = "data: " + m + "\n\n"
	_, _ = fmt.Fprintf(c.conn, "%x\r\n%s\r\n", len(m), m)
}

func startFake(st Start, wrong faults) (*fake, error) {
	var err error
	f := &fake{faults: wrong}
	if f.nc, err = nats.Connect(st.NATS); err != nil {
		return nil, err
	}
	f.in, f.stop = make(chan *nats.Msg, 1024), make(chan struct{})
	f.replies, f.watch = map[string]func([]byte){}, map[string][]*fakeConn{}
	for _, subject := range []string{"event.>", "_FAKE.*"} {
		if _, err := f.nc.ChanSubscribe(subject, f.in); err != nil {
			return nil, err
		}
	}
	if f.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	f.http = &http.Server{Handler: http.HandlerFunc(f.serve), ReadHeaderTimeout: time.Minute}
	go func() { _ = f.http.Serve(f.l) }()
	go f.dispatch()
	return f, f.nc.Flush()
}

func (f *fake) URL() string { return "ws://" + f.l.Addr().String() + "/" }

func (f *fake) Stop() {
	close(f.stop)
	_ = f.http.Close()
	f.nc.Close()
}

func (f *fake) dispatch() {
	for {
		select {
		case <-f.stop:
			return
		case m := <-f.in:
			if event, ok := strings.CutPrefix(m.Subject, "event."); ok {
				f.event(event, m.Data)
				continue
			}
			f.mu.Lock()
			done := f.replies[m.Subject]
			delete(f.replies, m.Subject)
			f.mu.Unlock()
			if done != nil {
				done(m.Data)
			}
		}
	}
}

func (f *fake) event(event string, data []byte) {
	name := event[:strings.LastIndexByte(event, '.')]
	f.mu.Lock()
	conns := f.watch[name]
	f.mu.Unlock()
	for _, c := range conns {
		if f.deaf {
			continue
		}
		if len(data) == 0 {
			data = []byte("null")
		}
		c.send(`{"event":%q,"data":%s}`, event, data)
		if f.superfluous {
			c.send(`{"event":%q,"data":%s}`, event, data)
		}
	}
}

func (f *fake) request(subject string, payload map[string]any, done func(data []byte)) {
	f.mu.Lock()
	f.next++
	reply := fmt.Sprintf("_FAKE.%d", f.next)
	f.replies[reply] = done
	f.mu.Unlock()
	b, _ := json.Marshal(payload)
	_ = f.nc.PublishRequest(subject, reply, b)
	if f.asksTwice && strings.HasPrefix(subject, "get.") {
		_ = f.nc.PublishRequest(subject, "_NOWHERE", b)
	}
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		f.plain(w, r)
		return
	}
	if r.Header.Get("Origin") == "http://evil" {
		http.Error(w, `{"code":"no"}`, http.StatusForbidden)
		return
	}
	conn, buffered, _, err := ws.HTTPUpgrader{Header: http.Header{"X-Extra": {"yes"}}}.Upgrade(r, w)
	if err != nil {
		return
	}
	f.mu.Lock()
	f.next++
	c := &fakeConn{conn: conn, cid: fmt.Sprintf("cid%d", f.next)}
	f.mu.Unlock()
	defer conn.Close()
	in := struct {
		io.Reader // with what came before the upgrade was answered
		io.Writer
	}{buffered, conn}
	for {
		b, err := wsutil.ReadClientText(in)
		if err != nil {
			return
		}
		var req struct {
			ID     json.Number
			Method string
		}
		if json.Unmarshal(b, &req) != nil || req.ID == "" {
			continue
		}
		f.handle(c, req.ID.String(), req.Method)
	}
}

// plain answers a GET of /api/NAME with what a service has, as a stream if that is asked for, and
// everything else with what it was sent.
func (f *fake) plain(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Path, "/api/")
	name = strings.ReplaceAll(name, "/", ".")
	if !ok || r.Method != http.MethodGet {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Method", r.Method)
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		switch {
		case len(body) == 0:
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Path == "/close":
			w.Header().Set("Connection", "close")
			fallthrough
		default:
			_, _ = w.Write(body)
		}
		return
	}
	model := make(chan json.RawMessage)
	f.request("get."+name, map[string]any{"cid": "http"}, func(data []byte) {
		var a struct {
			Result struct{ Model json.RawMessage }
		}
		_ = json.Unmarshal(data, &a)
		model <- a.Result.Model
	})
	got := <-model
	if r.Header.Get("Accept") != "text/event-stream" {
		if !f.superfluous {
			_, _ = w.Write(got)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sHTTP/1.1 204 No Content\r\n\r\n", len(got), got)
		_ = conn.Close()
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	c := &fakeConn{conn: conn, stream: true}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n")
	f.mu.Lock()
	defer f.mu.Unlock() // no event comes between the resource and the subscription
	c.send(`{"rid":%q,"models":{%q:%s}}`, name, name, got)
	f.watch[name] = append(f.watch[name], c)
}

func (f *fake) handle(c *fakeConn, id, method string) {
	verb, rid, _ := strings.Cut(method, ".")
	name, query, _ := strings.Cut(rid, "?")
	payload := map[string]any{"cid": c.cid}
	if query != "" {
		payload["query"] = query
	}
	switch verb {
	case "version":
		c.send(`{"id":%s,"result":{"protocol":"1.2.3"}}`, id)
	case "auth":
		f.request("auth."+rid, payload, func([]byte) { c.send(`{"id":%s,"result":{"payload":null}}`, id) })
	case "subscribe", "get":
		get := map[string]any{}
		if query != "" {
			get["query"] = query
		}
		f.request("access."+name, payload, func([]byte) {})
		f.request("get."+name, get, func(data []byte) {
			var a struct {
				Result struct{ Model json.RawMessage }
			}
			_ = json.Unmarshal(data, &a)
			if a.Result.Model == nil {
				c.send(`{"id":%s,"error":{"code":"system.notFound","message":"Not found"}}`, id)
				return
			}
			if verb == "subscribe" {
				f.mu.Lock()
				f.watch[name] = append(f.watch[name], c)
				f.mu.Unlock()
			}
			c.send(`{"id":%s,"result":{"models":{%q:%s}}}`, id, rid, a.Result.Model)
		})
	case "close":
		_ = ws.WriteFrame(c.conn, ws.NewCloseFrame(ws.NewCloseFrameBody(1013, "")))
	}
}
