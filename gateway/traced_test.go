package gateway

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// sent is an outbox that notes what it was given.
type sent struct{ frames []string }

func (s *sent) Send(f []byte) { s.frames = append(s.frames, string(f)) }

// TestTracedMessages: the log has the message as it is, whatever frames it.
func TestTracedMessages(t *testing.T) {
	for _, size := range []int{2, 125, 126, 65535, 65536} {
		message := strings.Repeat("x", size)
		for name, f := range map[string]struct {
			frame   func(dst, message []byte) []byte
			message func([]byte) []byte
		}{"WebSocket": {frame, payload}, "stream": {streamFrame, eventData}} {
			var log bytes.Buffer
			var out sent
			framed := f.frame(nil, []byte(message))
			traced{&out, 1, f.message, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: LevelTrace}))}.Send(framed)
			if !strings.Contains(log.String(), " message="+message+"\n") {
				t.Errorf("%s, %d bytes: logged %.60q", name, size, log.String())
			}
			if len(out.frames) != 1 || out.frames[0] != string(framed) {
				t.Errorf("%s: the frame was changed", name)
			}
		}
	}
}
