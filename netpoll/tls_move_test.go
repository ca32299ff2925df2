package netpoll

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	_ "unsafe" // for linkname

	"sluice/internal/testkit"
	"sluice/netpoll/tlskeys"
	"sluice/wsproto"
)

// The suites that crypto/tls offers. Its API cannot choose among those of TLS 1.3.
//
//go:linkname offeredSuites crypto/tls.defaultCipherSuitesTLS13
var offeredSuites []uint16

//go:linkname offeredWithoutAES crypto/tls.defaultCipherSuitesTLS13NoAES
var offeredWithoutAES []uint16

// onlySuite has crypto/tls offer one suite until the test ends.
func onlySuite(t *testing.T, id uint16) {
	with, without := offeredSuites, offeredWithoutAES
	t.Cleanup(func() { offeredSuites, offeredWithoutAES = with, without })
	offeredSuites, offeredWithoutAES = []uint16{id}, []uint16{id}
}

var tls13Suites = []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}

// eachSuite runs a test with each suite of TLS 1.3.
func eachSuite(t *testing.T, test func(t *testing.T)) {
	for _, id := range tls13Suites {
		t.Run(tls.CipherSuiteName(id), func(t *testing.T) {
			onlySuite(t, id)
			test(t)
		})
	}
}

// move takes a connection to another engine when it is at rest and ready holds on its loop. at is
// called just before it goes.
func (s *server) move(c *Conn, to *server, ready func() bool, at func(l *Loop)) *Conn {
	s.t.Helper()
	var fd int
	var w WebSocket
	var keys []byte
	s.until("it can move", func() bool {
		done := false
		s.on(c.loop.index, func(l *Loop) {
			if !Movable(c) || ready != nil && !ready() {
				return
			}
			if at != nil {
				at(l)
			}
			var err error
			if fd, w, err = Move(c); err != nil {
				s.t.Error(err)
			}
			if Movable(c) {
				s.t.Error("it moves twice")
			}
			done = true
		})
		return done
	})
	testkit.Await(s.t, s.h.closed, "the end of the connection here")
	if w.TLS != nil { // as they go
		keys = w.Keys.Append(nil)
		var err error
		if w.Keys, _, err = tlskeys.Parse(keys); err != nil {
			s.t.Fatal(err)
		}
	}
	opened := make(chan *Conn, 1)
	if err := Join(to.Engine, 0, fd, &w, func(c *Conn) {
		c.Session = "moved"
		opened <- c
	}); err != nil {
		s.t.Fatal(err)
	}
	return testkit.Await(s.t, opened, "its arrival")
}

// stutter holds back what its user writes beyond so many bytes.
type stutter struct {
	net.Conn
	left int // -1: nothing is held back
	rest []byte
}

func (h *stutter) Write(p []byte) (int, error) {
	n := len(p)
	if h.left >= 0 && n > h.left {
		h.rest = append(h.rest, p[h.left:]...)
		p = p[:h.left]
	}
	if h.left >= 0 {
		h.left -= len(p)
	}
	if _, err := h.Conn.Write(p); err != nil {
		return 0, err
	}
	return n, nil
}

func (h *stutter) release(t *testing.T) {
	t.Helper()
	if _, err := h.Conn.Write(h.rest); err != nil {
		t.Fatal(err)
	}
	h.left, h.rest = -1, nil
}

