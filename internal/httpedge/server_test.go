package httpedge

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/config"
	"sluice/internal/httpapi"
	"sluice/internal/testkit"
)

// httpFixture is an HTTP side fed by a plain listener in place of event loops.
type httpFixture struct {
	*Edge
	addr     string
	natsOK   atomic.Bool
	draining atomic.Bool
	given    chan givenBack
}

type givenBack struct {
	conn net.Conn
	head string
}

func newHTTPFixture(t *testing.T, change func(*Options)) *httpFixture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &httpFixture{addr: l.Addr().String(), given: make(chan givenBack, 1)}
	f.natsOK.Store(true)
	o := Options{
		API: httpapi.Options{APIPath: "/resources/"}, WSPath: "/ws",
		MaxHead: 16 << 10, HeadTimeout: time.Minute, Exchange: time.Minute, IdleTimeout: time.Minute,
		Gateway: Gateway{
			Healthy:  f.natsOK.Load,
			Draining: f.draining.Load,
			Ready: func() error {
				if !f.natsOK.Load() {
					return errors.New("NATS is not connected")
				}
				return nil
			},
			Adopt: func(c net.Conn, head []byte) { f.given <- givenBack{c, string(head)} },
		},
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	f.Edge = New(o)
	f.Start(l.Addr(), func(err error) { t.Error(err) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.Handover(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		_ = f.Stop(context.Background())
	})
	return f
}

// dial opens a connection on which raw requests can be written one by one.
func (f *httpFixture) dial(t *testing.T) *rawClient {
	t.Helper()
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &rawClient{t: t, Conn: c, r: bufio.NewReader(c)}
}

type rawClient struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

// ask writes a request and returns the response with its body read.
func (c *rawClient) ask(request string) (*http.Response, string) {
	c.t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		c.t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no response to %q: %v", request, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp, string(body)
}

const upgradeHead = "GET /ws?x=1 HTTP/1.1\r\nHost: h:1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: a=b\r\n\r\n"

// RES.md section 4: requests that are not for resources.
func TestRoutes(t *testing.T) {
	f := newHTTPFixture(t, nil)
	const (
		notFound   = `{"code":"system.notFound","message":"Not found"}`
		healthy    = `{"status":"ok","nats":"connected"}`
		badRequest = `{"code":"system.badRequest","message":"Bad request"}`
	)
	for _, tt := range []struct {
		request string
		status  int
		body    string
		closed  bool
	}{
		{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 404, notFound, false},
		{"GET /api/x HTTP/1.1\r\nHost: h\r\n\r\n", 404, notFound, false},
		{"HEAD /nope HTTP/1.1\r\nHost: h\r\n\r\n", 404, "", false},
		{"POST /nope HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", 404, notFound, false},
		{"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400, badRequest, true},
		{"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400, "", true}, // rejected by net/http
		{"GET /ws HTTP/1.1\r\nHost: h\r\n\r\n", 400, badRequest, false},
		{"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", 400, `{"code":"system.badRequest","message":"Bad request: The WebSocket handshake lacks Connection: Upgrade, Sec-WebSocket-Key, Sec-WebSocket-Version, which a proxy may have dropped."}`, false},
		{"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", 400, `{"code":"system.badRequest","message":"Bad request: The WebSocket handshake lacks Upgrade: websocket, Sec-WebSocket-Key, Sec-WebSocket-Version, which a proxy may have dropped."}`, false},
		{"GET /%77s HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 400, `{"code":"system.badRequest","message":"Bad request: The WebSocket handshake lacks Sec-WebSocket-Key, Sec-WebSocket-Version, which a proxy may have dropped."}`, false},
		{"GET /ws HTTP/1.0\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n", 400,
			`{"code":"system.badRequest","message":"Bad request: The WebSocket handshake lacks Upgrade: websocket, Connection: Upgrade, which a proxy may have dropped."}`, true},
		{"GET /other HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 404, notFound, false},
		{"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", 200, `{"status":"ok","nats":"connected"}`, false},
		{"HEAD /healthz HTTP/1.1\r\nHost: h\r\n\r\n", 200, "", false},
		{"POST /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 405, `{"code":"system.methodNotAllowed","message":"Method not allowed"}`, false},
		{"GET / HTTP/1.0\r\n\r\n", 404, notFound, true},
		{"OPTIONS / HTTP/1.0\r\n\r\n", 200, healthy, true},
		{"OPTIONS * HTTP/1.0\r\n\r\n", 200, healthy, true},
		{"HEAD / HTTP/1.0\r\n\r\n", 200, "", true},
		{"OPTIONS /healthz HTTP/1.0\r\n\r\n", 200, healthy, true},
		{"OPTIONS /healthz HTTP/1.1\r\nHost: h\r\n\r\n", 200, healthy, false},
		{"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", 200, "", false},
		{"GET /ws HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n", 400,
			`{"code":"system.badRequest","message":"Bad request: The WebSocket handshake lacks Upgrade: websocket, Connection: Upgrade, which a proxy may have dropped."}`, false},
	} {
		t.Run(tt.request, func(t *testing.T) {
			c := f.dial(t)
			resp, body := c.ask(tt.request)
			if resp.StatusCode != tt.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tt.status)
			}
			if tt.body != "" && body != tt.body {
				t.Errorf("body %s, want %s", body, tt.body)
			}
			if ct := resp.Header.Get("Content-Type"); tt.body != "" && ct != "application/json; charset=utf-8" {
				t.Errorf("Content-Type %q", ct)
			}
			if tt.closed {
				if _, err := c.r.ReadByte(); err != io.EOF {
					t.Errorf("read after the response: %v, want the connection closed", err)
				}
			} else if resp, _ := c.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != 200 {
				t.Errorf("the next request on the connection: status %d", resp.StatusCode)
			}
		})
	}
}

// With HideHealth nothing on the port for clients tells whether the gateway is healthy; the handler
// for the other port does.
func TestHealthHidden(t *testing.T) {
	pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "page "+r.URL.Path) })
	for _, paged := range []bool{false, true} {
		f := newHTTPFixture(t, func(o *Options) {
			if o.HideHealth = true; paged {
				o.Pages = pages
			}
		})
		for _, path := range []string{config.HealthPath, config.ReadyPath, config.LivePath, "/h%65althz"} {
			status, want := 404, `{"code":"system.notFound","message":"Not found"}`
			if paged {
				status, want = 200, "page "+strings.ReplaceAll(path, "%65", "e")
			}
			if resp, body := f.dial(t).ask("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != status || body != want {
				t.Errorf("%s, pages %v: %d %s", path, paged, resp.StatusCode, body)
			}
		}
		for _, probe := range []string{"OPTIONS * HTTP/1.0\r\n\r\n", "OPTIONS / HTTP/1.0\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"} {
			resp, body := f.dial(t).ask(probe)
			if strings.Contains(body, "nats") || !paged && resp.StatusCode == 200 || resp.Header.Get("Cache-Control") == "no-store" {
				t.Errorf("%q, pages %v: %d %s", probe, paged, resp.StatusCode, body)
			}
		}
		w := httptest.NewRecorder()
		f.Health().ServeHTTP(w, httptest.NewRequest(http.MethodGet, config.ReadyPath, nil))
		if w.Code != 200 || w.Body.String() != "ready\n" {
			t.Errorf("on the other port: %d %q", w.Code, w.Body)
		}
	}
}

func TestReadySaysWhyNot(t *testing.T) {
	f := newHTTPFixture(t, nil)
	for _, tt := range []struct {
		up      bool
		request string
		status  int
		body    string
	}{
		{true, "GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n", 200, "ready\n"},
		{true, "GET /readyz HTTP/1.0\r\n\r\n", 200, "ready\n"},
		{true, "HEAD /readyz HTTP/1.1\r\nHost: h\r\n\r\n", 200, ""},
		{false, "GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n", 503, "NATS is not connected\n"},
		{false, "HEAD /readyz HTTP/1.1\r\nHost: h\r\n\r\n", 503, ""},
		{true, "PUT /readyz HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 405, `{"code":"system.methodNotAllowed","message":"Method not allowed"}`},
	} {
		f.natsOK.Store(tt.up)
		if resp, body := f.dial(t).ask(tt.request); resp.StatusCode != tt.status || body != tt.body {
			t.Errorf("%q, up %v: %d %q", tt.request, tt.up, resp.StatusCode, body)
		}
	}
}

func TestHealthFollowsNATS(t *testing.T) {
	f := newHTTPFixture(t, nil)
	c := f.dial(t)
	const request = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
	f.natsOK.Store(false)
	resp, body := c.ask(request)
	if resp.StatusCode != 503 || body != `{"status":"unavailable","nats":"disconnected"}` || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("without NATS: %d %s %q", resp.StatusCode, body, resp.Header)
	}
	f.natsOK.Store(true)
	if resp, _ := c.ask(request); resp.StatusCode != 200 {
		t.Errorf("with NATS: %d", resp.StatusCode)
	}
}

func TestPagesGetOtherPaths(t *testing.T) {
	f := newHTTPFixture(t, func(o *Options) {
		o.WSPath = "/"
		o.Pages = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				NotFound(w, r)
				return
			}
			_, _ = io.WriteString(w, "page")
		})
	})
	c := f.dial(t)
	if resp, body := c.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != 200 || body != "page" {
		t.Errorf("page: %d %q", resp.StatusCode, body)
	}
	if resp, body := c.ask("GET /nope HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != 404 || body != `{"code":"system.notFound","message":"Not found"}` {
		t.Errorf("no page: %d %q", resp.StatusCode, body)
	}
	if resp, _ := c.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"); resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Error("the pages hide the health check")
	}
}

