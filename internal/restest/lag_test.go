package restest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/natstest"
	"sluice/internal/testkit"
)

// socket is a WebSocket client that reads only when the test does.
type socket struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

// patient is a connection on which each read has testkit.Patience.
type patient struct{ net.Conn }

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(testkit.Patience)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// openSocket connects; headers are sent with the upgrade.
func openSocket(t *testing.T, url string, headers ...string) *socket {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s := &socket{t: t, c: c, r: bufio.NewReader(patient{c})}
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + strings.Join(append(headers, "", ""), "\r\n"))); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			return s
		}
	}
}

func (s *socket) send(message string) {
	s.t.Helper()
	if err := ws.WriteFrame(s.c, ws.MaskFrame(ws.NewTextFrame([]byte(message)))); err != nil {
		s.t.Fatal(err)
	}
}

// counter reads messages until n, a property of the model, has the value want, and returns how many
// change events that took.
func (s *socket) counter(want int) (changes int) {
	s.t.Helper()
	for {
		f, err := ws.ReadFrame(s.r)
		if err != nil || f.Header.OpCode != ws.OpText {
			s.t.Fatalf("after %d changes: %v %v %s", changes, err, f.Header.OpCode, f.Payload)
		}
		var m struct {
			Event string
			Data  struct{ Values struct{ N int } }
		}
		if err := json.Unmarshal(f.Payload, &m); err != nil {
			s.t.Fatal(err)
		}
		if m.Event == "lag.model.change" {
			changes++
			if m.Data.Values.N == want {
				return changes
			}
		}
	}
}

// TestSlowReaderIsConflated: a client that does not read for a while stays connected, and its
// backlog is conflated: when it reads again, it receives what its socket had buffered, and then the
// difference to the newest state.
func TestSlowReaderIsConflated(t *testing.T) {
	ns := natstest.Start(t)
	nc := ns.Client()
	if _, err := nc.Subscribe("*.lag.model", func(m *nats.Msg) {
		if strings.HasPrefix(m.Subject, "get.") {
			_ = m.Respond([]byte(`{"result":{"model":{"n":0}}}`))
		} else {
			_ = m.Respond([]byte(`{"result":{"get":true}}`))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	g, err := startGateway(Start{NATS: ns.URL(), Log: slog.New(slog.DiscardHandler)}, func(c *gateway.Config) {
		c.OutboxBytes, c.HeldEvents, c.PingInterval, c.Loops = 4<<20, 16, gateway.Off, 1
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	slow, prompt := openSocket(t, g.URL()), openSocket(t, g.URL())
	for _, s := range []*socket{slow, prompt} {
		s.send(`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`)
		s.send(`{"id":2,"method":"subscribe.lag.model"}`)
		for range 2 { // both answers
			if _, err := ws.ReadFrame(s.r); err != nil {
				t.Fatal(err)
			}
		}
	}
	const events = 6000
	pad := strings.Repeat("x", 10_000)
	for n := 1; n <= events; n++ {
		if err := nc.Publish("event.lag.model.change", fmt.Appendf(nil, `{"values":{"n":%d,"pad":"%s%d"}}`, n, pad, n)); err != nil {
			t.Fatal(err)
		}
		if n%20 == 0 {
			prompt.counter(n) // so that the gateway is done with them
		}
	}
	changes := slow.counter(events)
	if changes > events/2 {
		t.Errorf("the slow client got %d of %d changes: nothing was conflated", changes, events)
	}
	t.Logf("%d of %d changes", changes, events)
}
