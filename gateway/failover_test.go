package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"sluice/internal/alternate"
	"sluice/internal/testkit"
)

const otherGateway = "wss://eu2.example.com/"

// reason waits until the connection is closed, and returns the code and the reason.
func (c *wsClient) reason() (code int, reason string) {
	c.tb.Helper()
	for {
		h, err := ws.ReadHeader(c.br)
		if err != nil {
			c.tb.Fatal(err)
		}
		b := make([]byte, h.Length)
		if _, err := io.ReadFull(c.br, b); err != nil {
			c.tb.Fatal(err)
		}
		if h.OpCode == ws.OpClose {
			status, text := ws.ParseCloseFrameData(b)
			return int(status), text
		}
	}
}

// followed is a stream of server-sent events, as a page or curl has it.
func (g *live) followed(client *http.Client, url string) *bufio.Reader {
	g.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	g.tb.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		g.tb.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := client.Do(r)
	if err != nil {
		g.tb.Fatal(err)
	}
	g.tb.Cleanup(func() { _ = resp.Body.Close() })
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "data:") {
		g.tb.Fatalf("the stream begins with %q, %v", line, err)
	}
	return lines
}

// wantAlternate reads a stream to its end, where the event that names the other gateway must be.
func wantAlternate(t *testing.T, stream *bufio.Reader) {
	t.Helper()
	rest, err := io.ReadAll(stream)
	if err != nil || !strings.HasSuffix(string(rest), "\nevent: alternate\ndata: "+otherGateway+"\n\n") {
		t.Errorf("the stream ends with %q, %v", rest, err)
	}
}

// A gateway that stops sends its clients to another one: by the close reason, and by an event on a
// stream, on a loop and at net/http.
func TestStopSendsClientsAway(t *testing.T) {
	g := startLive(t, func(c *Config) {
		useCertificate(1)(c)
		c.Alternates = []string{otherGateway}
	})
	g.serve("access.test.>", always(`{"result":{"get":true,"call":"*"}}`))
	g.serve("get.test.>", always(`{"result":{"model":{"n":1}}}`))
	var streams []*bufio.Reader
	for _, h2 := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2}
		t.Cleanup(transport.CloseIdleConnections)
		streams = append(streams, g.followed(&http.Client{Transport: transport}, "https://"+g.Addr().String()+"/api/test/model"))
	}
	c := g.dialTLS()
	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop(context.Background()) }()
	if code, reason := c.reason(); code != 1001 || reason != "try "+otherGateway {
		t.Errorf("closed with %d %q", code, reason)
	}
	_ = c.conn.Close()
	for _, stream := range streams {
		wantAlternate(t, stream)
	}
	if err := testkit.Await(t, stopped, "Stop"); err != nil {
		t.Error(err)
	}
}

// A gateway that is being stopped, or has lost NATS for good, names another one in each response,
// on a loop and from net/http, for pages of other origins too. One whose sockets another process
// has taken does not.
func TestResponsesSendClientsAway(t *testing.T) {
	g := startLive(t, func(c *Config) { c.Alternates, c.NATSGrace = []string{otherGateway}, Off })
	g.serve("access.test.>", always(`{"result":{"get":true,"call":"*"}}`))
	g.serve("get.test.>", always(`{"result":{"model":{"n":1}}}`))
	check := func(when, want string) {
		t.Helper()
		exposed := ""
		if want != "" {
			exposed = alternate.Field
		}
		for _, path := range []string{"/api/test/model", "/healthz", "/nothing"} {
			resp, _ := g.fetch(http.DefaultClient, "http://"+g.Addr().String()+path)
			if got := resp.Header.Get(alternate.Field); got != want || resp.Header.Get("Access-Control-Expose-Headers") != exposed {
				t.Errorf("%s, %s: %v, want %q", when, path, resp.Header, want)
			}
		}
	}
	check("serving", "")
	g.draining.Store(true)
	check("stopping", otherGateway)
	g.left.Store(true)
	check("replaced", "")
	g.left.Store(false)
	g.draining.Store(false)

	c := g.dial()
	c.ask("version", "")
	g.grace.Lost(0)
	if code, reason := c.reason(); code != 1012 || reason != "try "+otherGateway {
		t.Errorf("closed with %d %q", code, reason)
	}
	check("without NATS", otherGateway)
	resp, _ := g.fetch(http.DefaultClient, "http://"+g.Addr().String()+"/", "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if resp.StatusCode != 503 || resp.Header.Get(alternate.Field) != otherGateway {
		t.Errorf("upgrade without NATS: %d %v", resp.StatusCode, resp.Header)
	}
	g.grace.Restored(0)
	check("with NATS again", "")
	g.dial().ask("version", "")
}
