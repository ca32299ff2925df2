package wsproto

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// FuzzParser feeds any bytes, whole and cut at random: the outcome must be the
// same, and that of the reference decoder; the feeder watches memory.
func FuzzParser(f *testing.F) {
	for i, in := range [][]byte{
		frame(fin, OpText, "Hello"),
		frame(fin, OpBinary, strings.Repeat("x", 126)),
		frame(fin, OpText, "κόσμε\xf4\x90\x80\x80"),
		stream(frame(more, OpText, "a\xe2"), frame(fin, OpPing, "p"), frame(more, OpContinuation, "\x82"), frame(fin, OpContinuation, "\xac")),
		stream(frame(more, OpBinary, "\xff"), frame(more, OpContinuation, ""), frame(fin, OpContinuation, "\xfe"), closeFrame(1000, "bye")),
		stream(frame(fin, OpText, "x"), frame(fin, OpContinuation, "y")),
		closeFrame(999, ""),
		closeFrame(1000, "\xff"),
		frame(fin, OpClose, "x"),
		withBits(0x40, frame(fin, OpText, "x")),
		frame(fin, 3, ""),
		AppendFrame(nil, OpText, []byte("x")),
		{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0},
		{0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4},
		{0x82, 0xfe, 0, 5, 1, 2, 3, 4},
		withBits(0x40, frame(fin, OpText, "\xf2\x48\xcd\xc9\xc9\x07\x00")),
		stream(withBits(0x40, frame(more, OpText, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca")), frame(fin, OpPing, ""), frame(fin, OpContinuation, "\xc9\xc9\x07\x00")),
		withBits(0x40, frame(fin, OpBinary, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00")),
		maskedDeflated(bytes.Repeat([]byte("aé€😀"), 100)),
	} {
		f.Add(in, uint32(i*100), uint64(i), uint8(0))
		f.Add(in, uint32(i*100), uint64(i), uint8(modeDeflate))
		if in, ok := fromServer(in); ok {
			f.Add(in, uint32(i*100), uint64(i), uint8(modeServer|modeDeflate))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, limit uint32, seed uint64, modes uint8) {
		if len(in) > 4<<10 {
			return
		}
		mode := mode(modes) & (modeDeflate | modeServer)
		lim := 1 + int(limit%(128<<10))
		whole := newFeeder(t, lim, mode)
		whole.feed(in)
		pieces := newFeeder(t, lim, mode)
		rnd := rand.New(rand.NewPCG(seed, 0))
		for rest := in; len(rest) > 0; {
			n := min(1+rnd.IntN(1+rnd.IntN(64)), len(rest))
			pieces.feed(rest[:n])
			rest = rest[n:]
		}
		if !slices.Equal(whole.events, pieces.events) || len(whole.pending) != len(pieces.pending) {
			t.Fatalf("cut in pieces (seed %d):\n got %q, %d left\nwant %q, %d left", seed,
				pieces.events, len(pieces.pending), whole.events, len(whole.pending))
		}
		if want := reference(in, lim, mode); !slices.Equal(whole.events, want) {
			t.Fatalf("\n got %q\nwant %q", whole.events, want)
		}
	})
}

// FuzzMessages builds valid conversations from its input, cuts them at random
// and expects exactly what was sent.
func FuzzMessages(f *testing.F) {
	f.Add("Hello", "p", uint64(1))
	f.Add("aé€😀", "", uint64(2))
	f.Add(strings.Repeat("aé€😀", 100), strings.Repeat("p", MaxControl), uint64(3))
	f.Fuzz(func(t *testing.T, payload, ping string, seed uint64) {
		if len(payload) > 4<<10 || len(ping) > MaxControl {
			return
		}
		rnd := rand.New(rand.NewPCG(seed, 0))
		op := OpBinary
		if len(viablePrefix(payload)) == len(payload) {
			op = OpText
		}
		var in []byte
		var want []string
		for range 1 + rnd.IntN(3) {
			kind, rest := op, payload
			for rnd.IntN(3) > 0 {
				n := rnd.IntN(len(rest) + 1)
				in = append(in, AppendMaskedFrame(nil, more, kind, []byte(rest[:n]), [4]byte{byte(rnd.Uint32()), byte(rnd.Uint32())})...)
				kind, rest = OpContinuation, rest[n:]
				if rnd.IntN(2) == 0 {
					in = append(in, frame(fin, OpPing, ping)...)
					want = append(want, got(OpPing, ping))
				}
			}
			in = append(in, frame(fin, kind, rest)...)
			want = append(want, got(op, payload))
		}
		fd := newFeeder(t, len(payload)+1)
		for rest := in; len(rest) > 0; {
			n := min(1+rnd.IntN(1+rnd.IntN(len(in))), len(rest))
			fd.feed(rest[:n])
			rest = rest[n:]
		}
		if !slices.Equal(fd.events, want) || len(fd.pending) > 0 {
			t.Fatalf("\n got %q, %d left\nwant %q", fd.events, len(fd.pending), want)
		}
	})
}

func viablePrefix(s string) string { return s[:validPrefix(s, len(s))] }

// FuzzParseHead feeds any bytes, whole and cut at random, with the same
// outcome. What is accepted, the standard library must read in the same way.
func FuzzParseHead(f *testing.F) {
	for i, in := range []string{
		browserHead, handshake("GET http://host/a?b HTTP/1.0"),
		"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "GET / HTTP/1.1\nA: b\n\n", "GET / HTTP/1.1\r\nA : b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n", "\x16\x03\x01",
		"GET / HTTP/1.1\r\nHost: a\r\rB: c\r\n\r\n\x00",
	} {
		f.Add([]byte(in), uint16(1000*i), uint64(i))
	}
	f.Fuzz(func(t *testing.T, in []byte, limit uint16, seed uint64) {
		if len(in) > 4<<10 {
			return
		}
		lim := 1 + int(limit)
		var h, shared Head
		n, err := ParseHead(in, lim, &h)
		if n < 0 || n > min(len(in), lim) || err != nil && n != 0 {
			t.Fatalf("n = %d of %d with limit %d, %v", n, len(in), lim, err)
		}
		want := headOutcome(&h, n, err)
		rnd := rand.New(rand.NewPCG(seed, 0))
		if got := scanHead(in, lim, &shared, func() int { return 1 + rnd.IntN(1+rnd.IntN(200)) }); got != want {
			t.Fatalf("cut in pieces (seed %d):\n got %s\nwant %s", seed, got, want)
		}
		if n == 0 {
			return
		}
		if !bytes.HasSuffix(in[:n], []byte("\r\n\r\n")) {
			t.Fatalf("the head does not end in a blank line: %q", in[:n])
		}
		accepted := CheckUpgrade(&h) == nil
		h.Path()
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(in[:n])))
		if err != nil {
			return // it also judges what we leave to others: URLs, hosts, codings
		}
		if r.Method != string(h.Method) || r.RequestURI != string(h.Target) || r.Proto != string(h.Proto) {
			t.Fatalf("read as %q %q %q by the standard library, %q %q %q by us", r.Method, r.RequestURI, r.Proto, h.Method, h.Target, h.Proto)
		}
		if accepted {
			if r.ContentLength != 0 || r.Header.Get("Sec-WebSocket-Key") != string(h.Get("sec-websocket-key")) {
				t.Fatalf("handshake with a body or another key: %q", in[:n])
			}
			if resp := AppendUpgrade(nil, &h, nil); !bytes.HasPrefix(resp, []byte("HTTP/1.1 101 ")) {
				t.Fatalf("answer %q", resp)
			}
		}
		h.Each(func(name, value []byte) {
			if !slices.ContainsFunc(r.Header.Values(string(name)), func(v string) bool { return v == string(value) }) && !equalFold(name, "Host") &&
				!equalFold(name, "Content-Length") && !equalFold(name, "Transfer-Encoding") && !equalFold(name, "Trailer") {
				t.Fatalf("field %q: %q is not what the standard library reads: %q", name, value, r.Header)
			}
		})
	})
}
