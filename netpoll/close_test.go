package netpoll

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/wsproto"
)

func TestPeerCloses(t *testing.T) {
	for _, tc := range []struct {
		name       string
		send       []byte
		echo, want uint16 // echo 0: a close frame without code
	}{
		{"1000", closeFrame(1000), 1000, 1000},
		{"1001", closeFrame(1001), 1001, 1001},
		{"4000", closeFrame(4000), 4000, 4000},
		{"no code", masked(wsproto.OpClose, ""), 0, wsproto.CloseNoStatus},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, nil)
			c, _ := s.connect()
			// What follows the close frame is not looked at.
			c.send(append(append(masked(wsproto.OpText, "last"), tc.send...), masked(wsproto.OpText, "late")...))
			c.wantText("last")
			if tc.echo != 0 {
				c.wantClose(tc.echo)
			} else if op, b := c.frame(); op != wsproto.OpClose || len(b) > 0 {
				t.Errorf("got %d %q", op, b)
			}
			c.wantEOF()
			s.wantClosed(tc.want, CauseClient)
		})
	}
}

func TestPeerBreaksTheProtocol(t *testing.T) {
	for _, tc := range []struct {
		name string
		send []byte
		want uint16
	}{
		{"not masked", wsproto.AppendFrame(nil, wsproto.OpText, []byte("x")), 1002},
		{"reserved opcode", masked(3, "x"), 1002},
		{"close code", closeFrame(1005), 1002},
		{"text that is not UTF-8", masked(wsproto.OpText, "a\xffb"), 1007},
		{"too large", masked(wsproto.OpText, repeat("x", 1001))[:12], 1009},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, func(o *Options, _ *testHandler) { o.Limits.MaxMessage = 1000 })
			c, _ := s.connect()
			c.send(append(masked(wsproto.OpText, "good"), tc.send...))
			c.wantText("good")
			c.wantClose(tc.want)
			c.wantEOF() // our side is shut although the peer says nothing
			c.text("still talking")
			_ = c.Close()
			s.wantClosed(tc.want, CauseProtocol)
		})
	}
}

func TestServerCloses(t *testing.T) {
	for _, code := range []uint16{1000, 1001, 1003, 1011, 1012, 1013} {
		s := serve(t, func(_ *Options, h *testHandler) {
			h.message = func(c *Conn, b []byte) {
				c.Send(wsproto.AppendFrame(nil, wsproto.OpText, b))
				c.Close(code, "because")
				c.Close(4000, "again")
				c.Send(wsproto.AppendFrame(nil, wsproto.OpText, []byte("nobody")))
				if !c.Closing() || c.Loop().Conn(c.Handle()) != nil {
					t.Error("not closing")
				}
			}
		})
		c, _ := s.connect()
		c.text("x")
		c.wantText("x")
		c.wantClose(code)
		c.send(append(append(masked(wsproto.OpPing, "?"), masked(wsproto.OpText, "late")...), closeFrame(code)...))
		c.wantEOF()
		s.wantClosed(code, CauseClient)
		if n := s.m.Messages.Load(); n != 1 {
			t.Errorf("%d messages handled, want 1", n)
		}
	}
}

func TestCloseIsNotAnswered(t *testing.T) {
	s := serve(t, func(_ *Options, h *testHandler) { h.message = func(c *Conn, _ []byte) { c.Close(1011, "") } })
	c, _ := s.connect()
	c.text("x")
	c.wantClose(1011)
	s.advance(4900 * time.Millisecond)
	s.sync()
	if n := s.m.Open.Load(); n != 1 {
		t.Fatal("closed before its time")
	}
	s.advance(200 * time.Millisecond)
	c.wantEOF()
	s.wantClosed(1011, CauseClient)
}

func TestPeerGoesWithoutAWord(t *testing.T) {
	s := serve(t, nil)
	c, _ := s.connect()
	_ = c.Close()
	s.wantClosed(CloseAbnormal, CauseClient)
	s.sync()
	if n := s.m.Open.Load() + s.m.OpenAll.Load(); n != 0 {
		t.Errorf("%d connections left", n)
	}
}

