package netpoll

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/wsproto"
)

// exchange is a plain request that is to be answered.
type exchange struct {
	conn   *Conn
	handle Handle
	line   string // method, target and body
}

// answerText answers as describe would.
func answerText(c *Conn, text string) {
	text += " " + c.RemoteAddr()
	keep := c.KeepAlive()
	head := "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n"
	if !keep {
		head += "Connection: close\r\n"
	}
	if len(text) < 100 { // together or apart: it is all the same
		c.Respond([]byte(head+"\r\n"+text), nil, keep)
	} else {
		c.Respond([]byte(head+"\r\n"), []byte(text), keep)
	}
}

// serveRequests starts a server that answers plain requests on the loop: those below /now
// immediately, those below /later when the test does, all others by net/http. What it kept is
// announced.
func serveRequests(t *testing.T, change func(o *Options, h *testHandler)) (*server, chan exchange) {
	t.Helper()
	asked := make(chan exchange, 64)
	s := serveHTTP(t, func(o *Options, h *testHandler) {
		h.request = func(c *Conn, head *wsproto.Head, body []byte) bool {
			x := exchange{c, c.Handle(), fmt.Sprintf("%s %s %d %.10s", head.Method, head.Target, len(body), body)}
			switch {
			case bytes.HasPrefix(head.Path(), []byte("/now")):
				answerText(c, x.line)
			case bytes.HasPrefix(head.Path(), []byte("/later")):
			default:
				return false
			}
			asked <- x
			return true
		}
		if change != nil {
			change(o, h)
		}
	}, describe)
	return s, asked
}

// answer answers one that was announced.
func (s *server) answer(x exchange) {
	s.t.Helper()
	s.on(x.handle.Loop(), func(l *Loop) {
		if l.Conn(x.handle) != x.conn {
			s.t.Errorf("%s is not found", x.line)
		}
		answerText(x.conn, x.line)
	})
}

func get(target string) []byte { return []byte("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n") }

func TestRequestsKeepAlive(t *testing.T) {
	s, asked := serveRequests(t, nil)
	c := dial(t, s.Addr())
	for i := range 3 {
		c.send(get(fmt.Sprint("/now/", i)))
		c.wantResponse(fmt.Sprintf("GET /now/%d 0 ", i))
		await(t, asked, "Request")
		c.send(get(fmt.Sprint("/later/", i)))
		s.answer(await(t, asked, "Request"))
		c.wantResponse(fmt.Sprintf("GET /later/%d 0 ", i))
	}
	s.sync()
	if s.m.Requests.Load() != 6 || s.m.Handovers.Load() != 0 || len(s.h.closed) != 0 || s.m.OpenAll.Load() != 1 {
		t.Error("not counted, or handed over, or closed")
	}
	// The same connection can become anything.
	c.send([]byte(upgradeHead("/ws", "n")))
	c.upgraded()
	if got := s.session(await(t, s.h.opened, "Open")); got != "n" {
		t.Errorf("session %v", got)
	}
	for range 3 { // the idle time of requests does not count any more
		s.advance(25 * time.Second)
		c.text("hello")
		c.wantText("hello")
	}
}

func TestRequestThenStreamOrHandover(t *testing.T) {
	begun := make(chan *Conn, 1)
	s, _ := serveRequests(t, func(_ *Options, h *testHandler) { h.stream = keepEvents(begun) })
	c := dial(t, s.Addr())
	c.send(append(get("/now"), streamRequest...))
	c.wantResponse("GET /now 0 ")
	c.wantBytes(streamHead)
	sc := await(t, begun, "Stream")
	s.on(0, func(*Loop) { sc.Send([]byte("data")); sc.Finish() })
	c.wantBytes("data")
	c.wantEOF()
	_ = c.Close()
	s.wantGone(sc)

	c = dial(t, s.Addr())
	c.send(append(append(get("/now"), get("/other")...), get("/now/not")...))
	c.wantResponse("GET /now 0 ")
	c.wantResponse("GET /other 0 ")
	c.wantResponse("GET /now/not 0 ") // it stays with net/http
	if s.m.Requests.Load() != 2 || s.m.Handovers.Load() != 1 {
		t.Errorf("%d requests, %d handovers", s.m.Requests.Load(), s.m.Handovers.Load())
	}
}

