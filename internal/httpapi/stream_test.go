package httpapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/res"
)

// streamClient is a response writer that passes each write and flush to the test, and waits for the
// test to receive it.
type streamClient struct {
	header http.Header
	status int
	got    chan string // writes, and "flush"
	broken error       // set before the stream begins: writes fail
}

func newStreamClient() *streamClient {
	return &streamClient{header: http.Header{}, got: make(chan string)}
}

func (c *streamClient) Header() http.Header    { return c.header }
func (c *streamClient) WriteHeader(status int) { c.status = status }

func (c *streamClient) Write(p []byte) (int, error) {
	if c.broken != nil {
		return 0, c.broken
	}
	c.got <- string(p)
	return len(p), nil
}

func (c *streamClient) FlushError() error {
	c.got <- "flush"
	return nil
}

func (c *streamClient) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := <-c.got; got != w {
			t.Fatalf("got %q, want %q", got, w)
		}
	}
}

// running is an open stream.
type running struct {
	h      *Handler
	client *streamClient
	sink   Sink
	r      *http.Request // as the backend got it
	cancel context.CancelFunc
	ended  chan struct{}
}

// startStream begins a stream whose backend sends the given frames before it returns.
func startStream(t *testing.T, o Options, meta *res.Meta, early ...string) *running {
	s := &running{client: newStreamClient(), ended: make(chan struct{})}
	f := &fakeBackend{stream: func(r *http.Request, sink Sink) (*res.Meta, *res.Error) {
		s.r, s.sink = r, sink
		for _, m := range early {
			if !sink.Send([]byte(m)) {
				t.Errorf("%q was rejected", m)
			}
		}
		return meta, nil
	}}
	s.h = New(o, f)
	ctx, cancel := context.WithCancel(t.Context())
	s.cancel = cancel
	r := httptest.NewRequest("GET", "/api/test/model?q=1", nil).WithContext(ctx)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Origin", "http://a.example")
	go func() {
		s.h.ServeHTTP(s.client, r)
		close(s.ended)
	}()
	synctest.Wait()
	if f.rid != "test.model?q=1" {
		t.Errorf("the backend got %q", f.rid)
	}
	return s
}

// A stream without heartbeats gets none, until Adjust sets an interval.
func TestHeartbeatsBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Heartbeat: -1}
		s := startStream(t, o, nil)
		s.client.expect(t, "flush")
		<-time.After(3 * recheck / 2)
		select {
		case got := <-s.client.got:
			t.Fatalf("got %q", got)
		default:
		}
		o.Heartbeat = time.Second
		s.h.Adjust(o)
		start := time.Now()
		s.client.expect(t, ":\n\n", "flush", ":\n\n", "flush")
		if d := time.Since(start); d > recheck {
			t.Errorf("two comments within %v", d)
		}
		s.cancel()
		<-s.ended
	})
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startStream(t, Options{Heartbeat: time.Second, HeaderAuth: true},
			&res.Meta{Header: fields{"X": {"y"}, "Cache-Control": {"max-age=9"}}}, "data: set\n\n")
		if n := s.h.o.Metrics.Streams.Load(); n != 1 {
			t.Errorf("counted %d", n)
		}
		s.client.expect(t, "flush", "data: set\n\n", "flush")
		if s.client.status != 200 {
			t.Errorf("status %d", s.client.status)
		}
		expectHeader(t, &httptest.ResponseRecorder{HeaderMap: s.client.header}, "Content-Type", "text/event-stream; charset=utf-8",
			"Cache-Control", "no-cache", "X", "y", "Access-Control-Allow-Origin", "*", "Access-Control-Allow-Credentials", "true",
			"X-Accel-Buffering", "no", "Connection", "close", "Content-Encoding", "", "Content-Length", "")
		for _, m := range []string{"data: 1\n\n", "data: 2\n\n"} {
			if !s.sink.Send([]byte(m)) {
				t.Fatal("rejected")
			}
			s.client.expect(t, m, "flush")
		}
		// Frames that queue up are written in one batch.
		synctest.Wait()
		s.sink.Send([]byte("data: 3\n\n"))
		synctest.Wait() // written, and now waiting for the reader
		s.sink.Send([]byte("data: 4\n\n"))
		s.sink.Send([]byte("data: 5\n\n"))
		s.client.expect(t, "data: 3\n\n", "flush", "data: 4\n\n", "data: 5\n\n", "flush")
		if !s.sink.Send(nil) {
			t.Error("no frame was rejected")
		}

		// An idle stream gets a comment a second after the last frame.
		synctest.Wait()
		start := time.Now()
		s.client.expect(t, ":\n\n", "flush", ":\n\n", "flush")
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("two comments within %v", d)
		}

		// Close writes the queued frames.
		s.sink.Send([]byte("data: 6\n\n"))
		s.sink.Send([]byte("data: 7\n\n"))
		s.sink.Close()
		s.sink.Close()
		if s.sink.Send([]byte("data: late\n\n")) {
			t.Error("accepted after the end")
		}
		s.client.expect(t, "data: 6\n\n", "data: 7\n\n", "flush")
		<-s.ended
		if s.r.Context().Err() == nil {
			t.Error("the backend's context has not ended")
		}
		if s.h.o.Metrics.Streams.Load() != 0 || s.h.o.Metrics.StreamsCut.Load() != 0 {
			t.Error("wrong counters")
		}
	})
}

func TestStreamOfClientThatDisconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startStream(t, Options{}, nil, "data: set\n\n")
		s.client.expect(t, "flush", "data: set\n\n", "flush")
		s.cancel()
		<-s.ended
		if s.sink.Send([]byte("data: x\n\n")) {
			t.Error("accepted after the end")
		}
		s.sink.Close()
	})
}

// The backend may close the stream before the handler has written anything.
func TestStreamClosedImmediately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startStream(t, Options{}, nil, "data: set\n\n", "data: 1\n\n")
		s.sink.Close()
		s.client.expect(t, "flush", "data: set\n\n", "data: 1\n\n", "flush")
		<-s.ended
	})
}

func TestStreamWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startStream(t, Options{}, nil)
		s.client.expect(t, "flush")
		s.client.broken = errors.New("broken pipe")
		s.sink.Send([]byte("data: x\n\n"))
		<-s.ended
		if s.r.Context().Err() == nil {
			t.Error("the backend's context has not ended")
		}
	})
}

// The backlog of a client that does not read is bounded; beyond it the stream is closed.
func TestStreamIsBounded(t *testing.T) {
	const message = "data: 12345\n\n" // 13 bytes
	for name, tt := range map[string]struct {
		o    Options
		room int // messages that are taken beyond the one being written
	}{
		"messages": {Options{StreamMessages: 3}, 3},
		"bytes":    {Options{StreamBytes: 13 * 5}, 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := startStream(t, tt.o, nil)
			s.client.expect(t, "flush")
			s.sink.Send([]byte(message))
			synctest.Wait() // it is being written
			for i := range tt.room {
				if !s.sink.Send([]byte(message)) {
					t.Fatalf("%s: frame %d was rejected", name, i)
				}
			}
			for range 2 {
				if s.sink.Send([]byte(message)) {
					t.Errorf("%s: no bound", name)
				}
			}
			for open := true; open; {
				select {
				case <-s.client.got:
				case <-s.ended:
					open = false
				}
			}
			if n := s.h.o.Metrics.StreamsCut.Load(); n != 1 {
				t.Errorf("%s: counted %d", name, n)
			}
		})
	}
}

// A single frame may be longer than the bound: otherwise some resources could not be streamed.
func TestStreamOfLongFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := "data: " + strings.Repeat("x", 100) + "\n\n"
		s := startStream(t, Options{StreamBytes: 10}, nil, long)
		s.client.expect(t, "flush", long, "flush")
		synctest.Wait()
		if !s.sink.Send([]byte(long)) {
			t.Error("rejected, with an empty backlog")
		}
		s.client.expect(t, long, "flush")
		s.cancel()
		<-s.ended
	})
}

// A stream that does not begin gets an ordinary error response.
func TestStreamThatDoesNotBegin(t *testing.T) {
	for _, tt := range []struct {
		meta   *res.Meta
		err    *res.Error
		status int
		body   string
	}{
		{nil, res.ErrAccessDenied, 401, errorBody(res.ErrAccessDenied)},
		{&res.Meta{Status: 403}, nil, 403, errorBody(res.ErrForbidden)},
		{&res.Meta{Status: 307, Header: fields{"Location": {"/x"}}}, nil, 307, ""},
	} {
		f := &fakeBackend{stream: func(*http.Request, Sink) (*res.Meta, *res.Error) { return tt.meta, tt.err }}
		h := New(Options{}, f)
		w := ask(t, h, "GET", "/api/x", "", "Accept", "text/event-stream")
		expect(t, w, tt.status, tt.body)
		if h.o.Metrics.Streams.Load() != 0 {
			t.Error("counted")
		}
	}
	// These requests do not ask for a stream.
	f := &fakeBackend{graph: world.graph(t, "m"), result: res.CallResult{Payload: []byte("1")}}
	h := New(Options{AllowOrigin: []string{"http://a.example"}}, f)
	expect(t, ask(t, h, "HEAD", "/api/x", "", "Accept", "text/event-stream"), 200, "")
	expect(t, ask(t, h, "POST", "/api/x/y", "", "Accept", "text/event-stream"), 200, "1")
	expect(t, ask(t, h, "GET", "/api/x.y", "", "Accept", "text/event-stream"), 404, errorBody(res.ErrNotFound))
	expect(t, ask(t, h, "GET", "/api/x", "", "Accept", "text/event-stream", "Origin", "http://b.example"), 403, errorBody(res.ErrForbiddenOrigin))
}

