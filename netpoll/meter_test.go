package netpoll

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sluice/internal/ratelimit"
	"sluice/wsproto"
)

// rated is a server whose clients have rates; what they send is recorded.
func rated(t *testing.T, messages, bytes ratelimit.Rate) (s *server, got chan string) {
	got = make(chan string, 1<<16)
	s = serve(t, func(o *Options, h *testHandler) {
		o.Limits.MessageRate, o.Limits.ByteRate = messages, bytes
		h.message = func(_ *Conn, b []byte) { got <- string(b) }
	})
	return s, got
}

// numbered is messages from first to before end.
func numbered(first, end int) (b []byte) {
	for i := first; i < end; i++ {
		b = append(b, masked(wsproto.OpText, fmt.Sprint(i))...)
	}
	return b
}

func wantNumbered(t *testing.T, got chan string, first, end int) {
	t.Helper()
	for i := first; i < end; i++ {
		wantMessages(t, got, fmt.Sprint(i))
	}
}

// TestMessageRate: a client may send what its rate allows in a Window at once. Then it is read at
// that rate; nothing is lost, and others are not affected.
func TestMessageRate(t *testing.T) {
	s, got := rated(t, 10, 0)
	c, _ := s.connect()
	c.send(numbered(0, 130))
	wantNumbered(t, got, 0, 100)
	s.wantNoMessage(got)
	if n, m := s.m.Throttled.Load(), s.m.MessagesThrottled.Load(); n != 1 || m != 1 {
		t.Errorf("%d throttled, %d times", n, m)
	}
	other, _ := s.connect()
	other.text("other")
	wantMessages(t, got, "other")

	s.advance(time.Second)
	wantNumbered(t, got, 100, 110)
	s.wantNoMessage(got)
	s.advance(2 * time.Second)
	wantNumbered(t, got, 110, 130)
	c.text("130")
	s.advance(time.Second)
	wantNumbered(t, got, 130, 131)
	s.until("all go on", func() bool { return s.m.Throttled.Load() == 0 })

	s.advance(ratelimit.Window) // the bucket is full again
	c.send(numbered(0, 101))
	wantNumbered(t, got, 0, 100)
	s.wantNoMessage(got)
}

// TestThrottledCostsNothingLater: what a limited client has needed is gone when it is limited no
// more.
func TestThrottledCostsNothingLater(t *testing.T) {
	s, got := rated(t, 1, 0)
	for range 3 {
		c, _ := s.connect()
		c.send(numbered(0, 11))
		wantNumbered(t, got, 0, 10)
	}
	s.advance(time.Second)
	for range 3 {
		wantMessages(t, got, "10")
	}
	s.advance(time.Second)
	s.on(0, func(l *Loop) {
		if l.throttle.timer.Armed() || l.throttle.conns != nil {
			t.Errorf("armed: %v, connections: %v", l.throttle.timer.Armed(), l.throttle.conns)
		}
	})
}

// TestThrottledMoves: a client that has used its rate up has to wait at another engine, too, also
// with messages that the first one has read.
func TestThrottledMoves(t *testing.T) {
	from, before := rated(t, 10, 0)
	to, after := rated(t, 10, 0)
	c := dial(t, from.Addr())
	c.send([]byte(upgradeHead("/ws", "")))
	c.upgraded()
	old := await(t, from.h.opened, "the opened connection")
	c.send(numbered(0, 120))
	wantNumbered(t, before, 0, 100)
	from.move(old, to, func() bool { return !old.in.empty() }, nil)
	to.wantNoMessage(after)
	to.advance(time.Second)
	wantNumbered(t, after, 100, 110)
	to.wantNoMessage(after)
}

