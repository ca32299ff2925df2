package demo

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/secret"
)

// patience bounds every wait; only a failing test reaches it.
const patience = 20 * time.Second

// still is an interval at which nothing happens by itself during a test.
const still = time.Hour

// peer acts as a gateway: it sends requests and receives events on NATS.
type peer struct {
	t    *testing.T
	nc   *nats.Conn
	news chan *nats.Msg // events, in order
}

// run starts a demo and a peer on a NATS server of their own. Unset intervals default to still.
func run(t *testing.T, opt Options) (*Demo, *peer) {
	t.Helper()
	srv := natstest.Start(t)
	return runOn(t, srv, opt), newPeer(t, srv)
}

func runOn(t *testing.T, srv *natstest.Server, opt Options) *Demo {
	t.Helper()
	opt.URL = secret.URLs(srv.URL())
	opt.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	if opt.Step == 0 {
		opt.Step = still
	}
	if opt.Roll == 0 {
		opt.Roll = still
	}
	d, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	return d
}

// testWriter fails the test on an error line: no test here causes one.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "level=ERROR") {
		w.t.Errorf("service: %s", p)
	}
	return len(p), nil
}

func newPeer(t *testing.T, srv *natstest.Server) *peer {
	t.Helper()
	nc, err := nats.Connect(srv.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return &peer{t: t, nc: nc, news: make(chan *nats.Msg, 4096)}
}

// hear subscribes to the subjects; their messages go to news.
func (p *peer) hear(subjects ...string) {
	p.t.Helper()
	for _, s := range subjects {
		if _, err := p.nc.ChanSubscribe(s, p.news); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := p.nc.Flush(); err != nil {
		p.t.Fatal(err)
	}
}

// next returns the next event as "subject payload".
func (p *peer) next() string {
	p.t.Helper()
	select {
	case m := <-p.news:
		return strings.TrimSpace(m.Subject + " " + string(m.Data))
	case <-time.After(patience):
		p.t.Fatal("no event came")
		return ""
	}
}

func (p *peer) expect(lines ...string) {
	p.t.Helper()
	for _, want := range lines {
		if got := p.next(); got != want {
			p.t.Fatalf("event\n got %s\nwant %s", got, want)
		}
	}
}

// ask sends a request and returns the reply.
func (p *peer) ask(subject, payload string) string {
	p.t.Helper()
	m, err := p.nc.Request(subject, []byte(payload), patience)
	if err != nil {
		p.t.Fatalf("%s: %v", subject, err)
	}
	return string(m.Data)
}

func (p *peer) want(subject, payload, answer string) {
	p.t.Helper()
	if got := p.ask(subject, payload); got != answer {
		p.t.Errorf("%s %s\n got %s\nwant %s", subject, payload, got, answer)
	}
}

// decode unpacks JSON that the service sent.
func decode[T any](t *testing.T, raw string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}

func failure(code, message string) string {
	raw, err := json.Marshal(map[string]any{"error": map[string]string{"code": code, "message": message}})
	if err != nil {
		panic(err)
	}
	return string(raw)
}
