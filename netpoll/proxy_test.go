package netpoll

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"sluice/wsproto"
)

// binaryHeader is a header of version 2 (PROXY protocol section 2.2); command 0 means LOCAL, 1
// PROXY.
func binaryHeader(command, family byte, addresses string) string {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x20|command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(addresses)))
	return string(b) + addresses
}

const ipv4Addresses = "\xc0\x00\x02\x07\xc0\x00\x02\x08\x04\xd2\x01\xbb" // 192.0.2.7:1234 to 192.0.2.8:443

// proxyHeaders are headers, and the address that follows from each; "": the connection's own.
var proxyHeaders = map[string]struct{ header, want string }{
	"none":           {"", ""},
	"line, IPv4":     {"PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n", "192.0.2.7:1234"},
	"line, IPv6":     {"PROXY TCP6 2001:db8::7 2001:db8::8 1234 443\r\n", "[2001:db8::7]:1234"},
	"line, unknown":  {"PROXY UNKNOWN\r\n", ""},
	"binary, IPv4":   {binaryHeader(1, 0x11, ipv4Addresses), "192.0.2.7:1234"},
	"binary, more":   {binaryHeader(1, 0x11, ipv4Addresses+"\x04\x00\x01x"), "192.0.2.7:1234"},
	"binary, local":  {binaryHeader(0, 0, ""), ""},
	"binary, a path": {binaryHeader(1, 0x31, repeat("/", 216)), ""},
}

func trustLocal(o *Options, _ *testHandler) {
	o.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")}
}

