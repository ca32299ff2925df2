package gateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/owner"
	"sluice/internal/owners"
	"sluice/internal/testkit"
)

// stopFixture is a gateway on a manual clock, with clients of all kinds.
type stopFixture struct {
	*Gateway
	t     *testing.T
	clock *owner.ManualClock
	log   testkit.Log
}

func startForStop(t *testing.T, change func(*Config)) *stopFixture {
	t.Helper()
	f := &stopFixture{t: t, clock: owner.NewManualClock()}
	f.Gateway = create(t, func(c *Config) {
		c.Clock, c.Log, c.Loops = f.clock, f.log.Logger(), 2
		c.RequestTimeout, c.PingInterval = time.Minute, Off
		c.DrainTimeout, c.CloseTimeout = 10*time.Second, 5*time.Second
		if change != nil {
			change(c)
		}
	})
	if err := f.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = f.Stop(ctx)
	})
	return f
}

// rawConn is a client that reads and writes bytes.
type rawConn struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (f *stopFixture) dial(text string) *rawConn {
	f.t.Helper()
	c, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err := io.WriteString(c, text); err != nil {
		f.t.Fatal(err)
	}
	return &rawConn{c, f.t, bufio.NewReader(c)}
}

// status reads the head of a response.
func (c *rawConn) status() (code int) {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("no response: %v", err)
	}
	if _, err := fmt.Sscanf(line, "HTTP/1.1 %d", &code); err != nil {
		c.t.Fatalf("response %q: %v", line, err)
	}
	for line != "\r\n" {
		if line, err = c.r.ReadString('\n'); err != nil {
			c.t.Fatal(err)
		}
	}
	return code
}

const wsHead = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// webSocket returns an open WebSocket, and a channel that gets the close code that it ends with.
func (f *stopFixture) webSocket() (closed chan uint16) {
	f.t.Helper()
	c := f.dial(wsHead)
	if code := c.status(); code != 101 {
		f.t.Fatalf("upgrade: %d", code)
	}
	closed = make(chan uint16, 1)
	go func() {
		var frame [4]byte
		if _, err := io.ReadFull(c.r, frame[:]); err != nil || frame[0] != 0x88 {
			closed <- 1006
			return
		}
		code := binary.BigEndian.Uint16(frame[2:])
		_, _ = c.Write([]byte{0x88, 0x82, 0, 0, 0, 0, frame[2], frame[3]})
		closed <- code
	}()
	return closed
}

