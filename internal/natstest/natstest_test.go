package natstest

import (
	"net"
	"testing"

	"github.com/nats-io/nats.go"
)

func roundTrip(t *testing.T, nc *nats.Conn) {
	t.Helper()
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatalf("round trip to the server: %v", err)
	}
}

func TestServerComesBackOnItsPort(t *testing.T) {
	s := Start(t)
	back := make(chan struct{}, 1)
	nc := s.Client(nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	roundTrip(t, nc)
	for range 3 {
		s.Restart()
		<-back
		roundTrip(t, nc)
	}
}

func TestStoppedServerRefusesConnections(t *testing.T) {
	s := New(t)
	addr := s.URL()[len("nats://"):]
	refused := func(when string) {
		t.Helper()
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Fatalf("%s: a connection was accepted", when)
		}
	}
	refused("before start")
	s.Start()
	roundTrip(t, s.Client())
	s.Stop()
	s.Stop()
	refused("after stop")
}

func TestCutClosesOnlyTheNamedClients(t *testing.T) {
	s := Start(t)
	cut := make(chan string, 4)
	client := func(name string) *nats.Conn {
		return s.Client(nats.Name(name), nats.DisconnectErrHandler(func(*nats.Conn, error) { cut <- name }))
	}
	a, b := client("a"), client("b")
	roundTrip(t, a)
	roundTrip(t, b)
	if n := s.Cut("a"); n != 1 {
		t.Fatalf("connections cut: got %d, want 1", n)
	}
	if name := <-cut; name != "a" {
		t.Fatalf("cut: got %q, want a", name)
	}
	roundTrip(t, b)
	if !b.IsConnected() || b.Stats().Reconnects != 0 {
		t.Fatal("the other client was cut as well")
	}
}

func TestInProcess(t *testing.T) {
	s := Start(t)
	nc := s.Client(nats.InProcessServer(pipes{s}))
	roundTrip(t, nc)
}

type pipes struct{ s *Server }

func (p pipes) InProcessConn() (net.Conn, error) { return p.s.InProcess() }
