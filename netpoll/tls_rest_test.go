package netpoll

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"testing"

	"sluice/netpoll/tlskeys"
	"sluice/wsproto"
)

// restful has clients that are not pinged.
func restful(o *Options, _ *testHandler) { o.Limits.PingInterval = -1 }

// rest lets time pass until n connections have dropped their ciphers.
func (s *server) rest(n int) {
	s.t.Helper()
	want := s.m.TLSRests.Load() + uint64(n)
	s.sync()
	for range 3 {
		s.advance(restAfter)
	}
	if got := s.m.TLSRests.Load(); got != want {
		s.t.Errorf("%d times ciphers were dropped, want %d", got, want)
	}
	for i := range s.Loops() {
		s.on(i, func(l *Loop) {
			if r := &l.tls.resting; len(r.awake) > 0 || r.timer.Armed() {
				s.t.Errorf("%d connections have ciphers", len(r.awake))
			}
		})
	}
}

// restingClient returns a WebSocket whose client's records the test makes itself.
func (s *server) restingClient() (*client, *recordLayer, *Conn) {
	s.t.Helper()
	raw := dial(s.t, s.Addr())
	var keys bytes.Buffer
	config := clientTLS(tls.VersionTLS13)
	config.KeyLogWriter = &keys
	conn := tls.Client(raw, config)
	if err := conn.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	r := takeOver(s.t.(*testing.T), raw, conn.ConnectionState(), keys.String())
	raw.send(r.record(typeApplication, []byte(upgradeHead("/ws", ""))))
	for kind := byte(0); kind != typeApplication; { // a ticket may come first
		kind, _ = r.receive()
	}
	return raw, r, await(s.t, s.h.opened, "Open")
}

// Connections that are idle drop their ciphers, and get and send messages afterwards.
func TestTLSRests(t *testing.T) {
	eachSuite(t, func(t *testing.T) {
		s := serveTLS(t, restful)
		c, _, sc := s.connectTLS(clientTLS(tls.VersionTLS13))
		other, _, _ := s.connectTLS(clientTLS(tls.VersionTLS13))
		for range 2 {
			s.rest(2)
			s.on(0, func(l *Loop) {
				sc.Send(l.Arena().Commit(wsproto.AppendFrame(l.Arena().Begin(), wsproto.OpText, []byte("event"))))
			})
			c.wantText("event")
			s.rest(1)
			for i := range 5 { // one that is in use keeps them
				c.text(fmt.Sprint(i))
				c.wantText(fmt.Sprint(i))
				before := s.m.TLSRests.Load()
				s.sync()
				s.advance(restAfter / 2)
				if got := s.m.TLSRests.Load(); got != before {
					t.Fatal("the ciphers are dropped though they are in use")
				}
			}
			other.text("other")
			other.wantText("other")
		}
		s.rest(2)
		c.send(closeFrame(1000))
		c.wantClose(1000)
		c.wantEOF()
		_ = other.Close()
		await(t, s.h.closed, "Closed")
		await(t, s.h.closed, "Closed")
		s.rest(0)
	})
}

// Many are checked a part at a time.
func TestTLSManyRest(t *testing.T) {
	l := looseTLSLoop(t)
	const n = 2*restBatch + 100
	secret := make([]byte, 32)
	records, err := tlskeys.NewRecords(&tlskeys.Keys{
		Suite: tls.TLS_AES_128_GCM_SHA256, In: tlskeys.Direction{Secret: secret}, Out: tlskeys.Direction{Secret: secret},
	})
	if err != nil {
		t.Fatal(err)
	}
	links := make([]*tlsLink, n)
	for i := range links {
		links[i] = &tlsLink{loop: l, records: records}
		l.tls.note(links[i])
	}
	for i := 0; i < n; i += 3 {
		l.tls.forget(links[i])
	}
	left := len(l.tls.awake)
	l.tls.Expire(0) // of a first pass; all were used
	if got := len(l.tls.awake); got != left || l.tls.next == 0 || !l.tls.timer.Armed() {
		t.Errorf("%d of %d are left, up to %d", got, left, l.tls.next)
	}
	for l.tls.next > 0 {
		l.tls.Expire(0)
	}
	l.tls.note(links[n-1])
	for len(l.tls.awake) > 1 {
		l.tls.Expire(0)
	}
	if l.tls.awake[0] != links[n-1] || links[n-1].place != 1 || links[0].place != 0 || links[1].place != 0 {
		t.Error("another is left than the one in use")
	}
	l.tls.forget(links[n-1])
	if l.tls.awake != nil || l.tls.timer.Armed() {
		t.Error("one is left")
	}
}

