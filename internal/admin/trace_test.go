package admin_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/livetrace"
	"sluice/internal/testkit"
)

// trace is a trace that is on, with its lines so far.
type trace struct {
	t     *testing.T
	lines chan livetrace.Line // closed at the end
	all   []livetrace.Line
	stop  func()
}

// trace starts a trace, and returns when the owners see it.
func (w *world) trace(query string) *trace {
	w.t.Helper()
	r, err := http.NewRequest("GET", w.base+"/api/trace?"+query, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := new(http.Client).Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	tr := &trace{t: w.t, lines: make(chan livetrace.Line, 10_000), stop: func() { _ = resp.Body.Close() }}
	w.t.Cleanup(tr.stop)
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		w.t.Fatalf("%s: %s", resp.Status, text)
	}
	go func() {
		defer close(tr.lines)
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			var l livetrace.Line
			if err := json.Unmarshal(s.Bytes(), &l); err != nil {
				w.t.Errorf("%s: %v", s.Text(), err)
			}
			tr.lines <- l
		}
	}()
	tr.until("the first line", func(l livetrace.Line) bool { return l.Kind == livetrace.Status })
	w.get("/api/overview", nil) // it passes all owners
	return tr
}

// until returns the first line of the trace, from its beginning, that f wants.
func (tr *trace) until(what string, f func(livetrace.Line) bool) (found livetrace.Line) {
	tr.t.Helper()
	for _, l := range tr.all {
		if f(l) {
			return l
		}
	}
	defer func() {
		if tr.t.Failed() {
			tr.t.Logf("traced so far:\n%s", tr)
		}
	}()
	testkit.Until(tr.t, what+" is traced", func() bool {
		for {
			select {
			case l, ok := <-tr.lines:
				if !ok {
					tr.t.Fatalf("the trace ended before %s:\n%s", what, tr)
				}
				tr.all = append(tr.all, l)
				if f(l) {
					found = l
					return true
				}
			default:
				return false
			}
		}
	})
	return found
}

func (tr *trace) String() string {
	var b strings.Builder
	for _, l := range tr.all {
		text, _ := json.Marshal(l)
		fmt.Fprintf(&b, "%s\n", text)
	}
	return b.String()
}

// want waits until there is a line of a kind with all these texts in it, as JSON.
func (tr *trace) want(kind string, texts ...string) livetrace.Line {
	tr.t.Helper()
	return tr.until(fmt.Sprintf("%s %q", kind, texts), func(l livetrace.Line) bool {
		text, _ := json.Marshal(l)
		for _, want := range texts {
			if !strings.Contains(string(text), want) {
				return false
			}
		}
		return l.Kind == kind
	})
}

// cidOf returns the connection ID of the only client.
func (w *world) cidOf() string {
	w.t.Helper()
	var list struct {
		Connections []struct{ CID string }
	}
	testkit.Until(w.t, "the client is listed", func() bool {
		w.get("/api/connections?sort=cid", &list)
		return len(list.Connections) == 1
	})
	return list.Connections[0].CID
}

