package framing

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"sluice/fanout"
	"sluice/internal/config"
	"sluice/internal/connid"
	"sluice/netpoll"
)

// Trace logs the messages of clients at config.LevelTrace. While the log omits that level, it costs
// one check per received message and nothing per sent one. Any goroutine may use it.
type Trace struct {
	Log *slog.Logger
	IDs connid.Maker // of the connections
}

// Enabled reports whether messages are logged.
func (t Trace) Enabled() bool { return t.Log.Enabled(context.Background(), config.LevelTrace) }

// Received logs a message from a client.
func (t Trace) Received(cid string, message []byte) {
	if t.Enabled() {
		t.Log.Log(context.Background(), config.LevelTrace, "message from client", "cid", cid, "message", redact(message))
	}
}

// Frames returns the outbox of a WebSocket client: c itself, or one that logs what c sends.
func (t Trace) Frames(c *netpoll.Conn, cid string) fanout.Outbox { return t.outbox(c, cid, payload) }

// Events returns the outbox of a stream of server-sent events.
func (t Trace) Events(c *netpoll.Conn) fanout.Outbox {
	return t.outbox(c, t.IDs.Conn(c.Handle()), eventData)
}

func (t Trace) outbox(c *netpoll.Conn, cid string, message func(sent []byte) []byte) fanout.Outbox {
	if t.Enabled() {
		return traced{c, cid, message, t.Log}
	}
	return c
}

// traced is an outbox that logs what it sends.
type traced struct {
	fanout.Outbox
	cid     string
	message func(sent []byte) []byte // takes the message out of the bytes
	log     *slog.Logger
}

// Send implements fanout.Outbox.
func (t traced) Send(f []byte) {
	t.log.Log(context.Background(), config.LevelTrace, "message to client", "cid", t.cid, "message", string(t.message(f)))
	t.Outbox.Send(f)
}

// redact returns a client's message as the log shows it. The parameters of auth requests are
// passwords and the like, so they are omitted.
func redact(message []byte) string {
	var m struct {
		ID     json.RawMessage
		Method string
	}
	if err := json.Unmarshal(message, &m); err != nil {
		return fmt.Sprintf("(not a request, %d bytes)", len(message))
	}
	if action, _, _ := strings.Cut(m.Method, "."); action != "auth" {
		return string(message)
	}
	return fmt.Sprintf(`{"id":%s,"method":%q,"params":…}`, m.ID, m.Method)
}
