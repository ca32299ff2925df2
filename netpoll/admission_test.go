package netpoll

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/internal/ratelimit"
)

var localNetwork = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// limited limits connections by address.
func limited(limits ratelimit.Options, counts *ratelimit.Metrics) func(o *Options, h *testHandler) {
	limits.Metrics = counts
	return func(o *Options, _ *testHandler) { o.Addresses = ratelimit.New(limits) }
}

// over connects, and wants a response with 429.
func (s *server) over(before string) (head, body string) {
	s.t.Helper()
	c := dial(s.t, s.Addr())
	c.send([]byte(before + upgradeHead("/ws", "")))
	code, head := c.status()
	if code != http.StatusTooManyRequests {
		s.t.Errorf("response %q, want 429", head)
	}
	text, err := io.ReadAll(c.r)
	if err != nil {
		s.t.Error(err)
	}
	_ = c.Close()
	return head, string(text)
}

func TestConnectionsOfAnAddress(t *testing.T) {
	m := new(ratelimit.Metrics)
	s := serve(t, func(o *Options, h *testHandler) {
		limited(ratelimit.Options{Connections: 2}, m)(o, h)
		o.TooManyRequests = `{"code":"test"}`
		o.ResponseHeader = "X-All: 1\r\n"
	})
	first, _ := s.connect()
	s.connect()
	head, body := s.over("")
	for _, line := range []string{"Retry-After: 10\r\n", "Content-Type: application/json; charset=utf-8\r\n", "X-All: 1\r\n", "Connection: close\r\n"} {
		if !strings.Contains(head, line) {
			t.Errorf("response %q lacks %q", head, line)
		}
	}
	if body != `{"code":"test"}` {
		t.Errorf("body %q", body)
	}
	silent := dial(t, s.Addr())
	s.until("it is there", func() bool { return m.Connections.Load() == 2 })
	s.advance(refuseWait)
	if code, _ := silent.status(); code != http.StatusTooManyRequests {
		t.Errorf("a silent one gets %d", code)
	}
	_ = first.Close()
	await(t, s.h.closed, "Closed")
	s.connect()
	s.over("")
	if n := m.Addresses.Load(); n != 1 {
		t.Errorf("%d addresses have connections", n)
	}
}

// TestManyOverTheLimit: clients over the limit hold no more connections than are kept in reserve.
func TestManyOverTheLimit(t *testing.T) {
	m := new(ratelimit.Metrics)
	s := serve(t, limited(ratelimit.Options{Connections: 1}, m))
	s.connect()
	n := s.reservePerLoop + 20
	for range n {
		c := dial(t, s.Addr())
		defer c.Close()
	}
	s.until("all have come", func() bool { return m.Connections.Load() == uint64(n) })
	s.until("only the reserve is left", func() bool { return s.m.OpenAll.Load() == int64(1+s.reservePerLoop) })
	s.advance(refuseWait)
	s.advance(s.opts.Limits.CloseTimeout)
	s.until("they are gone", func() bool { return s.m.OpenAll.Load() == 1 })
}

func TestConnectionsOfAnAddressTLS(t *testing.T) {
	m := new(ratelimit.Metrics)
	s := serveTLS(t, limited(ratelimit.Options{Connections: 1}, m))
	c, _ := dialTLS(t, s.Addr(), clientTLS(0))
	c.send([]byte(upgradeHead("/ws", "")))
	c.upgraded()
	await(t, s.h.opened, "Open")
	over := dial(t, s.Addr())
	if _, err := over.Read(make([]byte, 1)); err == nil || m.Connections.Load() != 1 || s.m.TLSStarted.Load() != 1 {
		t.Errorf("read: %v; %d refused, %d handshakes", err, m.Connections.Load(), s.m.TLSStarted.Load())
	}
	_ = c.Close()
	await(t, s.h.closed, "Closed")
	s.until("it is not counted", func() bool { return m.Addresses.Load() == 0 })
}

// Beyond acceptRate a connection is closed before its TLS handshake, which would cost more than a
// response saves.
func TestAcceptRateTLS(t *testing.T) {
	s := serveTLS(t, func(o *Options, _ *testHandler) { o.Limits.AcceptRate = 1 })
	dialTLS(t, s.Addr(), clientTLS(0))
	over := dial(t, s.Addr())
	if _, err := over.Read(make([]byte, 1)); err == nil || s.m.RefusedRate.Load() != 1 || s.m.TLSStarted.Load() != 1 {
		t.Errorf("read: %v; %d refused, %d handshakes", err, s.m.RefusedRate.Load(), s.m.TLSStarted.Load())
	}
}

