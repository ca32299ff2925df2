//go:build linux

package floor

import (
	"bytes"
	"io"
	"net"
	"testing"
)

func TestFeedLines(t *testing.T) {
	line := AppendLine(nil, 42, []byte(`{"a b":1}`))
	topic, payload, ok := ParseLine(bytes.TrimSuffix(line, []byte("\n")))
	if !ok || topic != 42 || string(payload) != `{"a b":1}` {
		t.Errorf("%d %s %v", topic, payload, ok)
	}
	for _, bad := range []string{"", "42", "x y", " 1"} {
		if _, _, ok := ParseLine([]byte(bad)); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// A client that breaks the protocol loses its connection, and no other client does.
func TestBrokenClientsAreDropped(t *testing.T) {
	s, err := Listen(Options{})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve() }()
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, bad := range []string{"\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"} {
		c, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(bad)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); len(got) != 0 {
			t.Errorf("%q: response %q, %v", bad, got, err)
		}
		_ = c.Close()
	}
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(response))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, response) {
		t.Errorf("%q, %v", got, err)
	}
}