// TestFramesAreCounted: control frames and fragments are no way around the rate.
func TestFramesAreCounted(t *testing.T) {
	for name, frame := range map[string][]byte{
		"pings": masked(wsproto.OpPing, ""),
		"pongs": masked(wsproto.OpPong, ""),
		"fragments": wsproto.AppendMaskedFrame(nil, false, wsproto.OpContinuation, nil,
			[4]byte{1, 2, 3, 4}),
	} {
		t.Run(name, func(t *testing.T) {
			s, got := rated(t, 10, 0)
			c, _ := s.connect()
			first := masked(wsproto.OpText, "0")
			if name == "fragments" {
				first = wsproto.AppendMaskedFrame(nil, false, wsproto.OpText, []byte("0"), [4]byte{1, 2, 3, 4})
			}
			c.send(first)
			for range 99 {
				c.send(frame)
			}
			last := masked(wsproto.OpText, "last")
			if name == "fragments" {
				last = wsproto.AppendMaskedFrame(nil, true, wsproto.OpContinuation, []byte("last"), [4]byte{1, 2, 3, 4})
			} else {
				wantMessages(t, got, "0")
			}
			s.until("it is throttled", func() bool { return s.m.MessagesThrottled.Load() == 1 })
			c.send(last)
			s.wantNoMessage(got)
			s.advance(resumeEvery)
			want := "last"
			if name == "fragments" {
				want = "0last"
			}
			wantMessages(t, got, want)
		})
	}
}

// TestByteRate: a message may be larger than what is left, which is paid back before the next.
func TestByteRate(t *testing.T) {
	const rate = 1000
	s, got := rated(t, 0, rate)
	c, _ := s.connect()
	size := len(masked(wsproto.OpText, strings.Repeat("x", 6000)))
	for range 3 {
		c.text(strings.Repeat("x", 6000))
	}
	for range 2 {
		await(t, got, "a message")
	}
	s.wantNoMessage(got)
	if n := s.m.BytesThrottled.Load(); n != 1 {
		t.Errorf("throttled %d times", n)
	}
	owed := time.Duration(2*size-10*rate) * time.Second / rate
	s.advance(owed.Truncate(resumeEvery))
	s.wantNoMessage(got)
	s.advance(3 * resumeEvery)
	await(t, got, "a message")
}

// TestThrottledIsNotRead: a client beyond its rate waits, what is kept of it is bounded however
// often it goes on for a moment, and that it says nothing meanwhile is not held against it.
func TestThrottledIsNotRead(t *testing.T) {
	s, got := rated(t, 10, 0)
	if s.inGnet() {
		return // every socket is read there
	}
	c, conn := s.connect()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := 0; ; i++ {
			if _, err := c.Write(masked(wsproto.OpText, fmt.Sprintf("%d %s", i, repeat("x", 10000)))); err != nil {
				return
			}
		}
	}()
	want := 0
	next := func(n int) {
		t.Helper()
		for range n {
			if m := await(t, got, "a message"); !strings.HasPrefix(m, fmt.Sprint(want, " ")) {
				t.Fatalf("message %d is %.20q", want, m)
			}
			want++
		}
	}
	next(100)
	for range 50 {
		s.until("it is not read any more", func() (paused bool) {
			s.on(0, func(*Loop) {
				if paused = conn.readPaused; paused && len(conn.in.bytes()) > 4*readSize {
					t.Errorf("%d bytes are kept", len(conn.in.bytes()))
				}
			})
			return paused
		})
		s.advance(time.Second)
		next(10)
	}
	if n := s.m.PingLost.Load() + s.m.Overflows.Load(); n > 0 {
		t.Error("it was given up")
	}
	c.reset()
	await(t, sent, "the end of the sender")
}

// TestThrottledEnd: a throttled connection is closed as any other, from either side.
func TestThrottledEnd(t *testing.T) {
	ends := map[string]func(s *server, c *client, conn *Conn){
		"client": func(_ *server, c *client, _ *Conn) { c.reset() },
		"server": func(s *server, c *client, conn *Conn) {
			s.on(0, func(*Loop) { conn.Close(wsproto.CloseGoingAway, "") })
			c.wantClose(wsproto.CloseGoingAway)
			c.send(closeFrame(wsproto.CloseGoingAway))
		},
		"both": func(s *server, c *client, conn *Conn) {
			s.on(0, func(*Loop) { conn.Close(wsproto.CloseGoingAway, "") })
			c.reset()
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			s, got := rated(t, 1, 0)
			c, conn := s.connect()
			c.send(numbered(0, 10))
			wantNumbered(t, got, 0, 10)
			s.until("it is throttled", func() bool { return s.m.Throttled.Load() == 1 })
			end(s, c, conn)
			await(t, s.h.closed, "Closed")
			s.until("it is not throttled", func() bool { return s.m.Throttled.Load() == 0 })
			s.advance(2 * time.Second)
		})
	}
}

