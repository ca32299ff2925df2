package netpoll

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"sluice/wsproto"
)

func TestTLSEcho(t *testing.T) {
	large := repeat("0123456789", 90_000)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := serveTLS(t, nil)
			config := clientTLS(version)
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for i := range uint64(3) {
				c, conn, sc := s.connectTLS(config)
				if state := conn.ConnectionState(); state.Version != version || state.DidResume != (i > 0) {
					t.Errorf("version %x, resumed: %v", state.Version, state.DidResume)
				}
				s.on(0, func(*Loop) {
					if !sc.Secure() {
						t.Error("not secure")
					}
				})
				for _, text := range []string{"", "hello", large, "hello again"} {
					go func() { _, _ = c.Write(masked(wsproto.OpText, text)) }()
					c.wantText(text)
				}
				c.send(closeFrame(1000))
				c.wantClose(1000)
				c.wantEOF() // crypto/tls tells a close_notify from a connection that was cut
				await(t, s.h.closed, "Closed")
				if n := s.m.TLSResumed.Load(); n != i {
					t.Errorf("%d connections were resumed, want %d", n, i)
				}
			}
			s.wantHandshakes(3, 0, 0, 0)
			if n := s.m.TLSBroken.Load(); n != 0 {
				t.Errorf("%d counted as broken", n)
			}
		})
	}
}

// TestTLSSplitRecords sends every byte by itself: the handshake's, records', and those of several
// records in a row.
func TestTLSSplitRecords(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := serveTLS(t, nil)
		c, _ := overTLS(t, bytewise{dial(t, s.Addr()).Conn}, clientTLS(version))
		c.send([]byte(upgradeHead("/ws", "")))
		c.upgraded()
		for i := range 20 {
			text := repeat("x", i*i)
			c.text(text)
			c.wantText(text)
		}
		c.send(closeFrame(1000))
		c.wantClose(1000)
		c.wantEOF()
		s.wantHandshakes(1, 0, 0, 0)
	}
}

func TestTLSSlowReader(t *testing.T) {
	const size = 30000
	s := serveTLS(t, func(o *Options, _ *testHandler) {
		// How much time passes while the client reads is up to the scheduler.
		o.Limits.OutboxBytes, o.Limits.PingInterval, o.Limits.CloseTimeout = 256<<10, -1, 24*time.Hour
	})
	c, _, sc := s.connectTLS(clientTLS(0))
	sent, received := 0, 0
	frame := func(i int) []byte {
		return wsproto.AppendFrame(nil, wsproto.OpText, bytes.Repeat([]byte{byte('a' + i%26)}, size))
	}
	send := func() (lagging, closing bool) {
		s.on(0, func(*Loop) {
			sc.Send(frame(sent))
			lagging, closing = sc.Lagging(), sc.Closing()
			if sc.Queued() > 256<<10+size {
				t.Errorf("%d bytes are queued", sc.Queued())
			}
		})
		sent++
		return lagging, closing
	}
	read := func() {
		if _, b := c.frame(); len(b) != size || b[0] != byte('a'+received%26) {
			t.Fatalf("frame %d: %d bytes, %.3q", received, len(b), b)
		}
		received++
	}
	for lagging := false; !lagging; lagging, _ = send() {
	}
	s.passing(func() {
		for received < sent {
			read()
		}
	})
	s.until("it lags no longer", func() bool { s.clock.Advance(lagMax); return s.m.Lagging.Load() == 0 })
	for closing := false; !closing; _, closing = send() { // now it reads no more
	}
	s.passing(func() {
		for received < sent-1 { // the last was too much
			read()
		}
		c.wantClose(1013)
		c.send(closeFrame(1013))
		c.wantEOF()
	})
	if s.m.Overflows.Load() != 1 {
		t.Error("not counted as an overflow")
	}
	_ = c.Close()
	s.wantClosed(1013, CauseOutbox)
}

