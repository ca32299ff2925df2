package wsproto

import (
	"bytes"
	"strings"
	"testing"
	"unsafe"
)

// TestIdleSize: what every idle connection pays for its parser.
func TestIdleSize(t *testing.T) {
	if n := unsafe.Sizeof(Parser{}); n > 24 {
		t.Errorf("a Parser has %d bytes", n)
	}
	if n := unsafe.Sizeof(HeadScanner{}); n > 8 {
		t.Errorf("a HeadScanner has %d bytes", n)
	}
}

// TestAllocations: the hot paths take no memory.
func TestAllocations(t *testing.T) {
	masked := stream(
		frame(fin, OpText, `{"id":1,"method":"get.test.model"}`),
		frame(fin, OpText, strings.Repeat("aé€😀", 1000)),
		frame(fin, OpBinary, strings.Repeat("x", 70000)),
		frame(fin, OpPing, "ping"), frame(fin, OpPong, ""),
	)
	fragmented := stream(frame(more, OpText, "a\xe2"), frame(fin, OpPing, "ping"), frame(fin, OpContinuation, "\x82\xac"))
	growing := frame(more, OpBinary, "")
	for n := 100; n < 100<<10; n *= 2 {
		growing = append(growing, frame(more, OpContinuation, strings.Repeat("x", n))...)
	}
	growing = append(growing, frame(fin, OpContinuation, "")...)
	buf := make([]byte, 0, 1<<20)
	payload := bytes.Repeat([]byte{'x'}, 70000)
	text := event(2000)
	packed := stream(maskedDeflated(text), maskedDeflated(event(500)))
	browser := mustParse(t, browserHead)
	answer := NegotiateDeflate(browser)
	head := []byte(browserHead)
	claim, bad := []byte{0x82, 0xff, 0, 0, 0, 0, 0, 0xf, 0, 0}, []byte{0xff}
	var h Head
	var p Parser
	parse := func(in []byte) {
		buf = append(buf[:0], in...)
		rest := buf
		for {
			_, n, _, err := p.Next(rest, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			rest = rest[n:]
		}
		if len(rest) > 0 {
			t.Fatalf("%d bytes left", len(rest))
		}
	}
	cases := map[string]func(){
		"whole messages":           func() { parse(masked) },
		"header that claims a lot": func() { p.Next(claim, Limits{}) },
		"unfinished text":          func() { p.Reset(); p.Next(masked[:20], Limits{}) },
		"error":                    func() { p.Next(bad, Limits{}); p.Reset() },
		"AppendFrame":              func() { buf = AppendFrame(AppendFrame(buf[:0], OpText, payload), OpPong, payload[:5]) },
		"AppendClose":              func() { buf = AppendClose(buf[:0], CloseGoingAway, "shutting down") },
		"AppendMaskedFrame":        func() { buf = AppendMaskedFrame(buf[:0], fin, OpText, payload, testKey) },
		"handshake":                func() { handshakeOnce(t, head, &h, &buf) },
		"head in pieces": func() {
			var s HeadScanner
			for i := range head {
				if _, err := s.Parse(head[:i+1], 0, &h); err != nil {
					t.Fatal(err)
				}
			}
		},
		"negotiation": func() {
			if NegotiateDeflate(browser) != answer {
				t.Fatal("another answer")
			}
		},
		"AppendHTTPError": func() { buf = AppendHTTPError(buf[:0], ErrVersion.Status, ErrVersion.Header, ErrVersion.Reason) },
	}
	if !poolForgets {
		cases["fragmented message"] = func() { parse(fragmented) }
		cases["fragmented message that grows"] = func() { parse(growing) }
		cases["compressed messages"] = func() { p.EnableDeflate(); parse(packed) }
		cases["AppendDeflated"] = func() { buf = AppendDeflated(AppendDeflated(buf[:0], OpText, text), OpText, payload) }
	}
	for name, f := range cases {
		p.Reset()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func handshakeOnce(t testing.TB, head []byte, h *Head, buf *[]byte) {
	if n, err := ParseHead(head, 0, h); n != len(head) || err != nil {
		t.Fatal(n, err)
	}
	if !h.IsUpgrade() || len(h.Path()) == 0 {
		t.Fatal("not an upgrade")
	}
	if err := CheckUpgrade(h); err != nil {
		t.Fatal(err)
	}
	*buf = AppendUpgrade((*buf)[:0], h, nil)
}