func TestPing(t *testing.T) {
	s := serve(t, nil)
	c, _ := s.connect()
	c.send(masked(wsproto.OpPing, "payload"))
	if op, b := c.frame(); op != wsproto.OpPong || string(b) != "payload" {
		t.Fatalf("got %d %q, want a pong", op, b)
	}
	expectPing := func() {
		t.Helper()
		s.advance(31 * time.Second)
		if op, _ := c.frame(); op != wsproto.OpPing {
			t.Fatalf("got %d, want a ping", op)
		}
	}
	expectPing()
	s.advance(8 * time.Second)
	c.send(masked(wsproto.OpPong, ""))
	c.text("pong came")
	c.wantText("pong came")
	s.advance(19 * time.Second) // less than an interval after the pong
	c.text("no ping yet")
	c.wantText("no ping yet")
	s.advance(29 * time.Second) // any message counts as a sign of life
	c.text("still none")
	c.wantText("still none")
	expectPing()
	s.advance(11 * time.Second)
	c.wantEOF()
	s.wantClosed(CloseAbnormal, CausePing)
	if n := s.m.PingLost.Load(); n != 1 {
		t.Errorf("%d lost pings counted, want 1", n)
	}
}

// TestIdleLoopsSleep counts the alarms that idle connections cause: none without pings; with pings,
// two on the way to the deadline (the wheel moves it to a lower level) and the ping's own, for all
// connections together.
func TestIdleLoopsSleep(t *testing.T) {
	for _, tc := range []struct {
		interval time.Duration
		most     int
	}{{-1, 0}, {30 * time.Second, 3}} {
		s := serve(t, func(o *Options, _ *testHandler) { o.Limits.PingInterval = tc.interval })
		for range 50 {
			s.connect()
		}
		s.advance(11 * time.Second) // past the alarm of the head's time limit, which came to nothing
		s.sync()
		before := s.m.Writes.Load()
		alarms := 0
		for s.m.Writes.Load() < before+50 {
			s.sync()
			at, ok := s.clock.Next()
			if !ok {
				break
			}
			alarms++
			s.clock.Advance(at - s.clock.Now())
			s.sync()
			s.sync()
		}
		if alarms > tc.most {
			t.Errorf("interval %v: %d alarms, want at most %d", tc.interval, alarms, tc.most)
		}
	}
}

func TestStop(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) {
		o.Loops, o.Limits.DrainWindow, o.Limits.PingInterval = 2, 10*time.Second, -1
	})
	const n = 40
	var clients []*client
	for range n {
		c, _ := s.connect()
		clients = append(clients, c)
	}
	undecided := dial(t, s.Addr())
	s.until("it is there", func() bool { return s.m.OpenAll.Load() == n+1 })
	stopped := make(chan error, 1)
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
		return begun == 2
	})
	closing := make(chan int, n)
	for i, c := range clients {
		go func() {
			if op, _, err := readFrame(c.r); err == nil && op == wsproto.OpClose {
				_, _ = c.Write(closeFrame(1001))
			}
			closing <- i
		}()
	}
	wantNotListening(t, s.Addr())
	for range 4 {
		s.advance(time.Second)
	}
	s.sync()
	s.sync()
	if open := s.m.Open.Load(); open < n/4 || open == n {
		t.Errorf("%d of %d connections are open when less than half of the window has passed", open, n)
	}
	for len(stopped) == 0 && s.m.Open.Load() > 0 {
		s.clock.Advance(100 * time.Millisecond)
	}
	for range n {
		await(t, closing, "the close frame")
	}
	if err := await(t, stopped, "Stop"); err != nil {
		t.Error(err)
	}
	undecided.wantEOF()
	if got := s.m.ClosedWith(1001).Load(); got != n {
		t.Errorf("%d connections closed with 1001, want %d", got, n)
	}
	if len(s.h.closed) != n {
		t.Errorf("Closed was called %d times, want %d", len(s.h.closed), n)
	}
}

// TestStopAtOnce: what is left when the context ends is closed immediately, and Handler.Closed is
// called.
func TestStopAtOnce(t *testing.T) {
	s := serve(t, nil)
	c, _ := s.connect()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Stop(ctx); err != context.Canceled {
		t.Errorf("Stop: %v", err)
	}
	await(t, s.h.closed, "Closed")
	c.wantCloseOrEOF()
	if err := s.Stop(context.Background()); err != nil {
		t.Errorf("the second Stop: %v", err)
	}
}

// wantNotListening: a draining engine's port is closed, or its clients get 503 where a port cannot
// be closed early.
func wantNotListening(t *testing.T, addr net.Addr) {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if runtime.GOOS == "linux" && os.Getenv(inGnetEnv) == "" {
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("connecting while draining gives %v, want it refused", err)
		}
	}
	if err != nil {
		return
	}
	defer c.Close()
	late := &client{c, t, bufio.NewReader(c)}
	late.send([]byte(upgradeHead("/ws", "")))
	if code, _ := late.status(); code != 503 {
		t.Errorf("status %d while draining, want 503", code)
	}
}
