package wsproto

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
)

func TestPlain(t *testing.T) {
	const get, post = "GET /a HTTP/1.1\r\nHost: h\r\n", "POST /a HTTP/1.1\r\nHost: h\r\n"
	for _, c := range []struct{ name, in, want string }{
		{"GET", get, "0"},
		{"HEAD", "HEAD /a HTTP/1.1\r\nHost: h:80\r\n", "0"},
		{"IPv6", "GET / HTTP/1.1\r\nhost: [::1]:80\r\n", "0"},
		{"query", "GET /a/b%2Ec?x=%&y=/?&z HTTP/1.1\r\nHost: h\r\n", "0"},
		{"close", get + "Connection: close\r\n", "0 last"},
		{"close in a list", get + "Connection: keep-alive ,\tCLOSE\r\n", "0 last"},
		{"close in a second field", get + "Connection: x\r\nconnection: close\r\n", "0 last"},
		{"keep-alive", get + "Connection: keep-alive, closed\r\n", "0"},
		{"length", post + "Content-Length: 12\r\n", "12"},
		{"length 0", post + "Content-Length: 0\r\n", "0"},
		{"length with zeros", post + "content-length: 0012\r\n", "12"},
		{"the longest length", post + "Content-Length: 999999999\r\n", "999999999"},
		{"GET with a body", get + "Content-Length: 3\r\n", "3"},

		{"longer than that", post + "Content-Length: 1000000000\r\n", "no"},
		{"too long for a number", post + "Content-Length: 18446744073709551617\r\n", "no"},
		{"coding", post + "Transfer-Encoding: chunked\r\n", "no"},
		{"some coding", post + "transfer-encoding: identity\r\n", "no"},
		{"empty coding", post + "Transfer-Encoding:\r\n", "no"},
		{"expectation", post + "Content-Length: 1\r\nExpect: 100-continue\r\n", "no"},
		{"upgrade", get + "Upgrade: h2c\r\n", "no"},
		{"trailer", get + "Trailer: A\r\n", "no"},
		{"no host", "GET / HTTP/1.1\r\n", "no"},
		{"two hosts", get + "Host: h\r\n", "no"},
		{"empty host", "GET / HTTP/1.1\r\nHost:\r\n", "no"},
		{"odd host", "GET / HTTP/1.1\r\nHost: a/b\r\n", "no"},
		{"host list", "GET / HTTP/1.1\r\nHost: a, b\r\n", "no"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\n", "no"},
		{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: h\r\n", "no"},
		{"absolute form", "GET http://h/ HTTP/1.1\r\nHost: h\r\n", "no"},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: h\r\n", "no"},
		{"authority form", "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n", "no"},
		{"half an escape", "GET /a%2 HTTP/1.1\r\nHost: h\r\n", "no"},
		{"no escape", "GET /%zz HTTP/1.1\r\nHost: h\r\n", "no"},
		{"fragment", "GET /a#b HTTP/1.1\r\nHost: h\r\n", "no"},
		{"fragment in the query", "GET /a?b#c HTTP/1.1\r\nHost: h\r\n", "no"},
		{"quote", "GET /\" HTTP/1.1\r\nHost: h\r\n", "no"},
		{"beyond ASCII", "GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n", "no"},
		{"beyond ASCII in the query", "GET /?\xc3\xa9 HTTP/1.1\r\nHost: h\r\n", "no"},
		{"backslash", "GET /a\\b HTTP/1.1\r\nHost: h\r\n", "no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h Head
			in := []byte(c.in + "\r\n")
			if n, err := ParseHead(in, 0, &h); n != len(in) || err != nil {
				t.Fatalf("the head is refused: %d, %v", n, err)
			}
			got := "no"
			if length, last, ok := h.Plain(); ok {
				if got = fmt.Sprint(length); last {
					got += " last"
				}
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// FuzzPlain holds what is plain against net/http: a request that we take must be the same one to
// another parser, from its first byte to its last.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{
		"GET /api/a?b=c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"POST /api/a/m HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
		"GET /%41//b HTTP/1.1\r\nHost: [::1]\r\nX: y\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"PUT //x HTTP/1.1\r\nHost: h\r\nContent-Length: 00000000000001\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var h Head
		n, err := ParseHead(in, 0, &h)
		if n == 0 || err != nil {
			return
		}
		length, last, ok := h.Plain()
		if !ok || length > len(in)-n {
			return
		}
		src := bytes.NewReader(in[:n+length])
		buffered := bufio.NewReader(src)
		r, err := http.ReadRequest(buffered)
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		body, err := io.ReadAll(r.Body)
		rest := buffered.Buffered() + src.Len()
		if err != nil || !bytes.Equal(body, in[n:n+length]) || rest != 0 {
			t.Fatalf("net/http's body is %q (%v), ours %q; %d bytes are left", body, err, in[n:n+length], rest)
		}
		if r.Method != string(h.Method) || r.RequestURI != string(h.Target) || r.Host != string(h.Get("Host")) {
			t.Fatalf("net/http reads %s %s for %s", r.Method, r.RequestURI, r.Host)
		}
		if r.URL.EscapedPath() != string(h.Path()) || r.Close != last || len(r.TransferEncoding) > 0 {
			t.Fatalf("net/http: path %q, close %v, coding %v; ours: path %q, close %v", r.URL.EscapedPath(), r.Close, r.TransferEncoding, h.Path(), last)
		}
	})
}
