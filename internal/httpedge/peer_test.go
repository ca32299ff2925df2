package httpedge

import (
	"testing"

	"sluice/internal/jwtauth"
	"sluice/wsproto"
)

func TestHeaderMemo(t *testing.T) {
	parse := func(fields string) *wsproto.Head {
		text := []byte("GET / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n")
		head := new(wsproto.Head)
		if n, err := wsproto.ParseHead(text, len(text)+1, head); n == 0 || err != nil {
			t.Fatalf("%q: %v", fields, err)
		}
		return head
	}
	var m headerMemo
	for _, step := range []struct{ fields, want string }{
		{"", `{}`},
		{"Cookie: a\r\nSec-WebSocket-Key: 1\r\n", `{"Cookie":["a"]}`},
		{"Cookie: a\r\nsec-websocket-key: 2\r\n", `{"Cookie":["a"]}`},
		{"Cookie: b\r\n", `{"Cookie":["b"]}`},
		{"Cookie: a\r\nCookie: b\r\n", `{"Cookie":["a","b"]}`},
		{"Cookie: a\r\n", `{"Cookie":["a"]}`},
		{"A: b\r\nC: d\r\n", `{"A":["b"],"C":["d"]}`},
		{"A: bC: d\r\n", `{"A":["bC: d"]}`},
		{"", `{}`},
	} {
		if got := m.of(parse(step.fields), new(jwtauth.Found)).Value(); got != step.want {
			t.Errorf("%q: %s, want %s", step.fields, got, step.want)
		}
	}
	var found jwtauth.Found
	first, second := parse("Cookie: a\r\nSec-WebSocket-Key: 1\r\n"), parse("Cookie: a\r\nSec-WebSocket-Key: 2\r\n")
	m.of(first, &found)
	if n := testing.AllocsPerRun(100, func() { m.of(second, &found) }); n > 0 {
		t.Errorf("%v allocations for a header that is known, want none", n)
	}
}

func TestMemo(t *testing.T) {
	var m memo
	for _, text := range []string{"", "a", "a", "", "b"} {
		if got := m.of([]byte(text)).Value(); got != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
	text := []byte("example.com")
	m.of(text)
	if n := testing.AllocsPerRun(100, func() { m.of(text) }); n > 0 {
		t.Errorf("%v allocations for a text that is known, want none", n)
	}
}
