//go:build linux

package client

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"
)

// streamServer answers one request with text, the first bytes one by one, and then with what more
// has.
func streamServer(t *testing.T, text string, more <-chan string) (addr string, request <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	asked := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		asked <- r.Method + " " + r.RequestURI + " " + r.Header.Get("Accept") + " " + r.Header.Get("Authorization")
		few := min(len(text), 200)
		for _, b := range []byte(text[:few]) {
			_, _ = c.Write([]byte{b})
		}
		_, _ = c.Write([]byte(text[few:]))
		for part := range more {
			_, _ = c.Write([]byte(part))
		}
	}()
	return l.Addr().String(), asked
}

// A client of an event stream is ready with the first event, and counts the due times of the
// others, however they are cut.
func TestStream(t *testing.T) {
	more := make(chan string, 10)
	addr, asked := streamServer(t, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: {\"models\":{}}\n\n", more)
	e, err := New(Config{Protocol: ProtocolRES, Addr: addr, Streams: "/api/", Token: "secret", First: 1, Count: 1, Topics: 2, PerClient: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Connect(); err != nil {
		t.Fatal(err)
	}
	until(t, e, "connection", func(c Counters) bool { return c.Ready == 1 })
	if got := <-asked; got != "GET /api/load/t1 text/event-stream Bearer secret" {
		t.Errorf("%s", got)
	}
	if err := e.Begin(Now()); err != nil {
		t.Fatal(err)
	}
	event := func() string { return "event: load.t1.tick\ndata: " + string(AppendEvent(nil, Now(), 100)) + "\n\n" }
	first, second, last := event(), event(), event()
	more <- first + ":\n\n" + second + last[:40]
	more <- last[40:]
	s := until(t, e, "deliveries", func(c Counters) bool { return c.Deliveries == 3 })
	if s.Count.Failed+s.Count.Closed != 0 || s.Count.Strange+s.Count.Disorder != 0 {
		t.Errorf("%+v", s.Count)
	}
	close(more)
	until(t, e, "end", func(c Counters) bool { return c.Closed == 1 })
}

func TestNoStream(t *testing.T) {
	for text, want := range map[string]string{
		"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n\r\n":                         "there is no event stream: HTTP/1.1 404 Not Found",
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n":                                "there is no event stream",
		"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n": "transfer coding",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 17<<10):                                     "rejected",
	} {
		more := make(chan string)
		addr, _ := streamServer(t, text, more)
		e, err := New(Config{Protocol: ProtocolRES, Addr: addr, Streams: "/api/", Count: 1, Topics: 1, PerClient: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Connect(); err != nil {
			t.Fatal(err)
		}
		s := until(t, e, "failure", func(c Counters) bool { return c.Failed == 1 })
		if !strings.Contains(s.Count.LastError, want) {
			t.Errorf("%.60q: %s", text, s.Count.LastError)
		}
		close(more)
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := New(Config{Protocol: ProtocolRES, Addr: "127.0.0.1:1", Streams: "/", Count: 1, Topics: 2, PerClient: 2}); err == nil {
		t.Error("a stream has two subscriptions")
	}
}
