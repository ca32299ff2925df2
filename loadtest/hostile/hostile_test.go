//go:build linux

package hostile

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sluice/internal/testkit"
	"sluice/pool"
	"sluice/wsproto"
)

// The test binary is also a process of attackers.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "attack" {
		if err := Worker(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// victim is a server that reads frames, and closes a connection as the protocol says.
type victim struct {
	limit    int // bytes of a message
	addr     string
	messages chan []byte // of each text that it took
	closed   chan uint16 // codes of its close frames
}

func newVictim(t *testing.T, deflate bool, limit int) *victim {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	v := &victim{limit: limit, addr: l.Addr().String(), messages: make(chan []byte, 4), closed: make(chan uint16, 1024)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go v.serve(conn, deflate)
		}
	}()
	return v
}

func (v *victim) serve(conn net.Conn, deflate bool) {
	defer conn.Close()
	var in []byte
	buf := make([]byte, 256<<10)
	more := func() bool {
		n, err := conn.Read(buf)
		in = append(in, buf[:n]...)
		return err == nil
	}
	for !bytes.Contains(in, []byte("\r\n\r\n")) {
		if !more() {
			return
		}
	}
	_, rest, _ := bytes.Cut(in, []byte("\r\n\r\n"))
	in = append([]byte(nil), rest...)
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	if deflate {
		answer += "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
	}
	if _, err := io.WriteString(conn, answer+"\r\n"); err != nil {
		return
	}
	var p wsproto.Parser
	if deflate {
		p.EnableDeflate()
	}
	defer p.Reset()
	for {
		m, n, done, err := p.Next(in, wsproto.Limits{Message: v.limit})
		text := m.Payload
		if err == nil && done && m.Compressed {
			var b *pool.Buffer
			b, err = wsproto.InflateMessage(m.Op, m.Payload, v.limit, nil)
			text = b.B
		}
		var broken *wsproto.CloseError
		switch {
		case errors.As(err, &broken):
			_, _ = conn.Write(wsproto.AppendClose(nil, broken.Code, broken.Reason))
			select {
			case v.closed <- broken.Code:
			default:
			}
			return
		case done:
			select {
			case v.messages <- append([]byte(nil), text...):
			default:
			}
		}
		if in = in[n:]; n == 0 && !more() {
			return
		}
	}
}

// What attackers send is taken up to the endings, which close the connection, each for its own
// reason. Then they come again.
func TestAttack(t *testing.T) {
	for attack, codes := range map[string][]uint16{
		Plain:   {wsproto.CloseInvalidPayload, wsproto.CloseTooLarge},
		Deflate: {wsproto.CloseTooLarge, wsproto.CloseInvalidPayload},
	} {
		const size = 8 << 10
		v := newVictim(t, attack == Deflate, size)
		a, err := Begin(t.Context(), Config{Addr: v.addr, Path: "/", Attack: attack, Attackers: 2, Size: size, Limit: longest})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[uint16]bool{}
		for len(seen) < len(codes) {
			seen[testkit.Await(t, v.closed, "a close")] = true
		}
		counts := a.End()
		for _, code := range codes {
			if !seen[code] {
				t.Errorf("%s: closed with %v", attack, seen)
			}
		}
		if counts.Frames == 0 || counts.Bytes == 0 || counts.Connects < 2 {
			t.Errorf("%s: %+v", attack, counts)
		}
		text := testkit.Await(t, v.messages, "a message")
		var request struct {
			ID     int
			Method string
			Params []any
		}
		if err := json.Unmarshal(text, &request); err != nil || len(text) != size || request.ID != 1 || request.Method != "" || len(request.Params) < size/50 {
			t.Errorf("%s: %d bytes, %v", attack, len(text), err)
		}
	}
}

// A process attacks until its input ends.
func TestWorker(t *testing.T) {
	v := newVictim(t, false, 8<<10)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Start(exec.Command(self, "attack"), Config{Addr: v.addr, Path: "/", Attack: Plain, Attackers: 1, Size: 8 << 10, Limit: longest}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.PID() == os.Getpid() {
		t.Error("no process of its own")
	}
	testkit.Await(t, v.messages, "a message")
	testkit.Await(t, v.closed, "a close")
	if counts, err := r.End(); err != nil || counts.Frames == 0 {
		t.Errorf("%+v, %v", counts, err)
	}
	if _, err := Start(exec.Command(self, "attack"), Config{Addr: v.addr, Path: "/", Attack: Deflate, Attackers: 1, Size: 8 << 10, Limit: longest}, nil); err == nil || !strings.Contains(err.Error(), "does not compress") {
		t.Errorf("a server without compression: %v", err)
	}
}

// Attacks are bounded, and go to servers on this machine only.
func TestRefusedAttacks(t *testing.T) {
	good := Config{Addr: "127.0.0.1:1", Attack: Plain, Attackers: 4, Limit: time.Minute}
	for want, change := range map[string]func(*Config){
		"on this machine only": func(c *Config) { c.Addr = "192.0.2.1:80" },
		"not ip:port":          func(c *Config) { c.Addr = "localhost:80" },
		"unknown attack":       func(c *Config) { c.Attack = "x" },
		"there must be 1 to":   func(c *Config) { c.Attackers = MaxAttackers + 1 },
		"they must have":       func(c *Config) { c.Size = 5 },
		"it must end after":    func(c *Config) { c.Limit = longest + 1 },
		"refused":              func(*Config) {},
	} {
		cfg := good
		change(&cfg)
		if _, err := Begin(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	var out bytes.Buffer
	if err := Worker(strings.NewReader("{}\n"), &out); err != nil || !strings.Contains(out.String(), `"error":`) {
		t.Errorf("%v, %s", err, out.String())
	}
}

// The frames are as long as a server takes, and what they claim to be.
func TestFrames(t *testing.T) {
	const size = 64 << 10
	inflated := func(packed []byte) int64 {
		n, err := io.Copy(io.Discard, flate.NewReader(io.MultiReader(bytes.NewReader(packed), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
		if err != nil {
			t.Error(err)
		}
		return n
	}
	if n := inflated(bomb(5)); n != 5<<20 {
		t.Errorf("a bomb of %d bytes", n)
	}
	if n := len(bomb(700)); n > usualSize {
		t.Errorf("a bomb takes %d bytes", n)
	}
	packed := costly(size)
	if n := inflated(packed); len(packed) > size || len(packed) < size-100 || n < size/2 || n > size*6/10 {
		t.Errorf("%d bytes have %d of text", len(packed), n)
	}
	for _, attack := range []string{Plain, Deflate} {
		s := scriptOf(attack, size)
		for _, m := range s.opening {
			if len(m.wire) > size+14 || m.times < 1 {
				t.Errorf("%s: %d bytes, %d times", attack, len(m.wire), m.times)
			}
		}
	}
}
