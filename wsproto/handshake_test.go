package wsproto

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestAccept is the example of RFC 6455 section 1.3.
func TestAccept(t *testing.T) {
	const want = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	if got := AppendAccept([]byte("x"), []byte("dGhlIHNhbXBsZSBub25jZQ==")); string(got) != "x"+want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// handshake builds a valid request with changes: "Name: value" sets a field,
// "-Name" removes it, "+Name: value" adds one more, and a line with "HTTP/"
// replaces the request line.
func handshake(changes ...string) string {
	line := "GET /ws HTTP/1.1"
	fields := []string{"Host: server.example.com", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Origin: http://example.com"}
	name := func(f string) string { n, _, _ := strings.Cut(f, ":"); return n }
	for _, c := range changes {
		switch {
		case strings.Contains(c, "HTTP/"):
			line = c
		case c[0] == '+':
			fields = append(fields, c[1:])
		default:
			for i, f := range fields {
				if name(f) == strings.TrimPrefix(name(c), "-") {
					fields[i] = c
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString(line + "\r\n")
	for _, f := range fields {
		if f[0] != '-' {
			b.WriteString(f + "\r\n")
		}
	}
	return b.String() + "\r\n"
}

// TestCheckUpgrade covers the requirements of RFC 6455 section 4.2.1.
func TestCheckUpgrade(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes []string
		want    *HandshakeError
	}{
		{"as it should be", nil, nil},
		{"without Origin", []string{"-Origin"}, nil},
		{"lists and other case", []string{"Upgrade: h2c, WebSocket", "Connection: keep-alive, upgrade"}, nil},
		{"subprotocols and extensions", []string{"+Sec-WebSocket-Protocol: chat, superchat", "+Sec-WebSocket-Extensions: permessage-deflate",
			"+Sec-WebSocket-Extensions: x-webkit-deflate-frame"}, nil},
		{"unknown fields", []string{"+X-Forwarded-For: 10.0.0.1", "+Cookie: a=b"}, nil},
		{"absolute target", []string{"GET http://server.example.com/ws?a=b HTTP/1.1"}, nil},
		{"later minor version", []string{"GET / HTTP/1.2"}, nil},
		{"IPv6 host", []string{"Host: [::1]:8080"}, nil},
		{"empty body", []string{"+Content-Length: 0"}, nil},

		{"POST", []string{"POST /ws HTTP/1.1"}, ErrMethod},
		{"HEAD", []string{"HEAD /ws HTTP/1.1"}, ErrMethod},
		{"get", []string{"get /ws HTTP/1.1"}, ErrMethod},
		{"HTTP/1.0", []string{"GET /ws HTTP/1.0"}, ErrProto},
		{"relative target", []string{"GET ws HTTP/1.1"}, ErrTarget},
		{"asterisk", []string{"GET * HTTP/1.1"}, ErrTarget},
		{"authority", []string{"GET server.example.com:80 HTTP/1.1"}, ErrTarget},
		{"other scheme", []string{"GET ftp://server.example.com/ HTTP/1.1"}, ErrTarget},
		{"scheme without host", []string{"GET http:///ws HTTP/1.1"}, ErrTarget},
		{"fragment", []string{"GET /ws#a HTTP/1.1"}, ErrTarget},
		{"fragment in the query", []string{"GET /ws?a#b HTTP/1.1"}, ErrTarget},
		{"no host", []string{"-Host"}, ErrHost},
		{"empty host", []string{"Host:"}, ErrHost},
		{"two hosts", []string{"+Host: other.example.com"}, ErrHost},
		{"list of hosts", []string{"Host: a, b"}, ErrHost},
		{"host with a path", []string{"Host: a/b"}, ErrHost},
		{"host with user", []string{"Host: a@b"}, ErrHost},
		{"no upgrade", []string{"-Upgrade"}, incomplete[lacksUpgrade]},
		{"other upgrade", []string{"Upgrade: h2c"}, incomplete[lacksUpgrade]},
		{"websocket as a part", []string{"Upgrade: websocket2"}, incomplete[lacksUpgrade]},
		{"no connection", []string{"-Connection"}, incomplete[lacksConnection]},
		{"other connection", []string{"Connection: keep-alive"}, incomplete[lacksConnection]},
		{"no version", []string{"-Sec-WebSocket-Version"}, incomplete[lacksVersion]},
		{"no version in HTTP/1.0", []string{"GET /ws HTTP/1.0", "-Sec-WebSocket-Version"}, incomplete[lacksVersion]},
		{"no key, other version", []string{"Sec-WebSocket-Version: 8", "-Sec-WebSocket-Key"}, incomplete[lacksKey]},
		{"neither", []string{"-Sec-WebSocket-Key", "-Sec-WebSocket-Version"}, incomplete[lacksKey|lacksVersion]},
		{"version 8", []string{"Sec-WebSocket-Version: 8"}, ErrVersion},
		{"version 14", []string{"Sec-WebSocket-Version: 14"}, ErrVersion},
		{"version list", []string{"Sec-WebSocket-Version: 13, 8"}, ErrVersion},
		{"version with a zero", []string{"Sec-WebSocket-Version: 013"}, ErrVersion},
		{"version twice", []string{"+Sec-WebSocket-Version: 13"}, ErrVersionRepeated},
		{"no key", []string{"-Sec-WebSocket-Key"}, incomplete[lacksKey]},
		{"empty key", []string{"Sec-WebSocket-Key:"}, ErrKey},
		{"short key", []string{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"}, ErrKey},
		{"key of 15 bytes", []string{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"}, ErrKey},
		{"key of 17 bytes", []string{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWU="}, ErrKey},
		{"key of 18 bytes", []string{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWVl"}, ErrKey},
		{"key without padding", []string{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"}, ErrKey},
		{"key not base64", []string{"Sec-WebSocket-Key: dGhlIHNhbXBsZ!Bub25jZQ=="}, ErrKey},
		{"key in the other alphabet", []string{"Sec-WebSocket-Key: dGhlIHNhbXBsZ-_ub25jZQ=="}, ErrKey},
		{"two keys", []string{"+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, ErrKeyRepeated},
		{"two origins", []string{"+Origin: http://evil.example.com"}, ErrOriginRepeated},
		{"body by length", []string{"+Content-Length: 5"}, ErrBody},
		{"body by a length with zeros", []string{"+Content-Length: 0100"}, ErrBody},
		{"body by coding", []string{"+Transfer-Encoding: chunked"}, ErrBody},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := CheckUpgrade(mustParse(t, handshake(c.changes...))); got != c.want {
				t.Fatalf("got %v, want %v", got, c.want)
			}
		})
	}
	if got := CheckUpgrade(mustParse(t, browserHead)); got != nil {
		t.Errorf("a browser's handshake: %v", got)
	}
	if got, want := incomplete[lacksConnection|lacksKey].Reason, "The WebSocket handshake lacks Connection: Upgrade, Sec-WebSocket-Key, which a proxy may have dropped."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, meant := CheckComplete(mustParse(t, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")); meant {
		t.Error("any request is taken for a handshake")
	}
	if got := CheckUpgrade(new(Head)); got != ErrMethod {
		t.Errorf("an empty head: %v", got)
	}
}

func readResponse(t *testing.T, b []byte) (*http.Response, string) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(b))
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("%v in %q", err, b)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		t.Fatalf("bytes behind the answer: %q", rest)
	}
	return resp, string(body)
}

// TestHandshakeErrors reads each answer with the standard library.
func TestHandshakeErrors(t *testing.T) {
	all := []*HandshakeError{ErrHeadTooLarge, ErrHeadControl, ErrHeadLineEnd, ErrHeadFold, ErrRequestLine, ErrHTTPVersion, ErrFieldName,
		ErrContentLength, ErrTransferEncoding, ErrMethod, ErrProto, ErrTarget, ErrHost, incomplete[lacksAll], ErrVersion,
		ErrVersionRepeated, ErrKeyRepeated, ErrKey, ErrOriginRepeated, ErrBody}
	status := map[*HandshakeError]int{ErrHeadTooLarge: 431, ErrHTTPVersion: 505, ErrMethod: 405, ErrVersion: 426}
	names := map[string]bool{}
	for _, e := range all {
		if names[e.Name] {
			t.Errorf("name %q is used twice", e.Name)
		}
		names[e.Name] = true
		resp, body := readResponse(t, AppendHTTPError(nil, e.Status, e.Header, e.Reason))
		want := status[e]
		if want == 0 {
			want = 400
		}
		if resp.StatusCode != want || body != e.Reason || !resp.Close {
			t.Errorf("%s: status %d, body %q, close %v", e.Name, resp.StatusCode, body, resp.Close)
		}
		if want == 426 && (resp.Header.Get("Sec-WebSocket-Version") != "13" || resp.Header.Get("Upgrade") != "websocket") {
			t.Errorf("%s: fields %v", e.Name, resp.Header)
		}
		if want == 405 && resp.Header.Get("Allow") != "GET" {
			t.Errorf("%s: fields %v", e.Name, resp.Header)
		}
	}
}

func TestAppendUpgrade(t *testing.T) {
	h := mustParse(t, browserHead)
	check := func(b []byte, extra string) {
		t.Helper()
		resp, _ := readResponse(t, b)
		for name, want := range map[string]string{
			"Upgrade": "websocket", "Connection": "Upgrade", "Sec-Websocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
			"Sec-Websocket-Protocol": "", "Sec-Websocket-Extensions": "", "Set-Cookie": extra,
		} {
			if got := resp.Header.Get(name); resp.StatusCode != 101 || got != want {
				t.Errorf("status %d, %s: %q, want %q", resp.StatusCode, name, got, want)
			}
		}
	}
	check(AppendUpgrade(nil, h, nil), "")
	check(AppendUpgrade(nil, h, func(dst []byte) []byte { return append(dst, "Set-Cookie: a=b\r\n"...) }), "a=b")
}

func TestAppendHTTPError(t *testing.T) {
	resp, body := readResponse(t, AppendHTTPError(nil, 503, "Retry-After: 3\r\n", "Full."))
	if resp.StatusCode != 503 || resp.Status != "503 Service Unavailable" || body != "Full." || resp.Header.Get("Retry-After") != "3" || !resp.Close {
		t.Fatalf("%+v, body %q", resp, body)
	}
	resp, body = readResponse(t, AppendHTTPError(nil, 599, "", ""))
	if resp.StatusCode != 599 || body != "" {
		t.Fatalf("%+v, body %q", resp, body)
	}
}
