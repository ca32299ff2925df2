package netpoll

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/wsproto"
)

// bothKinds runs a test in plaintext and inside TLS, where the end of the client's input is
// close_notify and FIN.
func bothKinds(t *testing.T, test func(t *testing.T, change func(o *Options, h *testHandler), connect func(s *server) *client)) {
	t.Run("plain", func(t *testing.T) {
		test(t, func(*Options, *testHandler) {}, func(s *server) *client { return dial(t, s.Addr()) })
	})
	t.Run("TLS", func(t *testing.T) {
		test(t, withTLS(nil), func(s *server) *client {
			done := s.m.TLSDone.Load()
			c, _ := dialTLS(t, s.Addr(), clientTLS(tls.VersionTLS13))
			s.until("the server is done, too", func() bool { return s.m.TLSDone.Load() > done })
			return c
		})
	})
	t.Run("TLS, FIN only", func(t *testing.T) {
		test(t, withTLS(nil), func(s *server) *client {
			c, secure := dialTLS(t, s.Addr(), clientTLS(tls.VersionTLS12))
			c.Conn = finOnly{secure}
			return c
		})
	})
}

// finOnly shuts the socket down without close_notify.
type finOnly struct{ *tls.Conn }

func (f finOnly) CloseWrite() error {
	return f.NetConn().(interface{ CloseWrite() error }).CloseWrite()
}

// TestHalfClosedRequest: a client that shuts its side down behind its requests gets all responses,
// then the end.
func TestHalfClosedRequest(t *testing.T) {
	bothKinds(t, func(t *testing.T, change func(o *Options, h *testHandler), connect func(s *server) *client) {
		s, asked := serveRequests(t, change)
		for _, tc := range []struct {
			requests string
			want     []string
		}{
			{"GET /now HTTP/1.1\r\nHost: x\r\n\r\n", []string{"GET /now 0 "}},
			{"GET /later HTTP/1.1\r\nHost: x\r\n\r\n", []string{"GET /later 0 "}},
			{"POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", []string{"POST /later 3 abc"}},
			{"GET /later HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", []string{"GET /later 0 "}},
			{"GET /later/1 HTTP/1.1\r\nHost: x\r\n\r\nGET /later/2 HTTP/1.1\r\nHost: x\r\n\r\nGET /now/3 HTTP/1.1\r\nHost: x\r\n\r\n",
				[]string{"GET /later/1 0 ", "GET /later/2 0 ", "GET /now/3 0 "}},
			{"GET /http HTTP/1.1\r\nHost: x\r\n\r\n", []string{"GET /http 0 "}},
			{"GET /http HTTP/1.0\r\n\r\n", []string{"GET /http 0 "}},
			{"POST /http HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", []string{"POST /http 2 ab"}},
			{"GET /later/1 HTTP/1.1\r\nHost: x\r\n\r\nGET /http HTTP/1.1\r\nHost: x\r\n\r\n", []string{"GET /later/1 0 ", "GET /http 0 "}},
		} {
			c := connect(s)
			c.send([]byte(tc.requests))
			c.half()
			for _, want := range tc.want {
				if strings.Contains(want, "/later") {
					x := await(t, asked, "Request")
					s.sync() // its input may have ended meanwhile, or will
					s.answer(x)
				} else if strings.Contains(want, "/now") {
					await(t, asked, "Request")
				}
				c.wantResponse(want)
			}
			c.wantEOF()
			s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
		}
		// net/http may be done with a connection before the loop has reaped its side.
		s.until("the loop has reaped it", func() (reaped bool) {
			s.on(0, func(l *Loop) { reaped = l.held == 0 && len(l.half.conns) == 0 && len(l.proxied) == 0 })
			return reaped
		})
		if s.m.HalfClosed.Load() == 0 {
			t.Error("not counted")
		}
	})
}

// TestHalfClosedAfterAsked: the input ends while the Handler owes the response, which then says
// that it is the last.
func TestHalfClosedAfterAsked(t *testing.T) {
	bothKinds(t, func(t *testing.T, change func(o *Options, h *testHandler), connect func(s *server) *client) {
		s, asked := serveRequests(t, change)
		c := connect(s)
		c.send(get("/later"))
		x := await(t, asked, "Request")
		c.half()
		s.until("its input has ended", func() (ended bool) {
			s.on(x.handle.Loop(), func(*Loop) { ended = x.conn.flags&flagEnded != 0 })
			return ended
		})
		s.advance(time.Minute) // nothing but the Handler decides how long it takes
		s.answer(x)
		r, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(r.Body); err != nil || !strings.HasPrefix(string(body), "GET /later 0 ") || !r.Close {
			t.Errorf("%v %q %v", r.Header, body, err)
		}
		c.wantEOF()
	})
}

