package httpedge

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"sluice/internal/httpapi"
)

// With a list of origins, every response has Vary: Origin once, also those that net/http sends
// without a handler.
func TestVaryOnResponsesOfNetHTTP(t *testing.T) {
	list := func(o *Options) {
		o.API = httpapi.Options{APIPath: "/resources/", AllowOrigin: []string{"http://a.example"}}
		o.Pages = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/body" { // a body that looks like a head
				_, _ = io.WriteString(w, strings.Repeat("x", 8<<10))
				w.(http.Flusher).Flush()
				_, _ = io.WriteString(w, "HTTP/1.1 400 Bad Request\r\n\r\n")
				return
			}
			NotFound(w, r)
		})
	}
	ok := "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, tt := range []struct {
		request string
		status  int
	}{
		{"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", 431},
		{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
		{"GET / HTTP/1.1\r\nHost: h\r\nExpect: else\r\n\r\n", 417},
		{"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505},
		{"POST /resources/a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n!", 400},
		{"GET /nope HTTP/1.1\r\nHost: h\r\n\r\n", 404},
		{"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		{"GET /body HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200},
	} {
		for _, first := range []string{"", ok} {
			f := newHTTPFixture(t, list)
			c := f.dial(t)
			if first != "" {
				c.ask(first)
			}
			resp, body := c.ask(tt.request)
			if resp.StatusCode != tt.status || strings.Join(resp.Header["Vary"], "|") != "Origin" {
				t.Errorf("%.60q: status %d, want %d, Vary %q", tt.request, resp.StatusCode, tt.status, resp.Header["Vary"])
			}
			if strings.Contains(body, "Vary") {
				t.Errorf("%.60q: the body was changed: %q", tt.request, body)
			}
		}
	}
	f := newHTTPFixture(t, nil)
	if resp, _ := f.dial(t).ask("GET * HTTP/1.1\r\nHost: h\r\n\r\n"); resp.Header["Vary"] != nil {
		t.Errorf("without a list: Vary %q", resp.Header["Vary"])
	}
}

// A connection that finds the queue full gets Vary, too.
func TestVaryOnRefusedHandover(t *testing.T) {
	l := newHandoverListener(nil, func() string { return "Vary: Origin\r\n" })
	_ = l.Close()
	gateway, client := pipe(t)
	l.refuse(gateway)
	answer, err := io.ReadAll(client)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 503 ") || strings.Count(string(answer), "\r\nVary: Origin\r\n") != 1 {
		t.Errorf("%q, %v", answer, err)
	}
}

// pipe returns the two ends of a TCP connection.
func pipe(t *testing.T) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return server, client
}
