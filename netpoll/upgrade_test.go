package netpoll

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/wsproto"
)

// servePending starts a server that leaves every upgrade pending, and announces each.
func servePending(t *testing.T, change func(o *Options, h *testHandler)) (*server, chan *Conn) {
	t.Helper()
	asked := make(chan *Conn, 16)
	s := serve(t, func(o *Options, h *testHandler) {
		h.refuse = Pending
		h.upgrade = func(c *Conn, _ *wsproto.Head) { asked <- c }
		if change != nil {
			change(o, h)
		}
	})
	return s, asked
}

// ask has a client ask for a WebSocket, with early bytes after the handshake, and returns both
// sides.
func ask(t *testing.T, s *server, asked chan *Conn, early ...byte) (*client, *Conn) {
	t.Helper()
	c := dial(t, s.Addr())
	c.send(append([]byte(upgradeHead("/ws", "late")), early...))
	return c, await(t, asked, "Upgrade")
}

func (s *server) wantPending(want int64) {
	s.t.Helper()
	s.sync()
	if n := s.m.Pending.Load(); n != want {
		s.t.Errorf("%d upgrades are counted as pending, want %d", n, want)
	}
}

// wantGone waits for Closed, and checks that nothing is left and that Closed comes once.
func (s *server) wantGone(want *Conn) {
	s.t.Helper()
	if c := await(s.t, s.h.closed, "Closed"); c != want {
		s.t.Error("Closed was called for another connection")
	}
	s.wantPending(0)
	if n := s.m.OpenAll.Load() + s.m.Open.Load() + s.m.OpenStreams.Load(); n != 0 {
		s.t.Errorf("%d connections are left", n)
	}
	if len(s.h.closed) > 0 {
		s.t.Error("Closed was called twice")
	}
	s.on(0, func(l *Loop) {
		if l.held != 0 || l.table.used != 0 || len(l.proxied) != 0 {
			s.t.Errorf("the loop keeps %d, %d, %d", l.held, l.table.used, len(l.proxied))
		}
	})
}

func field(line string) func([]byte) []byte {
	return func(dst []byte) []byte { return append(dst, line+"\r\n"...) }
}

// TestAcceptLater: what a client sends while its upgrade is pending is handled after the response,
// in order.
func TestAcceptLater(t *testing.T) {
	early := append(masked(wsproto.OpText, "one"), masked(wsproto.OpText, "two")...)
	for _, sent := range []int{0, 3, len(early) / 2, len(early)} {
		for _, more := range []bool{false, true} {
			s, asked := servePending(t, func(_ *Options, h *testHandler) {
				h.onOpen = func(c *Conn, _ *wsproto.Head) {
					c.Send(wsproto.AppendFrame(nil, wsproto.OpText, []byte("welcome")))
				}
			})
			c, sc := ask(t, s, asked, early[:sent]...)
			rest := early[sent:]
			if more {
				before := s.m.BytesIn.Load()
				c.send(rest)
				want := before + uint64(len(rest))
				rest = nil
				s.until("the bytes are there", func() bool { return s.m.BytesIn.Load() >= want })
			}
			s.wantPending(1)
			s.on(0, func(l *Loop) {
				if l.Conn(sc.Handle()) != sc || !sc.Closing() || sc.RemoteAddr() != c.LocalAddr().String() {
					t.Error("a pending connection is not found, or takes what is sent")
				}
				sc.Send([]byte("nobody hears it"))
				sc.Finish()
				sc.Accept(field("Set-Cookie: a=b"))
				if sc.Closing() || len(s.h.opened) != 1 {
					t.Error("Accept has not opened it")
				}
				sc.Accept(nil)
				sc.Refuse(500, "", "")
			})
			code, head := c.status()
			if code != 101 || strings.Count(head, "Set-Cookie: a=b\r\n") != 1 || !strings.Contains(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
				t.Fatalf("answer %q", head)
			}
			if got := s.session(await(t, s.h.opened, "Open")); got != "late" {
				t.Errorf("header seen by Open: %q", got)
			}
			c.wantText("welcome")
			c.send(rest)
			c.wantText("one")
			c.wantText("two")
			s.wantPending(0)
			if n := s.m.Open.Load(); n != 1 || s.m.Messages.Load() != 2 {
				t.Errorf("%d open, %d messages", n, s.m.Messages.Load())
			}
			s.on(0, func(*Loop) {
				if !sc.in.empty() {
					t.Error("input is kept")
				}
			})
			c.send(closeFrame(1000))
			c.wantClose(1000)
			c.wantEOF()
			s.wantGone(sc)
		}
	}
}

// TestAcceptedAndGone: messages that were sent early are handled although the client has closed.
func TestAcceptedAndGone(t *testing.T) {
	messages := make(chan string, 2)
	s, asked := servePending(t, func(_ *Options, h *testHandler) {
		h.message = func(_ *Conn, b []byte) { messages <- string(b) }
	})
	c, sc := ask(t, s, asked, masked(wsproto.OpText, "bye")...)
	s.on(0, func(*Loop) {
		_ = c.Close()
		sc.Accept(nil)
	})
	if got := await(t, messages, "the message"); got != "bye" {
		t.Errorf("got %q", got)
	}
	s.wantGone(sc)
}

