package natsbus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/secret"
	"sluice/internal/testkit"
)

// silentTry bounds an attempt in these tests. A server that is slower than that is tried again.
const silentTry = time.Second

// bothWays runs a test with a server that never says anything, and with one that hangs after its
// first line.
func bothWays(t *testing.T, f func(t *testing.T, s *natstest.Silent)) {
	for _, greets := range []bool{false, true} {
		t.Run(fmt.Sprintf("greets=%v", greets), func(t *testing.T) { f(t, natstest.StartSilent(t, greets)) })
	}
}

// A server that accepts connections and says nothing does not keep a start from the next server in
// the list. If it is the only one, it is tried again, and the error says what is wrong.
func TestSilentServerAtStart(t *testing.T) {
	bothWays(t, func(t *testing.T, s *natstest.Silent) {
		h := &harness{t: t, nats: natstest.Start(t)}
		h.connect(func(_ *harness, o *Options) {
			o.URL, o.tryTimeout = secret.URLs(s.URL()+","+h.nats.URL()), silentTry
		})
		h.subscribed("a")
		h.publish(h.nats.Client(), "event.a.x", "1")
		h.want("event", "event a.x 1")

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		log := &endsAt{text: "is not reachable, retrying", end: cancel}
		_, err := Connect(ctx, Options{
			URL: secret.URLs(s.URL()), Receiver: &harness{}, Log: slog.New(slog.NewTextHandler(log, nil)),
			tryTimeout: 50 * time.Millisecond, retryMin: time.Millisecond, retryMax: 2 * time.Millisecond,
		})
		if err == nil || !strings.Contains(err.Error(), "accepts connections but does not speak as a NATS server") || !strings.Contains(err.Error(), s.URL()) {
			t.Errorf("got %v", err)
		}
		if s.Accepted() < 2 || strings.Count(log.String(), "\n") != 2 {
			t.Errorf("%d attempts; log:\n%s", s.Accepted(), log)
		}
	})
}

// After a loss, the server that says nothing costs an attempt each time, and nothing else: one line
// in the log, one loss in the metrics. What is queued is sent when another server is back.
func TestSilentServerAfterLoss(t *testing.T) {
	bothWays(t, func(t *testing.T, s *natstest.Silent) {
		var log testkit.Log
		h := &harness{t: t, nats: natstest.Start(t)}
		h.connect(func(_ *harness, o *Options) {
			o.URL, o.tryTimeout, o.Log = secret.URLs(h.nats.URL()+","+s.URL()), silentTry, log.Logger()
		})
		h.subscribed("a")
		before := s.Accepted() // nats.go chooses the first server at random
		log.Take()
		h.nats.Stop()
		h.want("signal", "signal 0 disconnected")
		testkit.Until(t, "the silent server is tried again and again", func() bool { return s.Accepted() >= before+2 })
		testkit.Until(t, "an attempt that was given up keeps no connection", func() bool { return s.Open() <= 1 })
		queued := h.request("a", "get.a", "")
		h.caller.Flush()
		m := h.bus.Metrics()
		// One line may have the reason of an attempt; further ones are left out for a while.
		if log.Count("NATS connection lost") != 1 || log.Count("NATS error") > 1 || log.Count("\n") > 3 {
			t.Errorf("the log:\n%s", &log)
		}
		if m.Disconnects.Load() != 1 || m.Lost[Broken].Load() != 1 || m.Reconnects.Load() != 0 {
			t.Errorf("%d lost, %d of them broken, %d restored", m.Disconnects.Load(), m.Lost[Broken].Load(), m.Reconnects.Load())
		}
		h.nats.Start()
		h.want("signal", "signal 0 connected")
		h.want("signal", "signal 0 gap")
		h.service("get.a", func(_ *nats.Conn, m *nats.Msg) { _ = m.Respond([]byte("{}")) })
		h.finish(queued) // "no responders", if the service has come later
		h.publish(h.nats.Client(), "event.a.x", "1")
		h.want("event", "event a.x 1")
		testkit.Until(t, "no connection to the silent server is left", func() bool { return s.Open() == 0 })
		if m.Disconnects.Load() != 1 || m.Reconnects.Load() != 1 || m.Gaps.Load() != 1 {
			t.Errorf("%d lost, %d restored, %d gaps", m.Disconnects.Load(), m.Reconnects.Load(), m.Gaps.Load())
		}
	})
}
