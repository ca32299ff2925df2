package netpoll

import (
	"net"
	"strings"
	"testing"

	"sluice/wsproto"
)

// TestResponseHeader: every response that the engine makes itself has the field lines of
// Options.ResponseHeader.
func TestResponseHeader(t *testing.T) {
	const line = "Vary: Origin\r\n"
	s := serve(t, func(o *Options, h *testHandler) {
		o.ResponseHeader = line
		o.Limits.MaxHead = 1 << 10
		h.upgrade = func(c *Conn, head *wsproto.Head) {
			switch h.refuse = 0; string(head.Get("X-Name")) {
			case "foreign":
				h.refuse = 403
			case "denied":
				h.refuse = Pending
				c.Refuse(401, "X-Reason: denied\r\n", "{}")
			}
		}
	})
	drop := func(field string) string {
		head := upgradeHead("/ws", "")
		at := strings.Index(head, field)
		return head[:at] + head[at+strings.Index(head[at:], "\r\n")+2:]
	}
	check := func(name string, c *client, want int) {
		t.Helper()
		code, head := c.status()
		if code != want || strings.Count(head, line) != 1 {
			t.Errorf("%s: status %d, want %d, with the head %q", name, code, want, head)
		}
		_ = c.Close()
	}
	for name, tc := range map[string]struct {
		request string
		want    int
	}{
		"malformed":     {"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", 400},
		"too large":     {"GET / HTTP/1.1\r\nX: " + repeat("x", 2<<10) + "\r\n\r\n", 431},
		"version":       {"GET / HTTP/2.0\r\n\r\n", 505},
		"no server":     {"GET /page HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"upgrade":       {upgradeHead("/ws", ""), 101},
		"foreign":       {upgradeHead("/ws", "foreign"), 403},
		"denied":        {upgradeHead("/ws", "denied"), 401},
		"other version": {strings.Replace(upgradeHead("/ws", ""), "Version: 13", "Version: 8", 1), 426},
		"no version":    {drop("Sec-WebSocket-Version"), 400},
		"no key":        {drop("Sec-WebSocket-Key"), 400},
		"POST":          {"POST" + strings.TrimPrefix(upgradeHead("/ws", ""), "GET"), 405},
	} {
		c := dial(t, s.Addr())
		c.send([]byte(tc.request))
		check(name, c, tc.want)
	}
	c := dial(t, s.Addr())
	before := s.m.BytesIn.Load()
	c.send([]byte("GET / HTTP/1.1\r\n"))
	s.until("it is read", func() bool { return s.m.BytesIn.Load() > before })
	s.advance(s.opts.Limits.HeadTimeout)
	check("timeout", c, 408)

	// The client connects before the loop can end listening, and is accepted after it has begun to
	// drain.
	var late net.Conn
	var err error
	s.on(0, func(*Loop) {
		late, err = net.Dial("tcp", s.Addr().String())
		s.draining.Store(true)
	})
	c = dialled(t, late, err)
	c.send([]byte("GET / HTTP/1.1\r\n\r\n"))
	check("draining", c, 503)

	secure := serve(t, func(o *Options, h *testHandler) {
		withTLS(nil)(o, h)
		o.ResponseHeader = line
	})
	c = dial(t, secure.Addr())
	c.send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	check("plaintext to TLS", c, 400)
}