// A connection's trace has its messages in both directions and the requests to services that they
// cause, also events of resources that it subscribed to before.
func TestTraceOfConnection(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		t.Run(fmt.Sprintf("compressed %v", compressed), func(t *testing.T) {
			w := newWorld(t, func(c *gateway.Config) { c.WSCompression, c.CompressionThreshold = compressed, 1 })
			if _, err := w.nc.Subscribe("call.test.>", func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":{"sum":3}}`)) }); err != nil {
				t.Fatal(err)
			}
			w.flush()
			c := w.dial()
			w.subscribe(c, "test.a")
			cid := w.cidOf()
			tr := w.trace("cid=" + cid)

			w.publish("event.test.a.change", model(2))
			w.next(c)
			tr.want(livetrace.Out, `"rid":"test.a"`, `"event":"change"`, `{\"n\":2}`)
			w.send(c, `{"id":7,"method":"call.test.a.add","params":{"left":1,"password":"SESAME"}}`)
			tr.want(livetrace.In, `"id":"7"`, `"method":"call.add"`, `"rid":"test.a"`, `{\"left\":1,\"password\":\"…\"}`)
			tr.want(livetrace.Request, `"subject":"call.test.a.add"`, cid, `\"token\":null`)
			if l := tr.want(livetrace.Reply, `"subject":"call.test.a.add"`, `{\"result\":{\"sum\":3}}`); l.TookMs <= 0 {
				t.Errorf("%+v", l)
			}
			tr.want(livetrace.Out, `"id":"7"`, `\"sum\":3`)
			w.send(c, `{"id":8,"method":"subscribe.test.b"}`)
			tr.want(livetrace.Request, `"subject":"access.test.b"`)
			tr.want(livetrace.Out, `"id":"8"`, `\"test.b\"`)
			w.publish("event.test.b.change", model(3))
			tr.want(livetrace.Out, `"rid":"test.b"`, `"event":"change"`)

			w.next(c)
			c.Cut()
			if l := tr.want(livetrace.End); l.Reason != "the connection is closed" || l.Lines == 0 || l.Lost+l.Omitted > 0 {
				t.Errorf("%+v", l)
			}
			if strings.Contains(tr.String(), "SESAME") {
				t.Errorf("a password is shown:\n%s", tr)
			}
		})
	}
}

// A resource's trace has what clients, services and loops do about it, of all clients, and of no
// other resource.
func TestTraceOfResource(t *testing.T) {
	w := newWorld(t, nil)
	tr := w.trace("resource=test.a.*&seconds=600")
	a, b := w.dial(), w.dial()
	w.subscribe(a, "test.a.x")
	w.subscribe(a, "test.b.x")
	w.subscribe(b, "test.a.x")
	tr.want(livetrace.In, `"method":"subscribe"`, `"rid":"test.a.x"`, `"cid"`)
	tr.want(livetrace.Request, `"subject":"get.test.a.x"`, `"owner":"cache shard `)
	tr.want(livetrace.Reply, `"subject":"get.test.a.x"`, `\"text\":\"\u003cb\u003e\"`)
	tr.want(livetrace.Request, `"subject":"access.test.a.x"`, `"owner":"event loop `)
	w.publish("event.test.b.x.change", model(2))
	w.publish("event.test.a.x.change", model(2))
	tr.want(livetrace.Event, `"rid":"test.a.x"`, `"event":"change"`, `"subject":"event.test.a.x.change"`)
	clients := 0
	for clients < 2 {
		clients += tr.until("another loop's fan-out", func(l livetrace.Line) bool { return l.Kind == livetrace.Fanout && l.Clients > 0 }).Clients
		if clients < 2 { // the other client's loop
			tr.all = nil
		}
	}
	resp, err := http.Get("http://" + w.g.Addr().String() + "/api/test/a/y")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	tr.want(livetrace.In, `"method":"get"`, `"rid":"test.a.y"`)
	if s := tr.String(); strings.Contains(s, "test.b") {
		t.Errorf("another resource is shown:\n%s", s)
	}
	tr.stop()
}

// Credentials of auth requests appear in no trace, nor does what a service answers to them, nor a
// token.
func TestTraceHidesCredentials(t *testing.T) {
	w := newWorld(t, nil)
	if _, err := w.nc.Subscribe("auth.login.>", func(m *nats.Msg) {
		var r struct{ CID string }
		_ = json.Unmarshal(m.Data, &r)
		_ = w.nc.Publish("conn."+r.CID+".token", []byte(`{"token":{"name":"SESAME"}}`))
		_ = m.Respond([]byte(`{"result":{"refresh":"SESAME"}}`))
	}); err != nil {
		t.Fatal(err)
	}
	w.flush()
	c := w.dial()
	w.send(c, `{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`)
	both := []*trace{w.trace("cid=" + w.cidOf()), w.trace("resource=>")}
	w.send(c, `{"id":5,"method":"auth.login.enter","params":{"user":"SESAME"}}`)
	w.subscribe(c, "test.a")
	for _, tr := range both {
		if l := tr.want(livetrace.In, `"method":"auth.enter"`); !l.Hidden || l.Size == 0 {
			t.Errorf("%+v", l)
		}
		tr.want(livetrace.Request, `"subject":"auth.login.enter"`, `"hidden":true`)
		tr.want(livetrace.Reply, `"subject":"auth.login.enter"`, `"hidden":true`)
		tr.want(livetrace.Request, `"subject":"access.test.a"`, `\"token\":\"…\"`)
		if strings.Contains(tr.String(), "SESAME") {
			t.Errorf("a secret is shown:\n%s", tr)
		}
	}
	both[0].want(livetrace.Out, `"hidden":true`)
	both[0].want(livetrace.Out, `"id":"1"`, `test.a`)
}

