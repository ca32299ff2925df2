package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/selfsigned"
	"sluice/internal/testkit"
)

// limitedLive is a gateway whose clock stands still, with a service.
func limitedLive(t *testing.T, change func(*Config)) (*live, *owner.ManualClock) {
	t.Helper()
	clock := owner.NewManualClock()
	g := startLive(t, func(c *Config) {
		c.Clock = clock
		change(c)
	})
	g.serve("access.>", always(`{"result":{"get":true}}`))
	g.serve("get.>", always(`{"result":{"model":{"n":1}}}`))
	return g, clock
}

// dialFrom opens a WebSocket for a client that a proxy has forwarded. It returns the response's
// status, header and body if it is rejected.
func (g *live) dialFrom(forwarded string) (c *wsClient, status int, header http.Header, body string) {
	g.tb.Helper()
	conn := g.rawConn(false)
	extra := ""
	if forwarded != "" {
		extra = "X-Forwarded-For: " + forwarded + "\r\n"
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"+extra+"\r\n"); err != nil {
		g.tb.Fatal(err)
	}
	br := bufio.NewReader(conn)
	r, err := http.ReadResponse(br, nil)
	if err != nil {
		g.tb.Fatal(err)
	}
	if r.StatusCode == http.StatusSwitchingProtocols {
		return &wsClient{tb: g.tb, conn: conn, br: br}, r.StatusCode, r.Header, ""
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		g.tb.Fatal(err)
	}
	_ = conn.Close()
	return nil, r.StatusCode, r.Header, string(b)
}

// fetch makes a request and returns the response without its body, and the body.
func (g *live) fetch(client *http.Client, url string, header ...string) (*http.Response, string) {
	g.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		g.tb.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		g.tb.Fatal(err)
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp, ""
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.tb.Fatal(err)
	}
	return resp, string(b)
}

func wantTooActive(t *testing.T, status int, header http.Header, body string) {
	t.Helper()
	if status != 429 || header.Get("Retry-After") == "" || !strings.HasPrefix(header.Get("Content-Type"), "application/json") ||
		!strings.Contains(body, `{"code":"system.tooActive","message":"Too active: too many `) {
		t.Errorf("status %d, header %v, body %q; want 429 with system.tooActive", status, header, body)
	}
}

// A client that sends more messages than messageRate allows is read later: all get their responses,
// in order, and another client's are not delayed.
func TestMessageRateOfAClient(t *testing.T) {
	g, clock := limitedLive(t, func(c *Config) { c.MessageRate, c.PingInterval = 5, Off })
	c, other := g.dial(), g.dial()
	const n = 70
	for i := range n {
		c.send(fmt.Sprintf(`{"id":%d,"method":"get.test.model"}`, i))
	}
	next := func(i int) {
		t.Helper()
		if m := c.next(); !strings.Contains(m, fmt.Sprintf(`"id":%d,`, i)) {
			t.Fatalf("response %d is %s", i, m)
		}
	}
	for i := range 50 {
		next(i)
	}
	testkit.Until(t, "the client is throttled", func() bool { return g.netMetrics.Throttled.Load() == 1 })
	if n := g.sessionMetrics.Requests[res.Get].Load(); n != 50 {
		t.Errorf("%d requests were read, want 50", n)
	}
	other.ask("get.test.model", "")
	for i := 50; i < n; i++ {
		testkit.Advance(t, clock, 200*time.Millisecond)
		next(i)
	}
	if n := g.netMetrics.MessagesThrottled.Load(); n == 0 {
		t.Error("it was not counted")
	}
}

// A client that sends more bytes than byteRate allows is read later.
func TestByteRateOfAClient(t *testing.T) {
	g, clock := limitedLive(t, func(c *Config) { c.ByteRate, c.PingInterval = 64<<10, Off })
	c := g.dial()
	params := strings.Repeat("x", 300<<10)
	for i := range 4 { // 1,200 KiB, of which 640 may come at once
		c.send(fmt.Sprintf(`{"id":%d,"method":"version","params":{"protocol":"1.2.3","more":"%s"}}`, i, params))
	}
	next := func(i int) {
		t.Helper()
		if m := c.next(); !strings.Contains(m, fmt.Sprintf(`"id":%d`, i)) {
			t.Fatalf("response %d is %s", i, m)
		}
	}
	for i := range 3 {
		next(i)
	}
	testkit.Until(t, "the client is throttled", func() bool { return g.netMetrics.Throttled.Load() == 1 })
	testkit.Advance(t, clock, 5*time.Second)
	next(3)
	if n := g.netMetrics.BytesThrottled.Load(); n == 0 {
		t.Error("it was not counted")
	}
}

