package netpoll

import (
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"sluice/wsproto"
)

// emptyTables is four blocks of deflate with Huffman tables and no content.
const emptyTables = "04c081000000000090ff6b100007020000000040feaf41001c080000000000f9bf060170200000000000e4ff1a"

// paused returns a server that pauses a client after each message "stop", and the messages that it
// receives.
func paused(t *testing.T, change func(h *testHandler)) (s *server, got chan string) {
	got = make(chan string, 1<<16)
	s = serve(t, func(o *Options, h *testHandler) {
		h.message = func(c *Conn, b []byte) {
			got <- string(b)
			if string(b) == "stop" {
				c.Pause()
			}
		}
		if change != nil {
			change(h)
		}
	})
	return s, got
}

func wantMessages(t *testing.T, got chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		if m := await(t, got, "a message"); m != w {
			t.Fatalf("got %.40q, want %.40q", m, w)
		}
	}
}

func (s *server) wantNoMessage(got chan string) {
	s.t.Helper()
	s.sync()
	s.sync()
	select {
	case m := <-got:
		s.t.Fatalf("got %.40q while paused", m)
	default:
	}
}

func TestPause(t *testing.T) {
	s, got := paused(t, nil)
	c, conn := s.connect()
	var all []byte
	for _, m := range []string{"1", "stop", "2", "3", "stop", "4"} {
		all = append(all, masked(wsproto.OpText, m)...)
	}
	c.send(all[:len(all)-3])
	wantMessages(t, got, "1", "stop")
	s.wantNoMessage(got)
	if n := s.m.Paused.Load(); n != 1 {
		t.Fatalf("%d paused", n)
	}
	c.send(all[len(all)-3:])
	s.wantNoMessage(got)
	s.on(0, func(*Loop) { conn.Resume() })
	wantMessages(t, got, "2", "3", "stop")
	s.wantNoMessage(got)
	s.on(0, func(*Loop) { conn.Resume() })
	wantMessages(t, got, "4")
	c.text("5")
	wantMessages(t, got, "5")
	if n := s.m.Paused.Load(); n != 0 {
		t.Fatalf("%d paused", n)
	}
}

// TestPauseStopsReading: a paused client has to wait, and what is kept of it is bounded.
func TestPauseStopsReading(t *testing.T) {
	s, got := paused(t, nil)
	if s.inGnet() {
		return // every socket is read there
	}
	c, conn := s.connect()
	c.text("stop")
	wantMessages(t, got, "stop")
	const n = 3000
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range n {
			if _, err := c.Write(masked(wsproto.OpText, fmt.Sprintf("%d %s", i, repeat("x", 10000)))); err != nil {
				return
			}
		}
	}()
	s.until("it is not read any more", func() (paused bool) {
		s.on(0, func(*Loop) { paused = conn.readPaused })
		return paused
	})
	in := s.m.BytesIn.Load()
	for range 50 {
		s.sync()
	}
	s.on(0, func(*Loop) {
		if kept := len(conn.in.bytes()); kept > 3*readSize || s.m.BytesIn.Load() != in {
			t.Errorf("%d bytes are kept, %d more were read", kept, s.m.BytesIn.Load()-in)
		}
	})
	// It is silent, but not gone.
	s.advance(4 * s.opts.Limits.PingInterval)
	if lost := s.m.PingLost.Load(); lost > 0 {
		t.Fatal("it was given up")
	}
	s.on(0, func(*Loop) { conn.Resume() })
	for i := range n {
		if m := await(t, got, "a message"); !strings.HasPrefix(m, fmt.Sprint(i, " ")) {
			t.Fatalf("message %d is %.20q", i, m)
		}
	}
	await(t, sent, "the end of the sender")
}

// TestPausesDoNotAddUp: what is kept of a client that is paused again and again stays bounded, so
// it is not closed for sending too much.
func TestPausesDoNotAddUp(t *testing.T) {
	s, got := paused(t, func(h *testHandler) {
		echo := h.message
		h.message = func(c *Conn, b []byte) { echo(c, b[:4]); c.Pause() }
	})
	if s.inGnet() {
		return // every socket is read there
	}
	c, conn := s.connect()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for {
			if _, err := c.Write(masked(wsproto.OpText, "more"+repeat("x", 10000))); err != nil {
				return
			}
		}
	}()
	for range 100 {
		wantMessages(t, got, "more")
		s.until("it is not read any more", func() (paused bool) {
			s.on(0, func(*Loop) {
				if paused = conn.readPaused; paused && len(conn.in.bytes()) > 4*readSize {
					t.Errorf("%d bytes are kept", len(conn.in.bytes()))
				}
				if paused {
					conn.Resume()
				}
			})
			return paused || t.Failed()
		})
	}
	c.reset()
	await(t, sent, "the end of the sender")
}