// Keys are updated while a connection rests, and the response to an update wakes it only as much as
// it must.
func TestTLSRestsThroughKeyUpdates(t *testing.T) {
	eachSuite(t, func(t *testing.T) {
		s := serveTLS(t, restful)
		raw, r, _ := s.restingClient()
		for _, requested := range []byte{0, 1, 1, 0} {
			s.rest(1)
			update := []byte{24, 0, 0, 1, requested}
			raw.send(r.record(typeHandshake, update[:3]))
			s.until("half the update is there", func() bool { return s.awake() == 1 })
			s.rest(1)
			raw.send(r.record(typeHandshake, update[3:]))
			r.next(&r.out)
			if requested == 1 {
				if kind, got := r.receive(); kind != typeHandshake || !bytes.Equal(got, []byte{24, 0, 0, 1, 0}) {
					t.Fatalf("got type %d % x, want a key update", kind, got)
				}
				r.next(&r.in)
			}
			s.until("the update is there", func() bool { return s.awake() == 1 })
			s.rest(1)
			raw.send(r.record(typeApplication, masked(wsproto.OpText, "after")))
			if kind, got := r.receive(); kind != typeApplication || !bytes.Equal(got, wsproto.AppendFrame(nil, wsproto.OpText, []byte("after"))) {
				t.Fatalf("got type %d %q", kind, got)
			}
		}
	})
}

// awake returns how many connections of the first loop have ciphers.
func (s *server) awake() (n int) {
	s.on(0, func(l *Loop) { n = len(l.tls.awake) })
	return n
}

// A record that is forged, or of no use, ends a connection that rests with an alert.
func TestTLSRestsUntilABrokenRecord(t *testing.T) {
	for want, record := range map[byte]func(r *recordLayer) []byte{
		10: func(r *recordLayer) []byte { return r.record(typeHandshake, []byte{4, 0, 0, 0}) },
		20: func(r *recordLayer) []byte {
			b := r.record(typeApplication, masked(wsproto.OpText, "forged"))
			b[7] ^= 1
			return b
		},
		22: func(*recordLayer) []byte { return []byte{23, 3, 3, 255, 0} },
	} {
		s := serveTLS(t, restful)
		raw, r, _ := s.restingClient()
		s.rest(1)
		raw.send(record(r))
		if kind, got := r.receive(); kind != 21 || !bytes.Equal(got, []byte{2, want}) {
			t.Errorf("got type %d % x, want alert %d", kind, got, want)
		}
		s.wantClosed(CloseAbnormal, CauseTLS)
	}
}

// close_notify ends a connection that rests, from either side.
func TestTLSRestsUntilCloseNotify(t *testing.T) {
	s := serveTLS(t, restful)
	raw, r, sc := s.restingClient()
	s.rest(1)
	s.on(0, func(*Loop) { sc.Close(wsproto.CloseGoingAway, "") })
	if kind, got := r.receive(); kind != typeApplication || got[0] != 0x88 {
		t.Fatalf("got type %d % x, want a close frame", kind, got)
	}
	raw.send(r.record(typeApplication, closeFrame(wsproto.CloseGoingAway)))
	if kind, got := r.receive(); kind != 21 || !bytes.Equal(got, []byte{1, 0}) {
		t.Fatalf("got type %d % x, want close_notify", kind, got)
	}
	await(t, s.h.closed, "Closed")

	raw, r, _ = s.restingClient()
	s.rest(1)
	raw.send(r.record(21, []byte{1, 0}))
	if kind, got := r.receive(); kind != 21 || !bytes.Equal(got, []byte{1, 0}) {
		t.Fatalf("got type %d % x, want close_notify", kind, got)
	}
	s.wantClosed(CloseAbnormal, CauseClient)
	if n, _ := io.Copy(io.Discard, raw.r); n > 0 {
		t.Errorf("%d bytes follow", n)
	}
}

// A connection that rests goes on at another engine, and rests there.
func TestTLSRestsAndMoves(t *testing.T) {
	eachSuite(t, func(t *testing.T) {
		engines := []*server{serveTLS(t, restful), serveTLS(t, restful)}
		c, _, sc := engines[0].connectTLS(clientTLS(tls.VersionTLS13))
		for i := range 4 {
			from, to := engines[i%2], engines[(i+1)%2]
			c.text("before")
			c.wantText("before")
			from.rest(1)
			sc = from.move(sc, to, nil, nil)
			to.rest(0)
			c.text("after")
			c.wantText("after")
		}
		engines[0].rest(1)
		engines[1].rest(0)
	})
}

// An HTTP connection that rests goes to net/http, and comes back as a WebSocket that rests.
func TestTLSRestsBeforeHandover(t *testing.T) {
	eachSuite(t, func(t *testing.T) {
		adopted := make(chan error, 1)
		s := serveHTTP(t, withTLS(func(o *Options, h *testHandler) {
			restful(o, h)
			h.request = func(c *Conn, head *wsproto.Head, _ []byte) bool {
				if string(head.Path()) == "/page" {
					return false
				}
				answerText(c, "on the loop")
				return true
			}
		}), adopt(adopted))
		c, _ := dialTLS(t, s.Addr(), clientTLS(tls.VersionTLS13))
		for range 2 {
			c.send([]byte("GET /now HTTP/1.1\r\nHost: x\r\n\r\n"))
			c.wantResponse("on the loop")
			s.rest(1)
		}
		c.send([]byte("GET /page HTTP/1.1\r\nHost: x\r\n\r\n"))
		c.wantResponse("GET /page 0 ")
		s.rest(0)
		c.send([]byte(upgradeHead("/ws", "adopted")))
		if err := await(t, adopted, "Adopt"); err != nil {
			t.Fatal(err)
		}
		c.upgraded()
		s.rest(1)
		c.text("hello")
		c.wantText("hello")
		s.rest(1)
	})
}
