package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/selfsigned"
	"sluice/internal/testkit"
)

// rawConn opens a connection to the gateway, over TLS if secure is set.
func (g *live) rawConn(secure bool) net.Conn {
	g.tb.Helper()
	conn, err := net.Dial("tcp", g.Addr().String())
	if err != nil {
		g.tb.Fatal(err)
	}
	g.tb.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		g.tb.Fatal(err)
	}
	if !secure {
		return conn
	}
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{"http/1.1"}})
}

// exchange sends a request, calls sent, and returns all that the gateway sends until it closes.
func (g *live) exchange(secure bool, request string, sent func(net.Conn) error) string {
	g.tb.Helper()
	conn := g.rawConn(secure)
	if _, err := io.WriteString(conn, request); err != nil {
		g.tb.Fatal(err)
	}
	if err := sent(conn); err != nil {
		g.tb.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		g.tb.Errorf("after %d bytes: %v", len(b), err)
	}
	return string(b)
}

// shutdownWrite ends the client's side of the connection: a FIN, after a close_notify over TLS.
func shutdownWrite(conn net.Conn) error {
	return conn.(interface{ CloseWrite() error }).CloseWrite()
}

// edges runs f for a gateway with plain connections and one with TLS.
func edges(t *testing.T, f func(t *testing.T, g *live, secure bool)) {
	pair, err := selfsigned.New("localhost")
	if err != nil {
		t.Fatal(err)
	}
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "TLS"}[secure], func(t *testing.T) {
			g := startLive(t, func(c *Config) {
				if secure {
					c.TLS = true
					c.TLSCert, c.TLSKey = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
					if err := pair.Write(c.TLSCert, c.TLSKey); err != nil {
						t.Fatal(err)
					}
				}
			})
			g.serve("access.>", always(`{"result":{"get":true,"call":"*"}}`))
			f(t, g, secure)
		})
	}
}

// A client that half-closes its connection gets the full response, then the gateway closes. That
// holds on the loops, on net/http, and for requests still in flight when the FIN arrives.
func TestHalfClosedClientsGetTheirResponse(t *testing.T) {
	edges(t, func(t *testing.T, g *live, secure bool) {
		pending := make(chan *nats.Msg, 4)
		hold := func(m *nats.Msg) string {
			pending <- m
			return ""
		}
		g.serve("get.test.slow", hold)
		g.serve("call.test.slow.set", hold)
		g.serve("get.test.big", always(`{"result":{"model":{"text":"`+strings.Repeat("x", 900<<10)+`"}}}`))
		const get, call = `{"result":{"model":{"n":1}}}`, `{"result":{"n":1}}`
		for _, tt := range []struct{ name, request, reply string }{
			{"GET", "GET /api/test/slow HTTP/1.1\r\nHost: x\r\n\r\n", get},
			{"POST", "POST /api/test/slow/set HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", call},
			{"chunked POST", "POST /api/test/slow/set HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", call},
		} {
			got := g.exchange(secure, tt.request, func(conn net.Conn) error {
				m := <-pending // the gateway has asked the service
				if err := shutdownWrite(conn); err != nil {
					return err
				}
				return m.Respond([]byte(tt.reply))
			})
			if !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.HasSuffix(got, `{"n":1}`) {
				t.Errorf("%s: %q", tt.name, got)
			}
		}
		for name, path := range map[string]string{"large": "/api/test/big", "health": "/healthz"} {
			got := g.exchange(secure, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n", shutdownWrite)
			if !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.HasSuffix(got, "}") || name == "large" && len(got) < 900<<10 {
				t.Errorf("%s: %d bytes, %.100q", name, len(got), got)
			}
		}
	})
}

// A client whose body is rejected reads the response, not a reset, although it sends the whole body
// before it reads.
func TestRejectedBodiesAreRead(t *testing.T) {
	edges(t, func(t *testing.T, g *live, secure bool) {
		for _, tt := range []struct {
			method, path string
			status       int
		}{
			{"POST", "/api/test/model/set", http.StatusRequestEntityTooLarge},
			{"PUT", "/api/test/model", http.StatusMethodNotAllowed},
			{"POST", "/nowhere", http.StatusNotFound},
		} {
			const size = 5 << 20
			request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", tt.method, tt.path, size)
			got := g.exchange(secure, request+strings.Repeat("x", size), func(net.Conn) error { return nil })
			if want := fmt.Sprintf("HTTP/1.1 %d ", tt.status); !strings.HasPrefix(got, want) {
				t.Errorf("%s %s: %.60q, want %s", tt.method, tt.path, got, want)
			}
		}
	})
}

// Heads as large as single sign-on makes them: 24 KiB of cookies in an upgrade, 48 KiB of
// Authorization in a GET, on a loop and at net/http, in one piece and in many.
func TestLargeHeads(t *testing.T) {
	edges(t, func(t *testing.T, g *live, secure bool) {
		g.serve("get.test.model", always(`{"result":{"model":{"n":1}}}`))
		cookie := "Cookie: " + strings.Repeat("c", 24<<10) + "\r\n"
		authorization := "Authorization: " + strings.Repeat("a", 48<<10) + "\r\n"
		const upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
		for _, tt := range []struct {
			name, head string
			status     int
		}{
			{"upgrade", "GET / HTTP/1.1\r\nHost: x\r\n" + cookie + upgrade, http.StatusSwitchingProtocols},
			{"GET", "GET /api/test/model HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + authorization, http.StatusOK},
			{"health check", "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + authorization, http.StatusOK},
			{"too large", "GET / HTTP/1.1\r\nHost: x\r\n" + authorization + cookie, http.StatusRequestHeaderFieldsTooLarge},
		} {
			for _, piece := range []int{1 << 20, 1 << 10} {
				conn := g.rawConn(secure)
				for rest := tt.head + "\r\n"; rest != ""; {
					n := min(piece, len(rest))
					if _, err := io.WriteString(conn, rest[:n]); err != nil {
						break // rejected before its end
					}
					rest = rest[n:]
				}
				var got [12]byte
				_, err := io.ReadFull(conn, got[:])
				if want := fmt.Sprintf("HTTP/1.1 %d", tt.status); err != nil || string(got[:]) != want {
					t.Errorf("%s in pieces of %d: %q, %v; want %s", tt.name, piece, got[:], err, want)
				}
				_ = conn.Close()
			}
		}
	})
}
