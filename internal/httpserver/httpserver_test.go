package httpserver

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
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
