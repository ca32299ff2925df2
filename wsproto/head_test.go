package wsproto

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A complete handshake as a browser sends it.
const browserHead = "GET /ws?x=1 HTTP/1.1\r\n" +
	"Host: localhost:8080\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n" +
	"Connection: keep-alive, Upgrade\r\n" +
	"Pragma: no-cache\r\n" +
	"Cache-Control: no-cache\r\n" +
	"Upgrade: websocket\r\n" +
	"Origin: http://localhost:8080\r\n" +
	"Sec-WebSocket-Version: 13\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-GB,en;q=0.9\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" +
	"\r\n"

// headOutcome writes down what a parse gave.
func headOutcome(h *Head, n int, err error) string {
	if err != nil {
		var e *HandshakeError
		if !errors.As(err, &e) {
			return "unexpected " + err.Error()
		}
		return "refused " + e.Name
	}
	if n == 0 {
		return "incomplete"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %q %q %q", n, h.Method, h.Target, h.Proto)
	h.Each(func(name, value []byte) { fmt.Fprintf(&b, " %q=%q", name, value) })
	return b.String()
}

// scanHead feeds in to a HeadScanner in pieces of the sizes that cut gives, each
// time at another address. Like a real caller it stops at the head's end.
func scanHead(in []byte, limit int, h *Head, cut func() int) string {
	var s HeadScanner
	for at := 0; ; {
		at = min(at+cut(), len(in))
		n, err := s.Parse(slices.Clone(in[:at]), limit, h)
		if n > 0 || err != nil || at == len(in) {
			return headOutcome(h, n, err)
		}
		if int(s.scan) < at-1 {
			return fmt.Sprintf("%d bytes of %d will be looked at again", at-int(s.scan), at)
		}
	}
}

// headOutcomes parses in whole, byte by byte and in random pieces, fails the
// test unless the outcome is the same each time, and returns it.
func headOutcomes(t *testing.T, in []byte, limit int) string {
	t.Helper()
	var h Head
	n, err := ParseHead(in, limit, &h)
	want := headOutcome(&h, n, err)
	var shared Head // one for all, as on an event loop
	if got := scanHead(in, limit, &shared, func() int { return 1 }); got != want {
		t.Fatalf("byte by byte:\n got %s\nwant %s as when parsed whole", got, want)
	}
	rnd := rand.New(rand.NewPCG(uint64(len(in)), 2))
	for range 8 {
		most := 1 + rnd.IntN(len(in)+1)
		if got := scanHead(in, limit, &shared, func() int { return 1 + rnd.IntN(most) }); got != want {
			t.Fatalf("random pieces:\n got %s\nwant %s as when parsed whole", got, want)
		}
	}
	return want
}

func TestParseHead(t *testing.T) {
	refused := func(e *HandshakeError) string { return "refused " + e.Name }
	const get = "GET / HTTP/1.1\r\n"
	for _, c := range []struct{ name, in, want string }{
		{"without fields", "GET / HTTP/1.1\r\n\r\n", `18 "GET" "/" "HTTP/1.1"`},
		{"one field", get + "Host: a\r\n\r\n", `27 "GET" "/" "HTTP/1.1" "Host"="a"`},
		{"bytes behind it", get + "\r\n\x81\x00\n\n", `18 "GET" "/" "HTTP/1.1"`},
		{"another request behind it", get + "\r\n" + get + "\r\n", `18 "GET" "/" "HTTP/1.1"`},
		{"HTTP/1.0", "POST /a?b=c HTTP/1.0\r\n\r\n", `24 "POST" "/a?b=c" "HTTP/1.0"`},
		{"white space around a value", get + "A: \t b c \t \r\nB:d\r\nC:\r\nD: \t\r\n\r\n", `46 "GET" "/" "HTTP/1.1" "A"="b c" "B"="d" "C"="" "D"=""`},
		{"colons in a value", get + "Host: [::1]:80\r\n\r\n", `34 "GET" "/" "HTTP/1.1" "Host"="[::1]:80"`},
		{"repeated fields", get + "a: 1\r\nA: 2\r\n\r\n", `30 "GET" "/" "HTTP/1.1" "a"="1" "A"="2"`},
		{"bytes beyond ASCII in target and value", "GET /é HTTP/1.1\r\nA: ü\r\n\r\n", `27 "GET" "/é" "HTTP/1.1" "A"="ü"`},
		{"all bytes of a token", "M-S.A_*+ / HTTP/1.1\r\n!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n", "49 \"M-S.A_*+\" \"/\" \"HTTP/1.1\" \"!#$%&'*+-.^_`|~09azAZ\"=\"x\""},
		{"body announced by length", "POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\nbody", `39 "POST" "/" "HTTP/1.1" "Content-Length"="12"`},
		{"body announced by coding", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", `47 "POST" "/" "HTTP/1.1" "Transfer-Encoding"="chunked"`},

		{"nothing", "", "incomplete"},
		{"part of the request line", "GET / HT", "incomplete"},
		{"request line", get, "incomplete"},
		{"no blank line", get + "Host: a\r\n", "incomplete"},
		{"half a blank line", get + "Host: a\r\n\r", "incomplete"},

		{"request line ends in LF", "GET / HTTP/1.1\n\r\n", refused(ErrHeadLineEnd)},
		{"field ends in LF", get + "Host: a\n\r\n", refused(ErrHeadLineEnd)},
		{"blank line ends in LF", get + "Host: a\r\n\n", refused(ErrHeadLineEnd)},
		{"lone CR in a field", get + "Host: a\rX: b\r\n\r\n", refused(ErrHeadControl)},
		{"CR CR LF", get + "Host: a\r\r\n\r\n", refused(ErrHeadControl)},
		{"lone CR at the beginning of a line", get + "\rHost: a\r\n\r\n", refused(ErrHeadControl)},
		{"NUL in a value", get + "Host: a\x00b\r\n\r\n", refused(ErrHeadControl)},
		{"NUL in an unfinished line", get + "Host: a\x00b", refused(ErrHeadControl)},
		{"DEL in a value", get + "Host: a\x7fb\r\n\r\n", refused(ErrHeadControl)},
		{"a TLS client hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", refused(ErrHeadControl)},
		{"control byte and LF", get + "Host: a\x01\n", refused(ErrHeadControl)},

		{"folded field", get + "A: b\r\n c\r\n\r\n", refused(ErrHeadFold)},
		{"field folded by a tab", get + "A: b\r\n\tc\r\n\r\n", refused(ErrHeadFold)},
		{"fold before the first field", get + " Host: a\r\n\r\n", refused(ErrHeadFold)},
		{"line of white space", get + "A: b\r\n \r\n\r\n", refused(ErrHeadFold)},

		{"blank line first", "\r\nGET / HTTP/1.1\r\n\r\n", refused(ErrRequestLine)},
		{"white space first", " GET / HTTP/1.1\r\n\r\n", refused(ErrRequestLine)},
		{"two spaces", "GET  / HTTP/1.1\r\n\r\n", refused(ErrRequestLine)},
		{"two spaces before the version", "GET /  HTTP/1.1\r\n\r\n", refused(ErrRequestLine)},
		{"space in the target", "GET /a b HTTP/1.1\r\n\r\n", refused(ErrRequestLine)},
		{"tab for space", "GET\t/ HTTP/1.1\r\n\r\n", refused(ErrRequestLine)},
		{"tab in the target", "GET /\t HTTP/1.1\r\n\r\n", refused(ErrRequestLine)},
		{"space at the end", "GET / HTTP/1.1 \r\n\r\n", refused(ErrRequestLine)},
		{"no target", "GET HTTP/1.1\r\n\r\n", refused(ErrRequestLine)},
		{"no version (HTTP/0.9)", "GET /\r\n\r\n", refused(ErrRequestLine)},
		{"method is no token", "G(T / HTTP/1.1\r\n\r\n", refused(ErrRequestLine)},
		{"version in lower case", "GET / http/1.1\r\n\r\n", refused(ErrRequestLine)},
		{"version of two digits", "GET / HTTP/1.10\r\n\r\n", refused(ErrRequestLine)},
		{"version without digit", "GET / HTTP/1.x\r\n\r\n", refused(ErrRequestLine)},
		{"version with a comma", "GET / HTTP/1,1\r\n\r\n", refused(ErrRequestLine)},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", refused(ErrHTTPVersion)},
		{"HTTP/0.9 by name", "GET / HTTP/0.9\r\n\r\n", refused(ErrHTTPVersion)},

		{"no colon", get + "Host\r\n\r\n", refused(ErrFieldName)},
		{"no name", get + ": a\r\n\r\n", refused(ErrFieldName)},
		{"white space before the colon", get + "Host : a\r\n\r\n", refused(ErrFieldName)},
		{"tab before the colon", get + "Host\t: a\r\n\r\n", refused(ErrFieldName)},
		{"white space in the name", get + "Ho st: a\r\n\r\n", refused(ErrFieldName)},
		{"name beyond ASCII", get + "Hóst: a\r\n\r\n", refused(ErrFieldName)},
		{"separator in the name", get + "Ho(st: a\r\n\r\n", refused(ErrFieldName)},

		{"length twice", get + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", refused(ErrContentLength)},
		{"length twice, the same", get + "Content-Length: 1\r\ncontent-length: 1\r\n\r\n", refused(ErrContentLength)},
		{"length as a list", get + "Content-Length: 1, 1\r\n\r\n", refused(ErrContentLength)},
		{"length with a sign", get + "Content-Length: +1\r\n\r\n", refused(ErrContentLength)},
		{"length negative", get + "Content-Length: -1\r\n\r\n", refused(ErrContentLength)},
		{"length in hex", get + "Content-Length: 0x1\r\n\r\n", refused(ErrContentLength)},
		{"length empty", get + "Content-Length:\r\n\r\n", refused(ErrContentLength)},
		{"length and coding", get + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", refused(ErrTransferEncoding)},
		{"coding and length", get + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", refused(ErrTransferEncoding)},
		{"coding in HTTP/1.0", "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", refused(ErrTransferEncoding)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := headOutcomes(t, []byte(c.in), 0); got != c.want {
				t.Fatalf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestHeadLimit(t *testing.T) {
	tooLarge := "refused " + ErrHeadTooLarge.Name
	head := "GET / HTTP/1.1\r\nA: b\r\n\r\n"
	for _, c := range []struct {
		name  string
		in    string
		limit int
		want  string
	}{
		{"at the limit", head, len(head), `24 "GET" "/" "HTTP/1.1" "A"="b"`},
		{"at the limit, bytes behind it", head + "xyz", len(head), `24 "GET" "/" "HTTP/1.1" "A"="b"`},
		{"one byte above", head, len(head) - 1, tooLarge},
		{"as many bytes as the limit and no end", head[:20], 20, tooLarge},
		{"one byte less than the limit", head[:19], 20, "incomplete"},
		{"endless request line", strings.Repeat("a", 100), 100, tooLarge},
		{"an error within the limit comes first", "GET  / HTTP/1.1\r\nA: b\r\n\r\n", 20, "refused " + ErrRequestLine.Name},
		{"an error beyond the limit does not count", "GET / HTTP/1.1\r\nA\x00: b\r\n\r\n", 17, tooLarge},
		{"default", "GET / HTTP/1.1\r\nA: " + strings.Repeat("b", DefaultMaxHead) + "\r\n\r\n", 0, tooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := headOutcomes(t, []byte(c.in), c.limit); got != c.want {
				t.Fatalf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestHeadStaysRejected: calling Parse again after an error returns the error again.
func TestHeadStaysRejected(t *testing.T) {
	var s HeadScanner
	var h Head
	in := []byte("GET / HTTP/1.1\r\nA : b\r\n")
	for range 3 {
		if n, err := s.Parse(in, 0, &h); n != 0 || err != ErrFieldName {
			t.Fatalf("got %d, %v", n, err)
		}
		in = append(in, "B: c\r\n\r\n"...)
	}
}

// TestHeadScannerIsReusable: after a complete head a HeadScanner parses the next one.
func TestHeadScannerIsReusable(t *testing.T) {
	var s HeadScanner
	var h Head
	for _, target := range []string{"/first", "/second"} {
		in := []byte("GET " + target + " HTTP/1.1\r\nA: b\r\n\r\n")
		s.Parse(in[:20], 0, &h)
		if n, err := s.Parse(in, 0, &h); n != len(in) || err != nil || string(h.Target) != target {
			t.Fatalf("got %d, %v, target %q", n, err, h.Target)
		}
	}
}

func mustParse(t testing.TB, in string) *Head {
	t.Helper()
	h := new(Head)
	if n, err := ParseHead([]byte(in), 0, h); n != len(in) || err != nil {
		t.Fatalf("ParseHead(%q) = %d, %v", in, n, err)
	}
	return h
}

func TestHeadGet(t *testing.T) {
	h := mustParse(t, "GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Two: 1\r\nx-two: 2\r\n\r\n")
	for name, want := range map[string]string{"Host": "a", "host": "a", "HOST": "a", "x-two": "1", "X-Empty": "", "Hos": "", "X-None": ""} {
		if got := h.Get(name); string(got) != want {
			t.Errorf("Get(%q) = %q, want %q", name, got, want)
		}
	}
	if h.Get("X-Empty") == nil || h.Get("X-None") != nil {
		t.Error("an empty field is not told from a missing one")
	}
}

func TestHeadPath(t *testing.T) {
	for target, want := range map[string]string{
		"/": "/", "/a/b": "/a/b", "/a?b": "/a", "/?": "/", "/a?b=http://c/d": "/a", "//a": "//a", "/é": "/é",
		"http://host/a/b?c": "/a/b", "http://host": "/", "http://host?a": "/", "http://host/": "/", "https://host:1/a": "/a",
		"http://host?a/b": "/",
		"*":               "*", "host:443": "host:443",
	} {
		if got := mustParse(t, "GET "+target+" HTTP/1.1\r\n\r\n").Path(); string(got) != want {
			t.Errorf("%q: Path() = %q, want %q", target, got, want)
		}
	}
	if got := new(Head).Path(); len(got) != 0 {
		t.Errorf("empty head: Path() = %q", got)
	}
}

func TestIsUpgrade(t *testing.T) {
	for fields, want := range map[string]bool{
		"Upgrade: websocket\r\nConnection: Upgrade\r\n":                           true,
		"upgrade: WebSocket\r\nconnection: keep-alive ,\tUPGRADE\r\n":             true,
		"Upgrade: h2c, websocket\r\nConnection: close\r\nConnection: upgrade\r\n": true,
		"Upgrade: websocket\r\n":                                                  false,
		"Connection: Upgrade\r\n":                                                 false,
		"Upgrade: h2c\r\nConnection: Upgrade\r\n":                                 false,
		"Upgrade: websockets\r\nConnection: Upgrade\r\n":                          false,
		"Upgrade: websocket\r\nConnection: Upgrades, x-upgrade\r\n":               false,
		"Upgrade:\r\nConnection:\r\n":                                             false,
		"":                                                                        false,
	} {
		if got := mustParse(t, "GET / HTTP/1.1\r\n"+fields+"\r\n").IsUpgrade(); got != want {
			t.Errorf("%q: IsUpgrade() = %v", fields, got)
		}
	}
}