// TestHalfClosedLarge: a response that does not fit the socket reaches a client that has shut its
// side down.
func TestHalfClosedLarge(t *testing.T) {
	bothKinds(t, func(t *testing.T, change func(o *Options, h *testHandler), connect func(s *server) *client) {
		s, asked := serveRequests(t, change)
		c := connect(s)
		c.send(get("/later"))
		c.half()
		x := await(t, asked, "Request")
		body := []byte(repeat("0123456789abcdef", 512<<10)) // 8 MiB
		s.on(x.handle.Loop(), func(*Loop) {
			x.conn.Respond([]byte("HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"), body, false)
		})
		var got []byte
		s.passing(func() {
			r, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if got, err = io.ReadAll(r.Body); err != nil {
				t.Error(err)
			}
		})
		if string(got) != string(body) {
			t.Errorf("%d bytes, want %d", len(got), len(body))
		}
	})
}

// TestIncompleteRequestThenEnd: a request that cannot become complete is answered.
func TestIncompleteRequestThenEnd(t *testing.T) {
	bothKinds(t, func(t *testing.T, change func(o *Options, h *testHandler), connect func(s *server) *client) {
		s, _ := serveRequests(t, change)
		for _, request := range []string{"GET /la", "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab"} {
			c := connect(s)
			c.send([]byte(request))
			c.half()
			if code, _ := c.status(); code != 400 {
				t.Errorf("%q: status %d", request, code)
			}
		}
		c := connect(s)
		c.half() // not a word
		c.wantEOF()
	})
}

// TestHalfClosedUpgrade: the answer to a handshake is sent, and that is all: a WebSocket needs both
// directions.
func TestHalfClosedUpgrade(t *testing.T) {
	bothKinds(t, func(t *testing.T, change func(o *Options, h *testHandler), connect func(s *server) *client) {
		var pending *Conn
		asked := make(chan *Conn, 1)
		s := serve(t, func(o *Options, h *testHandler) {
			change(o, h)
			h.upgrade = func(c *Conn, head *wsproto.Head) {
				if h.refuse = 0; string(head.Get("X-Name")) == "later" {
					h.refuse = Pending
					asked <- c
				}
			}
		})
		for _, name := range []string{"now", "later", "refused"} {
			c := connect(s)
			if name == "refused" {
				c.send([]byte(upgradeHead("/ws", "later")))
			} else {
				c.send(append([]byte(upgradeHead("/ws", name)), masked(wsproto.OpText, "hello")...))
			}
			c.half()
			if name != "now" {
				pending = await(t, asked, "Upgrade")
				s.sync()
				s.on(pending.loop.index, func(*Loop) {
					if name == "later" {
						pending.Accept(nil)
					} else {
						pending.Refuse(403, "", "no")
					}
				})
			}
			code, _ := c.status()
			if want := map[string]int{"now": 101, "later": 101, "refused": 403}[name]; code != want {
				t.Errorf("%s: status %d, want %d", name, code, want)
			}
			s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
		}
	})
}

// TestHalfClosedStream: a stream goes on until its client resets the connection, which a close does
// as soon as something is sent.
func TestHalfClosedStream(t *testing.T) {
	ended := make(chan *Conn, 1)
	s, begun := serveStreams(t, func(o *Options, _ *testHandler) {
		o.InputEnded = func(c *Conn) { ended <- c; c.Send([]byte(":\n\n")) }
	})
	c, sc := follow(t, s, begun)
	c.half()
	await(t, ended, "InputEnded")
	c.wantBytes(":\n\n")
	s.on(sc.loop.index, func(l *Loop) {
		if l.Conn(sc.Handle()) != sc {
			t.Error("not found any more")
		}
		sc.Send([]byte("data: 1\n\n"))
	})
	c.wantBytes("data: 1\n\n")
	c.reset()
	s.passing(func() { s.wantGone(sc) })

	c, sc = follow(t, s, begun)
	_ = c.Close()
	await(t, ended, "InputEnded")
	s.passing(func() { s.wantGone(sc) })
}

