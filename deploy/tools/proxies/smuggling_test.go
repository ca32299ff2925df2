package proxies

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/deploy/tools/testkit"
)

// oddRequests are requests that parsers of HTTP/1.1 have read in different ways: one sees a body
// where another sees a second request (RFC 9112 section 11.2). {uri} is the request's own target,
// {inner} the request that must never be taken for one, {n} its length.
var oddRequests = []struct{ name, text string }{
	{"length and chunks", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n+5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"},
	{"chunks and length", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{n16}\r\n{inner}\r\n0\r\n\r\n"},
	{"unknown coding", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n}\r\nTransfer-Encoding: xchunked\r\n\r\n{inner}"},
	{"space before the colon", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n+5}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{inner}"},
	{"two codings", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n+5}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{inner}"},
	{"chunked before identity", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n+5}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"},
	{"vertical tab before the coding", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n+5}\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{inner}"},
	{"tab before the coding", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n+5}\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n{inner}"},
	{"folded coding", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n+5}\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{inner}"},
	{"coding after a bare line feed", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n+5}\r\nX-A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"},
	{"coding after a bare carriage return", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n+5}\r\nX-A: b\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"},
	{"coding with NUL", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n+5}\r\nTransfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n{inner}"},
	{"two lengths", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"two lengths the other way", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n}\r\nContent-Length: 0\r\n\r\n{inner}"},
	{"list of lengths", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n}, 0\r\n\r\n{inner}"},
	{"signed length", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: +{n}\r\n\r\n{inner}"},
	{"hexadecimal length", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0x{n16}\r\n\r\n{inner}"},
	{"length with a space", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0 {n}\r\n\r\n{inner}"},
	{"enormous length", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 18446744073709551616\r\n\r\n{inner}"},
	{"length without a value", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length:\r\n\r\n{inner}"},
	{"length with an underscore", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent_Length: 0\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"GET with a body", "GET {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"GET with chunks", "GET {uri} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{n16}\r\n{inner}\r\n0\r\n\r\n"},
	{"HEAD with a body", "HEAD {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"chunk size with 0x", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0x{n16}\r\n{inner}\r\n0\r\n\r\n"},
	{"chunk size with a space", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{n16} \r\n{inner}\r\n0\r\n\r\n"},
	{"chunk with an extension", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{n16};a=\"b\"\r\n{inner}\r\n0\r\n\r\n"},
	{"extension with a line feed", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{n16};\n{inner}\r\n0\r\n\r\n"},
	{"enormous chunk", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff0\r\n{inner}\r\n0\r\n\r\n"},
	{"trailer with a length", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: {n}\r\n\r\n"},
	{"trailer that is a request", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{n16}\r\n{inner}\r\n0\r\nX: {line}\r\n\r\n"},
	{"chunks of HTTP/1.0", "POST {uri} HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n{n16}\r\n{inner}\r\n0\r\n\r\n"},
	{"length as a connection option", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nConnection: Content-Length\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"coding as a connection option", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n{n16}\r\n{inner}\r\n0\r\n\r\n"},
	{"upgrade to HTTP/2", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"upgrade of another version", "GET {uri} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 7\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"upgrade without a key", "GET /?{query} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"space in the target", "GET {uri} HTTP/1.1\r\nX: y HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"line feeds only", "POST {uri} HTTP/1.1\nHost: {host}\nContent-Length: {n}\n\n{inner}"},
	{"name with a space", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length x: 0\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"first field begins with a space", "POST {uri} HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: {host}\r\nContent-Length: {n+5}\r\n\r\n0\r\n\r\n{inner}"},
	{"body awaited", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"unknown expectation", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nExpect: 200-ok\r\nContent-Length: {n}\r\n\r\n{inner}"},
	{"two hosts", "POST {uri} HTTP/1.1\r\nHost: {host}\r\nHost: other.example.com\r\nContent-Length: {n}\r\n\r\n{inner}"},
}

// oddRequest fills in a request, and returns it with the targets of its own and of the inner one.
func oddRequest(i int, text string) (raw, uri, inner string) {
	query := fmt.Sprintf("own=%d", i)
	uri, inner = "/api/test/model?"+query, fmt.Sprintf("/api/test/model?inner=%d", i)
	line := "GET " + inner + " HTTP/1.1"
	request := line + "\r\nHost: " + host + "\r\n\r\n"
	n := len(request)
	return strings.NewReplacer("{uri}", uri, "{query}", query, "{host}", host, "{inner}", request, "{line}", line,
		"{n}", fmt.Sprint(n), "{n+5}", fmt.Sprint(n+5), "{n16}", fmt.Sprintf("%x", n)).Replace(text), uri, inner
}

// smuggling sends each odd request, and after it one that is not, on a connection. What gateways
// understand is what was sent: no inner request reaches the service, by whatever way it came. A
// lenient proxy may take the inner request for one itself; then the client gets a response to it,
// and the gateway gets no more requests than there are responses.
func smuggling(t *testing.T, s *setup, lenient bool, dial func() (net.Conn, error)) {
	sent, reached := map[string]bool{}, 0
	for i, odd := range oddRequests {
		raw, uri, inner := oddRequest(i, odd.text)
		after := fmt.Sprintf("/api/test/model?after=%d", i)
		sent[uri], sent[inner], sent[after] = true, true, true
		conn, err := dial()
		if err != nil {
			t.Fatalf("%s: %v", odd.name, err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(conn, raw) // refused before its end, perhaps
		_, _ = io.WriteString(conn, "GET "+after+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		responses := countResponses(conn, strings.HasPrefix(raw, "HEAD"))
		_ = conn.Close()
		requests := 0
		for _, u := range []string{uri, inner, after} {
			if s.got(u) {
				requests++
			}
		}
		reached += requests
		if s.got(inner) && (!lenient || requests > responses) {
			t.Errorf("%s: the gateway has got the inner request; %d requests, %d responses", odd.name, requests, responses)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for uri := range s.addrs {
		if strings.Contains(uri, "=") && !strings.Contains(uri, "ready") && !sent[uri] {
			t.Errorf("the gateway has got %q, which was not sent", uri)
		}
	}
	if reached == 0 {
		t.Error("no request has reached a gateway: the test shows nothing")
	}
}

// got reports whether a request has reached the service.
func (s *setup) got(uri string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addrs[uri] != ""
}

// countResponses reads responses until the end, or until there is none for a second: some proxies
// wait for the rest of a body.
func countResponses(conn net.Conn, head bool) (n int) {
	r := bufio.NewReader(conn)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		request := &http.Request{Method: http.MethodGet}
		if head && n == 0 {
			request.Method = http.MethodHead
		}
		resp, err := http.ReadResponse(r, request)
		if err != nil {
			return n
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode >= http.StatusOK {
			n++
		}
		if err != nil || resp.Close {
			return n
		}
	}
}

// smuggling is the part of TestProxies. Caddy reads a request with chunks and a length as RFC 9112
// section 6.1 allows it: the length does not count.
func (s *setup) smuggling(t *testing.T) {
	smuggling(t, s, strings.Contains(t.Name(), "Caddyfile"), func() (net.Conn, error) {
		tcp, err := net.Dial("tcp", s.base)
		if err != nil {
			return nil, err
		}
		conf := s.tls.Clone()
		conf.NextProtos = []string{"http/1.1"}
		conn := tls.Client(tcp, conf)
		return conn, conn.HandshakeContext(t.Context())
	})
}

// alone is a gateway without a proxy before it, or with one that is not of deploy/proxies.
func alone(t *testing.T) (s *setup, port string) {
	s = &setup{addrs: map[string]string{}}
	s.service(t)
	_, port = gateway(t, "--nats", s.nats.ConnectedUrl(), "--headauth", "test.who.login")
	return s, port
}

func dialPlain(addr string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.Dial("tcp", addr) }
}

// TestSmugglingWithoutProxy: the gateway itself reads odd requests in one way.
func TestSmugglingWithoutProxy(t *testing.T) {
	t.Parallel()
	s, port := alone(t)
	smuggling(t, s, false, dialPlain("127.0.0.1:"+port))
}

// TestSmugglingThroughVarnish: a cache, which reuses connections to the gateway for many clients.
func TestSmugglingThroughVarnish(t *testing.T) {
	t.Parallel()
	if !testkit.Installed(t, "varnishd") {
		return
	}
	s, port := alone(t)
	dir := t.TempDir()
	vcl := filepath.Join(dir, "default.vcl")
	text := "vcl 4.1;\nbackend default { .host = \"127.0.0.1\"; .port = \"" + port + "\"; }\nsub vcl_recv { return (pass); }\n"
	if err := os.WriteFile(vcl, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	until(t, "varnish runs", func() bool {
		addr := "127.0.0.1:" + testkit.FreePort(t)
		running := start(t, "varnishd", "-F", "-f", vcl, "-n", filepath.Join(dir, "work"), "-a", addr, "-j", "none")
		up := false
		until(t, "varnish answers or ends", func() bool {
			select {
			case <-running.exited:
				if !strings.Contains(strings.ToLower(running.output()), "in use") {
					t.Fatalf("varnishd:\n%s", running.output())
				}
				return true
			default:
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/test/model", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(r)
			if err == nil {
				up = resp.StatusCode == http.StatusOK
				_ = resp.Body.Close()
			}
			return up
		})
		if up {
			smuggling(t, s, false, dialPlain(addr))
		}
		return up
	})
}
