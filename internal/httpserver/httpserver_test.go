package httpserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/testkit"
)

func options() Options {
	return Options{
		Setting: "metricsPort", Addr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Listening: func(net.Addr) {},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }),
	}
}

// The server has an address from Start on, and serves.
func TestServes(t *testing.T) {
	var none *Server
	o := options()
	var said net.Addr
	o.Listening = func(addr net.Addr) { said = addr }
	s := New(o)
	if none.Addr() != nil || s.Addr() != nil {
		t.Error("an address before the start")
	}
	if err := s.Start(func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }()
	resp, err := http.Get("http://" + s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "here" || said == nil || said.String() != s.Addr().String() {
		t.Errorf("%q, %v; listening on %v", b, err, said)
	}
}

// An address of one family is not listened on in the other: all addresses are those without a host.
func TestFamily(t *testing.T) {
	for addr, want := range map[string]string{"0.0.0.0:0": "tcp4", "127.0.0.1:0": "tcp4", "[::]:0": "tcp6", "[::1]:0": "tcp6", ":0": "tcp"} {
		if got := network(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	o := options()
	o.Addr = "0.0.0.0:0"
	s := New(o)
	if err := s.Start(func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }()
	if at := s.Addr().(*net.TCPAddr); at.IP.To4() == nil {
		t.Errorf("0.0.0.0 listens on %v", at)
	}
}

func TestPortInUse(t *testing.T) {
	s := New(options())
	if err := s.Start(func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }()
	o := options()
	o.Addr = s.Addr().String()
	if err := New(o).Start(nil); err == nil || !strings.Contains(err.Error(), "metricsPort: cannot listen") || !strings.Contains(err.Error(), "choose another port") {
		t.Errorf("got %v", err)
	}
}

// A server that ends by itself reports the reason; Stop is not a failure.
func TestEnd(t *testing.T) {
	for _, broken := range []bool{true, false} {
		failed := make(chan error, 1)
		s := New(options())
		if err := s.Start(func(err error) { failed <- err }); err != nil {
			t.Fatal(err)
		}
		if broken {
			_ = (*s.listens.Load()).Close()
			if err := <-failed; err == nil {
				t.Error("no reason reported")
			}
			_ = s.Stop()
			continue
		}
		if err := s.Stop(); err != nil || len(failed) > 0 {
			t.Errorf("stop: %v, %d failures", err, len(failed))
		}
		if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
			t.Error("open after Stop")
		}
	}
}

// recorder accepts connections that record their read deadline.
type recorder struct{ net.Listener }

func (l recorder) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &recorded{Conn: c}, nil
}

type recorded struct {
	net.Conn
	mu       sync.Mutex
	deadline time.Time // of reads
}

func (c *recorded) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

func (c *recorded) SetDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	return c.Conn.SetDeadline(t)
}

// bounded reports whether reads have a deadline.
func (c *recorded) bounded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.deadline.IsZero()
}

// A handler may run for as long as it likes once its request has been read: a read deadline would
// cancel the request's context. A body has one until its end.
func TestReadDeadline(t *testing.T) {
	type connKey struct{}
	type seen struct{ before, after bool }
	got := make(chan seen, 1)
	o := options()
	o.Wrap = func(l net.Listener) net.Listener { return recorder{l} }
	o.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	o.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(connKey{}).(*recorded)
		before := c.bounded()
		_, _ = io.Copy(io.Discard, r.Body)
		got <- seen{before, c.bounded()}
	})
	s := New(o)
	if err := s.Start(func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }()
	for _, tt := range []struct {
		name, body string
		want       seen
	}{
		{"no body", "", seen{false, false}},
		{"a body", "{}", seen{true, false}},
		{"no body, again", "", seen{false, false}},
	} {
		resp, err := http.Post("http://"+s.Addr().String(), "application/json", strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if g := testkit.Await(t, got, tt.name); g != tt.want {
			t.Errorf("%s: read deadline before and after the body: %v, want %v", tt.name, g, tt.want)
		}
	}
}

// A client that stops in the middle of a head is disconnected; in the middle of a body, the handler
// gets an error.
func TestSlowRequests(t *testing.T) {
	got := make(chan error, 1)
	o := options()
	o.ReadTimeout = 20 * time.Millisecond
	o.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		got <- err
	})
	s := New(o)
	if err := s.Start(func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }()
	send := func(text string) net.Conn {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(testkit.Patience))
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		return c
	}
	if _, err := io.ReadAll(send("GET / HTTP/1.1\r\nHost: ")); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("half a head keeps the connection open")
	}
	// The whole head is in one segment, but a busy machine may still take longer than the timeout
	// to read it: then there is no request.
	for attempt := 0; ; attempt++ {
		c := send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{")
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("half a body keeps the connection open")
		}
		select {
		case err := <-got:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("half a body: %v, want a timeout", err)
			}
			return
		default:
			if attempt == 100 {
				t.Fatal("no request has reached the handler")
			}
		}
	}
}
