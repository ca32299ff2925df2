package restest

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/natstest"
)

// message reads a message, in however many frames, compressed or not.
func (s *socket) message() []byte {
	s.t.Helper()
	var payload []byte
	packed := false
	for {
		f, err := ws.ReadFrame(s.r)
		if err != nil {
			s.t.Fatal(err)
		}
		if f.Header.OpCode.IsControl() {
			s.t.Fatalf("frame %v: %q", f.Header.OpCode, f.Payload)
		}
		packed = packed || f.Header.Rsv1()
		payload = append(payload, f.Payload...)
		if !f.Header.Fin {
			continue
		}
		if !packed {
			return payload
		}
		end := "\x00\x00\xff\xff\x01\x00\x00\xff\xff" // of the message, and of a stream
		text, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader(end))))
		if err != nil {
			s.t.Fatal(err)
		}
		return text
	}
}

// largeMessage has the parts of a message that this test checks.
type largeMessage struct {
	ID     int
	Event  string
	Result struct {
		Collections map[string][]int
	}
	Data struct{ Idx, Value int }
}

func (s *socket) large() (m largeMessage) {
	s.t.Helper()
	if err := json.Unmarshal(s.message(), &m); err != nil {
		s.t.Fatal(err)
	}
	return m
}

// TestLargeCollection: clients with and without compression get a large collection, which they
// share, and all its differences when a reset brings it in another order.
func TestLargeCollection(t *testing.T) {
	const size = 120_000 // 14 MB of events for each client, more than an outbox may hold
	ns := natstest.Start(t)
	nc := ns.Client()
	var turned atomic.Bool
	if _, err := nc.Subscribe("*.large.list", func(m *nats.Msg) {
		if strings.HasPrefix(m.Subject, "access.") {
			_ = m.Respond([]byte(`{"result":{"get":true}}`))
			return
		}
		values := make([]int, size)
		for i := range values {
			values[i] = i
		}
		if turned.Load() {
			slices.Reverse(values)
		}
		text, _ := json.Marshal(values)
		_ = m.Respond(fmt.Appendf(nil, `{"result":{"collection":%s}}`, text))
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	g, err := startGateway(Start{NATS: ns.URL(), Log: slog.New(slog.DiscardHandler)}, func(c *gateway.Config) {
		c.WSCompression, c.PingInterval, c.SlowTimeout, c.Loops = true, gateway.Off, gateway.Off, 1 // they are read one after the other
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	clients := []*socket{
		openSocket(t, g.URL()), openSocket(t, g.URL()),
		openSocket(t, g.URL(), "Sec-WebSocket-Extensions: permessage-deflate"),
	}
	lists := make([][]int, len(clients))
	for i, s := range clients {
		s.send(fmt.Sprintf(`{"id":%d,"method":"subscribe.large.list"}`, i+7))
		m := s.large()
		lists[i] = m.Result.Collections["large.list"]
		if m.ID != i+7 || len(lists[i]) != size || lists[i][size-1] != size-1 {
			t.Fatalf("client %d: answer %d with %d values", i, m.ID, len(lists[i]))
		}
	}
	turned.Store(true)
	if err := nc.Publish("system.reset", []byte(`{"resources":["large.>"]}`)); err != nil {
		t.Fatal(err)
	}
	for i, s := range clients {
		list, events := lists[i], 0
		for list[0] != size-1 || len(list) < size || !slices.IsSortedFunc(list, func(a, b int) int { return b - a }) {
			// The order is checked only when it may be the wanted one.
			for more := true; more; more = len(list) < size {
				m := s.large()
				events++
				switch m.Event {
				case "large.list.remove":
					list = slices.Delete(list, m.Data.Idx, m.Data.Idx+1)
				case "large.list.add":
					list = slices.Insert(list, m.Data.Idx, m.Data.Value)
				default:
					t.Fatalf("client %d: event %q", i, m.Event)
				}
			}
		}
		t.Logf("client %d: %d events", i, events)
	}
}