// TestProxyHeader: the header decides the address for WebSockets, streams and net/http alike,
// whatever pieces it comes in.
func TestProxyHeader(t *testing.T) {
	begun := make(chan *Conn, 1)
	s := serveHTTP(t, func(o *Options, h *testHandler) {
		trustLocal(o, h)
		h.stream = keepEvents(begun)
	}, describe)
	for name, tc := range proxyHeaders {
		for _, piece := range []int{1, 5, 1 << 20} {
			t.Run(fmt.Sprint(name, " ", piece), func(t *testing.T) {
				begin := func(request string) (c *client, want string) {
					c = dial(t, s.Addr())
					for b := []byte(tc.header + request); len(b) > 0; {
						n := min(piece, len(b))
						c.send(b[:n])
						b = b[n:]
					}
					if want = tc.want; want == "" {
						want = c.LocalAddr().String()
					}
					return c, want
				}
				check := func(sc *Conn, want string) {
					t.Helper()
					s.on(0, func(*Loop) {
						if got := sc.RemoteAddr(); got != want || sc.RemoteAddrPort().String() != want {
							t.Errorf("remote address %q, want %q", got, want)
						}
					})
				}
				ws, want := begin(upgradeHead("/ws", "") + string(masked(wsproto.OpText, "hello")))
				ws.upgraded()
				ws.wantText("hello")
				check(await(t, s.h.opened, "Open"), want)
				stream, want := begin(streamRequest)
				stream.wantBytes(streamHead)
				check(await(t, begun, "Stream"), want)
				plain, want := begin("GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
				r, err := http.ReadResponse(plain.r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, _ := io.ReadAll(r.Body); string(body) != "GET /x 0  "+want {
					t.Errorf("net/http sees %q, want %q", body, want)
				}
				for _, c := range []*client{ws, stream, plain} {
					_ = c.Close()
				}
				s.until("they are gone", func() bool { return s.m.OpenAll.Load() == 0 })
			})
		}
	}
	s.on(0, func(l *Loop) {
		if len(l.proxied) > 0 {
			t.Errorf("%d addresses are kept for nobody", len(l.proxied))
		}
	})
	if want := uint64((len(proxyHeaders) - 1) * 3 * 3); s.m.Proxied.Load() != want {
		t.Errorf("%d headers counted, want %d", s.m.Proxied.Load(), want)
	}
}

// TestProxyHeaderOfStrangers: what anyone else sends is a malformed request.
func TestProxyHeaderOfStrangers(t *testing.T) {
	for name, tc := range proxyHeaders {
		if tc.header == "" {
			continue
		}
		for _, from := range [][]netip.Prefix{nil, {netip.MustParsePrefix("10.0.0.0/8")}} {
			s := serve(t, func(o *Options, _ *testHandler) { o.ProxyFrom = from })
			c := dial(t, s.Addr())
			c.send([]byte(tc.header + upgradeHead("/ws", "")))
			if code, _ := c.status(); code != 400 {
				t.Errorf("%s: status %d, want 400", name, code)
			}
			if s.m.RefusedHead.Load() != 1 || s.m.Proxied.Load() != 0 {
				t.Errorf("%s: not counted as a malformed head", name)
			}
		}
	}
}

// TestProxyHeaderMalformed: the connection of a proxy that cannot be understood is closed without a
// word.
func TestProxyHeaderMalformed(t *testing.T) {
	for _, header := range []string{
		"PROXY TCP4 192.0.2.7 192.0.2.8 1234\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\n",
		"PROXY TCP4 " + repeat("1", 200),
		binaryHeader(2, 0x11, ipv4Addresses),
		binaryHeader(1, 0x11, ipv4Addresses+repeat("x", 1<<15)),
	} {
		s := serve(t, trustLocal)
		c := dial(t, s.Addr())
		for i := range len(header) {
			if _, err := c.Write([]byte(header[i : i+1])); err != nil {
				break // it was refused before its end
			}
		}
		if b, _ := io.ReadAll(c.r); len(b) > 0 { // perhaps reset, for what was not read any more
			t.Errorf("%.50q: answered with %q", header, b)
		}
		s.until("it is gone", func() bool { return s.m.OpenAll.Load() == 0 })
		if n := s.m.RefusedProxy.Load(); n != 1 {
			t.Errorf("%.50q: counted %d times", header, n)
		}
	}
}

// TestProxyHeaderTimeout: the time for the head includes the header before it.
func TestProxyHeaderTimeout(t *testing.T) {
	s := serve(t, trustLocal)
	var clients []*client
	for _, begun := range []string{"", "PROXY TCP4 192.0.2.7 ", binaryHeader(1, 0x11, ipv4Addresses)[:20]} {
		c := dial(t, s.Addr())
		c.send([]byte(begun))
		clients = append(clients, c)
	}
	complete := dial(t, s.Addr())
	complete.send([]byte(proxyHeaders["line, IPv4"].header + "GET / HT"))
	s.until("all was read", func() bool { return s.m.OpenAll.Load() == 4 && s.m.BytesIn.Load() == 21+20+41+8 })
	s.advance(9900 * time.Millisecond)
	if s.m.OpenAll.Load() != 4 {
		t.Error("closed before their time")
	}
	s.advance(200 * time.Millisecond)
	for _, c := range clients {
		c.wantEOF()
	}
	if code, _ := complete.status(); code != 408 {
		t.Errorf("status %d, want 408", code)
	}
	if n := s.m.RefusedTimeout.Load(); n != 4 {
		t.Errorf("%d time-outs counted, want 4", n)
	}
}

// TestProxyAndAdopt: the address stays with the connection on its way to net/http and back, where a
// header is not expected again.
func TestProxyAndAdopt(t *testing.T) {
	adopted := make(chan error, 1)
	s := serveHTTP(t, trustLocal, func(s *server, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, r.RemoteAddr)
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			head := bytes.NewBufferString("GET /ws HTTP/1.1\r\nHost: x\r\n")
			_ = r.Header.Write(head)
			err = s.Adopt(c, append(head.Bytes(), "\r\n"...))
		}
		adopted <- err
	})
	c := dial(t, s.Addr())
	c.send([]byte(proxyHeaders["line, IPv6"].header + "GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	const want = "[2001:db8::7]:1234"
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(r.Body); string(body) != want {
		t.Errorf("net/http sees %q", body)
	}
	c.send([]byte(upgradeHead("/ws", "")))
	if err := await(t, adopted, "Adopt"); err != nil {
		t.Fatal(err)
	}
	c.upgraded()
	sc := await(t, s.h.opened, "Open")
	s.on(0, func(*Loop) {
		if got := sc.RemoteAddr(); got != want {
			t.Errorf("remote address %q, want %q", got, want)
		}
	})
	_ = c.Close()
	s.wantGone(sc)
}

// TestSetRemoteAddr: a Handler may know better, for net/http as well. Once a connection is gone, it
// has none.
func TestSetRemoteAddr(t *testing.T) {
	better := netip.MustParseAddrPort("192.0.2.9:9")
	s := serveHTTP(t, func(_ *Options, h *testHandler) {
		h.upgrade = func(c *Conn, _ *wsproto.Head) { c.SetRemoteAddr(better) }
		h.stream = func(c *Conn, _ *wsproto.Head) bool { c.SetRemoteAddr(better); return false }
	}, describe)
	c, sc := s.connect()
	s.on(0, func(*Loop) {
		if sc.RemoteAddrPort() != better {
			t.Errorf("remote address %v", sc.RemoteAddrPort())
		}
		if n := testing.AllocsPerRun(100, func() { _ = sc.RemoteAddrPort() }); n > 0 {
			t.Errorf("RemoteAddrPort allocates %v times", n)
		}
	})
	_ = c.Close()
	s.wantGone(sc)
	s.on(0, func(*Loop) {
		sc.SetRemoteAddr(better)
		if sc.RemoteAddr() != "" || sc.RemoteAddrPort().IsValid() {
			t.Error("a closed connection has an address")
		}
	})
	d := dial(t, s.Addr())
	d.send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	r, err := http.ReadResponse(d.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(r.Body); string(body) != "GET / 0  "+better.String() {
		t.Errorf("net/http sees %q", body)
	}
}

// TestTrusts: link-local addresses have a zone, networks have not.
func TestTrusts(t *testing.T) {
	o := Options{ProxyFrom: []netip.Prefix{netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("10.1.0.0/16")}}
	for addr, want := range map[string]bool{
		"fe80::1%eth0": true, "fe80::1": true, "10.1.2.3": true, "10.2.0.1": false, "::1": false, "2001:db8::1": false,
	} {
		if got := o.trusts(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
	if o.trusts(netip.Addr{}) {
		t.Error("no address is trusted")
	}
}