// A WebSocket with TLS goes on at other engines: in the middle of a message and of a record, and
// with output that is queued.
func TestTLSMoves(t *testing.T) {
	eachSuite(t, func(t *testing.T) {
		engines := []*server{serveTLS(t, nil), serveTLS(t, nil)}
		raw := &stutter{Conn: dial(t, engines[0].Addr()).Conn, left: -1}
		c, conn := overTLS(t, raw, clientTLS(tls.VersionTLS13))
		if got := conn.ConnectionState().CipherSuite; got != offeredSuites[0] {
			t.Fatal(tls.CipherSuiteName(got))
		}
		c.send([]byte(upgradeHead("/ws", "")))
		c.upgraded()
		sc := testkit.Await(t, engines[0].h.opened, "the opened connection")
		for round := range 4 {
			from, to := engines[round%2], engines[(round+1)%2]
			c.text(fmt.Sprint("before ", round))
			c.wantText(fmt.Sprint("before ", round))
			first := masked(wsproto.OpText, "hé")
			first[0] &^= 0x80 // FIN
			last := masked(wsproto.OpContinuation, "llo")
			c.send(append(first, last[:5]...))
			raw.left = 3 + 2*round // of the next record
			c.send(last[5:])
			sc = from.move(sc, to, func() bool { return len(sc.link().in.bytes()) == 3+2*round && len(sc.parser.AppendOpen(nil)) > 0 }, func(l *Loop) {
				sc.Send(l.Arena().Commit(wsproto.AppendFrame(l.Arena().Begin(), wsproto.OpText, []byte("queued"))))
			})
			c.wantText("queued")
			raw.release(t)
			c.wantText("héllo")
			if a, b := from.m.Open.Load(), to.m.Open.Load(); a != 0 || b != 1 {
				t.Errorf("%d and %d are open", a, b)
			}
		}
		_ = c.Close()
		testkit.Await(t, engines[0].h.closed, "its end")
		for _, s := range engines {
			if n := s.m.TLSBroken.Load(); n > 0 {
				t.Errorf("%d invalid records", n)
			}
		}
	})
}

// Keys are updated in both directions before a move, after it, and while the update is on its way:
// half a message is there, or half a record.
func TestTLSMovesThroughKeyUpdates(t *testing.T) {
	eachSuite(t, func(t *testing.T) {
		engines := []*server{serveTLS(t, nil), serveTLS(t, nil)}
		raw := dial(t, engines[0].Addr())
		var keys bytes.Buffer
		config := clientTLS(tls.VersionTLS13)
		config.KeyLogWriter = &keys
		conn := tls.Client(raw, config)
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		r := takeOver(t, raw, conn.ConnectionState(), keys.String())
		raw.send(r.record(typeApplication, []byte(upgradeHead("/ws", ""))))
		for kind := byte(0); kind != typeApplication; { // a ticket may come first
			kind, _ = r.receive()
		}
		sc := testkit.Await(t, engines[0].h.opened, "the opened connection")
		echo := func(text string) {
			t.Helper()
			raw.send(r.record(typeApplication, masked(wsproto.OpText, text)))
			kind, got := r.receive()
			if want := wsproto.AppendFrame(nil, wsproto.OpText, []byte(text)); kind != typeApplication || !bytes.Equal(got, want) {
				t.Fatalf("got type %d %q, want %q", kind, got, want)
			}
		}
		at := 0
		move := func(in int) {
			t.Helper()
			sc = engines[at].move(sc, engines[1-at], func() bool { return len(sc.link().in.bytes()) == in }, nil)
			at = 1 - at
		}
		for _, requested := range []byte{0, 1, 1, 0} {
			echo("before")
			update := []byte{24, 0, 0, 1, requested}
			first, second := r.record(typeHandshake, update[:2]), r.record(typeHandshake, update[2:])
			ready := append(bytes.Clone(first), second[:3]...)
			raw.send(ready)
			engines[at].until("half the message is there", func() (is bool) {
				engines[at].on(0, func(*Loop) { is = len(sc.link().in.bytes()) == 3 })
				return is
			})
			move(3)
			raw.send(second[3:])
			r.next(&r.out)
			if requested == 1 {
				if kind, got := r.receive(); kind != typeHandshake || !bytes.Equal(got, []byte{24, 0, 0, 1, 0}) {
					t.Fatalf("got type %d % x, want a key update", kind, got)
				}
				r.next(&r.in)
			}
			echo("after")
			move(0)
			echo("moved again")
		}
	})
}