// health returns the status of a health check on a connection of its own.
func (f *stopFixture) health() int {
	f.t.Helper()
	c := f.dial("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	defer c.Close()
	return c.status()
}

// turns waits until each loop has had a turn, or the stop has ended.
func (f *stopFixture) turns(stopped chan error) {
	f.owners.EachLoop(func(l *owners.Loop) {
		done := make(chan struct{})
		l.Post(func() { close(done) })
		select {
		case <-done:
		case err := <-stopped:
			stopped <- err
		}
	})
}

// TestDrain: all steps of a drain. With connections in all states, WebSockets are closed in order,
// within their time, and Stop returns without an error.
func TestDrain(t *testing.T) {
	f := startForStop(t, func(c *Config) { c.ShutdownDelay = 30 * time.Second })
	nc, err := nats.Connect(f.NATSURL().Reveal())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	calls := make(chan struct{}, 16)
	large := `{"result":{"model":{"a":"` + strings.Repeat("x", 900<<10) + `"}}}`
	for subject, answer := range map[string]string{
		"access.>":        `{"result":{"get":true,"call":"*"}}`,
		"get.test.model":  `{"result":{"model":{"a":1}}}`,
		"get.test.large":  large,
		"call.test.hangs": "",
	} {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			if answer == "" {
				calls <- struct{}{} // never answered
				return
			}
			_ = m.Respond([]byte(answer))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}

	var webSockets []chan uint16
	for range 20 {
		webSockets = append(webSockets, f.webSocket())
	}
	get := "GET /api/test/model HTTP/1.1\r\nHost: x\r\n"
	// Connections in all states.
	f.dial("POST /api/test/model/set HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
	f.dial("GET /api/te")
	for _, head := range []string{"Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"} { // on a loop, at net/http
		f.dial("POST /api/test/hangs HTTP/1.1\r\nHost: x\r\n" + head)
		testkit.Await(t, calls, "the call that hangs")
	}
	f.dial(strings.Repeat("GET /api/test/large HTTP/1.1\r\nHost: x\r\n\r\n", 40)) // and reads nothing
	testkit.Until(t, "a connection does not take its 40 large responses", func() bool { return f.netMetrics.Lagging.Load() > 0 })
	stream := f.dial(get + "Accept: text/event-stream\r\n\r\n")
	if code := stream.status(); code != 200 {
		t.Fatalf("stream: %d", code)
	}
	atRest := f.dial(get + "\r\n")
	if code := atRest.status(); code != 200 {
		t.Fatalf("GET: %d", code)
	}
	atRestThere := f.dial("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if code := atRestThere.status(); code != 200 {
		t.Fatalf("health: %d", code)
	}

	stopped := make(chan error, 1)
	go func() { stopped <- f.Stop(context.Background()) }()
	// 1. Health checks fail, clients are served.
	testkit.Until(t, "health checks fail", func() bool { return f.health() == 503 })
	late := f.webSocket()
	if code := f.dial(get + "\r\n").status(); code != 200 {
		t.Errorf("GET during the delay: %d", code)
	}
	if n := len(late); n > 0 {
		t.Error("a client was closed during the delay")
	}
	// 2. Listening ends.
	f.clock.Advance(30 * time.Second)
	testkit.Until(t, "listening has ended", func() bool {
		c, err := net.Dial("tcp", f.Addr().String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	began := f.clock.Now()
	for len(stopped) == 0 {
		f.turns(stopped)
		f.turns(stopped)
		f.clock.Advance(50 * time.Millisecond)
	}
	// The test's clock outruns goroutines that are no loops, and late deadlines are put off.
	if took, most := f.clock.Now()-began, 5*time.Minute; took > most {
		t.Errorf("the drain took %v, want %v at most", took, most)
	}
	if err := testkit.Await(t, stopped, "Stop"); err != nil {
		t.Errorf("Stop: %v", err)
	}
	for i, c := range append(webSockets, late) {
		if code := testkit.Await(t, c, "the close"); code != 1001 {
			t.Errorf("WebSocket %d was closed with %d", i, code)
		}
	}
	// 3. The remaining connections are counted and cut: the call in flight on net/http, and the
	// incomplete body unless its own deadline has expired before.
	n := f.cutHTTP.Load() + f.netMetrics.Cut.Load()
	if n < 1 || n > 2 {
		t.Errorf("%d connections counted as cut, want 1 or 2", n)
	}
	if text := f.log.String(); !strings.Contains(text, "connections cut") || !strings.Contains(text, fmt.Sprintf("connections=%d", n)) {
		t.Errorf("the log lacks the cut connections:\n%s", text)
	}
	for _, c := range []*rawConn{stream, atRest, atRestThere} {
		if _, err := io.Copy(io.Discard, c.r); err != nil {
			t.Errorf("a connection did not end in order: %v", err)
		}
	}
	if err, open := <-f.Done(); err != nil || open {
		t.Errorf("Done: %v, open %v", err, open)
	}
}

// TestStopIsCut: the end of Stop's context ends the drain, in any step.
func TestStopIsCut(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Hour} {
		f := startForStop(t, func(c *Config) { c.ShutdownDelay = delay })
		f.webSocket()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := f.Stop(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("delay %v: %v", delay, err)
		}
	}
}

// TestFailedPartReachesDone: the failure of a part stops the gateway, and Done yields the reason.
func TestFailedPartReachesDone(t *testing.T) {
	f := startForStop(t, func(c *Config) { c.DrainTimeout = Off })
	f.embedded.Load().Stop()
	if err := testkit.Await(t, f.Done(), "the failure"); err == nil || !strings.Contains(err.Error(), "embedded NATS server") {
		t.Errorf("Done: %v", err)
	}
	if err, open := <-f.Done(); err != nil || open {
		t.Errorf("Done at the end: %v, open %v", err, open)
	}
	if _, err := net.Dial("tcp", f.Addr().String()); err == nil {
		t.Error("the gateway still listens")
	}
}

// TestStopWhileConnecting: Stop ends a Start that waits for NATS.
func TestStopWhileConnecting(t *testing.T) {
	var log testkit.Log
	g := create(t, func(c *Config) {
		c.EmbeddedNATS, c.NATSURL, c.NATSTimeout, c.Log = false, "nats://127.0.0.1:1", time.Hour, log.Logger()
	})
	started := make(chan error, 1)
	go func() { started <- g.Start(context.Background()) }()
	testkit.Until(t, "the log mentions NATS", func() bool { return log.Count("NATS") > 0 })
	if err := g.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if err := testkit.Await(t, started, "Start"); err == nil {
		t.Error("started although it was stopped")
	}
	if g.Addr() != nil {
		t.Error("listened although it was stopped")
	}
}

// TestAddressesFromAnyGoroutine: addresses may be read while the gateway starts and stops. The race
// detector checks it.
func TestAddressesFromAnyGoroutine(t *testing.T) {
	g := create(t, func(c *Config) { c.MetricsPort = FreePort })
	if g.Addr() != nil || g.MetricsAddr() != nil {
		t.Error("an address before Start")
	}
	end := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
					_, _, _, _ = g.Addr(), g.MetricsAddr(), g.NATSURL(), g.Done()
				}
			}
		})
	}
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if g.Addr() == nil || g.MetricsAddr() == nil {
		t.Error("no address after Start")
	}
	r, err := http.Get("http://" + g.Addr().String() + "/healthz")
	if err != nil || r.StatusCode != 200 {
		t.Errorf("health: %v %v", r, err)
	}
	if err == nil {
		_ = r.Body.Close()
	}
	if err := g.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	close(end)
	asking.Wait()
}
