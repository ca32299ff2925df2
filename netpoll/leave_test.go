package netpoll

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/testkit"
	"sluice/netpoll/tlskeys"
)

// arriving has the connections that leave an engine arrive at another one.
func arriving(t *testing.T, at *server) (give func([]Departed), errs chan error) {
	errs = make(chan error, 100)
	return func(conns []Departed) {
		for _, c := range conns {
			errs <- Arrive(at.Engine, c)
		}
	}, errs
}

// answered returns the status of a response, whose body it reads, too.
func answered(c *client) int {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode
}

// Connections at rest, before and after a request, go on at another engine; one in the middle of a
// request follows after the response.
func TestConnectionsDepart(t *testing.T) {
	t.Run("plaintext", func(t *testing.T) { connectionsDepart(t, false) })
	t.Run("TLS", func(t *testing.T) { connectionsDepart(t, true) })
}

func connectionsDepart(t *testing.T, secure bool) {
	options := func(*Options, *testHandler) {}
	connect := func(addr net.Addr) *client { return dial(t, addr) }
	if secure {
		options = withTLS(options)
		connect = func(addr net.Addr) *client {
			c, _ := dialTLS(t, addr, clientTLS(tls.VersionTLS13))
			return c
		}
	}
	from, asked := serveRequests(t, options)
	to, _ := serveRequests(t, func(o *Options, h *testHandler) {
		options(o, h)
		o.Loops = 2
	})
	used, fresh, busy := connect(from.Addr()), connect(from.Addr()), connect(from.Addr())
	used.send([]byte("GET /now HTTP/1.1\r\nHost: test\r\n\r\n"))
	if code := answered(used); code != 200 {
		t.Fatal(code)
	}
	testkit.Await(t, asked, "the first request")
	busy.send([]byte("GET /later HTTP/1.1\r\nHost: test\r\n\r\n"))
	open := testkit.Await(t, asked, "the request that waits")
	proxied := netip.MustParseAddrPort("192.0.2.7:7")
	from.on(0, func(*Loop) { open.conn.SetRemoteAddr(proxied) })
	from.until("all are accepted", func() bool { return from.m.OpenAll.Load() == 3 })
	give, arrived := arriving(t, to)
	Leave(from.Engine, secure, give)
	for range 2 {
		if err := testkit.Await(t, arrived, "an arrival"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []*client{used, fresh} {
		c.send([]byte("GET /now HTTP/1.1\r\nHost: test\r\n\r\n"))
		if code := answered(c); code != 200 {
			t.Error(code)
		}
	}
	stopped := from.stopping()
	from.on(0, func(*Loop) { answerText(open.conn, "late") })
	if code := answered(busy); code != 200 {
		t.Error(code)
	}
	if err := testkit.Await(t, stopped, "the end of the drain"); err != nil {
		t.Error(err)
	}
	if err := testkit.Await(t, arrived, "the last arrival"); err != nil {
		t.Fatal(err)
	}
	busy.send([]byte("GET /now HTTP/1.1\r\nHost: test\r\n\r\n"))
	if code := answered(busy); code != 200 {
		t.Error(code)
	}
	if d, a, cut := from.m.Departed.Load(), to.m.Arrived.Load(), from.m.Cut.Load(); d != 3 || a != 3 || cut != 0 || to.m.OpenAll.Load() != 3 || from.m.OpenAll.Load() != 0 {
		t.Errorf("%d departed, %d arrived, %d cut", d, a, cut)
	}
}

// What has come of a record goes along with a connection that departs. A connection with TLS 1.2 is
// closed in the drain.
func TestPartOfARecordDeparts(t *testing.T) {
	from, asked := serveRequests(t, withTLS(nil))
	to, _ := serveRequests(t, withTLS(nil))
	raw := &holding{Conn: dial(t, from.Addr()).Conn}
	c, _ := overTLS(t, raw, clientTLS(tls.VersionTLS13))
	old, _ := dialTLS(t, from.Addr(), clientTLS(tls.VersionTLS12))
	for _, c := range []*client{c, old} {
		c.send([]byte("GET /now HTTP/1.1\r\nHost: test\r\n\r\n"))
		if code := answered(c); code != 200 {
			t.Fatal(code)
		}
		testkit.Await(t, asked, "the request")
	}
	raw.half = true
	c.send([]byte("GET /now HTTP/1.1\r\nHost: test\r\n\r\n"))
	from.until("half a record has come", func() (there bool) {
		from.on(0, func(l *Loop) {
			for _, s := range l.table.slots {
				there = there || s.conn != nil && s.conn.link() != nil && !s.conn.link().in.empty()
			}
		})
		return there
	})
	give, arrived := arriving(t, to)
	Leave(from.Engine, true, give)
	if err := testkit.Await(t, arrived, "its arrival"); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Conn.Write(raw.rest); err != nil {
		t.Fatal(err)
	}
	if code := answered(c); code != 200 {
		t.Error(code)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- from.Stop(context.Background()) }()
	old.wantEOF()
	if err := testkit.Await(t, stopped, "the end of the drain"); err != nil {
		t.Error(err)
	}
}

// holding keeps the second half of a write.
type holding struct {
	net.Conn
	half bool
	rest []byte
}

func (h *holding) Write(p []byte) (int, error) {
	if !h.half {
		return h.Conn.Write(p)
	}
	n := len(p) / 2
	h.rest = append(h.rest, p[n:]...)
	if _, err := h.Conn.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A request that comes while its connection departs is answered at the other engine: nothing is
// read of it here.
func TestRequestsBehindADeparture(t *testing.T) {
	from, asked := serveRequests(t, nil)
	to, _ := serveRequests(t, nil)
	c := dial(t, from.Addr())
	c.send([]byte("GET /later HTTP/1.1\r\nHost: test\r\n\r\n"))
	open := testkit.Await(t, asked, "the request that waits")
	give, arrived := arriving(t, to)
	Leave(from.Engine, false, give)
	from.on(0, func(l *Loop) {
		// It comes to rest at the end of this iteration, after those at rest have departed.
		l.drain.departAt = l.now + time.Hour
		from.Engine.draining.Store(true)
		c.send([]byte("GET /now HTTP/1.1\r\nHost: test\r\n\r\n"))
		answerText(open.conn, "late")
	})
	if code := answered(c); code != 200 {
		t.Error(code)
	}
	if err := testkit.Await(t, arrived, "its arrival"); err != nil {
		t.Fatal(err)
	}
	if code := answered(c); code != 200 {
		t.Error(code)
	}
}

// A WebSocket does not depart: it is closed in order.
func TestWebSocketsDoNotDepart(t *testing.T) {
	s := serve(t, nil)
	c := dial(t, s.Addr())
	c.send([]byte(upgradeHead("/ws", "")))
	c.upgraded()
	Leave(s.Engine, false, func([]Departed) { t.Error("it departs") })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	c.wantClose(1001)
	_ = c.Close()
	if err := testkit.Await(t, stopped, "the end"); err != nil {
		t.Error(err)
	}
}

// An engine that demands TLS closes plaintext connections; a descriptor that is no socket is an
// error.
func TestArrivalsAreRefused(t *testing.T) {
	s := serveTLS(t, nil)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := Arrive(s.Engine, Departed{FD: fds[0]}); err == nil {
		t.Error("plaintext arrives where TLS is due")
	}
	if n, err := unix.Read(fds[1], make([]byte, 1)); n != 0 || err != nil {
		t.Error("it is not closed", n, err)
	}
	_ = unix.Close(fds[1])
	keys := tlskeys.Keys{Suite: tls.TLS_AES_128_GCM_SHA256, In: tlskeys.Direction{Secret: make([]byte, 32)}, Out: tlskeys.Direction{Secret: make([]byte, 32)}}
	plain, _ := serveRequests(t, nil)
	for name, try := range map[string]struct {
		at   *server
		keys []byte
	}{
		"TLS arrives where plaintext is due": {plain, keys.Append(nil)},
		"keys are cut":                       {s, keys.Append(nil)[:40]},
		"keys are followed by more":          {s, append(keys.Append(nil), 0)},
	} {
		fd, err := socket(2)
		if err != nil {
			t.Fatal(err)
		}
		if err := Arrive(try.at.Engine, Departed{FD: fd, Keys: try.keys}); err == nil {
			t.Error(name)
		}
	}
	if err := Arrive(s.Engine, Departed{FD: 1 << 20}); err == nil {
		t.Error("no error for no descriptor")
	}
}
