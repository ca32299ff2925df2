package gateway

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/nats-io/nats.go"

	"sluice/internal/httpedge"
)

// TestBusyWithLongAnswers: when too many long answers are in the making, the next one is refused in
// words, a short one is not, and the connection goes on.
func TestBusyWithLongAnswers(t *testing.T) {
	g, err := New(Config{Addr: "127.0.0.1", Port: FreePort, EmbeddedNATS: true, EmbeddedNATSListen: "127.0.0.1:0",
		DrainTimeout: Off, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	o := g.httpOptions(nil)
	o.MaxEncoding = -1
	g.http = httpedge.New(o)
	g.rest = g.http.API()
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Stop(context.Background()) })
	nc, err := nats.Connect(g.NATSURL().Reveal())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	long := append(append([]byte(`{"result":{"model":{"text":"`), bytes.Repeat([]byte("x"), 64<<10)...), `"}}}`...)
	for subject, answer := range map[string][]byte{
		"access.*": []byte(`{"result":{"get":true}}`), "get.long": long, "get.short": []byte(`{"result":{"model":{}}}`),
	} {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond(answer) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	get := func(name string) (*http.Response, int) {
		r, err := http.Get("http://" + g.Addr().String() + "/api/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r, len(body)
	}
	r, _ := get("long")
	if r.StatusCode != 503 || r.Header.Get("Retry-After") != "1" || r.Header.Get("Access-Control-Allow-Origin") != "*" || r.Header.Get("Etag") != "" {
		t.Errorf("status %d, header %v", r.StatusCode, r.Header)
	}
	if r, _ := get("short"); r.StatusCode != 200 {
		t.Errorf("a short answer has status %d", r.StatusCode)
	}
	if n := g.netMetrics.Accepted.Load(); n != 1 || g.netMetrics.Requests.Load() != 2 || g.httpMetrics.Busy.Load() != 1 {
		t.Errorf("%d connections, %d requests, %d refused", n, g.netMetrics.Requests.Load(), g.httpMetrics.Busy.Load())
	}
}
