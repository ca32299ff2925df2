package wsproto

import (
	"bytes"
	"compress/flate"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// pack returns a payload as permessage-deflate sends it.
func pack(payload string) string {
	room := make([]byte, 0, len(payload)+64)
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.out, d.most = room, 2*len(payload)+64 // longer ones, too
	d.flate.Reset(d)
	if _, err := d.flate.Write([]byte(payload)); err != nil {
		panic(err)
	}
	if err := d.flate.Flush(); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(string(d.out), syncTail)
}

// stored returns content as blocks that are not compressed, of up to size bytes
// each; final sets BFINAL in the last one.
func stored(content string, size int, final bool) string {
	var b []byte
	for more := true; more; {
		n := min(size, len(content))
		more = n < len(content)
		first := byte(0)
		if final && !more {
			first = 1
		}
		b = append(b, first, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		b = append(b, content[:n]...)
		content = content[n:]
	}
	return string(b)
}

func noise(n int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(n), 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// event is a message of the protocol above, of about n bytes, as JSON is: keys repeat, values do
// not.
func event(n int) []byte {
	b := []byte(`{"event":"library.books.add","data":{"idx":3,"value":{"rid":"library.book.17"},"models":{`)
	for i := 17; len(b) < n-2; i++ {
		b = fmt.Appendf(b, `"library.book.%d":{"title":"Book number %d","author":"Author %x","year":%d,"price":%d.%02d},`,
			i, i, i*7919%1000, 1900+i*31%120, i*17%90, i*13%100)
	}
	return append(b[:len(b)-1], `}}}`...)
}

// TestAppendDeflated: every payload comes back, through the standard library,
// from a frame that is never longer than the plain one and never needs more room.
func TestAppendDeflated(t *testing.T) {
	payloads := map[string][]byte{"empty": nil}
	for _, n := range []int{1, DeflateThreshold - 1, DeflateThreshold, DeflateThreshold + 1, 300, 1000, 4096, 32767, 32768, 65535, 65536, 65537, 200000, 1 << 20} {
		payloads[fmt.Sprintf("zeros/%d", n)] = make([]byte, n)
		payloads[fmt.Sprintf("noise/%d", n)] = noise(n)
		payloads[fmt.Sprintf("event/%d", n)] = event(n)
		payloads[fmt.Sprintf("half noise/%d", n)] = append(noise(n/2), make([]byte, n-n/2)...)
	}
	for name, payload := range payloads {
		t.Run(name, func(t *testing.T) {
			plain := AppendFrame(nil, OpText, payload)
			buf := make([]byte, 6, 6+MaxHeader+len(payload))
			copy(buf, "before")
			out := AppendDeflated(buf, OpText, payload)
			if &out[0] != &buf[0] {
				t.Error("the room did not suffice")
			}
			got, ok := bytes.CutPrefix(out, []byte("before"))
			if !ok || len(got) > len(plain) {
				t.Fatalf("%d bytes, plain %d, %q…", len(got), len(plain), out[:6])
			}
			f, err := referenceFrame(got, OpContinuation, false, 0, 2<<20, modeDeflate|modeServer)
			if err != nil || !f.whole || !f.fin || f.op != OpText || f.size != len(got) {
				t.Fatalf("%+v, %v", f, err)
			}
			if !f.packed {
				if !bytes.Equal(got, plain) {
					t.Fatal("not the plain frame")
				}
				if compressible := !strings.HasPrefix(name, "noise"); compressible && len(payload) >= 300 {
					t.Fatal("not compressed")
				}
				return
			}
			if len(payload) < DeflateThreshold {
				t.Fatal("compressed below the threshold")
			}
			if text, err := referenceInflate(f.payload, len(payload)); err != nil || !bytes.Equal(text, payload) {
				t.Fatalf("%d of %d bytes, %v", len(text), len(payload), err)
			}
			if again := AppendDeflated(nil, OpText, payload); !bytes.Equal(again, got) {
				t.Fatal("another frame the second time: it depends on what went before")
			}
		})
	}
}

// TestAppendDeflatedElsewhere: frames made by many goroutines at once.
func TestAppendDeflatedElsewhere(t *testing.T) {
	want := AppendDeflated(nil, OpText, event(2000))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var p Parser
			p.EnableDeflate()
			p.FromServer()
			for range 50 {
				got := AppendDeflated(nil, OpText, event(2000))
				if !bytes.Equal(got, want) {
					t.Error("another frame")
				}
				if m, _, done, err := p.Next(got, Limits{}); !done || err != nil || !bytes.Equal(m.Payload, event(2000)) {
					t.Error(done, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestCompressed covers RFC 7692 sections 6 and 7.2, its examples included.
func TestCompressed(t *testing.T) {
	packed := func(fin bool, op Op, payload string) []byte { return withBits(0x40, frame(fin, op, payload)) }
	const hello = "\xf2\x48\xcd\xc9\xc9\x07\x00"
	text := string(event(3000))
	cases := []frameCase{
		{name: "section 7.2.3.1", in: packed(fin, OpText, hello), want: []string{got(OpText, "Hello")}},
		{name: "section 7.2.3.1, fragments", in: stream(packed(more, OpText, hello[:3]), frame(fin, OpContinuation, hello[3:])), want: []string{got(OpText, "Hello")}},
		{
			name: "section 7.2.3.2, the window of an earlier message", in: stream(packed(fin, OpText, hello), packed(fin, OpText, "\xf2\x00\x11\x00\x00")),
			want: []string{got(OpText, "Hello"), failed(ErrCompressed)},
		},
		{name: "section 7.2.3.3, a block without compression", in: packed(fin, OpText, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), want: []string{got(OpText, "Hello")}},
		{name: "section 7.2.3.4, a final block", in: packed(fin, OpText, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), want: []string{got(OpText, "Hello")}},
		{name: "section 7.2.3.5, two blocks", in: packed(fin, OpText, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), want: []string{got(OpText, "Hello")}},
		{name: "section 7.2.3.6, empty", in: packed(fin, OpText, "\x00"), want: []string{got(OpText, "")}},

		{name: "without a block", in: packed(fin, OpText, ""), want: []string{got(OpText, "")}},
		{name: "without a block, fragments", in: stream(packed(more, OpText, ""), frame(fin, OpContinuation, "")), want: []string{got(OpText, "")}},
		{name: "empty fragments around", in: stream(packed(more, OpText, ""), frame(more, OpContinuation, hello), frame(fin, OpContinuation, "")), want: []string{got(OpText, "Hello")}},
		{name: "a ping within", in: stream(packed(more, OpText, hello[:5]), frame(fin, OpPing, "p"), frame(fin, OpContinuation, hello[5:])), want: []string{got(OpPing, "p"), got(OpText, "Hello")}},
		{name: "binary", in: packed(fin, OpBinary, pack("\xff\xfe")), want: []string{got(OpBinary, "\xff\xfe")}},
		{
			name: "plain, compressed and plain again", in: stream(frame(fin, OpText, "a"), packed(fin, OpText, hello), frame(fin, OpText, "b"), frame(more, OpText, "c"), frame(fin, OpContinuation, "d")),
			want: []string{got(OpText, "a"), got(OpText, "Hello"), got(OpText, "b"), got(OpText, "cd")},
		},
		{
			name: "fragmented plain after compressed", in: stream(packed(more, OpText, hello), frame(fin, OpContinuation, ""), frame(more, OpText, hello[4:5]), frame(fin, OpContinuation, "")),
			want: []string{got(OpText, "Hello"), failed(ErrInvalidUTF8)},
		},
		{name: "ours", in: maskedDeflated([]byte(text)), want: []string{got(OpText, text)}},
		{name: "close within", in: stream(packed(more, OpText, hello[:3]), closeFrame(1000, "")), want: []string{gotClose(1000, "")}},

		{name: "a final block, nothing behind it", in: packed(fin, OpText, "\xf3\x48\xcd\xc9\xc9\x07\x00"[:7]), want: []string{got(OpText, "Hello")}},
		{name: "a final block of which the tail is the end", in: packed(fin, OpText, "\x01"), want: []string{got(OpText, "")}},
		{name: "two streams", in: packed(fin, OpText, stored("Hel", 3, true)+stored("lo", 2, true)+"\x00"), want: []string{got(OpText, "Hello")}},
		{name: "two streams, the second refers to the first", in: packed(fin, OpText, stored("Hello", 5, true)+"\xf2\x00\x11\x00\x00"), want: []string{got(OpText, "HelloHello")}},
		{name: "streams in fragments", in: stream(packed(more, OpText, stored("Hel", 3, true)), frame(fin, OpContinuation, stored("lo", 2, true))), want: []string{got(OpText, "Hello")}},
		{name: "as many streams as may be", in: packed(fin, OpText, strings.Repeat("\x03\x00", freeStreams)), want: []string{got(OpText, "")}},
		{name: "too many streams", in: packed(fin, OpText, strings.Repeat("\x03\x00", freeStreams+1)), want: []string{failed(ErrCompressed)}},

		{
			name: "a distance without a code for it, after a message with one", // found by fuzzing
			in:   stream(packed(fin, OpText, pack(text)), packed(fin, OpBinary, "\xec\xc0\x01\r\x00\x00\x00\x010\xfdS\xdb\xd4\xf0%00000000000000")),
			want: []string{got(OpText, text), failed(ErrCompressed)},
		},
		{name: "reserved block", in: packed(fin, OpText, "\x07\x00"), want: []string{failed(ErrCompressed)}},
		{name: "noise", in: packed(fin, OpText, "\xff\xff\xff\xff"), want: []string{failed(ErrCompressed)}},
		{name: "lengths that disagree", in: packed(fin, OpText, "\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00"), want: []string{failed(ErrCompressed)}},
		{name: "with the tail", in: packed(fin, OpText, hello+syncTail), want: []string{failed(ErrCompressed)}},
		{name: "cut within a block", in: packed(fin, OpText, stored(text, 3000, false)[:100]), want: []string{failed(ErrCompressed)}},
		{name: "cut within a compressed block", in: packed(fin, OpText, pack(text)[:100]), want: []string{failed(ErrCompressed)}},
		{name: "the tail is taken for content", in: packed(fin, OpBinary, "\x01\x02\x00\xfd\xff"), want: []string{failed(ErrCompressed)}},
		{name: "the tail's end is taken for content", in: packed(fin, OpBinary, "\x01\x07\x00\xf8\xff"), want: []string{failed(ErrCompressed)}},

		{name: "RSV1 in a continuation", in: stream(packed(more, OpText, hello[:3]), packed(fin, OpContinuation, hello[3:])), want: []string{failed(ErrReservedBits)}, failAt: 6 + 3 + 1},
		{name: "RSV1 in a continuation of a plain message", in: stream(frame(more, OpText, "a"), packed(fin, OpContinuation, "b")), want: []string{failed(ErrReservedBits)}},
		{name: "RSV1 in a message within another", in: stream(frame(more, OpText, "a"), packed(fin, OpText, hello)), want: []string{failed(ErrExpectedContinuation)}},
	}
	for _, op := range []Op{OpClose, OpPing, OpPong, 3, 7, 11, 15} {
		cases = append(cases, frameCase{name: fmt.Sprintf("RSV1 in opcode %d", op), in: packed(fin, op, ""), want: []string{failed(ErrReservedBits)}, failAt: 1})
	}
	for _, bits := range []byte{0x10, 0x20, 0x30, 0x50, 0x60, 0x70} {
		cases = append(cases, frameCase{name: fmt.Sprintf("bits %#x", bits), in: withBits(bits, frame(fin, OpText, hello)), want: []string{failed(ErrReservedBits)}, failAt: 1})
	}
	for _, text := range validTexts {
		cases = append(cases, frameCase{name: fmt.Sprintf("%q", text), in: packed(fin, OpText, pack(text)), want: []string{got(OpText, text)}})
	}
	for _, c := range invalidTexts {
		cases = append(cases,
			frameCase{name: fmt.Sprintf("%q", c.text), in: packed(fin, OpText, pack(c.text)), want: []string{failed(ErrInvalidUTF8)}},
			frameCase{name: fmt.Sprintf("%q as binary", c.text), in: packed(fin, OpBinary, pack(c.text)), want: []string{got(OpBinary, c.text)}})
	}
	for _, n := range []int{1, 511, 512, 513, 5000, 65536, 1 << 20} { // across the buffer's sizes
		text := strings.Repeat("x", n)
		cases = append(cases, frameCase{name: fmt.Sprintf("%d bytes", n), in: packed(fin, OpText, pack(text)), want: []string{got(OpText, text)}})
	}
	for i := range cases {
		cases[i].mode = modeDeflate
	}
	runFrames(t, cases)
}

// TestCompressedLimits: what a message inflates to is bounded, and what it may
// have on the wire before that.
func TestCompressedLimits(t *testing.T) {
	packed := func(fin bool, op Op, payload string) []byte { return withBits(0x40, frame(fin, op, payload)) }
	zeros := func(n int) string { return strings.Repeat("\x00", n) }
	tooLarge := []string{failed(ErrMessageTooLarge)}
	random := string(noise(10000))
	half := pack(zeros(100000))
	empty := strings.Repeat("\x00\x00\x00\xff\xff", 40) // blocks without content
	cases := []frameCase{
		{name: "at the limit", in: packed(fin, OpBinary, pack(zeros(100))), limit: 100, want: []string{got(OpBinary, zeros(100))}},
		{name: "above the limit", in: packed(fin, OpBinary, pack(zeros(101))), limit: 100, want: tooLarge},
		{name: "at the default", in: packed(fin, OpBinary, pack(zeros(DefaultMaxMessage))), want: []string{got(OpBinary, zeros(DefaultMaxMessage))}},
		{name: "above the default", in: packed(fin, OpBinary, pack(zeros(DefaultMaxMessage+1))), want: tooLarge},
		{name: "a bomb", in: packed(fin, OpBinary, pack(zeros(16<<20))), limit: 1000, want: tooLarge},
		{name: "a bomb of text", in: packed(fin, OpText, pack("\xff"+zeros(16<<20))), limit: 1000, want: tooLarge},
		{name: "a bomb in fragments", in: stream(packed(more, OpBinary, half[:20]), frame(fin, OpContinuation, half[20:])), limit: 1000, want: tooLarge},
		{name: "a bomb of two streams", in: packed(fin, OpBinary, stored(zeros(60), 60, true)+stored(zeros(60), 60, true)), limit: 100, want: tooLarge},
		{name: "a stream in two, at the limit", in: packed(fin, OpBinary, stored(zeros(50), 50, true)+stored(zeros(50), 50, true)), limit: 100, want: []string{got(OpBinary, zeros(100))}},
		{name: "invalid at the limit", in: packed(fin, OpBinary, stored(zeros(100), 100, false)+"\x07"), limit: 100, want: []string{failed(ErrCompressed)}},
		{name: "incompressible at the limit", in: packed(fin, OpBinary, stored(random, 1000, false)+"\x00"), limit: len(random), want: []string{got(OpBinary, random)}},
		{name: "long on the wire, at its limit", in: packed(fin, OpBinary, empty[:packedLimit(100)-packedLimit(100)%5]+"\x00"), limit: 100, want: []string{got(OpBinary, "")}},
		{name: "too long on the wire", in: packed(fin, OpBinary, empty[:packedLimit(100)+1]), limit: 100, want: tooLarge, failAt: 4},
		{name: "too long on the wire, in fragments", in: stream(packed(more, OpBinary, empty[:150]), frame(more, OpContinuation, empty[:packedLimit(100)-149])), limit: 100, want: tooLarge, failAt: 8 + 150 + 2},
		{name: "a plain message has its own limit", in: stream(packed(fin, OpBinary, pack(zeros(100))), frame(fin, OpBinary, zeros(101))), limit: 100, want: []string{got(OpBinary, zeros(100)), tooLarge[0]}},
	}
	for i := range cases {
		cases[i].mode = modeDeflate
	}
	runFrames(t, cases)
	for _, limit := range []int{1, 100, 1 << 20, maxLimit - 1, maxLimit} {
		if n := packedLimit(limit); n < limit || n > maxLimit {
			t.Errorf("packedLimit(%d) = %d", limit, n)
		}
	}
}

// TestBombMemory: a decompression bomb allocates no more memory than the limit allows.
func TestBombMemory(t *testing.T) {
	const size, limit = 64 << 20, 512 << 10
	bomb := withBits(0x40, frame(fin, OpBinary, pack(strings.Repeat("\x00", size))))
	if len(bomb) > limit {
		t.Fatalf("a bomb of %d bytes", len(bomb))
	}
	var p Parser
	p.EnableDeflate()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, _, err := p.Next(bomb, Limits{Message: limit})
	runtime.ReadMemStats(&after)
	if err != ErrMessageTooLarge || p.frag != nil {
		t.Fatalf("%v, buffer %v", err, p.frag)
	}
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 4*limit {
		t.Fatalf("%d bytes allocated with a limit of %d", taken, limit)
	}
}

// TestInflatedBufferIsGivenBack: with the next call, also if no byte has come.
func TestInflatedBufferIsGivenBack(t *testing.T) {
	var p Parser
	p.EnableDeflate()
	in := maskedDeflated(event(1000))
	m, n, done, err := p.Next(in, Limits{})
	if n != len(in) || !done || err != nil || p.frag == nil || string(m.Payload) != string(event(1000)) {
		t.Fatal(n, done, err)
	}
	if _, n, done, err := p.Next(nil, Limits{}); n != 0 || done || err != nil || p.frag != nil {
		t.Fatal("the buffer is still held", n, done, err)
	}
	if idle := (Parser{mode: modeDeflate}); p != idle {
		t.Fatalf("not idle: %+v", p)
	}
	p.Reset()
	if p != (Parser{}) {
		t.Fatalf("after Reset: %+v", p)
	}
}

// TestMaskedByServer: a server's frames must not be masked (RFC 6455 §5.1).
func TestMaskedByServer(t *testing.T) {
	runFrames(t, []frameCase{
		{name: "text", in: frame(fin, OpText, "Hello"), mode: modeServer, want: []string{failed(ErrMasked)}, failAt: 2},
		{name: "ping", in: frame(fin, OpPing, ""), mode: modeServer, want: []string{failed(ErrMasked)}, failAt: 2},
		{name: "after a good one", in: stream(AppendFrame(nil, OpText, []byte("é")), frame(fin, OpText, "")), mode: modeServer, want: []string{got(OpText, "é"), failed(ErrMasked)}},
	})
}

// TestKeepCompressed: a load client inflates a message itself, once for all its connections.
func TestKeepCompressed(t *testing.T) {
	const hello = "\xf2\x48\xcd\xc9\xc9\x07\x00"
	packed := func(fin bool, op Op, payload string) []byte { return withBits(0x40, frame(fin, op, payload)) }
	runFrames(t, []frameCase{
		{name: "one frame", in: packed(fin, OpText, hello), mode: modeKeep, want: []string{kept(OpText, hello)}},
		{name: "no UTF-8 check", in: packed(fin, OpText, "\xff"), mode: modeKeep, want: []string{kept(OpText, "\xff")}},
		{
			name: "fragments around a ping", in: stream(packed(more, OpText, hello[:3]), frame(fin, OpPing, "p"), frame(fin, OpContinuation, hello[3:])),
			mode: modeKeep, want: []string{got(OpPing, "p"), kept(OpText, hello)},
		},
		{
			name: "plain before and after", in: stream(frame(fin, OpText, "a"), packed(fin, OpBinary, hello), frame(more, OpText, "b"), frame(fin, OpContinuation, "c")),
			mode: modeKeep, want: []string{got(OpText, "a"), kept(OpBinary, hello), got(OpText, "bc")},
		},
		{name: "bit in a continuation", in: stream(packed(more, OpText, hello[:3]), packed(fin, OpContinuation, hello[3:])), mode: modeKeep, want: []string{failed(ErrReservedBits)}},
		{name: "too large", in: packed(fin, OpText, strings.Repeat("x", 1000)), limit: 800, mode: modeKeep, want: []string{failed(ErrMessageTooLarge)}},
	})
	text := event(3000)
	var p Parser
	p.FromServer()
	p.KeepCompressed()
	m, _, done, err := p.Next(AppendDeflated(nil, OpText, text), Limits{})
	if err != nil || !done || !m.Compressed {
		t.Fatal(m.Compressed, done, err)
	}
	out, err := InflateMessage(m.Op, m.Payload, len(text), nil)
	if err != nil || string(out.B) != string(text) {
		t.Errorf("%d bytes, %v", len(out.B), err)
	}
	out.Put()
	for want, packed := range map[error]string{
		ErrMessageTooLarge: string(m.Payload),
		ErrCompressed:      "\xff\xff\xff",
		ErrInvalidUTF8:     pack("\xff"),
	} {
		out, err := InflateMessage(OpText, []byte(packed), len(text)-1, nil)
		if err != want {
			t.Errorf("%v, want %v", err, want)
		}
		out.Put()
	}
}

// TestInflateYields: while a long message is inflated, yield is called for each few kilobytes of
// what is compressed, and of its text.
func TestInflateYields(t *testing.T) {
	const size = 1 << 20
	random := make([]byte, size)
	if _, err := rand.NewChaCha8([32]byte{}).Read(random); err != nil {
		t.Fatal(err)
	}
	text := hex.EncodeToString(random[:size/2])
	for name, packed := range map[string][]byte{
		"repeats": []byte(pack(strings.Repeat("a", size))),
		"Huffman": packedAt(t, flate.HuffmanOnly, text),
	} {
		n := 0
		out, err := InflateMessage(OpText, packed, size, func() { n++ })
		if err != nil || len(out.B) != size {
			t.Errorf("%s: %d bytes, %v", name, len(out.B), err)
		}
		out.Put()
		if n < len(packed)/yieldBytes || n < size/window {
			t.Errorf("%s: called %d times for %d bytes that become %d", name, n, len(packed), size)
		}
	}
}

// packedAt returns a payload as permessage-deflate sends it, compressed at a level.
func packedAt(t *testing.T, level int, payload string) []byte {
	var b bytes.Buffer
	z, err := flate.NewWriter(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = z.Write([]byte(payload)) // a bytes.Buffer takes all
	_ = z.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte(syncTail))
}