// A client that does not read goes on with its backlog, of which some is sealed.
func TestTLSMovesWithBacklog(t *testing.T) {
	patient := withTLS(func(o *Options, _ *testHandler) { o.Limits.SlowTimeout = -1 }) // fake time passes fast
	from, to := serveSlow(t, patient), serveSlow(t, patient)
	c, _, sc := from.connectTLS(clientTLS(tls.VersionTLS13))
	from.fill(sc, 4<<20)
	moved := from.move(sc, to, func() bool { return !sc.link().out.empty() && sc.Lagging() }, nil)
	var n int64
	to.on(0, func(l *Loop) {
		n = int64(moved.Queued())
		if !moved.Lagging() || moved.link().plain == 0 {
			t.Error("it is not as it was")
		}
		moved.Send(wsproto.AppendFrame(nil, wsproto.OpText, []byte("last")))
	})
	if n < 1<<20 {
		t.Errorf("%d bytes are queued", n)
	}
	got := make(chan error, 1)
	go func() {
		for {
			op, payload, err := readFrame(c.r)
			if err == nil && string(payload) == "last" {
				got <- nil
				return
			}
			if err != nil || op != wsproto.OpText || len(payload) != 30000 || len(bytes.Trim(payload, "\x00")) > 0 {
				got <- fmt.Errorf("got %d, %d bytes: %w", op, len(payload), err)
				return
			}
		}
	}()
	var err error
	to.until("all of it is read", func() bool {
		to.clock.Advance(lagMax)
		select {
		case err = <-got:
			return true
		default:
			return false
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// What cannot move stays: older versions, and a connection that is being closed.
func TestTLSStays(t *testing.T) {
	s := serveTLS(t, nil)
	for version, stays := range map[uint16]bool{tls.VersionTLS12: true, tls.VersionTLS13: false} {
		_, _, sc := s.connectTLS(clientTLS(version))
		s.until("its version decides", func() (is bool) {
			s.on(0, func(*Loop) { is = Movable(sc) != stays && Stays(sc) == stays })
			return is
		})
	}
}

// Descriptions that contradict themselves, and keys of an unknown suite, are refused.
func TestSealedIsRefused(t *testing.T) {
	secure, plain := serveTLS(t, nil), serve(t, nil)
	good := func() *WebSocket {
		k := tlskeys.Keys{Suite: tls.TLS_AES_128_GCM_SHA256, In: tlskeys.Direction{Secret: make([]byte, 32)}, Out: tlskeys.Direction{Secret: make([]byte, 32)}}
		return &WebSocket{TLS: new(Sealed), Keys: k}
	}
	for name, tc := range map[string]struct {
		to     *server
		change func(w *WebSocket)
		want   string
	}{
		"a suite of TLS 1.2":         {secure, func(w *WebSocket) { w.Keys.Suite = tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 }, "suite"},
		"short secrets":              {secure, func(w *WebSocket) { w.Keys.In.Secret = w.Keys.In.Secret[1:] }, "malformed"},
		"no keys":                    {secure, func(w *WebSocket) { w.Keys = tlskeys.Keys{} }, "suite"},
		"more sealed than there is":  {secure, func(w *WebSocket) { w.TLS.Out, w.TLS.Plain = []byte{1}, 1 }, "contradicts"},
		"sealed bytes of no record":  {secure, func(w *WebSocket) { w.Out, w.TLS.Plain = []byte{1}, 1 }, "contradicts"},
		"a negative number of bytes": {secure, func(w *WebSocket) { w.TLS.Plain = -1 }, "contradicts"},
		"plaintext to TLS":           {secure, func(w *WebSocket) { w.TLS = nil }, "use TLS"},
		"TLS to plaintext":           {plain, func(*WebSocket) {}, "use TLS"},
	} {
		fd, err := socket(2)
		if err != nil {
			t.Fatal(err)
		}
		w := good()
		tc.change(w)
		if err := Join(tc.to.Engine, 0, fd, w, func(*Conn) { t.Error("it arrives") }); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(w.Keys.Out.Secret, make([]byte, len(w.Keys.Out.Secret))) {
			t.Errorf("%s: the keys are not wiped", name)
		}
	}
}