// TestRequestsInPieces sends pipelined requests with and without bodies, in pieces of every kind.
func TestRequestsInPieces(t *testing.T) {
	body := repeat("b", 60<<10)
	requests := "GET /now/1 HTTP/1.1\r\nHost: x\r\n\r\n" +
		"POST /later/2 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" +
		fmt.Sprintf("PUT /now/3 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body) +
		"DELETE /now/4 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" +
		"GET /later/5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" +
		"GET /now/never HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, piece := range []int{1, 7, 60, 1000, 1 << 20} {
		t.Run(fmt.Sprint(piece), func(t *testing.T) {
			s, asked := serveRequests(t, nil)
			c := dial(t, s.Addr())
			go func() {
				for b := []byte(requests); len(b) > 0; {
					n := min(piece, len(b))
					if len(b) > 1000 && len(b) < 50<<10 {
						n = min(len(b)-1000, 10000) // not every byte of the body alone
					}
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
					b = b[n:]
				}
			}()
			for _, want := range []string{
				"GET /now/1 0 ", "POST /later/2 5 hello", fmt.Sprintf("PUT /now/3 %d bbbbbbbbbb", len(body)), "DELETE /now/4 0 ", "GET /later/5 0 ",
			} {
				x := await(t, asked, "Request")
				if x.line != want {
					t.Fatalf("asked for %q, want %q", x.line, want)
				}
				if strings.Contains(want, "/later") {
					s.answer(x)
				}
				c.wantResponse(want)
			}
			c.wantEOF()
			_ = c.Close()
			s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
			s.on(0, func(l *Loop) {
				if len(asked) > 0 || l.held != 0 || len(l.bodies) != 0 {
					t.Error("asked behind the last request, or something is left")
				}
			})
		})
	}
}

// TestRequestClosedWhilePending: Handler.Closed is called, and the response is discarded.
func TestRequestClosedWhilePending(t *testing.T) {
	s, asked := serveRequests(t, nil)
	c := dial(t, s.Addr())
	c.send(get("/later"))
	x := await(t, asked, "Request")
	s.on(0, func(*Loop) { x.conn.Session = "mine" })
	c.reset()
	if got := await(t, s.h.closed, "Closed"); got != x.conn {
		t.Error("another connection")
	}
	s.on(0, func(l *Loop) {
		if l.Conn(x.handle) != nil || l.held != 0 {
			t.Error("still there")
		}
		x.conn.Respond([]byte("x"), nil, true)
	})
}

// TestRequestTimes: how long a connection may take for what.
func TestRequestTimes(t *testing.T) {
	s, asked := serveRequests(t, nil)
	after := func(t *testing.T) *client {
		c := dial(t, s.Addr())
		c.send(get("/now"))
		c.wantResponse("GET /now 0 ")
		await(t, asked, "Request")
		s.until("the answer has gone", func() bool {
			idle := false
			s.on(0, func(l *Loop) {
				for _, x := range l.table.slots {
					idle = idle || x.conn != nil && x.conn.flags&flagIdle != 0
				}
			})
			return idle
		})
		return c
	}
	gone := func() { s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 }) }
	refusedAfter := func(t *testing.T, c *client, wait time.Duration) {
		t.Helper()
		s.advance(wait - 100*time.Millisecond)
		if s.m.OpenAll.Load() != 1 {
			t.Error("gone before its time")
		}
		s.advance(200 * time.Millisecond)
		if code, _ := c.status(); code != 408 {
			t.Errorf("status %d", code)
		}
		_ = c.Close()
		gone()
	}
	t.Run("idle", func(t *testing.T) {
		c := after(t)
		s.advance(6*time.Minute - time.Second)
		if s.m.OpenAll.Load() != 1 {
			t.Error("gone before its time")
		}
		s.advance(8 * time.Second) // deadlines that fall together are rounded up
		c.wantEOF()
		gone()
		if s.m.RefusedTimeout.Load() != 0 {
			t.Error("counted as refused")
		}
	})
	t.Run("another request", func(t *testing.T) {
		c := after(t)
		s.advance(6*time.Minute - time.Second)
		c.send(get("/now"))
		c.wantResponse("GET /now 0 ")
		await(t, asked, "Request")
		s.sync()
		s.advance(6*time.Minute - time.Second)
		if s.m.OpenAll.Load() != 1 {
			t.Error("gone before its time")
		}
		_ = c.Close()
		gone()
	})
	t.Run("head", func(t *testing.T) {
		c := after(t)
		s.advance(30 * time.Second)
		read := s.m.BytesIn.Load()
		c.send([]byte("GET"))
		s.until("it was read", func() bool { return s.m.BytesIn.Load() == read+3 })
		refusedAfter(t, c, 10*time.Second)
	})
	t.Run("body", func(t *testing.T) {
		c := dial(t, s.Addr())
		read := s.m.BytesIn.Load()
		part := "POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab"
		c.send([]byte(part))
		s.until("it was read", func() bool { return s.m.BytesIn.Load() == read+uint64(len(part)) })
		refusedAfter(t, c, 30*time.Second)
	})
	t.Run("answer", func(t *testing.T) { // the Handler has its own time-outs
		c := dial(t, s.Addr())
		c.send(get("/later"))
		x := await(t, asked, "Request")
		s.advance(time.Hour)
		s.answer(x)
		c.wantResponse("GET /later 0 ")
		_ = c.Close()
		gone()
	})
	s.until("the loop has reaped them", func() (reaped bool) {
		s.on(0, func(l *Loop) { reaped = len(l.bodies) == 0 && l.held == 0 })
		return reaped
	})
}

