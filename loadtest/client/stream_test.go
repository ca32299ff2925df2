//go:build linux

package client

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
		"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n\r\n":                               "there is no event stream: HTTP/1.1 404 Not Found",
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n":                                      "there is no event stream",
		"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: gzip, chunked\r\n\r\n": `transfer coding "gzip, chunked"`,
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 17<<10):                                           "rejected",
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

// A client of Mercure is ready with the head of the response, and reads the chunks in which a Go
// server sends events.
func TestMercureClient(t *testing.T) {
	publish, asked := make(chan string), make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path + " " + strings.Join(r.URL.Query()["topic"], " ") + " " + r.Header.Get("Accept")
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ":\n")
		flush := w.(http.Flusher).Flush
		flush()
		for {
			select {
			case event, open := <-publish:
				if !open {
					return
				}
				_, _ = io.WriteString(w, event)
				flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	e, err := New(Config{Protocol: ProtocolMercure, Addr: server.Listener.Addr().String(), First: 1, Count: 1, Topics: 4, PerClient: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	if err := e.Connect(); err != nil {
		t.Fatal(err)
	}
	until(t, e, "connection", func(c Counters) bool { return c.Ready == 1 })
	if got := <-asked; got != "/.well-known/mercure load.t2 load.t3 text/event-stream" {
		t.Errorf("%s", got)
	}
	event := func(size int) string {
		return "id: urn:uuid:1\ndata: " + string(AppendEvent(nil, Now()+1<<40, size)) + "\n\n"
	}
	whole, large := event(100), event(300_000)
	for _, part := range []string{whole, ":\n", whole[:20], whole[20:], whole + ":\n:\n" + whole, large} {
		publish <- part
	}
	s := until(t, e, "deliveries", func(c Counters) bool { return c.Deliveries == 5 })
	if s.Count.Failed+s.Count.Closed != 0 || s.Count.Strange != 0 || s.Count.Frames != 5 {
		t.Errorf("%+v", s.Count)
	}
	close(publish)
	s = until(t, e, "end", func(c Counters) bool { return c.Closed == 1 })
	if !strings.Contains(s.Count.LastError, "last chunk") {
		t.Errorf("%s", s.Count.LastError)
	}
}

func TestChunks(t *testing.T) {
	for in, want := range map[string]struct {
		data string
		n    int
		err  string
	}{
		"5\r\nhello\r\nrest":              {"hello", 10, ""},
		"5 ; name=value\r\nhello\r\n":     {"hello", 23, ""},
		"000A\r\n0123456789\r\n":          {"0123456789", 18, ""},
		"":                                {"", 1, ""},
		"5":                               {"", 2, ""},
		"5\r\nhel":                        {"", 10, ""},
		"5\r\nhello\r":                    {"", 10, ""},
		"0\r\n\r\n":                       {"", 0, "last chunk"},
		"5\nhello\r\n":                    {"", 0, "malformed chunk"},
		"\r\nhello\r\n":                   {"", 0, "malformed chunk"},
		"+5\r\nhello\r\n":                 {"", 0, "malformed chunk"},
		"0x5\r\nhello\r\n":                {"", 0, "malformed chunk"},
		"g\r\n":                           {"", 0, "malformed chunk"},
		"5\r\nhello!!":                    {"", 0, "malformed chunk"},
		"7fffffffffffffff\r\n":            {"", 0, "malformed chunk"},
		"ffffffffffffffffffff\r\n":        {"", 0, "malformed chunk"},
		strings.Repeat("1", maxChunkLine): {"", 0, "malformed chunk"},
	} {
		data, n, err := nextChunk([]byte(in))
		if string(data) != want.data || n != want.n || (err != nil) != (want.err != "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%.40q: %q, %d, %v", in, data, n, err)
		}
	}
}

// newBareStream returns a thread of one connection that reads a stream in chunks: tests feed it.
func newBareStream() *Thread {
	th := newBareThread(false)
	th.streams, th.driver = true, mercureDriver{}
	th.conns[0].begun, th.conns[0].chunked = true, true
	return th
}

// feedCut feeds text in parts of a length, until the connection fails.
func feedCut(th *Thread, text []byte, cut int) {
	c := &th.conns[0]
	for rest := text; len(rest) > 0 && c.fd >= 0; {
		k := copy(th.buf, c.partial)
		n := copy(th.buf[k:], rest[:min(cut, len(rest))])
		rest = rest[n:]
		c.feed(th.buf[:k+n])
	}
}

// What a client counts does not depend on how reads cut the chunks of a stream, and chunks its
// events; and nothing that a server sends breaks it.
func FuzzStream(f *testing.F) {
	stream := ":\n" + "id: 1\ndata: " + string(AppendEvent(nil, 1, 64)) + "\n\n" + ":\n" + "data: {\"due\":2}\n\ndata: {\"due\":3"
	for size := 1; size < len(stream); size = size*3 + 1 {
		text := ""
		for rest := stream; rest != ""; {
			part := rest[:min(size, len(rest))]
			rest = rest[len(part):]
			text += fmt.Sprintf("%x\r\n%s\r\n", len(part), part)
		}
		f.Add([]byte(text), 7)
	}
	f.Add([]byte("3\r\n:\n\n\r\n0\r\n\r\n"), 1)
	f.Add([]byte("ffffffff\r\n"), 2)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		if cut < 1 || len(text) > 64<<10 {
			return
		}
		whole, parts := newBareStream(), newBareStream()
		feedCut(whole, text, len(text))
		feedCut(parts, text, cut)
		if whole.count != parts.count {
			t.Fatalf("cut in parts of %d:\n%+v\nwhole:\n%+v", cut, parts.count, whole.count)
		}
	})
}