func TestHandshakesOfAnAddress(t *testing.T) {
	m := new(ratelimit.Metrics)
	s := serve(t, limited(ratelimit.Options{Handshakes: 1}, m))
	for range 10 {
		s.connect()
	}
	if head, _ := s.over(""); !strings.Contains(head, "Retry-After: 1\r\n") {
		t.Errorf("response %q", head)
	}
	s.advance(time.Second)
	s.connect()
	s.over("")
	if n := m.Handshakes.Load(); n != 2 {
		t.Errorf("%d counted as refused", n)
	}
}

// TestProxiedAddresses: who comes through a proxy counts by the address in its header, IPv6 by its
// /64, and the proxy does not count.
func TestProxiedAddresses(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint(secure), func(t *testing.T) {
			m := new(ratelimit.Metrics)
			change := func(o *Options, h *testHandler) {
				trustLocal(o, h)
				limited(ratelimit.Options{Connections: 1, Proxies: localNetwork}, m)(o, h)
			}
			if secure {
				change = withTLS(change)
			}
			s := serve(t, change)
			from := func(source string) string {
				return "PROXY TCP" + map[bool]string{false: "4", true: "6"}[strings.Contains(source, ":")] + " " + source +
					map[bool]string{false: " 192.0.2.8", true: " 2001:db8::8"}[strings.Contains(source, ":")] + " 1234 443\r\n"
			}
			connect := func(header string) *client {
				c := dial(t, s.Addr())
				if c.send([]byte(header)); secure {
					c, _ = overTLS(t, c.Conn, clientTLS(0))
				}
				c.send([]byte(upgradeHead("/ws", "")))
				c.upgraded()
				await(t, s.h.opened, "Open")
				return c
			}
			refused := func(header string) {
				t.Helper()
				before := m.Connections.Load()
				if secure {
					c := dial(t, s.Addr())
					c.send([]byte(header))
					if _, err := c.Read(make([]byte, 1)); err == nil {
						t.Error("the server says something before the handshake")
					}
				} else {
					s.over(header)
				}
				if n := m.Connections.Load(); n != before+1 {
					t.Errorf("%d refused, want %d", n, before+1)
				}
			}
			first := connect(from("192.0.2.1"))
			connect(from("192.0.2.2"))
			refused(from("192.0.2.1"))
			connect(from("2001:db8::1"))
			refused(from("2001:db8::ffff:1"))
			connect(from("2001:db8:0:1::1"))
			for range 3 {
				connect("PROXY UNKNOWN\r\n")
			}
			_ = first.Close()
			await(t, s.h.closed, "Closed")
			connect(from("192.0.2.1"))
		})
	}
}

// TestAddressAtNetHTTP: a connection counts while net/http has it, and when it comes back from
// there.
func TestAddressAtNetHTTP(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint(secure), func(t *testing.T) {
			m := new(ratelimit.Metrics)
			adopted := make(chan error, 1)
			change := limited(ratelimit.Options{Connections: 2}, m)
			if secure {
				change = withTLS(change)
			}
			s := serveHTTP(t, change, adopt(adopted))
			connect := func() *client {
				if secure {
					c, _ := dialTLS(t, s.Addr(), clientTLS(0))
					return c
				}
				return dial(t, s.Addr())
			}
			refused := func() {
				t.Helper()
				before := m.Connections.Load()
				c, err := net.Dial("tcp", s.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				s.until("one is refused", func() bool { return m.Connections.Load() == before+1 })
				_ = c.Close()
			}
			a, b := connect(), connect()
			a.send([]byte("GET /page HTTP/1.1\r\nHost: x\r\n\r\n"))
			a.wantResponse("GET /page 0 ")
			b.send([]byte("GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
			b.wantResponse("GET /page 0 ")
			b.wantEOF()
			_ = b.Close()
			s.until("one is left", func() bool { return s.m.OpenAll.Load() == 1 })
			c := connect()
			c.send([]byte(upgradeHead("/ws", "")))
			c.upgraded()
			await(t, s.h.opened, "Open")
			refused()
			a.send([]byte(upgradeHead("/ws", "")))
			if err := await(t, adopted, "Adopt"); err != nil {
				t.Fatal(err)
			}
			a.upgraded()
			refused()
			for _, x := range []*client{a, c} {
				_ = x.Close()
				await(t, s.h.closed, "Closed")
			}
			s.until("none is counted", func() bool { return m.Addresses.Load() == 0 })
		})
	}
}
