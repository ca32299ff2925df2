package netpoll

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/wsproto"
)

const (
	streamRequest = "GET /events HTTP/1.1\r\nHost: x\r\nX-Name: s\r\n\r\n"
	streamHead    = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
)

// serveStreams starts a server that keeps requests for /events as streams, and announces each.
func serveStreams(t *testing.T, change func(o *Options, h *testHandler)) (*server, chan *Conn) {
	t.Helper()
	begun := make(chan *Conn, 16)
	s := serveHTTP(t, func(o *Options, h *testHandler) {
		h.stream = keepEvents(begun)
		if change != nil {
			change(o, h)
		}
	}, describe)
	return s, begun
}

func keepEvents(begun chan *Conn) func(c *Conn, h *wsproto.Head) bool {
	return func(c *Conn, h *wsproto.Head) bool {
		if string(h.Path()) != "/events" {
			return false
		}
		c.Session = string(h.Get("X-Name"))
		c.Send([]byte(streamHead))
		begun <- c
		return true
	}
}

// follow begins a stream and reads the response's head.
func follow(t *testing.T, s *server, begun chan *Conn) (*client, *Conn) {
	t.Helper()
	c := dial(t, s.Addr())
	c.send([]byte(streamRequest))
	if _, head := c.status(); head != streamHead {
		t.Fatalf("head %q", head)
	}
	return c, await(t, begun, "Stream")
}

func (c *client) wantBytes(want string) {
	c.t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c.r, b); err != nil || string(b) != want {
		c.t.Fatalf("got %q and %v, want %q", b, err, want)
	}
}

func TestStream(t *testing.T) {
	s, begun := serveStreams(t, nil)
	c, sc := follow(t, s, begun)
	if s.m.Streams.Load() != 1 || s.m.OpenStreams.Load() != 1 || s.m.Open.Load() != 0 || s.m.OpenAll.Load() != 1 {
		t.Error("not counted")
	}
	var h Handle
	s.on(0, func(l *Loop) {
		h = sc.Handle()
		if l.Conn(h) != sc || sc.Closing() || sc.Session != "s" || sc.RemoteAddr() != c.LocalAddr().String() {
			t.Error("a stream is not found, or has lost something")
		}
		sc.Send([]byte("data: 1\n\n"))
		sc.Send([]byte("data: 2\n\n"))
	})
	c.wantBytes("data: 1\n\ndata: 2\n\n")
	// Whatever it sends is discarded: another request, a frame, much of nothing.
	garbage := append([]byte(streamRequest), masked(wsproto.OpText, "frame")...)
	garbage = append(garbage, make([]byte, 1<<20)...)
	c.send(garbage)
	want := uint64(len(streamRequest) + len(garbage))
	s.until("all was read", func() bool { return s.m.BytesIn.Load() == want })
	// Nor does silence matter: there are no pings.
	s.advance(time.Hour)
	s.on(0, func(l *Loop) {
		if !sc.in.empty() || l.Conn(h) != sc {
			t.Error("input is kept, or the stream has ended")
		}
		sc.Send([]byte("last"))
		sc.Finish()
		sc.Finish()
		sc.Send([]byte("nobody"))
		if l.Conn(h) != nil || !sc.Closing() {
			t.Error("a finished stream is still open")
		}
	})
	c.wantBytes("last")
	c.wantEOF()
	_ = c.Close()
	s.wantGone(sc)
	if len(begun) > 0 || s.m.Messages.Load() > 0 || s.m.Handovers.Load() > 0 {
		t.Error("input of a stream was handled")
	}
	for i := range s.m.Closed {
		if s.m.Closed[i].Load() != 0 {
			t.Error("counted as a WebSocket that closed")
		}
	}
}

// TestStreamOrNot: requests that are not kept go on to net/http, with all their bytes.
func TestStreamOrNot(t *testing.T) {
	s, begun := serveStreams(t, nil)
	c := dial(t, s.Addr())
	c.send([]byte("POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"))
	c.wantResponse("POST /other 5 hello")
	if len(begun) > 0 || s.m.Streams.Load() > 0 || s.m.Handovers.Load() != 1 {
		t.Error("kept")
	}
	_ = c.Close()
	s.until("net/http has closed it", func() bool { return s.m.OpenAll.Load() == 0 })
	if len(s.h.closed) > 0 {
		t.Error("Closed was called for a connection that the handler did not keep")
	}
}

