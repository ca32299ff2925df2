package admin_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/natstest"
	"sluice/internal/restest"
	"sluice/internal/selfsigned"
	"sluice/internal/testkit"
)

// world is a gateway with an admin port, a service of the resources below test, and its clients.
type world struct {
	t    *testing.T
	g    *gateway.Gateway
	nc   *nats.Conn
	log  *testkit.Log
	base string // URL of the admin port
	http *http.Client
	head http.Header // of each request
	news chan struct{}
}

// newWorld starts a gateway; change may set more.
func newWorld(t *testing.T, change func(*gateway.Config)) *world {
	t.Helper()
	w := &world{t: t, log: new(testkit.Log), http: &http.Client{Timeout: testkit.Patience}, head: http.Header{}, news: make(chan struct{}, 1)}
	ns := natstest.Start(t)
	w.nc = ns.Client()
	for subject, reply := range map[string]string{
		"access.test.>": `{"result":{"get":true,"call":"*"}}`,
		"get.test.>":    `{"result":{"model":{"n":1,"text":"<b>"}}}`,
		"auth.test.>":   `{"result":null}`,
	} {
		if _, err := w.nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(reply)) }); err != nil {
			t.Fatal(err)
		}
	}
	w.flush()
	level := new(slog.LevelVar)
	level.Set(slog.LevelDebug)
	c := gateway.Config{
		Addr: "127.0.0.1", Port: gateway.FreePort, AdminPort: gateway.FreePort, NATSURL: gateway.NATSURL(ns.URL()), NATSTimeout: testkit.Patience,
		NATSPing: time.Minute, RequestTimeout: time.Hour, DrainTimeout: gateway.Off, PingInterval: gateway.Off, SlowTimeout: gateway.Off,
		CacheEviction: time.Hour, Loops: 2, Shards: 2,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: level})), Level: level,
	}
	if change != nil {
		change(&c)
	}
	var err error
	if w.g, err = gateway.New(c); err != nil {
		t.Fatal(err)
	}
	if err := w.g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		_ = w.g.Stop(ctx)
	})
	w.base = "http://" + w.g.AdminAddr().String()
	w.head.Set("Sluice-Admin", "1")
	return w
}

func (w *world) flush() {
	w.t.Helper()
	if err := w.nc.Flush(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) publish(subject, payload string) {
	w.t.Helper()
	if err := w.nc.Publish(subject, []byte(payload)); err != nil {
		w.t.Fatal(err)
	}
	w.flush()
}

// dial opens a WebSocket client.
func (w *world) dial() *restest.Client {
	w.t.Helper()
	c, err := restest.Dial("c", "ws://"+w.g.Addr().String()+"/", func() {
		select {
		case w.news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Cut)
	return c
}

// send sends a request and returns the next message of the client.
func (w *world) send(c *restest.Client, message string) string {
	w.t.Helper()
	if err := c.Send(message); err != nil {
		w.t.Fatal(err)
	}
	return w.next(c)
}

func (w *world) next(c *restest.Client) (m string) {
	w.t.Helper()
	testkit.Until(w.t, "a client's message", func() (ok bool) {
		m, ok = c.Next()
		return ok
	})
	return m
}

// subscribe subscribes a client to a resource.
func (w *world) subscribe(c *restest.Client, rid string) {
	w.t.Helper()
	if m := w.send(c, `{"id":1,"method":"subscribe.`+rid+`"}`); !strings.Contains(m, `"result"`) {
		w.t.Fatal(m)
	}
}

// ask sends a request to the admin port. v gets the response's JSON, if it is not nil.
func (w *world) ask(method, path, body string, v any) (status int, text string) {
	w.t.Helper()
	r, err := http.NewRequest(method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header = w.head.Clone()
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
		r.Header.Del("Host")
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := w.http.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if v != nil {
		if err := json.Unmarshal(all, v); err != nil {
			w.t.Fatalf("%s %s: %v: %s", method, path, err, all)
		}
	}
	return resp.StatusCode, string(all)
}

// get asks for something that must be there.
func (w *world) get(path string, v any) {
	w.t.Helper()
	if status, text := w.ask("GET", path, "", v); status != http.StatusOK {
		w.t.Fatalf("GET %s: %d %s", path, status, text)
	}
}

// file writes a file for a setting and returns its name.
func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// model is a change event's payload.
func model(n int) string { return fmt.Sprintf(`{"values":{"n":%d}}`, n) }

// issued is a certificate with its files.
type issued struct {
	cert, key string
	pair      tls.Certificate
	pool      *x509.CertPool
}

func issue(t *testing.T) issued {
	t.Helper()
	p, err := selfsigned.New("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	i := issued{file(t, string(p.Cert)), file(t, string(p.Key)), pair, x509.NewCertPool()}
	i.pool.AppendCertsFromPEM(p.Cert)
	return i
}