// TestTLSGarbage: whatever is not a handshake ends the connection, and is counted.
func TestTLSGarbage(t *testing.T) {
	hello := clientHello(t)
	oversized := bytes.Clone(hello)
	oversized[6] = 1 // 64 KiB more
	trailed := append(bytes.Clone(hello), repeat("z", 100)...)
	broken := bytes.Clone(hello)
	for i := 12; i < len(broken); i++ {
		broken[i] ^= byte(i * 7)
	}
	drizzle := []byte{}
	for range 3000 { // a ClientHello in records of a byte each
		drizzle = append(drizzle, 22, 3, 1, 0, 1, 1)
	}
	s := serveTLS(t, nil)
	n := uint64(0)
	for name, in := range map[string][]byte{
		"noise":     []byte(repeat("\x8a\x17noise", 50)),
		"oversized": oversized,
		"broken":    broken,
		"trailed":   trailed,
		"drizzle":   drizzle,
		"alert":     {21, 3, 3, 0, 2, 2, 40},
		"flood":     append(bytes.Clone(hello), make([]byte, 200<<10)...),
	} {
		c := dial(t, s.Addr())
		_, _ = c.Write(in) // the server may close it during the write
		if b, err := io.ReadAll(c.r); len(b) > 8<<10 {
			t.Errorf("%s: got %d bytes and %v", name, len(b), err)
		}
		n++
	}
	s.wantHandshakes(0, n, 0, 0)
	c := dial(t, s.Addr())
	c.send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	if code, _ := c.status(); code != 400 {
		t.Errorf("status %d for HTTP", code)
	}
	_ = c.Close()
	s.wantHandshakes(0, n+1, 0, 0)
	s.until("all are gone", func() bool { return s.m.OpenAll.Load() == 0 })
}

func TestTLSHandshakeTimeout(t *testing.T) {
	hello := clientHello(t)
	s := serveTLS(t, func(o *Options, _ *testHandler) {
		o.Limits.HandshakeTimeout = 7 * time.Second
		o.Limits.HeadTimeout = time.Minute
	})
	silent, part, stalled := dial(t, s.Addr()), dial(t, s.Addr()), dial(t, s.Addr())
	part.send(hello[:50])
	stalled.send(hello)
	if _, err := stalled.r.ReadByte(); err != nil { // the server's answer has come
		t.Fatal(err)
	}
	s.until("three handshakes", func() bool { return s.m.TLSHandshaking.Load() == 3 })
	if n := s.workers(); n != 1 {
		t.Errorf("%d workers", n)
	}
	s.advance(7*time.Second - 2*tick)
	s.sync()
	if n := s.m.TLSTimeout.Load(); n != 0 {
		t.Errorf("%d timed out early", n)
	}
	s.advance(3 * tick)
	for _, c := range []*client{silent, part, stalled} {
		_, _ = io.ReadAll(c.r) // it ends
	}
	s.wantHandshakes(0, 0, 3, 0)

	// The handshake's time does not count for the head.
	c, _ := dialTLS(t, s.Addr(), clientTLS(0))
	s.until("the handshake", func() bool { return s.m.TLSDone.Load() == 1 })
	s.advance(30 * time.Second)
	c.send([]byte(upgradeHead("/ws", "")))
	c.upgraded()
}

// TestTLSPool fills the workers and the queue.
func TestTLSPool(t *testing.T) {
	s := serveTLS(t, func(o *Options, _ *testHandler) {
		o.Limits.MaxHandshakes = 2
		o.Limits.HandshakeQueue = 2
	})
	var gates []chan struct{}
	results := make(chan error, 16)
	begin := func() {
		gate := make(chan struct{})
		gates = append(gates, gate)
		raw := dial(t, s.Addr())
		go func() { results <- tls.Client(gated{raw, gate}, clientTLS(0)).Handshake() }()
	}
	busy := func(workers, waiting int) func() bool {
		return func() bool {
			p := s.handshakes
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.workers == workers && p.queue.Len() == waiting
		}
	}
	begin()
	begin()
	s.until("two workers", busy(2, 0))
	begin()
	begin()
	s.until("two that wait", busy(2, 2))
	refused := dial(t, s.Addr())
	refused.send(clientHello(t))
	refused.wantEOF()
	if n := s.m.TLSRefused.Load(); n != 1 {
		t.Errorf("%d refused, want 1", n)
	}
	for _, gate := range gates {
		close(gate)
	}
	for range gates {
		if err := await(t, results, "a handshake"); err != nil {
			t.Error(err)
		}
	}
	s.wantHandshakes(4, 0, 0, 1)
}

