package framing

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"sluice/fanout"
	"sluice/internal/config"
	"sluice/internal/metrics"
)

// sent is an outbox that records what it is given.
type sent struct{ frames []string }

func (s *sent) Send(f []byte) { s.frames = append(s.frames, string(f)) }

// The log shows the message itself, whatever frames it, and the bytes that are sent stay the same.
func TestTraceOfSentMessages(t *testing.T) {
	framers := Framers(1<<30, new(metrics.Counter))
	for _, size := range []int{2, 125, 126, 65535, 65536} {
		message := strings.Repeat("x", size)
		for form, take := range map[fanout.Form]func([]byte) []byte{fanout.Message: payload, fanout.Deflated: payload, fanout.Stream: eventData} {
			var log bytes.Buffer
			var out sent
			framed := framers[form](nil, []byte(message))
			traced{&out, "c1", take, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: config.LevelTrace}))}.Send(framed)
			if !strings.Contains(log.String(), " cid=c1 message="+message+"\n") {
				t.Errorf("form %d, %d bytes: logged %.60q", form, size, log.String())
			}
			if len(out.frames) != 1 || out.frames[0] != string(framed) {
				t.Errorf("form %d, %d bytes: the frame was changed", form, size)
			}
		}
	}
}

// The log omits the parameters of auth requests, however the request is written.
func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		`{"id":1,"method":"subscribe.a"}`:                               `{"id":1,"method":"subscribe.a"}`,
		`{"id":1,"method":"call.a.set","params":{"b":1}}`:               `{"id":1,"method":"call.a.set","params":{"b":1}}`,
		`{"id":2,"method":"auth.login","params":{"password":"sesame"}}`: `{"id":2,"method":"auth.login","params":…}`,
		`{"params":"sesame","method":"\u0061uth.login","id":"x"}`:       `{"id":"x","method":"auth.login","params":…}`,
		`{"method":"auth.login","params":"sesame"`:                      "(not a request, 40 bytes)",
		`{"id":3,"method":"get.a","METHOD":"auth.b","params":"sesame"}`: `{"id":3,"method":"auth.b","params":…}`,
		`"auth.login sesame"`:                                           "(not a request, 19 bytes)",
	} {
		if got := redact([]byte(in)); got != want {
			t.Errorf("%s is logged as %s, want %s", in, got, want)
		}
	}
}
