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
	for held() < 256<<10 { // more than the client's kernel takes
		s.on(0, func(*Loop) { conn.Send(frame) })
	}
	pinged := func() (is bool) {
		s.on(0, func(*Loop) { is = conn.flags&flagPinged != 0 })
		return is
	}
	for !pinged() {
		s.advance(tick)
	}
	// judged advances to the deadline and returns what the client had acknowledged then.
	last := uint64(0)
	judged := func() {
		t.Helper()
		s.advance(limits.PongTimeout)
		s.until("the late pong is judged", func() (done bool) {
			s.on(0, func(l *Loop) {
				if acked, ok := l.acked[conn.slot]; ok && acked != last {
					last, done = acked, true
				}
			})
			return done || s.m.PingLost.Load() > 0
		})
		if n := s.m.PingLost.Load(); n != 0 {
			t.Fatalf("a client that reads is given up")
		}
	}
	for range 3 {
		judged()
		s.until("the client reads", func() bool {
			if _, err := io.ReadFull(c.Conn, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			after := uint64(0)
			s.on(0, func(*Loop) { conn.Send(frame); after = acknowledged(int(conn.fd)) })
			return after > last
		})
	}
	judged()
	for s.m.PingLost.Load() == 0 { // what is in flight may still be acknowledged
		s.advance(limits.PongTimeout)
	}
	s.wantClosed(CloseAbnormal, CausePing)
}