// TestExemptClient: clients of exempt networks have no rates, unless the Handler knows better.
func TestExemptClient(t *testing.T) {
	for _, better := range []bool{false, true} {
		got := make(chan string, 1<<10)
		s := serve(t, func(o *Options, h *testHandler) {
			o.Limits.MessageRate, o.Limits.ByteRate = 1, 1
			if !better {
				o.Addresses = ratelimit.New(ratelimit.Options{Exempt: ratelimit.Networks(localNetwork)})
			}
			h.onOpen = func(c *Conn, _ *wsproto.Head) {
				if better {
					c.SetExempt(true)
				}
			}
			h.message = func(_ *Conn, b []byte) { got <- string(b) }
		})
		c, conn := s.connect()
		c.send(numbered(0, 200))
		wantNumbered(t, got, 0, 200)
		s.on(0, func(*Loop) { conn.SetExempt(false) })
		c.text("one more")
		s.until("it is throttled", func() bool { return s.m.Throttled.Load() == 1 })
	}
}

// TestStreamByteRate: what the client of a stream sends is discarded, at the rate.
func TestStreamByteRate(t *testing.T) {
	s, begun := serveStreams(t, func(o *Options, _ *testHandler) { o.Limits.ByteRate = 1000 })
	c, conn := follow(t, s, begun)
	c.send([]byte(strings.Repeat("x", 20_000)))
	s.until("it is throttled", func() bool { return s.m.Throttled.Load() == 1 })
	if !s.inGnet() {
		s.on(0, func(*Loop) {
			if !conn.readPaused || !conn.in.empty() {
				t.Errorf("not read: %v, kept: %v", conn.readPaused, conn.in.bytes())
			}
		})
	}
	s.on(0, func(*Loop) { conn.Send([]byte("data: 1\n\n")) })
	c.wantBytes("data: 1\n\n")
	s.advance(12 * time.Second)
	s.until("it goes on", func() bool { return s.m.Throttled.Load() == 0 })
	c.send([]byte(strings.Repeat("x", 20_000)))
	s.until("it is throttled again", func() bool { return s.m.BytesThrottled.Load() == 2 })
	s.on(0, func(*Loop) { conn.Finish() })
	c.wantEOF()
	_ = c.Close()
	await(t, s.h.closed, "Closed")
	if n := s.m.Throttled.Load(); n != 0 {
		t.Errorf("%d are throttled", n)
	}
}

// TestMeterIsRate: the few bits of a Conn make the same bucket as ratelimit, but for the unit.
func TestMeterIsRate(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		r := ratelimit.Rate(1 + random.IntN(20_000))
		var b bucket
		var full time.Duration
		now, last := time.Hour, time.Hour
		for i := range 5000 {
			now += time.Duration(random.ExpFloat64() * float64(time.Second) / float64(r))
			b.age(now - last)
			last = now
			if b.has(r, 1) {
				n := 1 + random.IntN(2)
				b.spend(r, n)
				full = r.Spend(full, now, n)
			}
			off := b.full() - max(full-now, 0)
			if bound := time.Duration(i+1) * meterUnit; off > bound || off < -bound {
				t.Fatalf("seed %d, rate %d: after %d steps it is full %v too late", seed, r, i, off)
			}
		}
	}
	var b bucket
	b.spend(1, 1<<30)
	if b.has(1, 1) || b.full() < ratelimit.Window {
		t.Errorf("a large debt is %v", b.full())
	}
	b.age(1000 * time.Hour)
	if b != 0 {
		t.Errorf("it is left for ever: %v", b.full())
	}
}