// TestStreamInPieces: the request comes byte by byte, and is asked about once.
func TestStreamInPieces(t *testing.T) {
	s, begun := serveStreams(t, nil)
	c := dial(t, s.Addr())
	for _, b := range []byte(streamRequest) {
		c.send([]byte{b})
	}
	c.wantBytes(streamHead)
	await(t, begun, "Stream")
	if len(begun) > 0 {
		t.Error("asked twice")
	}
}

func TestStreamClientGoes(t *testing.T) {
	s, begun := serveStreams(t, nil)
	c, sc := follow(t, s, begun)
	_ = c.Close()
	s.wantGone(sc)
}

// TestStreamEndsWhileAsked: the response may be complete when Stream returns.
func TestStreamEndsWhileAsked(t *testing.T) {
	for name, end := range map[string]func(c *Conn){
		"Finish": func(c *Conn) { c.Finish() },
		"Close":  func(c *Conn) { c.Close(1001, "") },
	} {
		t.Run(name, func(t *testing.T) {
			begun := make(chan *Conn, 1)
			s := serve(t, func(_ *Options, h *testHandler) {
				h.stream = func(c *Conn, _ *wsproto.Head) bool {
					c.Send([]byte(streamHead))
					end(c)
					begun <- c
					return true
				}
			})
			c, sc := follow(t, s, begun)
			c.wantEOF()
			// The client keeps its side open: it is not waited for forever.
			s.advance(4900 * time.Millisecond)
			if s.m.OpenStreams.Load() != 1 {
				t.Error("gone before its time")
			}
			s.advance(200 * time.Millisecond)
			s.wantGone(sc)
		})
	}
}

// TestStreamContradiction: a handler that has ended a response and does not want the connection
// leaves nothing to hand over.
func TestStreamContradiction(t *testing.T) {
	s, _ := serveStreams(t, func(_ *Options, h *testHandler) {
		h.stream = func(c *Conn, _ *wsproto.Head) bool { c.Finish(); return false }
	})
	c := dial(t, s.Addr())
	c.send([]byte(streamRequest))
	c.wantEOF()
	s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
	if s.m.Handovers.Load() != 0 || s.m.Streams.Load() != 0 || len(s.h.closed) > 0 {
		t.Error("handed over or kept")
	}
}