// TestRequestBigAnswer: one who reads slowly gets all of an answer beyond the outbox's bound, and
// its next request is looked at then; one who does not read at all is gone when the time is over.
func TestRequestBigAnswer(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	s, asked := serveRequests(t, func(o *Options, _ *testHandler) { o.Limits.ReadTimeout = 1000 * time.Hour })
	big := func(x exchange) {
		s.on(0, func(*Loop) {
			head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
			x.conn.Respond([]byte(head), body, x.conn.KeepAlive())
		})
	}
	c := dial(t, s.Addr())
	c.send(append(get("/later"), get("/now")...))
	big(await(t, asked, "Request"))
	s.sync()
	if len(asked) > 0 {
		t.Error("the next request was looked at before the answer had gone")
	}
	s.passing(func() {
		r, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		if got, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes and %v", len(got), err)
		}
	})
	c.wantResponse("GET /now 0 ")
	_ = c.Close()
	s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })

	s, asked = serveRequests(t, nil)
	c = dial(t, s.Addr())
	c.send(get("/later"))
	x := await(t, asked, "Request")
	big(x)
	s.advance(29 * time.Second)
	if s.m.OpenAll.Load() != 1 {
		t.Error("gone before its time")
	}
	s.advance(1100 * time.Millisecond)
	await(t, s.h.closed, "Closed")
	s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 && s.m.Lagging.Load() == 0 })
}

