package netpoll

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/testkit"
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
	from, asked := serveRequests(t, nil)
	to, _ := serveRequests(t, func(o *Options, _ *testHandler) { o.Loops = 2 })
	used, fresh, busy := dial(t, from.Addr()), dial(t, from.Addr()), dial(t, from.Addr())
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
	Leave(from.Engine, give)
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

// A request that comes while its connection departs is answered at the other engine: nothing is read
// of it here.
func TestRequestsBehindADeparture(t *testing.T) {
	from, asked := serveRequests(t, nil)
	to, _ := serveRequests(t, nil)
	c := dial(t, from.Addr())
	c.send([]byte("GET /later HTTP/1.1\r\nHost: test\r\n\r\n"))
	open := testkit.Await(t, asked, "the request that waits")
	give, arrived := arriving(t, to)
	Leave(from.Engine, give)
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
	Leave(s.Engine, func([]Departed) { t.Error("it departs") })
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
	if err := Arrive(s.Engine, Departed{FD: 1 << 20}); err == nil {
		t.Error("no error for no descriptor")
	}
}
