package netpoll

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/internal/testkit"
)

// stopping stops s in the background and waits until every loop has begun to drain.
func (s *server) stopping() (stopped chan error) {
	s.t.Helper()
	stopped = make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	s.until("draining has begun", func() bool {
		begun := 0
		for i := range s.Loops() {
			s.on(i, func(l *Loop) {
				if l.drain.begun {
					begun++
				}
			})
		}
		return begun == len(s.Loops())
	})
	return stopped
}

// TestStopMidRequest: a request that has come in part is waited for, and answered or refused.
func TestStopMidRequest(t *testing.T) {
	post := "POST /now HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n"
	for _, tc := range []struct {
		name, first, rest string
		status            int
	}{
		{"a head", "GET /now HT", "TP/1.1\r\nHost: test\r\n\r\n", 200},
		{"a body", post + "he", "llo", 200},
		{"an upgrade", upgradeHead("/ws", "")[:20], upgradeHead("/ws", "")[20:], 503},
		{"nothing more", "GET /now HT", "", 408},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := serveRequests(t, func(o *Options, _ *testHandler) { o.Limits.DrainWindow = -1 })
			c := dial(t, s.Addr())
			c.send([]byte(tc.first))
			s.until("it has come", func() (come bool) {
				s.on(0, func(l *Loop) { come = l.drain.midRequest() })
				return come
			})
			stopped := s.stopping()
			if tc.rest == "" {
				s.sync()
				s.clock.Advance(5100 * time.Millisecond) // the engine may end at once
			}
			c.send([]byte(tc.rest))
			if code, head := c.status(); code != tc.status || !strings.Contains(head, "Connection: close") {
				t.Errorf("answer %q, want %d and the end", head, tc.status)
			}
			_ = c.Close()
			if err := await(t, stopped, "Stop"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRunsOnAfterDrain: requests that net/http has need the loops until Close.
func TestRunsOnAfterDrain(t *testing.T) {
	s := serve(t, nil)
	if err := s.Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.sync() // an iteration
	near, raw := tcpPair(t)
	if err := s.Adopt(raw, []byte(upgradeHead("/ws", ""))); err != nil {
		t.Error(err)
	}
	c := &client{near, t, nil}
	b := make([]byte, 12)
	if _, err := c.Read(b); err != nil || string(b) != "HTTP/1.1 503" {
		t.Errorf("an upgrade while draining is answered with %q, %v", b, err)
	}
	s.Close()
	if err := s.Err(); err != nil {
		t.Errorf("closed on purpose, and yet it failed: %v", err)
	}
	await(t, s.Ended(), "the end")
}

// TestEngineFails: a gnet that ends again and again is given up, and Stop does not wait for its
// clients.
func TestEngineFails(t *testing.T) {
	broken := errors.New("no more sockets")
	e, err := New(Options{Addr: "127.0.0.1:0", Loops: 1, Handler: refuseAll{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	e.restarts = restarts{min: time.Microsecond, max: time.Hour, limit: 3}
	runs, end := 0, make(chan struct{})
	e.runGnet = func() error {
		if runs++; runs == 1 {
			close(e.begun)
			e.ready <- nil
			<-end
		}
		return broken
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	close(end)
	await(t, e.Ended(), "the end")
	if runs != 4 || !errors.Is(e.Err(), broken) {
		t.Errorf("%d runs, %v", runs, e.Err())
	}
	if err := e.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestAdoptFailureIsCounted: a connection that no loop takes is closed.
func TestAdoptFailureIsCounted(t *testing.T) {
	s := serve(t, nil)
	s.Close()
	near, raw := tcpPair(t)
	if err := s.Adopt(raw, nil); err == nil {
		t.Error("adopted after Close")
	}
	if _, err := near.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("it was not closed: %v", err)
	}
	if n := s.m.AdoptFailed.Load(); n != 1 {
		t.Errorf("%d failures counted, want 1", n)
	}
}

// TestMalformedProxyHeaderIsLogged: once for many of them, with the proxy's address.
func TestMalformedProxyHeaderIsLogged(t *testing.T) {
	var log testkit.Log
	s := serve(t, func(o *Options, h *testHandler) {
		trustLocal(o, h)
		o.Log = log.Logger()
	})
	for range 3 {
		c := dial(t, s.Addr())
		c.send([]byte("PROXY TCP4 nonsense\r\n"))
		_, _ = c.r.ReadByte()
	}
	s.until("all are counted", func() bool { return s.m.RefusedProxy.Load() == 3 })
	if n := log.Count("malformed PROXY header"); n != 1 || log.Count("remote=127.0.0.1:") != 1 {
		t.Errorf("%d lines for 3 connections, want 1 that names the proxy", n)
	}
}