// The clients of one address have maxConnectionsPerIp connections, and no more.
func TestConnectionsPerAddress(t *testing.T) {
	g, _ := limitedLive(t, func(c *Config) { c.MaxConnectionsPerIP = 2 })
	first := g.dial()
	g.dial()
	_, status, header, body := g.dialFrom("192.0.2.1") // the peer is no trusted proxy
	wantTooActive(t, status, header, body)
	_ = first.conn.Close()
	testkit.Until(t, "one is closed", func() bool { return g.netMetrics.Open.Load() == 1 })
	g.dial()
	if n := g.limitMetrics.Connections.Load(); n != 1 || g.limitMetrics.Addresses.Load() != 1 {
		t.Errorf("%d refused, %d addresses", n, g.limitMetrics.Addresses.Load())
	}
}

// Behind a proxy that is trusted, the addresses of its clients count, for WebSockets and streams,
// on the loops and at net/http; its own does not.
func TestForwardedConnections(t *testing.T) {
	for _, auth := range []string{"", "test.auth.login"} {
		t.Run(auth, func(t *testing.T) {
			pair, err := selfsigned.New("localhost")
			if err != nil {
				t.Fatal(err)
			}
			for _, secure := range []bool{false, true} {
				g, clock := limitedLive(t, func(c *Config) {
					c.MaxConnectionsPerIP, c.TrustForwardedFrom, c.LimitExempt = 1, []string{"127.0.0.0/8"}, []string{"198.51.100.0/24"}
					c.WSHeaderAuth = auth
					if c.TLS = secure; secure {
						c.TLSCert, c.TLSKey = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
						if err := pair.Write(c.TLSCert, c.TLSKey); err != nil {
							t.Fatal(err)
						}
					}
				})
				g.serve("auth.>", always(`{"result":null}`))
				if !secure {
					testForwardedWebSockets(t, g)
				}
				testForwardedStreams(t, g, clock, secure)
			}
		})
	}
}

func testForwardedWebSockets(t *testing.T, g *live) {
	open := func(from string) *wsClient {
		t.Helper()
		c, status, _, body := g.dialFrom(from)
		if c == nil {
			t.Fatalf("%s: status %d, %s", from, status, body)
		}
		return c
	}
	refused := func(from string) {
		t.Helper()
		_, status, header, body := g.dialFrom(from)
		wantTooActive(t, status, header, body)
	}
	a := open("192.0.2.1")
	refused("192.0.2.1")
	refused("203.0.113.9, 192.0.2.1:4711")
	open("192.0.2.2, 127.0.0.9")
	open("2001:db8::1")
	refused("2001:db8::2")
	for range 3 {
		open("")
		open("198.51.100.7")
	}
	a.send(`{"id":1,"method":"version"}`)
	a.next()
	_ = a.conn.Close()
	testkit.Until(t, "the address has none", func() bool { return g.limitMetrics.Addresses.Load() == 2 })
	open("192.0.2.1")
}

// testForwardedStreams opens streams, with HTTP/2 if secure.
func testForwardedStreams(t *testing.T, g *live, clock *owner.ManualClock, secure bool) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	url := map[bool]string{false: "http://", true: "https://"}[secure] + g.Addr().String() + "/api/test/model"
	before := g.limitMetrics.Addresses.Load()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("X-Forwarded-For", "192.0.2.77")
	stream, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if stream.StatusCode != 200 || stream.ProtoAtLeast(2, 0) != secure {
		t.Fatalf("stream: %s %s", stream.Proto, stream.Status)
	}
	resp, body := g.fetch(client, url, "Accept", "text/event-stream", "X-Forwarded-For", "192.0.2.77")
	wantTooActive(t, resp.StatusCode, resp.Header, body)
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("header %v", resp.Header)
	}
	if resp, _ := g.fetch(client, url, "Accept", "text/event-stream", "X-Forwarded-For", "192.0.2.78"); resp.StatusCode != 200 {
		t.Errorf("another address: %s", resp.Status)
	}
	for range 3 { // plain requests do not count
		if resp, body := g.fetch(client, url, "X-Forwarded-For", "192.0.2.77"); resp.StatusCode != 200 {
			t.Errorf("%s, %s", resp.Status, body)
		}
	}
	cancel()
	_ = stream.Body.Close()
	testkit.Until(t, "the streams are not counted", func() bool {
		testkit.Advance(t, clock, 100*time.Millisecond) // a loop asks now and then whether such a client has gone
		return g.limitMetrics.Addresses.Load() == before
	})
}

