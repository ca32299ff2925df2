package natsbus

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
)

// restored waits for a loss and the return after it.
func (h *harness) restored() {
	h.t.Helper()
	for _, s := range []string{"disconnected", "connected", "gap"} {
		h.want("signal", "signal 0 "+s)
	}
}

// subscribed makes events of a name arrive.
func (h *harness) subscribed(name string) {
	h.t.Helper()
	if err := h.caller.Subscribe(name); err != nil {
		h.t.Fatal(err)
	}
	h.caller.Flush()
	h.sync()
}

// An operator lowers max_payload. nats.go learns of it when the server drops the connection, and
// closes for good. The bus opens another, with all subscriptions, and the call that was too large
// fails with the limit; the next one fails before it is sent.
func TestLoweredMaxPayload(t *testing.T) {
	h := newHarness(t)
	h.service("call.>", func(_ *nats.Conn, m *nats.Msg) { _ = m.Respond([]byte("{}")) })
	h.subscribed("a")
	h.nats.Reload(func(o *server.Options) { o.MaxPayload = 1000 })
	first := h.request("a", "call.a.x", strings.Repeat("x", 2000))
	h.caller.Flush()
	h.restored()
	h.caller.Cut(0)
	h.caller.Recheck(0)
	if first.calls != 1 || !errors.Is(first.err, ErrPayloadTooLarge) || !strings.Contains(first.err.Error(), "1000") {
		t.Fatalf("first: %d calls, %v", first.calls, first.err)
	}
	second := h.request("a", "call.a.x", strings.Repeat("x", 2000))
	h.caller.Flush()
	h.finish(second)
	if !errors.Is(second.err, ErrPayloadTooLarge) || !strings.Contains(second.err.Error(), "1000") {
		t.Fatalf("second: %v", second.err)
	}
	small := h.request("a", "call.a.x", "{}")
	h.caller.Flush()
	h.finish(small)
	h.publish(h.nats.Client(), "event.a.x", "1")
	h.want("event", "event a.x 1")
	m := h.bus.Metrics()
	if small.err != nil || m.Lost[LargePayload].Load() != 1 || m.Reconnects.Load() != 1 || m.TooLarge.Load() != 2 {
		t.Fatalf("small: %v, lost %d, restored %d, too large %d", small.err, m.Lost[LargePayload].Load(), m.Reconnects.Load(), m.TooLarge.Load())
	}
}

// A server accepts shorter lines than usual and does not say so: one long subject ends the
// connection, and none after it.
func TestLongLinesAreLearnt(t *testing.T) {
	h := &harness{t: t, nats: natstest.Start(t, func(o *server.Options) { o.MaxControlLine = 1024 })}
	var log bytes.Buffer
	h.connect(func(_ *harness, o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	h.subscribed("a")
	long := strings.Repeat("n", 1500)
	if err := h.caller.Subscribe(long); err != nil {
		t.Fatal(err)
	}
	o := h.request(long, "get."+long, "{}")
	h.caller.Flush()
	h.restored()
	h.caller.Cut(0)
	h.caller.Recheck(0)
	if o.calls != 1 || o.err != ErrCut && o.err != ErrSubjectTooLong {
		t.Fatalf("%d calls, %v", o.calls, o.err)
	}
	again := h.request(long, "get."+long, "{}")
	h.finish(again)
	if again.err != ErrSubjectTooLong {
		t.Fatalf("again: %v", again.err)
	}
	if err := h.caller.Subscribe(long); err != ErrSubjectTooLong {
		t.Fatalf("subscribe: %v", err)
	}
	h.sync()
	h.publish(h.nats.Client(), "event.a.x", "1")
	h.want("event", "event a.x 1")
	if m := h.bus.Metrics(); m.Lost[LongLine].Load() != 1 || m.TooLong.Load() == 0 {
		t.Fatalf("lost %d, too long %d", m.Lost[LongLine].Load(), m.TooLong.Load())
	}
	h.bus.Close()
	if !strings.Contains(log.String(), "reason=max_control_line") || !strings.Contains(log.String(), "limit=1024") {
		t.Fatalf("log: %s", &log)
	}
}

// lines is a log whose lines a test waits for.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}

func (l lines) await(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line := <-l:
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			t.Fatalf("no %q in the log", text)
		}
	}
}