func TestTraceRefusals(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial()
	w.subscribe(c, "test.a")
	cid := w.cidOf()
	for query, want := range map[string]string{
		"":                               "either cid or resource must say",
		"cid=" + cid + "&resource=test.": "either cid or resource must say",
		"resource=a..b":                  "must be a pattern",
		"resource=a&seconds=601":         "seconds must be a whole number from 1 to 600",
		"resource=a&rate=0":              "rate must be",
		"resource=a&bytes=4097":          "bytes must be",
		"cid=nobody":                     "is not a connection ID of this gateway",
	} {
		if status, text := w.ask("GET", "/api/trace?"+query, "", nil); status < 400 || status >= 500 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
	var on []*trace
	for range 4 {
		on = append(on, w.trace("resource=test.a&seconds=600"))
	}
	if status, text := w.ask("GET", "/api/trace?resource=test.a", "", nil); status != http.StatusServiceUnavailable || !strings.Contains(text, "end one first") {
		t.Errorf("a fifth trace: %d %s", status, text)
	}
	for _, tr := range on {
		tr.stop()
	}
	testkit.Until(t, "there is room for a trace", func() bool {
		status, _ := w.ask("GET", "/api/trace?resource=test.a&seconds=1", "", nil)
		return status == http.StatusOK
	})
	c.Cut()
	testkit.Until(t, "the connection has gone", func() bool {
		status, text := w.ask("GET", "/api/trace?cid="+cid, "", nil)
		return status == http.StatusNotFound && strings.Contains(text, "is not open")
	})
}

// A reader that does not read loses lines, and nothing waits for it: clients get their events.
func TestTraceWithoutReader(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial()
	w.subscribe(c, "test.a")
	reader, err := net.Dial("tcp", w.g.AdminAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	fmt.Fprintf(reader, "GET /api/trace?resource=test.a&rate=1000&bytes=4096&seconds=600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if line, err := bufio.NewReaderSize(reader, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatal(line, err)
	}
	w.get("/api/overview", nil)
	text := strings.Repeat("x", 4000)
	for n := range 3000 {
		if err := w.nc.Publish("event.test.a.custom", fmt.Appendf(nil, `{"n":%d,"text":%q}`, n, text)); err != nil {
			t.Fatal(err)
		}
	}
	w.flush()
	for n := range 3000 {
		if m := w.next(c); !strings.Contains(m, fmt.Sprintf(`"n":%d,`, n)) {
			t.Fatalf("event %d: %.100s", n, m)
		}
	}
}

// When no trace is on any more, the owners show nothing.
func TestTraceEndsAtTheOwners(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial()
	w.subscribe(c, "test.a")
	tr := w.trace("cid=" + w.cidOf() + "&seconds=1")
	if l := tr.want(livetrace.End); l.Reason != "its time is over" {
		t.Errorf("%+v", l)
	}
	w.publish("event.test.a.change", model(5))
	if m := w.next(c); !strings.Contains(m, `"n":5`) {
		t.Error(m)
	}
	if !strings.Contains(w.log.String(), "admin: trace started") {
		t.Error("the log does not say who traced what")
	}
}