// New connections of an address are limited by handshakeRatePerIp.
func TestHandshakesPerAddress(t *testing.T) {
	g, clock := limitedLive(t, func(c *Config) { c.HandshakeRatePerIP = 1 })
	for range 10 {
		g.dial()
	}
	_, status, header, body := g.dialFrom("")
	wantTooActive(t, status, header, body)
	testkit.Advance(t, clock, time.Second)
	g.dial()
	if n := g.limitMetrics.Handshakes.Load(); n != 1 {
		t.Errorf("%d refused", n)
	}
}

// HTTP requests of an address are limited by requestRatePerIp: on the loops, at net/http, and
// streams. Health checks are not, nor are exempt networks.
func TestRequestsPerAddress(t *testing.T) {
	g, clock := limitedLive(t, func(c *Config) {
		c.RequestRatePerIP, c.TrustForwardedFrom, c.LimitExempt = 1, []string{"127.0.0.0/8"}, []string{"198.51.100.0/24"}
	})
	base := "http://" + g.Addr().String()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	kinds := map[string]struct {
		path   string
		header []string
		status int
	}{
		"loop":       {"/api/test/model", nil, 200},
		"net/http":   {"/none", nil, 404},
		"stream":     {"/api/test/model", []string{"Accept", "text/event-stream"}, 200},
		"HTTP error": {"/api/test/.", nil, 404},
	}
	n := 0
	for name, kind := range kinds {
		n++
		ask := func(from string) (*http.Response, string) {
			return g.fetch(client, base+kind.path, append(kind.header, "X-Forwarded-For", from)...)
		}
		from := fmt.Sprint("192.0.2.", n)
		for i := range 10 {
			if resp, body := ask(from); resp.StatusCode != kind.status {
				t.Fatalf("%s, request %d: %s, %s", name, i, resp.Status, body)
			}
		}
		resp, body := ask(from)
		wantTooActive(t, resp.StatusCode, resp.Header, body)
		if resp.Header.Get("Retry-After") != "1" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: header %v", name, resp.Header)
		}
		testkit.Advance(t, clock, time.Second)
		if resp, body := ask(from); resp.StatusCode != kind.status {
			t.Errorf("%s, a second later: %s, %s", name, resp.Status, body)
		}
		if resp, body := ask("203.0.113.1"); resp.StatusCode != kind.status {
			t.Errorf("%s, another address: %s, %s", name, resp.Status, body)
		}
		for range 20 {
			if resp, body := ask("198.51.100.1"); resp.StatusCode != kind.status {
				t.Errorf("%s, exempt: %s, %s", name, resp.Status, body)
			}
		}
	}
	for range 20 {
		if resp, body := g.fetch(client, base+"/healthz", "X-Forwarded-For", "192.0.2.1"); resp.StatusCode != 200 {
			t.Errorf("a health check: %s, %s", resp.Status, body)
		}
	}
	if n := g.limitMetrics.Requests.Load(); n != uint64(len(kinds)) {
		t.Errorf("%d refused, want %d", n, len(kinds))
	}
}

// Clients of limitExempt have none of these limits.
func TestExemptFromLimits(t *testing.T) {
	g, _ := limitedLive(t, func(c *Config) {
		c.MaxConnectionsPerIP, c.HandshakeRatePerIP, c.RequestRatePerIP, c.MessageRate, c.ByteRate = 1, 1, 1, 1, 64<<10
		c.LimitExempt = []string{"127.0.0.1"}
	})
	for range 15 {
		g.dial()
		if status, body := g.get("/api/test/model"); status != 200 {
			t.Fatalf("status %d, %s", status, body)
		}
	}
	c := g.dial()
	for range 50 {
		c.ask("get.test.model", "")
	}
}

// A client has maxResources subscriptions.
func TestResourcesPerClient(t *testing.T) {
	g, _ := limitedLive(t, func(c *Config) { c.MaxResources = 2 })
	c := g.dial()
	for i, want := range []string{`"result"`, `"result"`, `"system.subscriptionLimitExceeded"`} {
		if answer, _ := c.ask(fmt.Sprint("subscribe.test.", i), ""); !strings.Contains(answer, want) {
			t.Errorf("subscription %d: %s", i, answer)
		}
	}
	c.ask("unsubscribe.test.0", "")
	if answer, _ := c.ask("subscribe.test.2", ""); !strings.Contains(answer, `"result"`) {
		t.Errorf("with one less: %s", answer)
	}
	if n := g.sessionMetrics.Refused.Load(); n != 1 {
		t.Errorf("%d refused", n)
	}
}