// TestDecidedWhileAsked: a Handler that knows at once can say more than a status.
func TestDecidedWhileAsked(t *testing.T) {
	s := serve(t, func(_ *Options, h *testHandler) {
		h.refuse = Pending
		h.upgrade = func(c *Conn, head *wsproto.Head) {
			if string(head.Get("X-Name")) == "no" {
				c.Refuse(403, "X-Why: because\r\n", "go away")
				c.Accept(nil)
				return
			}
			c.Accept(field("X-Extra: yes"))
			c.Refuse(500, "", "")
			if !c.Closing() {
				t.Error("open before Upgrade has returned")
			}
		}
	})
	c := dial(t, s.Addr())
	c.send(append([]byte(upgradeHead("/ws", "yes")), masked(wsproto.OpText, "early")...))
	if code, head := c.status(); code != 101 || !strings.Contains(head, "X-Extra: yes\r\n") {
		t.Errorf("answer %q", head)
	}
	c.wantText("early")
	await(t, s.h.opened, "Open")
	_ = c.Close()
	await(t, s.h.closed, "Closed")
	c = dial(t, s.Addr())
	c.send([]byte(upgradeHead("/ws", "no")))
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(r.Body)
	if r.StatusCode != 403 || r.Header.Get("X-Why") != "because" || string(body) != "go away" || !r.Close {
		t.Errorf("answer %v %q", r, body)
	}
	c.wantEOF()
	_ = c.Close()
	await(t, s.h.closed, "Closed")
	s.wantPending(0)
	if n := s.m.RefusedUpgrade.Load(); n != 1 {
		t.Errorf("%d refusals counted, want 1", n)
	}
	if len(s.h.opened)+len(s.h.closed) > 0 {
		t.Error("opened or closed once too often")
	}
}

// TestAcceptDuringAnotherUpgrade: the head of the one must not be taken for the other's.
func TestAcceptDuringAnotherUpgrade(t *testing.T) {
	var first *Conn
	asked := make(chan *Conn, 1)
	s := serve(t, func(_ *Options, h *testHandler) {
		h.refuse = Pending
		h.upgrade = func(c *Conn, head *wsproto.Head) {
			if first == nil {
				first = c
				asked <- c
				return
			}
			first.Accept(nil)
			if got := string(head.Get("X-Name")); got != "second" {
				t.Errorf("the head under judgement says %q", got)
			}
			c.Accept(field("X-Is: second"))
		}
	})
	c, _ := ask(t, s, asked)
	d := dial(t, s.Addr())
	d.send([]byte(upgradeHead("/ws", "second")))
	c.upgraded()
	if code, head := d.status(); code != 101 || !strings.Contains(head, "X-Is: second\r\n") {
		t.Errorf("answer %q", head)
	}
	for _, want := range []string{"late", "second"} {
		if got := s.session(await(t, s.h.opened, "Open")); got != want {
			t.Errorf("opened %q, want %q", got, want)
		}
	}
}

func TestRefuseLater(t *testing.T) {
	for _, tc := range []struct {
		status                           int
		header, body, contentType, other string
	}{
		{401, "", "who are you\n", "text/plain; charset=utf-8", ""},
		{307, "Location: /elsewhere\r\n", "", "", "/elsewhere"},
		{500, "content-TYPE: application/json\r\nLocation: x\r\n", "{}", "application/json", "x"},
	} {
		s, asked := servePending(t, nil)
		c, sc := ask(t, s, asked, masked(wsproto.OpText, "early")...)
		s.on(0, func(l *Loop) {
			sc.Refuse(tc.status, tc.header, tc.body)
			sc.Accept(nil)
			if l.Conn(sc.Handle()) != nil {
				t.Error("a refused connection is still found")
			}
		})
		r, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		if r.StatusCode != tc.status || string(body) != tc.body || err != nil || !r.Close ||
			strings.Join(r.Header["Content-Type"], "|") != tc.contentType || r.Header.Get("Location") != tc.other {
			t.Errorf("answer %v %q %v", r, body, err)
		}
		c.wantEOF()
		_ = c.Close()
		s.wantGone(sc)
		if n := s.m.RefusedUpgrade.Load(); n != 1 || len(s.h.opened) > 0 {
			t.Errorf("%d refusals counted, %d opened", n, len(s.h.opened))
		}
	}
}