// TestHalfClosedAtStop: what is still owed is cut at the end.
func TestHalfClosedAtStop(t *testing.T) {
	s, asked := serveRequests(t, nil)
	c := dial(t, s.Addr())
	c.send(get("/later"))
	c.half()
	x := await(t, asked, "Request")
	s.until("its input has ended", func() (ended bool) {
		s.on(x.handle.Loop(), func(l *Loop) { ended = len(l.half.conns) == 1 })
		return ended
	})
	s.Close()
	c.wantEOF()
	if got := await(t, s.h.closed, "Closed"); got != x.conn || s.m.OpenAll.Load() != 0 {
		t.Error("another connection, or it is still counted")
	}
}

// TestRejectedBody: a client that sends all of a body before it reads gets the response that came
// early, and no reset.
func TestRejectedBody(t *testing.T) {
	body := make([]byte, 5<<20)
	reject := func(_ *server, w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 {
			_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 1000))
		}
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	}
	bothKinds(t, func(t *testing.T, change func(o *Options, h *testHandler), connect func(s *server) *client) {
		s := serveHTTP(t, change, reject)
		for name, tc := range map[string]struct {
			head string
			want int
		}{
			"length":         {fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(body)), 413},
			"chunked":        {fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", len(body)), 413},
			"expect, anyway": {fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body)), 413},
			"net/http's own": {fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nX: %d\r\n\r\n", len(body)), 501},
			"head":           {fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nBad Name: x\r\n\r\n", len(body)), 400},
		} {
			c := connect(s)
			c.send([]byte(tc.head))
			if _, err := c.Write(body); err != nil {
				t.Errorf("%s: the body cannot be sent: %v", name, err)
			}
			if code, _ := c.status(); code != tc.want {
				t.Errorf("%s: status %d, want %d", name, code, tc.want)
			}
			_ = c.Close()
			s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
		}
		// Who waits for a go-ahead gets the verdict instead.
		c := connect(s)
		c.send([]byte("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n"))
		if code, _ := c.status(); code != 413 {
			t.Errorf("status %d in place of 100", code)
		}
	})
}

// TestLingerIsBounded: a client that goes on sending behind its last response is closed in time.
func TestLingerIsBounded(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) { o.Limits.ReadTimeout = 12 * time.Second })
	bad := []byte("GET / HTTP/1.1\r\nBad Name: x\r\n\r\n")
	lingers := func() int64 { s.sync(); return s.m.OpenAll.Load() }
	c := dial(t, s.Addr())
	c.send(bad)
	if code, _ := c.status(); code != 400 {
		t.Fatal(code)
	}
	for range 2 { // it sends something each 4 s, so only the time in all counts
		s.advance(4 * time.Second)
		before := s.m.BytesIn.Load()
		c.send([]byte("more"))
		s.until("it is read", func() bool { return s.m.BytesIn.Load() > before })
	}
	if n := lingers(); n != 1 {
		t.Fatalf("%d connections", n)
	}
	s.advance(5 * time.Second)
	s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
	if n := s.m.DiscardCut.Load(); n != 1 {
		t.Errorf("%d counted as over the bound in time", n)
	}

	c = dial(t, s.Addr())
	c.send(bad)
	_, _ = c.status()
	s.advance(6 * time.Second) // of silence
	s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
	if n := s.m.DiscardCut.Load(); n != 1 {
		t.Errorf("an idle connection is counted as over a bound")
	}

	c = dial(t, s.Addr())
	c.send(bad)
	_, _ = c.status()
	sent := 0
	for b := make([]byte, 1<<20); sent < 4*maxDiscard; {
		n, err := c.Write(b)
		if sent += n; err != nil {
			break
		}
	}
	if sent < maxDiscard || sent >= 4*maxDiscard {
		t.Errorf("%d bytes were taken", sent)
	}
	s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
	if n := s.m.DiscardCut.Load(); n != 2 {
		t.Errorf("%d counted as over a bound", n)
	}
	s.until("the loop has reaped them", func() (reaped bool) {
		s.on(0, func(l *Loop) { reaped = len(l.lingers) == 0 })
		return reaped
	})
}
