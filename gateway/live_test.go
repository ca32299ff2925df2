package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"sluice/internal/owners"
	"sluice/internal/testkit"
)

// live is a running gateway with an embedded NATS server, and a service's
// connection to it.
type live struct {
	tb testing.TB
	*Gateway
	nc *nats.Conn
}

// startLive starts a gateway until the test ends. Every resource is readable and
// holds {"n":1}, unless get says otherwise.
func startLive(tb testing.TB, change func(*Config)) *live {
	tb.Helper()
	return start(tb, create(tb, change))
}

// create makes a gateway that listens on loopback, has a NATS server of its own, logs nothing, and
// does not wait for its clients when it stops. Each of these change may alter.
func create(tb testing.TB, change func(*Config)) *Gateway {
	tb.Helper()
	c := Config{Addr: "127.0.0.1", Port: FreePort, EmbeddedNATS: true, EmbeddedNATSListen: "127.0.0.1:0",
		DrainTimeout: Off, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	g, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

// start starts g until the test ends.
func start(tb testing.TB, g *Gateway) *live {
	tb.Helper()
	if err := g.Start(context.Background()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = g.Stop(context.Background()) })
	nc, err := nats.Connect(g.NATSURL().Reveal())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return &live{tb: tb, Gateway: g, nc: nc}
}

// serve replies to requests to a subject, which may have wildcards.
func (g *live) serve(subject string, answer func(m *nats.Msg) string) {
	g.tb.Helper()
	if _, err := g.nc.Subscribe(subject, func(m *nats.Msg) {
		if a := answer(m); a != "" {
			_ = m.Respond([]byte(a))
		}
	}); err != nil {
		g.tb.Fatal(err)
	}
	g.flush()
}

// firstLoop returns a loop that has started.
func (g *live) firstLoop() (first *owners.Loop) {
	g.owners.EachLoop(func(l *owners.Loop) {
		if first == nil {
			first = l
		}
	})
	return first
}

// always returns a handler for serve that gives the same reply.
func always(text string) func(*nats.Msg) string { return func(*nats.Msg) string { return text } }

func (g *live) publish(subject, payload string) {
	g.tb.Helper()
	if err := g.nc.Publish(subject, []byte(payload)); err != nil {
		g.tb.Fatal(err)
	}
}

// flush waits until NATS has received all published messages.
func (g *live) flush() {
	g.tb.Helper()
	if err := g.nc.Flush(); err != nil {
		g.tb.Fatal(err)
	}
}

// get makes an HTTP request on a connection of its own.
func (g *live) get(path string) (status int, body string) {
	g.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Addr().String()+path, nil)
	if err != nil {
		g.tb.Fatal(err)
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		g.tb.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.tb.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// wsClient is a WebSocket client that sends neither pings nor pongs.
type wsClient struct {
	tb   testing.TB
	conn net.Conn
	br   *bufio.Reader
	ids  int
}

func (g *live) dial() *wsClient {
	g.tb.Helper()
	return g.dialBy(ws.Dialer{}, "ws")
}

// dialTLS connects over TLS, whatever the certificate.
func (g *live) dialTLS() *wsClient {
	g.tb.Helper()
	return g.dialBy(ws.Dialer{TLSConfig: &tls.Config{InsecureSkipVerify: true}}, "wss")
}

func (g *live) dialBy(d ws.Dialer, scheme string) *wsClient {
	g.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	conn, br, _, err := d.Dial(ctx, scheme+"://"+g.Addr().String()+"/")
	if err != nil {
		g.tb.Fatal(err)
	}
	g.tb.Cleanup(func() { conn.Close() })
	if br == nil {
		br = bufio.NewReader(conn)
	}
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	return &wsClient{tb: g.tb, conn: conn, br: br}
}

// closedError is how a connection ended.
type closedError struct{ code int }

func (e closedError) Error() string { return fmt.Sprintf("closed with %d", e.code) }

// receive returns the next message, or closedError.
func (c *wsClient) receive() (string, error) {
	h, err := ws.ReadHeader(c.br)
	if err != nil {
		return "", closedError{1006}
	}
	b := make([]byte, h.Length)
	if _, err := io.ReadFull(c.br, b); err != nil {
		return "", closedError{1006}
	}
	if h.OpCode == ws.OpClose {
		code, _ := ws.ParseCloseFrameData(b)
		return "", closedError{int(code)}
	}
	if !h.Fin { // a message in fragments
		rest, err := c.receive()
		return string(b) + rest, err
	}
	return string(b), nil
}

// next returns the next message.
func (c *wsClient) next() string {
	c.tb.Helper()
	m, err := c.receive()
	if err != nil {
		c.tb.Fatal(err)
	}
	return m
}

// until returns messages up to the first that contains text.
func (c *wsClient) until(text string) (all []string) {
	c.tb.Helper()
	for {
		m := c.next()
		all = append(all, m)
		if strings.Contains(m, text) {
			return all
		}
	}
}

// end waits until the connection is closed, and returns the close code.
func (c *wsClient) end() int {
	c.tb.Helper()
	for {
		if _, err := c.receive(); err != nil {
			var closed closedError
			errors.As(err, &closed)
			return closed.code
		}
	}
}

func (c *wsClient) send(message string) {
	c.tb.Helper()
	f := ws.MaskFrameInPlace(ws.NewTextFrame([]byte(message)))
	if err := ws.WriteFrame(c.conn, f); err != nil {
		c.tb.Fatal(err)
	}
}

// ask sends a request and returns its response, and the messages received before
// it.
func (c *wsClient) ask(method, params string) (answer string, before []string) {
	c.tb.Helper()
	c.ids++
	if params == "" {
		params = "null"
	}
	c.send(fmt.Sprintf(`{"id":%d,"method":%q,"params":%s}`, c.ids, method, params))
	for {
		m := c.next()
		var r struct{ ID int }
		if json.Unmarshal([]byte(m), &r) == nil && r.ID == c.ids {
			return m, before
		}
		before = append(before, m)
	}
}