// TestTLSSilentPeers: workers that wait for peers which say nothing more are there for others.
func TestTLSSilentPeers(t *testing.T) {
	const workers = 8
	hello := clientHello(t)
	s := serveTLS(t, func(o *Options, _ *testHandler) { o.Limits.MaxHandshakes = workers })
	var silent []*client
	for range 3 * workers {
		c := dial(t, s.Addr())
		c.send(hello)
		silent = append(silent, c)
	}
	silentWith := func(waiting int) func() bool {
		return func() bool {
			p := s.handshakes
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.idle.Len() == workers && p.queue.Len() == waiting
		}
	}
	s.until("all workers wait for their peers", silentWith(2*workers))
	if n := s.m.TLSSilent.Load(); n > 0 {
		t.Fatalf("%d were given up at once", n)
	}
	s.advance(handshakeIdleMin)
	s.until("the first ones are given up", func() bool { return s.m.TLSSilent.Load() == workers })
	s.until("the next ones have their workers", silentWith(workers))
	s.advance(handshakeIdleMin)
	s.until("the next ones are given up", func() bool { return s.m.TLSSilent.Load() == 2*workers })
	s.until("the last ones have their workers", silentWith(0))
	s.advance(handshakeIdleMin)
	if n := s.m.TLSSilent.Load(); n != 2*workers {
		t.Fatalf("%d were given up for nobody", n)
	}
	for range 10 { // the ones that are left go first, and those that are done never
		c, _ := dialTLS(t, s.Addr(), clientTLS(0))
		c.send([]byte(upgradeHead("/ws", "")))
		c.upgraded()
	}
	if done, all := s.m.TLSDone.Load(), s.m.TLSSilent.Load()+s.m.TLSFailed.Load(); done != 10 || all > 3*workers {
		t.Fatalf("%d done, %d given up", done, all)
	}
	for _, c := range silent {
		_ = c.Close()
	}
}

// TestTLSGivenUp: clients that close in the middle of a handshake free its worker, or its place in
// the queue.
func TestTLSGivenUp(t *testing.T) {
	hello := clientHello(t)
	s := serveTLS(t, func(o *Options, _ *testHandler) { o.Limits.MaxHandshakes = 1 })
	for i := range uint64(5) {
		first, second, third := dial(t, s.Addr()), dial(t, s.Addr()), dial(t, s.Addr())
		first.send(hello)
		s.until("a worker", func() bool { return s.workers() == 1 })
		second.send(hello)
		third.send(hello[:20])
		s.until("three handshakes", func() bool { return s.m.TLSHandshaking.Load() == 3 })
		for _, c := range []*client{second, third, first} {
			_ = c.Close()
		}
		s.wantHandshakes(0, 3*(i+1), 0, 0)
	}
	s.until("all are gone", func() bool { return s.m.OpenAll.Load() == 0 })
}

// TestTLSCloseNotify: a peer that says it has ended is gone, as one whose connection ends.
func TestTLSCloseNotify(t *testing.T) {
	s := serveTLS(t, nil)
	c, conn, _ := s.connectTLS(clientTLS(0))
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	s.wantClosed(CloseAbnormal, CauseClient)
	c.wantEOF()
}

// TestTLSBrokenRecord: a record that was tampered with ends the connection with an alert.
func TestTLSBrokenRecord(t *testing.T) {
	s := serveTLS(t, nil)
	raw := dial(t, s.Addr())
	c, conn := overTLS(t, raw.Conn, clientTLS(0))
	c.send([]byte(upgradeHead("/ws", "")))
	c.upgraded()
	raw.send(append([]byte{23, 3, 3, 0, 100}, make([]byte, 100)...))
	_, err := conn.Read(make([]byte, 1))
	if err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("got %v", err)
	}
	s.wantClosed(CloseAbnormal, CauseTLS)
	if n := s.m.TLSBroken.Load(); n != 1 {
		t.Errorf("%d counted as broken", n)
	}
}

