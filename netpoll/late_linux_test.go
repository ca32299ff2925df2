package netpoll

import (
	"bytes"
	"io"
	"net"
	"testing"

	"sluice/wsproto"
)

// TestLatePongOfASlowReader: a ping waits in the kernel behind what a slow client has yet to read.
// While it reads, it is alive.
func TestLatePongOfASlowReader(t *testing.T) {
	s := serve(t, nil)
	limits := &s.opts.Limits
	c, conn := s.connect()
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	held := func() (n int) {
		s.on(0, func(*Loop) { n = unread(int(conn.fd)) })
		return n
	}
	frame := wsproto.AppendFrame(nil, wsproto.OpText, bytes.Repeat([]byte("x"), 1000))
	sent := 0
	for held() == 0 {
		s.on(0, func(*Loop) { conn.Send(frame) })
		sent += len(frame)
	}
	pinged := func() (is bool) {
		s.on(0, func(*Loop) { is = conn.flags&flagPinged != 0 })
		return is
	}
	for !pinged() {
		s.advance(tick)
	}
	for range 3 {
		before := uint64(0)
		s.on(0, func(*Loop) { before = acknowledged(int(conn.fd)) })
		s.advance(limits.PongTimeout)
		if n := s.m.PingLost.Load(); n != 0 || !pinged() {
			t.Fatalf("given up %d times, pinged %v", n, pinged())
		}
		// It reads until the kernel may send more, and more is there for the next round.
		s.until("the client reads", func() bool {
			if _, err := io.ReadFull(c.Conn, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			after := uint64(0)
			s.on(0, func(*Loop) { conn.Send(frame); after = acknowledged(int(conn.fd)) })
			return after > before
		})
	}
	s.advance(limits.PongTimeout)
	if n := s.m.PingLost.Load(); n != 0 {
		t.Fatalf("given up %d times", n)
	}
	s.advance(limits.PongTimeout)
	s.wantClosed(CloseAbnormal)
	if n := s.m.PingLost.Load(); n != 1 {
		t.Errorf("given up %d times after it has stopped reading, want once", n)
	}
}
