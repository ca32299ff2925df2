//go:build !invariants

package netpoll

import (
	"encoding/binary"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/owner"
	"sluice/wsproto"
)

// bombFlusher panics when it comes to a connection, before or after that is written.
type bombFlusher struct {
	flusher
	at    *Conn // nil: it does not
	after bool
}

func (b *bombFlusher) flush(l *Loop, batch []*Conn) {
	for i, c := range batch {
		if c != b.at {
			b.flusher.flush(l, batch[i:i+1])
			continue
		}
		b.at = nil
		if b.after {
			b.flusher.flush(l, batch[i:i+1])
		}
		l.iter.conn = c
		panic("bomb: flush")
	}
}

func serveFaulty(t *testing.T, change func(o *Options, h *testHandler)) (*server, *owner.Faults) {
	faults := owner.NewFaults(owner.SystemClock(), slog.New(slog.DiscardHandler))
	s := serve(t, func(o *Options, h *testHandler) {
		o.Faults = faults
		if change != nil {
			change(o, h)
		}
	})
	return s, faults
}

// code reads up to the close frame and returns its code; 1006 if the connection just ends.
func (c *client) code() uint16 {
	c.t.Helper()
	for {
		op, b, err := readFrame(c.r)
		switch {
		case err != nil:
			return CloseAbnormal
		case op == wsproto.OpClose && len(b) >= 2:
			return binary.BigEndian.Uint16(b)
		}
	}
}

func (c *client) echoes(text string) {
	c.t.Helper()
	c.text(text)
	if _, b := c.frame(); string(b) != text {
		c.t.Errorf("%s comes back as %q", text, b)
	}
}

// A panic in what the loop does for one client closes that one with 1011. The others notice
// nothing, no message of the mailbox is lost, and counts end where they began.
func TestPanicOfOneConnection(t *testing.T) {
	for _, tc := range []struct {
		name string
		bomb func(s *server, victim *client, c *Conn)
		want uint16
	}{
		{"message", func(s *server, victim *client, c *Conn) {
			s.on(0, func(*Loop) {
				s.h.message = func(c *Conn, b []byte) {
					if string(b) == "bomb" {
						panic("bomb: message")
					}
					a := c.Loop().Arena()
					c.Send(a.Commit(wsproto.AppendFrame(a.Begin(), wsproto.OpText, b)))
				}
			})
			victim.text("bomb")
			victim.text("more")
		}, wsproto.CloseInternalError},
		{"flush", func(s *server, _ *client, c *Conn) {
			s.on(0, func(l *Loop) {
				l.output.flusher = &bombFlusher{flusher: l.output.flusher, at: c}
				a := l.Arena()
				for i := range l.table.slots {
					if c := l.table.slots[i].conn; c != nil {
						c.Send(a.Commit(wsproto.AppendFrame(a.Begin(), wsproto.OpText, []byte("all"))))
					}
				}
			})
		}, CloseAbnormal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, faults := serveFaulty(t, nil)
			before, _ := s.connect()
			victim, c := s.connect()
			after, _ := s.connect()
			tc.bomb(s, victim, c)
			if code := victim.code(); code != tc.want {
				t.Errorf("closed with %d, want %d", code, tc.want)
			}
			_ = victim.Close()
			if got := await(t, s.h.closed, "Closed"); got != c {
				t.Error("another connection was closed")
			}
			if tc.name == "flush" {
				for _, other := range []*client{before, after} {
					if _, b := other.frame(); string(b) != "all" {
						t.Errorf("another client got %q", b)
					}
				}
			}
			before.echoes("one")
			after.echoes("two")
			if n := faults.Count(owner.Loop); n != 1 {
				t.Errorf("%d panics are counted", n)
			}
			if n := s.m.Open.Load(); n != 2 {
				t.Errorf("%d connections are open", n)
			}
		})
	}
}

// Panics that are no connection's leave all of them alone, and nothing of the iteration is lost.
func TestPanicOfNoConnection(t *testing.T) {
	var mended atomic.Int32
	s, faults := serveFaulty(t, func(o *Options, h *testHandler) {
		o.AfterPanic = func(*Loop) { mended.Add(1) }
	})
	c, _ := s.connect()
	var timer, next owner.Timer
	fired := make(chan string, 1)
	s.h.mailbox[0].Put(func(l *Loop) { panic("bomb: mailbox") })
	s.h.mailbox[0].Put(func(l *Loop) {
		l.Wheel().Schedule(&timer, l.Now(), owner.Func(func(time.Duration) { panic("bomb: timer") }))
		l.Wheel().Schedule(&next, l.Now(), owner.Func(func(time.Duration) { fired <- "next" }))
		l.Wake()
	})
	s.sync()
	s.advance(time.Second)
	await(t, fired, "the timer behind the one that panicked")
	c.echoes("one")
	if n := faults.Count(owner.Loop); n != 2 || mended.Load() != 2 {
		t.Errorf("%d panics, mended %d times", n, mended.Load())
	}
	// A AfterPanic that panics itself, and a Iterate that always does, are no end either.
	bombs := 0
	s.on(0, func(*Loop) {
		s.h.onIterate = func(*Loop) {
			if bombs++; bombs < 300 {
				panic("bomb: iteration")
			}
		}
	})
	s.sync()
	c.echoes("two")
	s.until("the iterations' panics are over", func() (over bool) {
		s.on(0, func(*Loop) { over = bombs >= 300 })
		return over
	})
}

// A connection whose end panics is gone nevertheless, so that Stop does not wait for it.
func TestPanicInClosed(t *testing.T) {
	s, faults := serveFaulty(t, func(_ *Options, h *testHandler) {
		h.onClose = func(*Conn) { panic("bomb: closed") }
	})
	a, _ := s.connect()
	b, _ := s.connect()
	_ = a.Close()
	await(t, s.h.closed, "Closed")
	b.echoes("one")
	var held, used int
	s.on(0, func(l *Loop) { held, used = l.held, l.table.used })
	if held != 1 || used != 1 || s.m.Open.Load() != 1 || faults.Count(owner.Loop) != 1 {
		t.Errorf("%d held, %d slots, %d open, %d panics", held, used, s.m.Open.Load(), faults.Count(owner.Loop))
	}
}

// A plain request whose handling panics gets 500.
func TestPanicOfARequest(t *testing.T) {
	s, faults := serveFaulty(t, func(_ *Options, h *testHandler) {
		h.request = func(c *Conn, _ *wsproto.Head, _ []byte) bool { panic("bomb: request") }
	})
	c := dial(t, s.Addr())
	c.send([]byte("GET /x HTTP/1.1\r\nHost: test\r\n\r\n"))
	if code, _ := c.status(); code != 500 {
		t.Errorf("status %d", code)
	}
	if rest, err := io.ReadAll(c.r); err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	if n := faults.Count(owner.Loop); n != 1 {
		t.Errorf("%d panics", n)
	}
}

// An upgrade whose judgement panics gets 500, and so does one that panics when it opens.
func TestPanicOfAnUpgrade(t *testing.T) {
	s, _ := serveFaulty(t, func(_ *Options, h *testHandler) {
		h.upgrade = func(c *Conn, head *wsproto.Head) {
			if string(head.Get("X-Name")) == "bomb" {
				panic("bomb: upgrade")
			}
		}
	})
	c := dial(t, s.Addr())
	c.send([]byte(upgradeHead("/ws", "bomb")))
	if code, _ := c.status(); code != 500 {
		t.Errorf("status %d", code)
	}
	good, _ := s.connect()
	good.echoes("one")
}
