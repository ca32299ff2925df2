package session

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"sluice/internal/res"
	"sluice/internal/state"
)

// TestTooManyRequests: beyond the limit of requests in progress a client gets an error, and the
// others are answered.
func TestTooManyRequests(t *testing.T) {
	w := newWorld(t, 1, Limits{DirectPerRID: 3, Requests: 1})
	w.service["r.a"], w.service["r.b"] = state.NewModel(nil), state.NewModel(nil)
	c := w.clients[0]
	c.request("subscribe", "r.a")
	c.request("subscribe", "r.b")
	if log := w.log.String(); !strings.Contains(log, `A < {"error":{"code":"system.internalError","message":"Internal error: too many requests in progress"},"id":2}`) || w.env.Metrics.Refused.Load() != 1 {
		t.Errorf("%d are refused\n%s", w.env.Metrics.Refused.Load(), log)
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	if c.request("subscribe", "r.b"); c.holds.direct["r.a"] != 1 {
		t.Error("the first one is not answered")
	}
	if err := w.settle(); err != nil || c.holds.direct["r.b"] != 1 {
		t.Error("there is no room again", err)
	}
}

// TestClosed: what still arrives for a client that has gone has no effect.
func TestClosed(t *testing.T) {
	w, c := subscribed(t)
	c.s.SetToken("1", "one")
	w.answers = nil
	c.s.Close()
	c.s.Request(&res.Request{ID: "9", Type: res.Subscribe, RID: "r.a"}, nil)
	c.s.SetToken("2", "two")
	c.s.Grant("3", "three", 1)
	c.s.Close()
	if c.s.token() != "1" || len(w.env.tokens) != 0 || len(w.answers) != 0 || w.env.Requests() != 0 || strings.Contains(w.log.String(), "A <") {
		t.Errorf("token %s, %d token IDs, %d requests to services\n%s", c.s.token(), len(w.env.tokens), len(w.answers), w.log)
	}
}

// TestTokenResetFails: the log says which subject no service answers, and not the token.
func TestTokenResetFails(t *testing.T) {
	w, c := subscribed(t)
	var log bytes.Buffer
	w.env.Log = slog.New(slog.NewTextHandler(&log, nil))
	c.s.SetToken(`"secret"`, "tid")
	w.env.ResetToken([]string{"tid"}, "auth.renew")
	w.away = true
	w.answer(len(w.answers) - 1)
	if s := log.String(); !strings.Contains(s, "subject=auth.renew") || !strings.Contains(s, "cid=A") || strings.Contains(s, "secret") {
		t.Error(s)
	}
}