// A browser may send the upgrade on the connection on which it has fetched the page.
func TestUpgradeOnKeptAliveConnectionGoesBack(t *testing.T) {
	f := newHTTPFixture(t, nil)
	c := f.dial(t)
	if resp, _ := c.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	const early = "\x81\x80\x00\x00\x00\x00" // a frame sent before the response
	if _, err := io.WriteString(c, upgradeHead+early); err != nil {
		t.Fatal(err)
	}
	got := <-f.given
	head, rest, ok := strings.Cut(got.head, "\r\n\r\n")
	if !ok || !strings.HasPrefix(head, "GET /ws?x=1 HTTP/1.1\r\nHost: h:1\r\n") {
		t.Errorf("head %q", got.head)
	}
	for _, line := range []string{"Upgrade: WebSocket", "Connection: keep-alive, Upgrade", "Cookie: a=b"} {
		if !strings.Contains(head+"\r\n", "\r\n"+line+"\r\n") {
			t.Errorf("%q is missing in %q", line, head)
		}
	}
	// The early bytes arrive in the same packet or a later one; none may be lost.
	missing := make([]byte, len(early)-len(rest))
	if _, err := io.ReadFull(got.conn, missing); err != nil || rest+string(missing) != early {
		t.Errorf("early bytes %q then %q (%v), want %q", rest, missing, err, early)
	}
	// The loop owns the connection now: it has no deadline of net/http.
	if _, err := io.WriteString(got.conn, "from the loop"); err != nil {
		t.Error(err)
	}
	answer := make([]byte, len("from the loop"))
	if _, err := io.ReadFull(c.r, answer); err != nil || string(answer) != "from the loop" {
		t.Errorf("%q, %v", answer, err)
	}
	_ = got.conn.Close()
}

