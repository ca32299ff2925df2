//go:build !invariants

package netpoll

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"sluice/internal/owner"
	"sluice/wsproto"
)

// An engine does not start if a loop cannot: its Handler has no state for clients of that.
func TestPanicOfAStart(t *testing.T) {
	for loops := 1; loops <= 2; loops++ {
		faults := owner.NewFaults(owner.SystemClock(), slog.New(slog.DiscardHandler))
		h := newTestHandler(loops)
		h.onStart = func(l *Loop) {
			if l.Index() == loops-1 {
				panic("bomb: start")
			}
		}
		e, err := New(Options{Addr: "127.0.0.1:0", Loops: loops, Handler: h, Faults: faults, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err = e.Start(); err == nil || !strings.Contains(err.Error(), "start of an event loop panicked") {
			t.Errorf("of %d: %v", loops, err)
		}
		if err == nil {
			e.Close()
		}
		if n := faults.Count(owner.Loop); n != 1 {
			t.Errorf("%d panics", n)
		}
	}
}

// A handshake that panics fails, and so no other does.
func TestPanicOfAHandshake(t *testing.T) {
	faults := owner.NewFaults(owner.SystemClock(), slog.New(slog.DiscardHandler))
	s := serveTLS(t, func(o *Options, _ *testHandler) {
		o.Faults = faults
		o.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if hello.ServerName == "bomb" {
				panic("bomb: handshake")
			}
			return nil, nil
		}
	})
	for range 3 {
		config := clientTLS(0)
		config.ServerName = "bomb"
		if err := tls.Client(dial(t, s.Addr()).Conn, config).Handshake(); err == nil {
			t.Fatal("the handshake succeeds")
		}
	}
	s.connectTLS(clientTLS(0))
	s.wantHandshakes(1, 3, 0, 0)
	if n := faults.Count(owner.Handshake); n != 3 || len(s.handshakes.firstFlight)+len(s.handshakes.laterFlights) != 0 {
		t.Errorf("%d panics, %d still compute", n, len(s.handshakes.firstFlight)+len(s.handshakes.laterFlights))
	}
}

// A connection whose way to net/http panics is closed and no longer counted.
func TestPanicOfAHandover(t *testing.T) {
	for _, way := range []string{"plain", "TLS", "h2"} {
		t.Run(way, func(t *testing.T) {
			s, faults := serveFaulty(t, func(o *Options, _ *testHandler) {
				if way != "plain" {
					o.TLS = serverTLS()
				}
				o.HTTP = func(net.Conn) { panic("bomb: HTTP") }
			})
			c := dial(t, s.Addr())
			switch way {
			case "TLS":
				c, _ = overTLS(t, c.Conn, clientTLS(0))
			case "h2":
				config := clientTLS(0)
				config.NextProtos = []string{protoH2}
				c, _ = overTLS(t, c.Conn, config)
			}
			if way != "h2" {
				c.send([]byte("GET / HTTP/1.1\r\nHost: test\r\n\r\n"))
			}
			if b, _ := io.ReadAll(c.r); len(b) > 0 {
				t.Errorf("got %q", b)
			}
			s.until("the connection is not counted any more, and the panic is", func() bool {
				return s.m.OpenAll.Load() == 0 && faults.Count(owner.HTTP) == 1
			})
		})
	}
}

// What is done for many connections is done for each, whichever panics.
func TestPanicOfOneOfMany(t *testing.T) {
	s, faults := serveFaulty(t, nil)
	var clients []*client
	var conns []*Conn
	for range 3 {
		c, conn := s.connect()
		clients, conns = append(clients, c), append(conns, conn)
	}
	s.on(0, func(*Loop) {
		for i, c := range conns {
			attempt(c, func(c *Conn) {
				if i == 1 {
					panic("bomb: one of many")
				}
				c.Close(wsproto.CloseGoingAway, "")
			})
		}
	})
	for i, want := range []uint16{wsproto.CloseGoingAway, wsproto.CloseInternalError, wsproto.CloseGoingAway} {
		if code := clients[i].code(); code != want {
			t.Errorf("%d: closed with %d, want %d", i, code, want)
		}
	}
	if n := faults.Count(owner.Loop); n != 1 {
		t.Errorf("%d panics", n)
	}
}