// On net/http a stream outlives the server's deadlines for ordinary requests. When the backend
// closes it, the client sees its end, and when the client disconnects, the backend's context ends.
func TestStreamOverNetHTTP(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		gone := make(chan struct{}, 2)
		sinks := make(chan Sink, 1)
		f := &fakeBackend{stream: func(r *http.Request, sink Sink) (*res.Meta, *res.Error) {
			context.AfterFunc(r.Context(), func() { gone <- struct{}{} })
			sink.Send([]byte("data: set\n\n"))
			sinks <- sink
			return nil, nil
		}}
		server := httptest.NewUnstartedServer(New(Options{Heartbeat: 25 * time.Millisecond}, f))
		server.Config.ReadTimeout, server.Config.WriteTimeout = 500*time.Millisecond, 500*time.Millisecond
		server.EnableHTTP2 = h2
		server.StartTLS()
		get := func() (*http.Response, *bufio.Reader) {
			r, _ := http.NewRequest("GET", server.URL+"/api/x", nil)
			r.Header.Set("Accept", "text/event-stream")
			resp, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if resp.ProtoMajor == 2 != h2 || resp.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
				t.Fatalf("%s %v", resp.Proto, resp.Header)
			}
			return resp, bufio.NewReader(resp.Body)
		}
		line := func(r *bufio.Reader, want string) {
			t.Helper()
			if got, err := r.ReadString('\n'); got != want+"\n" || err != nil {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}
		}
		resp, body := get()
		line(body, "data: set")
		line(body, "")
		for range 30 { // longer than the deadlines
			line(body, ":")
			line(body, "")
		}
		sink := <-sinks
		sink.Send([]byte("data: last\n\n"))
		sink.Close()
		rest, err := io.ReadAll(body)
		if err != nil || !strings.HasSuffix(string(rest), "data: last\n\n") {
			t.Errorf("the stream ended with %q, %v", rest, err)
		}
		_ = resp.Body.Close()
		<-gone

		resp, body = get()
		line(body, "data: set")
		<-sinks
		_ = resp.Body.Close()
		<-gone
		server.Close()
	}
}

// The parameter that asks for eventsLost is not part of a stream's resource ID.
func TestCutLost(t *testing.T) {
	for query, want := range map[string]struct {
		rest  string
		asked bool
	}{
		"":                                {"", false},
		"a=b":                             {"a=b", false},
		"eventsLost=true":                 {"", true},
		"eventsLost=true&b=2&a=1":         {"b=2&a=1", true},
		"b=2&eventsLost=true&a=1":         {"b=2&a=1", true},
		"b=2&a=%20&eventsLost=true":       {"b=2&a=%20", true},
		"eventsLost=true&eventsLost=true": {"", true},
		"eventsLost=1":                    {"eventsLost=1", false},
		"xeventsLost=true":                {"xeventsLost=true", false},
		"eventsLost=trueish":              {"eventsLost=trueish", false},
	} {
		if rest, asked := CutLost(query); rest != want.rest || asked != want.asked {
			t.Errorf("%q: %q, %v", query, rest, asked)
		}
	}
	h := New(Options{}, &fakeBackend{})
	for accept, rid := range map[string]string{"text/event-stream": "test.list?a=1", "application/json": "test.list?a=1&eventsLost=true"} {
		resp := Response{Header: http.Header{}}
		if p := h.Plan(&resp, &Query{Method: "GET", Path: "/api/test/list", RawQuery: "a=1&eventsLost=true", Accept: []string{accept}}); p.RID != rid {
			t.Errorf("%s: resource %q", accept, p.RID)
		}
	}
}