// The loop checks the handshake, a body included, so the head must have the client's fields.
func TestUpgradeWithBodyKeepsItsLength(t *testing.T) {
	f := newHTTPFixture(t, nil)
	for _, field := range []string{"Content-Length: 5", "Transfer-Encoding: chunked"} {
		c := f.dial(t)
		if _, err := io.WriteString(c, strings.Replace(upgradeHead, "Cookie: a=b", field, 1)); err != nil {
			t.Fatal(err)
		}
		got := <-f.given
		if !strings.Contains(got.head, "\r\n"+field+"\r\n") {
			t.Errorf("%q is missing in %q", field, got.head)
		}
		_ = got.conn.Close()
	}
}

func TestHandoverNeverWaits(t *testing.T) {
	h := New(Options{Log: slog.New(slog.DiscardHandler)})
	h.server = &server{listener: newHandoverListener(nil, func() string { return "" })}
	// No goroutine accepts: the queue fills, and the next connection gets 503.
	for range handoverQueue {
		gateway, client := net.Pipe()
		t.Cleanup(func() { _ = client.Close() })
		h.Handover(gateway)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	h.Handover(conn)
	answer, err := io.ReadAll(client)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 503 ") {
		t.Errorf("response %q, %v", answer, err)
	}
	if n := h.o.Metrics.Refused.Load(); n != 1 {
		t.Errorf("rejected %d, want 1", n)
	}
	_ = h.server.listener.Close()
	if n := len(h.server.listener.conns); n != 0 {
		t.Errorf("%d connections left open", n)
	}
}