func TestTLSStream(t *testing.T) {
	s := serveTLS(t, func(_ *Options, h *testHandler) {
		h.stream = func(c *Conn, _ *wsproto.Head) bool {
			c.Send([]byte("HTTP/1.1 200 OK\r\n\r\nfirst "))
			c.Send([]byte("last"))
			c.Finish()
			return true
		}
	})
	c, _ := dialTLS(t, s.Addr(), clientTLS(0))
	c.send([]byte("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"))
	if code, _ := c.status(); code != 200 {
		t.Errorf("status %d", code)
	}
	if b, err := io.ReadAll(c.r); string(b) != "first last" || err != nil {
		t.Errorf("got %q and %v", b, err)
	}
	_ = c.Close()
	await(t, s.h.closed, "Closed")
}

// TestTLSBehindProxy: the proxy's header comes before the handshake.
func TestTLSBehindProxy(t *testing.T) {
	s := serveTLS(t, func(o *Options, _ *testHandler) {
		o.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	raw := dial(t, s.Addr())
	raw.send([]byte("PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n"))
	c, _ := overTLS(t, raw.Conn, clientTLS(0))
	c.send([]byte(upgradeHead("/ws", "")))
	c.upgraded()
	sc := await(t, s.h.opened, "Open")
	s.on(0, func(*Loop) {
		if got := sc.RemoteAddr(); got != "192.0.2.7:1234" {
			t.Errorf("remote address %s", got)
		}
	})
	c.text("hello")
	c.wantText("hello")
}

// TestTLSIdle: an idle connection has no goroutine and no buffer, whatever came before.
func TestTLSIdle(t *testing.T) {
	if !haveBuffers {
		t.Fatal("this version of crypto/tls keeps its buffers elsewhere: see tls_buffers.go")
	}
	s := serveTLS(t, nil)
	s.connectTLS(clientTLS(0))
	s.wantHandshakes(1, 0, 0, 0)
	before := runtime.NumGoroutine()
	for i := range 10 {
		c, _, sc := s.connectTLS(clientTLS([]uint16{tls.VersionTLS12, tls.VersionTLS13}[i%2]))
		large := repeat("x", 100_000)
		go func() { _, _ = c.Write(masked(wsproto.OpText, large)) }()
		c.wantText(large)
		s.on(0, func(*Loop) {
			link := sc.link()
			var raw, hand bytes.Buffer
			if own := i%2 == 1; own != (link.records != nil) || own != (link.conn == nil) {
				t.Errorf("crypto/tls has the records of TLS 1.3, or not those of TLS 1.2: %v", link)
			} else if !own {
				raw, hand = *bufferAt(link.conn, rawOffset), *bufferAt(link.conn, handOffset)
			}
			if raw.Cap() > 0 || hand.Cap() > 0 || !link.in.empty() || !link.out.empty() || link.hs != nil || !sc.in.empty() {
				t.Errorf("buffers are kept: %d, %d, %v", raw.Cap(), hand.Cap(), link)
			}
		})
	}
	s.wantHandshakes(11, 0, 0, 0)
	s.until("no goroutines are left", func() bool { return runtime.NumGoroutine() <= before })
}

func TestTLSDrain(t *testing.T) {
	s := serveTLS(t, func(o *Options, _ *testHandler) { o.Limits.DrainWindow = -1 })
	c, _, _ := s.connectTLS(clientTLS(0))
	stalled := dial(t, s.Addr())
	stalled.send(clientHello(t))
	s.until("a handshake", func() bool { return s.workers() == 1 })
	stopped := make(chan error)
	go func() { stopped <- s.Stop(context.Background()) }()
	c.wantClose(1001)
	c.send(closeFrame(1001))
	c.wantEOF()
	_, _ = io.ReadAll(stalled.r)
	if err := await(t, stopped, "Stop"); err != nil {
		t.Error(err)
	}
	if n := s.m.TLSHandshaking.Load(); n != 0 {
		t.Errorf("%d handshakes are left", n)
	}
}

// TestTLSHandover: plain HTTP by both versions, bodies in both directions.
func TestTLSHandover(t *testing.T) {
	large := repeat("z", 3<<20)
	for _, h2 := range []bool{false, true} {
		s := serveHTTP(t, withTLS(nil), func(_ *server, w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Seen", fmt.Sprint(r.Proto, " ", r.TLS != nil && r.TLS.HandshakeComplete, " ", len(body)))
			_, _ = w.Write(body)
		})
		proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2]
		client := secureClient(t, h2)
		for _, body := range []string{"hello", "", large, "again"} {
			r, err := client.Post("https://"+s.Addr().String()+"/x", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil || string(got) != body {
				t.Errorf("%s: got %d bytes and %v, want %d", proto, len(got), err, len(body))
			}
			if seen, want := r.Header.Get("X-Seen"), fmt.Sprint(proto, " true ", len(body)); seen != want {
				t.Errorf("the server saw %s, want %s", seen, want)
			}
		}
		if n := s.m.Handovers.Load(); n != 1 {
			t.Errorf("%s: %d connections handed over, want 1", proto, n)
		}
		client.CloseIdleConnections()
		s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
		s.wantHandshakes(1, 0, 0, 0)
	}
}

// TestTLSHandoverMany: what a client sends after its handshake may reach the loop before, with or
// after the worker's result. None of it is lost.
func TestTLSHandoverMany(t *testing.T) {
	s := serveHTTP(t, withTLS(nil), describe)
	done := make(chan error)
	const n = 60
	for i := range n {
		client := secureClient(t, i%3 > 0)
		go func() {
			r, err := client.Post("https://"+s.Addr().String()+"/x", "text/plain", strings.NewReader(repeat("b", i*1000)))
			if err == nil {
				_, err = io.Copy(io.Discard, r.Body)
				_ = r.Body.Close()
			}
			done <- err
		}()
	}
	for range n {
		if err := await(t, done, "an answer"); err != nil {
			t.Error(err)
		}
	}
	s.wantHandshakes(n, 0, 0, 0)
}

// TestTLSAdopt: a connection that began as plain HTTP comes back for a WebSocket, whatever the
// records' limits.
func TestTLSAdopt(t *testing.T) {
	adopted := make(chan error, 1)
	s := serveHTTP(t, withTLS(nil), adopt(adopted))
	long := masked(wsproto.OpText, repeat("l", 30_000))
	early := append(masked(wsproto.OpText, "early"), long...)
	for i := range 8 {
		raw := dial(t, s.Addr()).Conn
		if i%2 == 1 {
			raw = bytewise{raw}
		}
		c, _ := overTLS(t, raw, clientTLS([]uint16{tls.VersionTLS12, tls.VersionTLS13}[i/2%2]))
		first := "GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
		if i < 4 {
			c.send([]byte(first))
			c.wantResponse("GET /page 0 ")
			first = ""
		}
		cut := []int{0, 4, 5000, 20_000}[i%4]
		c.send(append([]byte(first+upgradeHead("/ws", "adopted")), early[:cut]...))
		if first != "" {
			c.wantResponse("GET /page 0 ")
		}
		if err := await(t, adopted, "Adopt"); err != nil {
			t.Fatal(err)
		}
		c.upgraded()
		sc := await(t, s.h.opened, "Open")
		if got := s.session(sc); got != "adopted" {
			t.Errorf("header seen by Open: %q", got)
		}
		c.send(early[cut:])
		c.wantText("early")
		c.wantText(repeat("l", 30_000))
		c.send(closeFrame(1000))
		c.wantClose(1000)
		c.wantEOF()
		await(t, s.h.closed, "Closed")
	}
	s.sync()
	if n, m := s.m.Adopted.Load(), s.m.OpenAll.Load(); n != 8 || m != 0 {
		t.Errorf("%d adopted, %d left; want 8 and 0", n, m)
	}
}