// TestStreamSlowReader: a slow consumer loses nothing within the bound; beyond it the stream ends
// after what was queued.
func TestStreamSlowReader(t *testing.T) {
	s, begun := serveStreams(t, func(o *Options, _ *testHandler) { o.Limits.OutboxBytes = 256 << 10 })
	c, sc := follow(t, s, begun)
	sent := 0
	piece := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 30000) }
	lagged := false
	for closing := false; !closing; {
		s.on(0, func(*Loop) {
			before := sc.Queued()
			sc.Send(piece(sent))
			if closing = sc.Closing(); !closing {
				sent++
			}
			if lagged = lagged || sc.Lagging(); closing && sc.Queued() > before {
				t.Error("queued beyond the bound")
			}
		})
	}
	if !lagged || s.m.Overflows.Load() != 1 || s.m.Lags.Load() != 1 {
		t.Errorf("lagged: %v; %d overflows, %d lags counted", lagged, s.m.Overflows.Load(), s.m.Lags.Load())
	}
	var err error
	s.passing(func() {
		var all []byte
		if all, err = io.ReadAll(c.r); err != nil {
			return
		}
		for i := range sent {
			if want := piece(i); len(all) < len(want) || !bytes.Equal(all[:len(want)], want) {
				t.Errorf("piece %d of %d is wrong or missing", i, sent)
				return
			}
			all = all[len(piece(i)):]
		}
		if len(all) > 0 {
			t.Errorf("%d bytes too many", len(all))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	s.wantGone(sc)
	if n := s.m.Lagging.Load(); n != 0 {
		t.Errorf("%d counted as lagging", n)
	}
}

// TestStreamDeadReader: one who never reads is gone when the close time-out has passed.
func TestStreamDeadReader(t *testing.T) {
	s, begun := serveStreams(t, func(o *Options, _ *testHandler) { o.Limits.OutboxBytes = 64 << 10 })
	_, sc := follow(t, s, begun)
	big := make([]byte, 32<<10)
	for closing := false; !closing; {
		s.on(0, func(*Loop) { sc.Send(big); closing = sc.Closing() })
	}
	s.advance(6 * time.Second)
	s.wantGone(sc)
}

// TestStopWithStreams: streams just end, spread over the window, and one that begins then ends at
// once.
func TestStopWithStreams(t *testing.T) {
	s, begun := serveStreams(t, func(o *Options, _ *testHandler) { o.Limits.DrainWindow = 8 * time.Second })
	first, _ := follow(t, s, begun)
	second, sc := follow(t, s, begun)
	undecided := dial(t, s.Addr())
	s.until("it is there", func() bool { return s.m.OpenAll.Load() == 3 })
	s.on(0, func(*Loop) { sc.Send([]byte("last words")) })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	first.wantEOF() // the first share is closed immediately
	_ = first.Close()
	undecided.send([]byte(streamRequest))
	if _, head := undecided.status(); head != streamHead {
		t.Errorf("head %q", head)
	}
	undecided.wantEOF()
	_ = undecided.Close()
	if s.m.OpenStreams.Load() == 0 {
		t.Error("the streams were not spread over the window")
	}
	ended := make(chan string, 1)
	go func() {
		b, err := io.ReadAll(second.r)
		_ = second.Close()
		ended <- fmt.Sprint(string(b), " ", err)
	}()
	for len(stopped) == 0 && s.m.OpenStreams.Load() > 0 {
		s.clock.Advance(100 * time.Millisecond) // without waiting for the loops, which may have ended
	}
	if got := await(t, ended, "the end of the stream"); got != "last words <nil>" {
		t.Errorf("the stream ended with %q", got)
	}
	if err := await(t, stopped, "Stop"); err != nil {
		t.Error(err)
	}
	if s.m.Streams.Load() != 3 || s.m.OpenStreams.Load() != 0 || len(s.h.closed) != 3 {
		t.Errorf("%d streams, %d open, %d closed", s.m.Streams.Load(), s.m.OpenStreams.Load(), len(s.h.closed))
	}
}

// TestAdoptStream takes a stream back from net/http, where earlier requests of its connection went.
func TestAdoptStream(t *testing.T) {
	begun := make(chan *Conn, 1)
	adopted := make(chan error, 1)
	s := serveHTTP(t, func(_ *Options, h *testHandler) { h.stream = keepEvents(begun) }, func(s *server, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/events" {
			describe(s, w, r)
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			err = s.Adopt(c, []byte(streamRequest))
		}
		adopted <- err
	})
	c := dial(t, s.Addr())
	c.send([]byte("GET /page HTTP/1.1\r\nHost: x\r\n\r\n"))
	c.wantResponse("GET /page 0 ")
	c.send([]byte(strings.Replace(streamRequest, "X-Name: s", "X-Name: other", 1)))
	if err := await(t, adopted, "Adopt"); err != nil {
		t.Fatal(err)
	}
	if _, head := c.status(); head != streamHead {
		t.Errorf("head %q", head)
	}
	sc := await(t, begun, "Stream")
	s.on(0, func(*Loop) {
		if got := sc.RemoteAddr(); got != c.LocalAddr().String() {
			t.Errorf("remote address %q", got)
		}
		sc.Send([]byte("data"))
		sc.Finish()
	})
	c.wantBytes("data")
	c.wantEOF()
	_ = c.Close()
	s.wantGone(sc)
}

// TestCloseAllEndsStreams, with what is queued for them sent before.
func TestCloseAllEndsStreams(t *testing.T) {
	s, begun := serveStreams(t, nil)
	c, sc := follow(t, s, begun)
	ws := dial(t, s.Addr())
	ws.send([]byte(upgradeHead("/ws", "")))
	ws.upgraded()
	undecided := dial(t, s.Addr())
	s.until("it is there", func() bool { return s.m.OpenAll.Load() == 3 })
	s.on(0, func(l *Loop) {
		sc.Send([]byte("last words"))
		l.CloseAll(CauseNATS, 1012, "again")
	})
	c.wantBytes("last words")
	c.wantEOF()
	ws.wantClose(1012)
	undecided.send([]byte(streamRequest))
	if _, head := undecided.status(); head != streamHead {
		t.Errorf("head %q", head)
	}
}