// TestRequestTooMuchPipelined: what does not fit is not answered, and the client can tell.
func TestRequestTooMuchPipelined(t *testing.T) {
	s, asked := serveRequests(t, nil)
	c := dial(t, s.Addr())
	c.send(get("/later"))
	x := await(t, asked, "Request")
	flood := bytes.Repeat(get("/now"), 10000)
	c.send(flood)
	want := uint64(len(flood) + len(get("/later")))
	s.until("all was read", func() bool { return s.m.BytesIn.Load() == want })
	s.on(0, func(*Loop) {
		if !x.conn.in.empty() {
			t.Errorf("%d bytes are kept", len(x.conn.in.bytes()))
		}
	})
	s.answer(x)
	r, err := http.ReadResponse(c.r, nil)
	if err != nil || !r.Close {
		t.Fatalf("the end is not announced: %v, %v", r, err)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	c.wantEOF()
	_ = c.Close()
	await(t, s.h.closed, "Closed")
	if len(asked) > 0 {
		t.Error("more was asked")
	}
}

// TestRequestOrNot: what is not plain goes to net/http, with the words that it has for it; what is
// malformed ends the connection, also after a valid request.
func TestRequestOrNot(t *testing.T) {
	large := repeat("y", 64<<10+1)
	for _, tc := range []struct {
		name, in string
		status   int // of the answer to it
		loop     bool
	}{
		{"plain", "GET /now HTTP/1.1\r\nHost: x\r\n\r\n", 200, true},
		{"plain with a body", "POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", 200, true},
		{"HTTP/1.0", "GET /now HTTP/1.0\r\nHost: x\r\n\r\n", 200, false},
		{"chunked", "POST /now HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, false},
		{"body beyond the bound", fmt.Sprintf("POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(large), large), 200, false},
		{"absolute form", "GET http://x/now HTTP/1.1\r\nHost: x\r\n\r\n", 200, false},
		{"no host", "GET /now HTTP/1.1\r\n\r\n", 400, false},
		{"two hosts", "GET /now HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, false},
		{"unknown coding", "POST /now HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n", 501, false},
		{"unknown expectation", "POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nExpect: x\r\n\r\n", 417, false},
		{"length and coding", "POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, false},
		{"two lengths", "POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400, false},
		{"malformed length", "POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n", 400, false},
		{"folded field", "GET /now HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400, false},
		{"garbage", "\x16\x03\x01", 400, false},
		{"line feeds", "GET /now HTTP/1.1\nHost: x\n\n", 400, false},
	} {
		for _, before := range []string{"", "before: "} {
			t.Run(before+tc.name, func(t *testing.T) {
				s, asked := serveRequests(t, nil)
				c := dial(t, s.Addr())
				in := tc.in
				if before != "" {
					in = string(get("/now/first")) + in
				}
				go func() { _, _ = c.Write([]byte(in)) }()
				if before != "" {
					c.wantResponse("GET /now/first 0 ")
					await(t, asked, "Request")
				}
				r, err := http.ReadResponse(c.r, nil)
				if err != nil || r.StatusCode != tc.status {
					t.Fatalf("%v and %v, want status %d", r, err, tc.status)
				}
				if (len(asked) == 1) != tc.loop {
					t.Errorf("%d requests on the loop", len(asked))
				}
			})
		}
	}
}

// TestRequestContradiction: a handler that has answered and does not want the request leaves
// nothing to hand over.
func TestRequestContradiction(t *testing.T) {
	s, _ := serveRequests(t, func(_ *Options, h *testHandler) {
		h.request = func(c *Conn, _ *wsproto.Head, _ []byte) bool { answerText(c, ""); return false }
	})
	c := dial(t, s.Addr())
	c.send(get("/"))
	c.wantEOF()
	s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
	if s.m.Handovers.Load() != 0 || len(s.h.closed) > 0 {
		t.Error("handed over or kept")
	}
}

// TestStopWithRequests: an answer that is due is waited for, says that the connection ends, and is
// the last; one that does not come in time is given by the engine.
func TestStopWithRequests(t *testing.T) {
	s, asked := serveRequests(t, func(o *Options, _ *testHandler) { o.Limits.DrainWindow = -1 })
	begin := func() (*client, exchange) {
		c := dial(t, s.Addr())
		c.send(get("/later"))
		return c, await(t, asked, "Request")
	}
	quick, x := begin()
	slow, _ := begin()
	idle := dial(t, s.Addr())
	idle.send(get("/now"))
	idle.wantResponse("GET /now 0 ")
	s.sync() // the client may have it before the loop knows that it has gone
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	idle.wantEOF()
	_ = idle.Close()
	s.answer(x)
	r, err := http.ReadResponse(quick.r, nil)
	if err != nil || r.StatusCode != 200 || !r.Close {
		t.Fatalf("%v, %v", r, err)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	quick.wantEOF()
	_ = quick.Close()
	s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 1 })
	if len(stopped) > 0 {
		t.Error("Stop did not wait")
	}
	s.advance(5100 * time.Millisecond)
	if code, _ := slow.status(); code != 503 {
		t.Errorf("status %d", code)
	}
	_ = slow.Close()
	if err := await(t, stopped, "Stop"); err != nil {
		t.Error(err)
	}
	if len(s.h.closed) != 2 {
		t.Errorf("Closed was called %d times", len(s.h.closed))
	}
}

// TestRequestBehindProxy: the address is the one that the proxy says.
func TestRequestBehindProxy(t *testing.T) {
	s, _ := serveRequests(t, trustLocal)
	c := dial(t, s.Addr())
	c.send(append([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"), get("/now")...))
	for range 2 {
		r, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(r.Body); string(body) != "GET /now 0  192.0.2.7:4711" {
			t.Errorf("answer %q", body)
		}
		c.send(get("/now"))
	}
}

// TestRequestsInTLS: as without, also where a connection leaves for net/http in the middle of a
// record, long after others were read from.
func TestRequestsInTLS(t *testing.T) {
	s, asked := serveRequests(t, withTLS(nil))
	other, _ := dialTLS(t, s.Addr(), clientTLS(tls.VersionTLS13))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		raw := &heldBack{Conn: dial(t, s.Addr()).Conn}
		c, _ := overTLS(t, raw, clientTLS(version))
		for range 2 {
			c.send(get("/now"))
			c.wantResponse("GET /now 0 ")
			await(t, asked, "Request")
		}
		c.send(append(get("/later"), get("/other")...))
		x := await(t, asked, "Request")
		// Part of a record is left: net/http must get it, and nothing of the other connection's.
		raw.hold = true
		c.send(get("/more"))
		raw.hold = false
		part := raw.written
		s.sync() // what was read is counted at the end of its iteration,
		s.sync() // in which the function before may have run
		read := s.m.BytesIn.Load()
		if _, err := raw.Write(part[:len(part)/2]); err != nil {
			t.Fatal(err)
		}
		s.until("it was read", func() bool { return s.m.BytesIn.Load() == read+uint64(len(part)/2) })
		other.send(append(get("/now"), get("/now")...))
		other.wantResponse("GET /now 0 ")
		other.wantResponse("GET /now 0 ")
		await(t, asked, "Request")
		await(t, asked, "Request")
		s.answer(x)
		c.wantResponse("GET /later 0 ")
		c.wantResponse("GET /other 0 ")
		if _, err := raw.Write(part[len(part)/2:]); err != nil {
			t.Fatal(err)
		}
		c.wantResponse("GET /more 0 ")
	}
	other.send([]byte("GET /now HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
	other.wantResponse("GET /now 0 ")
	other.wantEOF() // behind a close_notify
	if s.m.Handovers.Load() != 2 || s.m.TLSBroken.Load() != 0 {
		t.Errorf("%d handovers, %d broken", s.m.Handovers.Load(), s.m.TLSBroken.Load())
	}
}

// heldBack is a connection that can keep what is written to it.
type heldBack struct {
	net.Conn
	hold    bool
	written []byte
}

func (h *heldBack) Write(p []byte) (int, error) {
	if h.hold {
		h.written = append(h.written, p...)
		return len(p), nil
	}
	return h.Conn.Write(p)
}

// TestRequestsAllocateNothing of their own.
func TestRequestsAllocateNothing(t *testing.T) {
	response := []byte("HTTP/1.1 204 No Content\r\n\r\n")
	s := serve(t, func(_ *Options, h *testHandler) {
		h.request = func(c *Conn, _ *wsproto.Head, _ []byte) bool { c.Respond(response, nil, true); return true }
	})
	c := dial(t, s.Addr())
	fd := rawFD(t, c.Conn)
	request, got := get("/"), make([]byte, 64)
	n := testing.AllocsPerRun(2000, func() {
		if _, err := unix.Write(fd, request); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(fd, got); n != len(response) || err != nil {
			t.Fatal(n, err)
		}
	})
	if n > 0 && !raceEnabled {
		t.Errorf("%v allocations a request", n)
	}
}

// rawFD returns a blocking duplicate of a connection's descriptor.
func rawFD(t testing.TB, c net.Conn) int {
	t.Helper()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	fd := int(f.Fd())
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	return fd
}

func BenchmarkRequest(b *testing.B) {
	response := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
	s := serve(b, func(_ *Options, h *testHandler) {
		h.request = func(c *Conn, _ *wsproto.Head, _ []byte) bool { c.Respond(response, nil, true); return true }
	})
	c := dial(b, s.Addr())
	fd := rawFD(b, c.Conn)
	request, got := get("/"+strings.Repeat("a", 20)), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = unix.Write(fd, request)
		if n, err := unix.Read(fd, got); n != len(response) || err != nil {
			b.Fatal(n, err)
		}
	}
}
