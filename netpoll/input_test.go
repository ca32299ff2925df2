package netpoll

import (
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/wsproto"
)

func TestUpgradeInSingleBytes(t *testing.T) {
	s := serve(t, nil)
	c := dial(t, s.Addr())
	for _, b := range []byte(upgradeHead("/ws", "bytes")) {
		c.send([]byte{b})
	}
	c.upgraded()
	if got := s.session(await(t, s.h.opened, "Open")); got != "bytes" {
		t.Errorf("header seen by Open: %q", got)
	}
	for _, b := range masked(wsproto.OpText, "héllo") {
		c.send([]byte{b})
	}
	c.wantText("héllo")
}

func TestFramesBehindTheHead(t *testing.T) {
	s := serve(t, func(_ *Options, h *testHandler) {
		h.onOpen = func(c *Conn, _ *wsproto.Head) { c.Send(wsproto.AppendFrame(nil, wsproto.OpText, []byte("welcome"))) }
	})
	c := dial(t, s.Addr())
	b := []byte(upgradeHead("/ws?x=1", ""))
	for _, m := range []string{"one", "", "three"} {
		b = append(b, masked(wsproto.OpText, m)...)
	}
	half := masked(wsproto.OpText, "four")
	c.send(append(b, half[:3]...))
	c.upgraded()
	for _, m := range []string{"welcome", "one", "", "three"} {
		c.wantText(m)
	}
	s.sync() // counts are published when the iteration has ended
	if n := s.m.Writes.Load(); n != 1 {
		t.Errorf("%d writes for one iteration", n)
	}
	c.send(half[3:])
	c.wantText("four")
}

func TestHeadLimits(t *testing.T) {
	for _, tc := range []struct {
		name, head string
		status     int
		refused    func(m *Metrics) uint64
	}{
		{"too large", "GET /ws HTTP/1.1\r\nX: " + repeat("x", wsproto.DefaultMaxHead), 431, func(m *Metrics) uint64 { return m.RefusedHead.Load() }},
		{"malformed", "GET /ws\r\n\r\n", 400, func(m *Metrics) uint64 { return m.RefusedHead.Load() }},
		{"version", strings.Replace(upgradeHead("/ws", ""), ": 13", ": 12", 1), 426, func(m *Metrics) uint64 { return m.RefusedUpgrade.Load() }},
		{"key", strings.Replace(upgradeHead("/ws", ""), key, "short", 1), 400, func(m *Metrics) uint64 { return m.RefusedUpgrade.Load() }},
		{"not WebSocket, no HTTP server", "GET /page HTTP/1.1\r\nHost: x\r\n\r\n", 404, nil},
		{"other path", upgradeHead("/else", ""), 404, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, nil)
			c := dial(t, s.Addr())
			c.send([]byte(tc.head))
			if code, _ := c.status(); code != tc.status {
				t.Errorf("status %d, want %d", code, tc.status)
			}
			_ = c.Conn.(*net.TCPConn).CloseWrite()
			s.until("the connection is gone", func() bool { return s.m.OpenAll.Load() == 0 })
			if tc.refused != nil && tc.refused(s.m) != 1 {
				t.Error("not counted")
			}
		})
	}
}

func TestRefusedByTheHandler(t *testing.T) {
	s := serve(t, func(_ *Options, h *testHandler) { h.refuse = 403 })
	c := dial(t, s.Addr())
	c.send([]byte(upgradeHead("/ws", "")))
	if code, _ := c.status(); code != 403 {
		t.Errorf("status %d, want 403", code)
	}
	if len(s.h.opened) > 0 || s.m.Upgraded.Load() > 0 {
		t.Error("opened all the same")
	}
}

func TestHeadTimeout(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) { o.Limits.HeadTimeout = 3 * time.Second })
	silent, slow := dial(t, s.Addr()), dial(t, s.Addr())
	slow.send([]byte("GET /ws HT"))
	s.until("both are there", func() bool { return s.m.Accepted.Load() == 2 && s.m.BytesIn.Load() == 10 })
	s.advance(2900 * time.Millisecond)
	s.sync()
	if n := s.m.OpenAll.Load(); n != 2 {
		t.Fatalf("%d connections before the time limit, want 2", n)
	}
	s.advance(100 * time.Millisecond)
	silent.wantEOF()
	if code, _ := slow.status(); code != 408 {
		t.Errorf("status %d, want 408", code)
	}
	if n := s.m.RefusedTimeout.Load(); n != 2 {
		t.Errorf("%d time-outs counted, want 2", n)
	}
}

// TestFragmentsOverManyReads sends messages of every size class, whole and in fragments with pings
// between them, in pieces of random length.
func TestFragmentsOverManyReads(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := serve(t, nil)
	c, _ := s.connect()
	var in []byte
	var want []string
	for i := range 60 {
		m := strings.Repeat(string(rune('a'+i%26))+"ö", rnd.IntN(1<<rnd.IntN(16)))
		want = append(want, m)
		op := wsproto.OpText
		for rnd.IntN(3) > 0 && len(m) > 0 {
			n := rnd.IntN(len(m))
			in = wsproto.AppendMaskedFrame(in, false, op, []byte(m[:n]), [4]byte{byte(n), 7, 8, 9})
			in = append(in, masked(wsproto.OpPing, "between")...)
			m, op = m[n:], wsproto.OpContinuation
		}
		in = wsproto.AppendMaskedFrame(in, true, op, []byte(m), [4]byte{byte(i), 1, 0, 3})
	}
	go func() {
		for len(in) > 0 {
			n := min(1+rnd.IntN(1<<rnd.IntN(17)), len(in))
			if _, err := c.Write(in[:n]); err != nil {
				return
			}
			in = in[n:]
		}
	}()
	for i, w := range want {
		op, got := c.frame()
		for op == wsproto.OpPong {
			if string(got) != "between" {
				t.Fatalf("pong with %q", got)
			}
			op, got = c.frame()
		}
		if op != wsproto.OpText || string(got) != w {
			t.Fatalf("message %d: got %d bytes, want %d", i, len(got), len(w))
		}
	}
	s.on(0, func(l *Loop) {
		for _, slot := range l.table.slots {
			if slot.conn != nil && !slot.conn.in.empty() {
				t.Error("a buffer is kept though no message is incomplete")
			}
		}
	})
}

// TestLargeMessage receives a message of the very limit.
func TestLargeMessage(t *testing.T) {
	s := serve(t, func(o *Options, _ *testHandler) { o.Limits.MaxMessage, o.Limits.PingInterval = 3<<20, -1 })
	c, _ := s.connect()
	m := repeat("x", 3<<20)
	go func() { _, _ = c.Write(masked(wsproto.OpText, m)) }()
	s.passing(func() { c.wantText(m) }) // the echo is more than the socket takes at once
}