// New settings hold for connections from then on; those that are there are served on with theirs.
func TestAdjust(t *testing.T) {
	var options Options
	f := newHTTPFixture(t, func(o *Options) { options = *o })
	ask := func(c *rawClient, size int) int {
		t.Helper()
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("x", size)+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	early := f.dial(t)
	if status := ask(early, 15<<10); status != 200 {
		t.Fatalf("status %d", status)
	}
	options.MaxHead = 1 << 10
	f.Adjust(options)
	f.Adjust(options) // the same again
	late := f.dial(t)
	if status := ask(late, 8<<10); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a head beyond the new limit: status %d", status)
	}
	if status := ask(early, 15<<10); status != 200 {
		t.Errorf("on the earlier connection: status %d", status)
	}
	if n := len(f.server.all()); n != 2 {
		t.Errorf("%d generations, want the one with a connection and the new one", n)
	}
	_ = early.Close()
	testkit.Until(t, "the connection has ended", func() bool { return f.server.all()[0].open.Load() == 0 })
	options.IdleTimeout = time.Hour
	f.Adjust(options)
	for _, g := range f.server.all()[1:] {
		if g.http.MaxHeaderBytes != 1<<10 {
			t.Error("an old generation without connections is left")
		}
	}
	if status := ask(f.dial(t), 100); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestStopClosesEverything(t *testing.T) {
	block, entered := make(chan struct{}), make(chan struct{})
	f := newHTTPFixture(t, func(o *Options) {
		o.Pages = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-block
			_, _ = io.WriteString(w, "done")
		})
	})
	busy := f.dial(t)
	if _, err := io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- f.Stop(context.Background()) }()
	<-f.server.listener.done // no more connections, one request in flight
	close(block)
	resp, err := http.ReadResponse(busy.r, nil)
	if err != nil {
		t.Fatalf("the response to the in-flight request was cut: %v", err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "done" {
		t.Errorf("body %q, %v", body, err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if f.server.listener.offer(busy) {
		t.Error("accepted a connection after the stop")
	}
}

func TestStopDoesNotOutlastItsContext(t *testing.T) {
	entered := make(chan struct{})
	f := newHTTPFixture(t, func(o *Options) {
		o.Pages = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		})
	})
	busy := f.dial(t)
	if _, err := io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Stop(ctx); err == nil {
		t.Error("stop reports no in-flight request")
	}
	if _, err := busy.r.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
}