// A server that announces its shutdown is named in the log once, before the connection is lost.
func TestLameDuckModeIsLogged(t *testing.T) {
	h := &harness{t: t, nats: natstest.Start(t, func(o *server.Options) {
		o.LameDuckDuration, o.LameDuckGracePeriod = 100*time.Millisecond, time.Millisecond
	})}
	log := make(lines, 1000)
	h.connect(func(_ *harness, o *Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
	go h.nats.Server().LameDuckShutdown()
	if line := log.await(t, "lame duck mode"); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "connection=0 url="+h.nats.URL()) {
		t.Errorf("logged %s", line)
	}
	if line := log.await(t, "NATS"); strings.Contains(line, "lame duck mode") || !strings.Contains(line, "lost") {
		t.Errorf("the next line is %s", line)
	}
}

// Whatever a server says before it ends a connection, the bus comes back, and what is in line is
// sent.
func TestEveryErrorIsSurvived(t *testing.T) {
	for text, want := range map[string]Reason{
		"Maximum Payload Violation":                                LargePayload,
		"maximum control line exceeded":                            LongLine,
		"Unknown Protocol Operation":                               Expelled,
		"Invalid Subject":                                          Expelled,
		"Secure Connection - TLS Required":                         Expelled,
		"Something nobody has heard of":                            Expelled,
		"User Authentication Expired":                              Unauthorized,
		"User Authentication Revoked":                              Unauthorized,
		"Account Authentication Expired":                           Unauthorized,
		"Authorization Violation":                                  Unauthorized,
		"Stale Connection":                                         Stale,
		"maximum connections exceeded":                             Expelled,
		"maximum account active connections exceeded":              Expelled,
		"Connection throttling is active. Please try again later.": Expelled,
	} {
		t.Run(text, func(t *testing.T) {
			h, s := stalled(t, func(o *Options) { o.hold = time.Millisecond })
			for range 3 { // nats.go gives up when the same error comes twice
				end := <-s.ends
				fmt.Fprintf(end, "-ERR '%s'\r\n", text)
				end.Close()
				h.restored()
			}
			h.stepPublisher()
			// A write that fails may end the connection before the error is read.
			lost := &h.bus.Metrics().Lost
			if n := lost[want].Load(); n+lost[Broken].Load() != 3 {
				t.Fatalf("lost for this reason: %d, broken: %d", n, lost[Broken].Load())
			}
		})
	}
}

// A server that accepts connections and ends each of them costs one Gap, when it is over.
func TestFlappingServerCostsOneGap(t *testing.T) {
	h, s := stalled(t, func(o *Options) { o.hold = 500 * time.Millisecond })
	for range 5 {
		end := <-s.ends
		fmt.Fprint(end, "-ERR 'User Authentication Expired'\r\n")
		end.Close()
	}
	h.restored()
	m := h.bus.Metrics()
	if m.Gaps.Load() != 1 || m.Disconnects.Load() != 5 {
		t.Fatalf("gaps %d, lost %d", m.Gaps.Load(), m.Disconnects.Load())
	}
}

// A server that answers nothing any more is left after two pings.
func TestFrozenServerIsNoticed(t *testing.T) {
	h, s := stalled(t, func(o *Options) { o.Ping = 10 * time.Millisecond })
	s.frozen = true
	h.stall(s)
	h.restored()
	if n := h.bus.Metrics().Lost[Stale].Load(); n == 0 {
		t.Fatalf("lost: %d, of them stale: %d", h.bus.Metrics().Disconnects.Load(), n)
	}
}

// What was sent on a connection that is lost fails as soon as the owner knows: its owner
// requests the reply again. Calls and auth requests are not made twice; their reply may still come.
func TestCutEndsWhatWasSent(t *testing.T) {
	h := newHarness(t)
	asked := make(chan *nats.Msg, 100)
	service := h.service(">", func(_ *nats.Conn, m *nats.Msg) {
		if m.Reply != "" {
			asked <- m
		}
	})
	sent := map[string]*outcome{}
	for _, subject := range []string{"get.a", "access.a", "query.a", "call.a.x", "auth.a.x"} {
		sent[subject] = h.request("a", subject, "")
	}
	h.caller.Flush()
	var replies []*nats.Msg
	for range sent {
		replies = append(replies, <-asked)
	}
	h.nats.Cut("sluice")
	h.want("signal", "signal 0 disconnected")
	queued := h.request("a", "get.later", "")
	h.caller.Cut(0)
	h.caller.Flush()
	if m := <-asked; m.Subject != "get.later" || queued.calls != 0 {
		t.Fatalf("%s, %v", m.Subject, queued.err)
	} else {
		replies = append(replies, m)
	}
	for _, m := range replies {
		h.publish(service, m.Reply, "{}")
	}
	h.finish(queued)
	for subject, o := range sent {
		once := strings.HasPrefix(subject, "call.") || strings.HasPrefix(subject, "auth.")
		if o.calls != 1 || once != (o.err == nil) || !once && (o.err != ErrCut || !errors.Is(o.err, ErrTimeout)) {
			t.Errorf("%s: %d calls, %v", subject, o.calls, o.err)
		}
	}
	if queued.err != nil {
		t.Fatal(queued.err)
	}
}