// TestPausedEnd: the end of a paused connection is noticed, from either side.
func TestPausedEnd(t *testing.T) {
	s, got := paused(t, nil)
	c, conn := s.connect()
	c.send(append(masked(wsproto.OpText, "stop"), masked(wsproto.OpText, "more")...))
	wantMessages(t, got, "stop")
	c.text("even more")
	s.on(0, func(*Loop) { conn.Close(wsproto.CloseGoingAway, "") })
	c.wantClose(wsproto.CloseGoingAway)
	c.send(closeFrame(wsproto.CloseGoingAway))
	c.wantEOF()
	s.wantClosed(wsproto.CloseGoingAway, CauseClient)
	if s.inGnet() {
		return
	}

	c, conn = s.connect()
	c.text("stop")
	wantMessages(t, got, "stop")
	c.text("more")
	s.until("it is not read any more", func() (paused bool) {
		s.on(0, func(*Loop) { paused = conn.readPaused })
		return paused
	})
	_ = c.Conn.(interface{ SetLinger(int) error }).SetLinger(0)
	_ = c.Close()
	await(t, s.h.closed, "Closed")
	s.on(0, func(*Loop) { conn.Resume() }) // the client has closed
	if n := s.m.Paused.Load(); n != 0 {
		t.Fatalf("%d paused", n)
	}
}

func TestPauseTLS(t *testing.T) {
	got := make(chan string, 1<<12)
	s := serveTLS(t, func(_ *Options, h *testHandler) {
		h.message = func(c *Conn, b []byte) {
			if got <- string(b); string(b) == "stop" {
				c.Pause()
			}
		}
	})
	c, _, conn := s.connectTLS(clientTLS(tls.VersionTLS13))
	c.text("stop")
	wantMessages(t, got, "stop")
	for i := range 1000 {
		c.text(fmt.Sprint(i))
	}
	s.wantNoMessage(got)
	s.on(0, func(*Loop) { conn.Resume() })
	for i := range 1000 {
		wantMessages(t, got, fmt.Sprint(i))
	}
}

// TestShare: a client that sends very many messages does not keep the loop from others.
func TestShare(t *testing.T) {
	iterations := 0
	var at []int
	done := make(chan struct{})
	s := serve(t, func(_ *Options, h *testHandler) {
		h.onIterate = func(*Loop) { iterations++ }
		h.message = func(_ *Conn, b []byte) {
			if at = append(at, iterations); string(b) == "end" {
				close(done)
			}
		}
	})
	c, _ := s.connect()
	var all []byte
	for range 5 * frameQuota {
		all = append(all, masked(wsproto.OpText, "m")...)
	}
	c.send(append(all, masked(wsproto.OpText, "end")...))
	await(t, done, "the last message")
	s.on(0, func(*Loop) {
		count := map[int]int{}
		for _, i := range at {
			if count[i]++; count[i] > 2*frameQuota { // what was kept, and a read
				t.Fatalf("%d messages in an iteration", count[i])
			}
		}
		if len(at) != 5*frameQuota+1 {
			t.Fatalf("%d messages", len(at))
		}
	})
	if s.m.Yields.Load() == 0 {
		t.Fatal("it never yielded")
	}
}

// packedFrame is a compressed message of a client.
func packedFrame(packed []byte) []byte {
	f := wsproto.AppendMaskedFrame(nil, true, wsproto.OpText, packed, [4]byte{1, 2, 3, 4})
	f[0] |= 0x40
	return f
}

// deflated is a client's compressed message with a text of kilobytes.
func deflated(text string) []byte {
	f := wsproto.AppendDeflated(nil, wsproto.OpText, []byte(text))
	if f[0]&0x40 == 0 {
		return masked(wsproto.OpText, text) // it did not pay
	}
	return packedFrame(f[4:]) // behind a header with a length of two bytes
}

// deflating is paused for clients that compress.
func deflating(t *testing.T) (s *server, got chan string) {
	return paused(t, func(h *testHandler) {
		h.upgrade = func(c *Conn, _ *wsproto.Head) { c.EnableDeflate() }
	})
}

// TestInflateElsewhere: long compressed messages are inflated off the loop, and keep their place.
func TestInflateElsewhere(t *testing.T) {
	s, got := deflating(t)
	c, _ := s.connect()
	var want []string
	var all []byte
	for i := range 20 {
		var b strings.Builder
		for j := range 3000 {
			fmt.Fprintf(&b, "%d,", (i+7)*j*j%100003)
		}
		want = append(want, b.String(), fmt.Sprint(i))
		all = append(all, deflated(b.String())...)
		all = append(all, masked(wsproto.OpText, fmt.Sprint(i))...)
	}
	c.send(all)
	wantMessages(t, got, want...)
	if n := s.m.Inflated.Load(); n < 15 {
		t.Errorf("%d were inflated off the loop", n)
	}
}

// TestInflateEmptyTables: what costs time and gives no text is refused.
func TestInflateEmptyTables(t *testing.T) {
	s, got := deflating(t)
	c, _ := s.connect()
	tables, err := hex.DecodeString(emptyTables)
	if err != nil {
		t.Fatal(err)
	}
	packed := []byte(strings.Repeat(string(tables), 1<<20/len(tables)))
	c.send(append(packedFrame(append(packed, 0)), masked(wsproto.OpText, "more")...))
	c.wantClose(wsproto.CloseInvalidPayload)
	s.wantNoMessage(got)

	// A client that closes during the work leaves nothing behind.
	c, conn := s.connect()
	c.send(packedFrame(append(packed, 0)))
	s.on(0, func(*Loop) { conn.Close(wsproto.CloseGoingAway, "") })
	c.wantClose(wsproto.CloseGoingAway)
}
