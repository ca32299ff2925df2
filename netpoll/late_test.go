package netpoll

import (
	"strconv"
	"testing"
	"time"

	"sluice/internal/owner"
	"sluice/wsproto"
)

// stopped has the loop stand still while f runs and then for as long as time jumps by d: what f
// sends is in the socket when the loop goes on.
func (s *server) stopped(d time.Duration, f func()) {
	s.t.Helper()
	s.sync()
	s.sync()
	in, out := make(chan struct{}), make(chan struct{})
	s.h.mailbox[0].Put(func(*Loop) { close(in); <-out })
	await(s.t, in, "the loop to stop")
	f()
	s.clock.Advance(d)
	close(out)
	s.sync()
	s.sync()
}

// inGnet reports whether loops wait in gnet, which does not tell what is ready.
func (s *server) inGnet() (yes bool) {
	s.on(0, func(l *Loop) { yes = l.wait.parker.Load() == nil })
	return yes
}

// A process that was stopped for a minute finds all deadlines passed, and what its peers did in
// time unread.
func TestPongsAfterAPause(t *testing.T) {
	s := serve(t, nil)
	limits := &s.opts.Limits
	const n = 300 // more than an iteration reads
	var clients []*client
	for range n {
		c, _ := s.connect()
		clients = append(clients, c)
	}
	mute, _ := s.connect()
	s.advance(limits.PingInterval + limits.PingInterval/64 + tick)
	for _, c := range append(clients, mute) {
		if op, _ := c.frame(); op != wsproto.OpPing {
			t.Fatalf("got %d, want a ping", op)
		}
	}
	read := s.m.BytesIn.Load()
	s.stopped(time.Minute, func() {
		for _, c := range clients {
			c.send(masked(wsproto.OpPong, ""))
		}
	})
	s.until("all is read", func() bool { return s.m.BytesIn.Load() >= read+n*uint64(len(masked(wsproto.OpPong, ""))) })
	s.advance(owner.Grace - tick)
	if lost := s.m.PingLost.Load(); lost > 0 {
		t.Fatalf("%d clients were given up", lost)
	}
	s.advance(tick)
	mute.wantEOF()
	if lost := s.m.PingLost.Load(); lost != 1 {
		t.Fatalf("%d clients were given up, want the one that is mute", lost)
	}
	for _, c := range clients {
		c.text("hi")
		c.wantText("hi")
	}
}

func TestHeadAfterAPause(t *testing.T) {
	s := serve(t, nil)
	whole, half := dial(t, s.Addr()), dial(t, s.Addr())
	half.send([]byte("GET /ws HTTP/1.1\r\n"))
	s.until("both are there", func() bool { return s.m.OpenAll.Load() == 2 })
	s.stopped(time.Minute, func() { whole.send([]byte(upgradeHead("/ws", ""))) })
	whole.upgraded()
	await(t, s.h.opened, "Open")
	if n := s.m.RefusedTimeout.Load(); n != 0 {
		t.Fatalf("%d heads ran out of time at once", n)
	}
	s.advance(owner.Grace)
	if code, _ := half.status(); code != 408 {
		t.Fatalf("status %d", code)
	}
}

// Input that is ready when a deadline has passed is handled before the deadline is judged, also in
// a process that was never stopped, and also if there is more of it than an iteration reads.
func TestPongInTheIterationOfItsDeadline(t *testing.T) {
	for _, n := range []int{1, 2, maxCallbacks - 1, 2 * maxCallbacks} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			s := serve(t, nil)
			limits := &s.opts.Limits
			var clients []*client
			var conns []*Conn
			for range n {
				c, conn := s.connect()
				clients, conns = append(clients, c), append(conns, conn)
			}
			for pinged := false; !pinged; s.on(0, func(*Loop) { pinged = conns[n-1].flags&flagPinged != 0 }) {
				s.advance(tick)
			}
			for _, c := range clients {
				if op, _ := c.frame(); op != wsproto.OpPing {
					t.Fatalf("got %d, want a ping", op)
				}
			}
			s.advance(limits.PongTimeout - 2*tick)
			s.stopped(4*tick, func() {
				for _, c := range clients {
					c.send(masked(wsproto.OpPong, ""))
				}
			})
			s.advance(owner.Grace + tick)
			if lost := s.m.PingLost.Load(); lost > 0 {
				t.Fatalf("%d clients were given up", lost)
			}
			for _, c := range clients {
				c.text("hi")
				c.wantText("hi")
			}
		})
	}
}

// TestMuteInTheIterationOfItsDeadline: a client that sends nothing is given up at its deadline
// while others are busy.
func TestMuteInTheIterationOfItsDeadline(t *testing.T) {
	s := serve(t, nil)
	limits := &s.opts.Limits
	mute, conn := s.connect()
	busy, _ := s.connect()
	for pinged := false; !pinged; s.on(0, func(*Loop) { pinged = conn.flags&flagPinged != 0 }) {
		busy.text("hi")
		busy.wantText("hi")
		s.advance(tick)
	}
	if op, _ := mute.frame(); op != wsproto.OpPing {
		t.Fatalf("got %d, want a ping", op)
	}
	s.advance(limits.PongTimeout - 2*tick)
	s.stopped(4*tick, func() { busy.text("hi") })
	busy.wantText("hi")
	mute.wantEOF()
	s.wantClosed(CloseAbnormal, CausePing)
}
