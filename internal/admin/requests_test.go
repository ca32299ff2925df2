package admin_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/admin"
	"sluice/internal/testkit"
)

// silent subscribes to subjects without a reply, until release has each of the requests answered.
func (w *world) silent(subjects ...string) (release func(reply string)) {
	w.t.Helper()
	requests := make(chan *nats.Msg, 100)
	for _, subject := range subjects {
		if _, err := w.nc.ChanSubscribe(subject, requests); err != nil {
			w.t.Fatal(err)
		}
	}
	w.flush()
	return func(reply string) {
		for len(requests) > 0 {
			_ = (<-requests).Respond([]byte(reply))
		}
		w.flush()
	}
}

// raw sends an HTTP request on a connection of its own.
func (w *world) raw(request string) net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", w.g.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	if _, err := fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: localhost\r\n\r\n", strings.Replace(request, "|", " HTTP/1.1\r\nAccept: text/event-stream\r\nX: ", 1)); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// requests waits until the requests in progress are those given, in any order. Each is client,
// type, resource ID, method, state and subject.
func (w *world) requests(query string, want ...string) (list admin.RequestList) {
	w.t.Helper()
	text := ""
	defer func() {
		if w.t.Failed() {
			w.t.Log(text)
		}
	}()
	testkit.Until(w.t, fmt.Sprintf("the requests are %q", want), func() bool {
		list = admin.RequestList{}
		_, text = w.ask("GET", "/api/requests?"+query, "", &list)
		got := map[string]bool{}
		for _, r := range list.Requests {
			got[strings.Join([]string{r.Client, r.Type, r.RID, r.Method, r.State, r.Subject}, " ")] = true
		}
		for _, line := range want {
			if !got[line] {
				return false
			}
		}
		return len(list.Requests) == len(want)
	})
	if strings.Contains(text, "sesame") {
		w.t.Errorf("a secret is shown: %s", text)
	}
	return list
}

// Requests in progress of all kinds of clients are listed with what they wait for, wherever that
// is.
func TestRequestsInProgress(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.MinServiceRequests, c.MaxServiceRequests = 1, 1 })
	release := w.silent("call.test.>", "access.slow.>", "get.hang.>", "get.wait.>", "call.busy.>")
	for subject, reply := range map[string]string{"access.hang.>": `{"result":{"get":true}}`, "access.wait.>": `{"result":{"get":true}}`, "access.busy.>": `{"result":{"call":"*"}}`} {
		if _, err := w.nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(reply)) }); err != nil {
			t.Fatal(err)
		}
	}
	w.flush()
	a, b := w.dial(), w.dial()
	w.subscribe(a, "test.model")
	send := func(messages ...string) {
		t.Helper()
		for _, m := range messages {
			if err := a.Send(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(`{"id":2,"method":"call.test.model.set","params":{"secret":"sesame"}}`,
		`{"id":3,"method":"subscribe.hang.model?q=1&token=sesame"}`, `{"id":4,"method":"unsubscribe.hang.model?q=1&token=sesame"}`)
	called := "websocket call test.model set sent call.test.model.set"
	subscribed := "websocket subscribe hang.model?q=1&token=…  load get.hang.model"
	ordered := "websocket unsubscribe hang.model?q=1&token=…  order "
	w.requests("", called, subscribed, ordered)

	w.raw("GET /api/slow/model?x=1&password=sesame|")
	streamed := "stream subscribe slow.model?x=1&password=…  access access.slow.model"
	w.requests("", called, subscribed, ordered, streamed)
	w.raw("GET /api/wait/other?pin=sesame")
	got := "http get wait.other?pin=…  load get.wait.other"
	w.requests("", called, subscribed, ordered, streamed, got)
	if err := b.Send(`{"id":5,"method":"call.busy.one.do"}`); err != nil {
		t.Fatal(err)
	}
	w.requests("", called, subscribed, ordered, streamed, got, "websocket call busy.one do sent call.busy.one.do")
	if err := b.Send(`{"id":6,"method":"call.busy.two.do"}`); err != nil {
		t.Fatal(err)
	}
	list := w.requests("service=busy", "websocket call busy.one do sent call.busy.one.do", "websocket call busy.two do queued access.busy.two")
	if list.Matched != 2 || list.ServicesMatched != 2 || list.Services[0].Subject != "call.busy.one.do" || list.Services[0].State != "sent" ||
		list.Services[0].CID != list.Requests[0].CID || !strings.HasPrefix(list.Services[0].Owner, "event loop ") || list.Requests[0].AgeMs < list.Requests[1].AgeMs || list.Services[1].State != "queued" {
		t.Errorf("of one service: %+v", list)
	}
	list = w.requests("service=busy&limit=1", "websocket call busy.one do sent call.busy.one.do")
	if list.Matched != 2 || len(list.Services) != 1 || list.ServicesMatched != 2 {
		t.Errorf("the first of a service: %+v", list)
	}
	w.requests("service=bus")

	var d admin.ConnectionDetails
	w.get("/api/connections/"+w.requests("service=test", called).Requests[0].CID, &d)
	if len(d.InFlight) != 3 || d.InFlight[0].Subject != "call.test.model.set" || d.InFlight[0].State != "sent" ||
		d.InFlight[1].State != "load" || d.InFlight[1].RID != "hang.model?q=1&token=…" || d.InFlight[2].State != "order" || d.Requests != 3 {
		t.Errorf("of one client: %+v", d.InFlight)
	}

	b.Cut() // its requests end with it
	w.requests("", called, subscribed, ordered, streamed, got)
	testkit.Until(t, "all requests have responses", func() bool {
		release(`{"error":{"code":"system.notFound","message":"Not found"}}`)
		list = admin.RequestList{}
		w.get("/api/requests?limit=2", &list)
		return list.Matched == 0 && list.ServicesMatched == 0
	})
}
