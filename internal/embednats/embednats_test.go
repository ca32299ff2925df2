package embednats

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"sluice/internal/testkit"
)

func TestServesBothSides(t *testing.T) {
	var out testkit.Log
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	e, err := Start(context.Background(), Options{Listen: "127.0.0.1:0", Log: log, Trace: slog.LevelDebug - 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)

	inside, err := nats.Connect("", nats.InProcessServer(inside{e}))
	if err != nil {
		t.Fatalf("in-process connection: %v", err)
	}
	defer inside.Close()
	service, err := nats.Connect(e.URL())
	if err != nil {
		t.Fatalf("a service at %s: %v", e.URL(), err)
	}
	defer service.Close()
	if host, _, err := net.SplitHostPort(service.ConnectedAddr()); err != nil || host != "127.0.0.1" {
		t.Errorf("listens on %s, want loopback only", service.ConnectedAddr())
	}
	if _, err := service.Subscribe("get.x", func(m *nats.Msg) { _ = m.Respond([]byte("hello")) }); err != nil {
		t.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	answer, err := inside.Request("get.x", nil, nats.DefaultTimeout)
	if err != nil || string(answer.Data) != "hello" {
		t.Fatalf("answer %v, %v", answer, err)
	}
	if s := out.String(); strings.Contains(s, "hello") || !strings.Contains(s, "MSG_PAYLOAD omitted") {
		t.Errorf("the payload of a message is in the log:\n%s", s)
	}
	if s := out.String(); !strings.Contains(s, "Listening for client connections") || !strings.Contains(s, "part=nats-server") {
		t.Errorf("the server's messages are not in the log:\n%s", s)
	}
}

func TestStopEndsItsConnections(t *testing.T) {
	e, err := Start(context.Background(), Options{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	nc, err := nats.Connect("", nats.InProcessServer(inside{e}), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	e.Stop()
	testkit.Await(t, closed, "the end of the connection")
	e.Stop() // harmless
	if c, err := net.Dial("tcp", strings.TrimPrefix(e.URL(), "nats://")); err == nil {
		_ = c.Close()
		t.Error("still listens after Stop")
	}
}

func TestSaysWhatToDoWhenThePortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, err = Start(context.Background(), Options{Listen: taken.Addr().String(), Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{taken.Addr().String(), "in use", "embeddedNatsListen"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

// Wait returns when the server ends, for any reason; a start is given up with its context.
func TestWait(t *testing.T) {
	e, err := Start(context.Background(), Options{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Wait() }()
	e.srv.Shutdown()
	if err := testkit.Await(t, ended, "the end of Wait"); err == nil {
		t.Error("no reason")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if e, err := Start(ctx, Options{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}); err == nil {
		e.Stop() // it was ready before the context was checked
	}
}

// inside is a server as nats.go takes it.
type inside struct{ e *Server }

func (i inside) InProcessConn() (net.Conn, error) { return i.e.InProcessConn(context.Background()) }
