package httpedge

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice/internal/owner"
)

// A liveness check asks the owners once a second at most, and fails when they do not answer in
// time.
func TestLive(t *testing.T) {
	clock := owner.NewManualClock()
	asked, hangs := 0, false
	e := New(Options{Clock: clock, Gateway: Gateway{Alive: func(ctx context.Context) error {
		asked++
		if !hangs {
			return nil
		}
		clock.Advance(aliveWithin)
		<-ctx.Done()
		return ctx.Err()
	}}})
	want := func(status int, text string, count int) {
		t.Helper()
		w := httptest.NewRecorder()
		e.live(w, httptest.NewRequest(http.MethodGet, "/livez", nil))
		if w.Code != status || !strings.HasPrefix(w.Body.String(), text) || asked != count {
			t.Errorf("%d %q, asked %d times", w.Code, w.Body, asked)
		}
	}
	want(200, "alive\n", 1)
	want(200, "alive\n", 1)
	clock.Advance(aliveFor)
	want(200, "alive\n", 2)
	hangs = true
	want(200, "alive\n", 2)
	clock.Advance(aliveFor)
	want(503, "an event loop or a cache shard does not answer", 3)
	want(503, "an event loop or a cache shard does not answer", 3)
	hangs = false
	clock.Advance(aliveFor)
	want(200, "alive\n", 4)
}

// One that waits for another's check gives up with its own request.
func TestLiveWaits(t *testing.T) {
	l := liveness{turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := l.check(ctx, owner.NewManualClock(), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