// TestPendingEnds: all the ways in which a pending upgrade comes to nothing without the Handler's
// doing. What the Handler decides afterwards changes nothing.
func TestPendingEnds(t *testing.T) {
	for _, tc := range []struct {
		name   string
		end    func(s *server, c *client, sc *Conn)
		status int // 0: no answer
		count  func(m *Metrics) uint64
	}{
		{"head timeout", func(s *server, _ *client, _ *Conn) { s.advance(11 * time.Second) }, 503,
			func(m *Metrics) uint64 { return m.RefusedTimeout.Load() }},
		{"client gone", func(s *server, c *client, _ *Conn) {
			c.reset()
			s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
		}, 0, nil},
		{"too much input", func(_ *server, c *client, _ *Conn) { c.send(make([]byte, 600+maxPipelined)) }, 400,
			func(m *Metrics) uint64 { return m.RefusedUpgrade.Load() }},
		{"Close", func(s *server, _ *client, sc *Conn) { s.on(0, func(*Loop) { sc.Close(1012, "") }) }, 503,
			func(m *Metrics) uint64 { return m.RefusedUpgrade.Load() }},
		{"CloseAll", func(s *server, _ *client, _ *Conn) { s.on(0, func(l *Loop) { l.CloseAll(CauseNATS, 1012, "") }) }, 503,
			func(m *Metrics) uint64 { return m.RefusedUpgrade.Load() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, asked := servePending(t, func(o *Options, _ *testHandler) { o.Limits.MaxHead = 500 })
			c, sc := ask(t, s, asked)
			tc.end(s, c, sc)
			if tc.status != 0 {
				if code, head := c.status(); code != tc.status {
					t.Errorf("answer %q, want %d", head, tc.status)
				}
			}
			s.on(0, func(*Loop) { sc.Accept(nil); sc.Refuse(500, "", "") })
			_ = c.Close()
			s.wantGone(sc)
			if tc.count != nil && tc.count(s.m) != 1 {
				t.Errorf("counted %d times", tc.count(s.m))
			}
			if len(s.h.opened) > 0 {
				t.Error("opened")
			}
		})
	}
}

// TestTooMuchAtOnce: the bound on early input holds for what comes with the head, too.
func TestTooMuchAtOnce(t *testing.T) {
	s, asked := servePending(t, func(o *Options, _ *testHandler) { o.Limits.MaxHead = 500 })
	c, sc := ask(t, s, asked, make([]byte, 600+maxPipelined)...)
	if code, head := c.status(); code != 400 {
		t.Errorf("answer %q", head)
	}
	_ = c.Close()
	s.wantGone(sc)
}

// TestStopWhilePending: Stop rejects pending upgrades and waits for Handler.Closed.
func TestStopWhilePending(t *testing.T) {
	s, asked := servePending(t, func(o *Options, _ *testHandler) { o.Limits.DrainWindow = -1 })
	c, sc := ask(t, s, asked)
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	if code, _ := c.status(); code != 503 {
		t.Errorf("status %d, want 503", code)
	}
	_ = c.Close()
	if got := await(t, s.h.closed, "Closed"); got != sc {
		t.Error("another connection was closed")
	}
	if err := await(t, stopped, "Stop"); err != nil {
		t.Error(err)
	}
	if s.m.RefusedDrain.Load() != 1 || s.m.Pending.Load() != 0 {
		t.Errorf("%d refused, %d pending", s.m.RefusedDrain.Load(), s.m.Pending.Load())
	}
}

// TestPendingDeflate: compression that was agreed on before the decision holds after it.
func TestPendingDeflate(t *testing.T) {
	answer := make(chan string, 1)
	asked := make(chan *Conn, 1)
	s := serve(t, func(_ *Options, h *testHandler) {
		h.refuse = Pending
		h.upgrade = func(c *Conn, head *wsproto.Head) {
			answer <- wsproto.NegotiateDeflate(head)
			c.EnableDeflate()
			asked <- c
		}
	})
	c := dial(t, s.Addr())
	head := strings.TrimSuffix(upgradeHead("/ws", ""), "\r\n") + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
	text := repeat("compressible ", 50)
	deflated := wsproto.AppendDeflated(nil, wsproto.OpText, []byte(text)) // with a header of two bytes
	message := masked(wsproto.OpText, string(deflated[2:]))
	message[0] = deflated[0]
	c.send(append([]byte(head), message...))
	line := await(t, answer, "the negotiation")
	sc := await(t, asked, "Upgrade")
	s.on(0, func(*Loop) { sc.Accept(func(dst []byte) []byte { return append(dst, line...) }) })
	if code, got := c.status(); code != 101 || !strings.Contains(got, "Sec-WebSocket-Extensions: permessage-deflate") {
		t.Errorf("answer %q", got)
	}
	c.wantText(text)
}

// TestAdoptPending: an upgrade that came by way of net/http can be left pending as well.
func TestAdoptPending(t *testing.T) {
	s, asked := servePending(t, nil)
	near, raw := tcpPair(t)
	c := &client{near, t, bufio.NewReader(near)}
	if err := s.Adopt(raw, append([]byte(upgradeHead("/ws", "adopted")), masked(wsproto.OpText, "early")...)); err != nil {
		t.Fatal(err)
	}
	sc := await(t, asked, "Upgrade")
	s.on(0, func(*Loop) { sc.Accept(nil) })
	c.upgraded()
	c.wantText("early")
}
