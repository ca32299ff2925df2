package wsproto

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// Framing, pings and pongs, reserved bits, opcodes, masking, lengths: RFC 6455
// sections 5.1 to 5.3 and 5.5 to 5.6.

func TestFraming(t *testing.T) {
	var cases []frameCase
	for _, n := range []int{0, 1, 124, 125, 126, 127, 128, 65535, 65536, 65537} {
		text := strings.Repeat("*", n)
		binary := strings.Repeat("\xfe", n)
		cases = append(cases,
			frameCase{name: fmt.Sprintf("text of %d", n), in: frame(fin, OpText, text), want: []string{got(OpText, text)}},
			frameCase{name: fmt.Sprintf("binary of %d", n), in: frame(fin, OpBinary, binary), want: []string{got(OpBinary, binary)}})
	}
	cases = append(cases,
		frameCase{
			name: "the masked Hello of section 5.7",
			in:   []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58},
			want: []string{got(OpText, "Hello")},
		},
		frameCase{
			name: "several messages",
			in:   stream(frame(fin, OpText, "a"), frame(fin, OpBinary, "\x80"), frame(fin, OpText, ""), frame(fin, OpText, "d")),
			want: []string{got(OpText, "a"), got(OpBinary, "\x80"), got(OpText, ""), got(OpText, "d")},
		},
		frameCase{name: "nothing"},
	)
	runFrames(t, cases)
}

func TestMasking(t *testing.T) {
	unmasked := func(op Op, payload string) []byte { return AppendFrame(nil, op, []byte(payload)) }
	runFrames(t, []frameCase{
		{name: "text without mask", in: unmasked(OpText, "Hello"), want: []string{failed(ErrUnmasked)}, failAt: 2},
		{name: "empty text without mask", in: unmasked(OpText, ""), want: []string{failed(ErrUnmasked)}, failAt: 2},
		{name: "ping without mask", in: unmasked(OpPing, "Hello"), want: []string{failed(ErrUnmasked)}, failAt: 2},
		{name: "close without mask", in: unmasked(OpClose, ""), want: []string{failed(ErrUnmasked)}, failAt: 2},
		{
			name: "key of zeros",
			in:   AppendMaskedFrame(nil, fin, OpText, []byte("Hello"), [4]byte{}),
			want: []string{got(OpText, "Hello")},
		},
		{
			name: "a key for each frame",
			in: stream(AppendMaskedFrame(nil, more, OpText, []byte("Hel"), [4]byte{1, 2, 3, 4}),
				AppendMaskedFrame(nil, fin, OpContinuation, []byte("lo"), [4]byte{0xff, 0, 0xff, 0x80})),
			want: []string{got(OpText, "Hello")},
		},
	})
}

func TestPings(t *testing.T) {
	payload := strings.Repeat("\xfe", MaxControl)
	pings := make([][]byte, 10)
	want := make([]string, len(pings))
	for i := range pings {
		text := fmt.Sprintf("payload-%d", i)
		pings[i], want[i] = frame(fin, OpPing, text), got(OpPing, text)
	}
	long := []byte{0x89, 0xfe, 0, 126}
	runFrames(t, []frameCase{
		{name: "without payload", in: frame(fin, OpPing, ""), want: []string{got(OpPing, "")}},
		{name: "with text", in: frame(fin, OpPing, "Hello, world!"), want: []string{got(OpPing, "Hello, world!")}},
		{name: "with bytes that are not text", in: frame(fin, OpPing, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), want: []string{got(OpPing, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff")}},
		{name: "of 125", in: frame(fin, OpPing, payload), want: []string{got(OpPing, payload)}},
		{name: "of 126", in: frame(fin, OpPing, payload+"\xfe"), want: []string{failed(ErrControlTooLong)}, failAt: 2},
		{name: "of 65536", in: frame(fin, OpPing, strings.Repeat("x", 65536)), want: []string{failed(ErrControlTooLong)}},
		{name: "with a 16-bit length, header only", in: long, want: []string{failed(ErrControlTooLong)}, failAt: 2},
		{name: "unsolicited pong without payload", in: frame(fin, OpPong, ""), want: []string{got(OpPong, "")}},
		{name: "unsolicited pong with payload", in: frame(fin, OpPong, "unsolicited"), want: []string{got(OpPong, "unsolicited")}},
		{
			name: "unsolicited pong, then ping",
			in:   stream(frame(fin, OpPong, "a"), frame(fin, OpPing, "b")),
			want: []string{got(OpPong, "a"), got(OpPing, "b")},
		},
		{name: "pong of 126", in: frame(fin, OpPong, payload+"\xfe"), want: []string{failed(ErrControlTooLong)}, failAt: 2},
		{name: "ten pings", in: stream(pings...), want: want},
		{name: "ping beyond the message limit", in: frame(fin, OpPing, "Hello"), limit: 1, want: []string{got(OpPing, "Hello")}},
	})
}

func TestReservedBits(t *testing.T) {
	var cases []frameCase
	hello := got(OpText, "Hello")
	for bits := byte(0x10); bits <= 0x70; bits += 0x10 {
		cases = append(cases,
			frameCase{
				name: fmt.Sprintf("%#x in text between others", bits),
				in: stream(frame(fin, OpText, "Hello"), withBits(bits, frame(fin, OpText, "Hello")),
					frame(fin, OpPing, ""), frame(fin, OpText, "Hello")),
				want:   []string{hello, failed(ErrReservedBits)},
				failAt: 11 + 1,
			})
		for _, op := range []Op{OpContinuation, OpText, OpBinary, OpClose, OpPing, OpPong} {
			cases = append(cases, frameCase{
				name:   fmt.Sprintf("%#x in opcode %d", bits, op),
				in:     withBits(bits, frame(fin, op, "")),
				want:   []string{failed(ErrReservedBits)},
				failAt: 1,
			})
		}
	}
	cases = append(cases, frameCase{
		name: "in a continuation",
		in:   stream(frame(more, OpText, "Hel"), withBits(0x40, frame(fin, OpContinuation, "lo"))),
		want: []string{failed(ErrReservedBits)},
	})
	runFrames(t, cases)
}

func TestOpcodes(t *testing.T) {
	var cases []frameCase
	for _, op := range []Op{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		for _, payload := range []string{"", "reserved"} {
			cases = append(cases,
				frameCase{
					name: fmt.Sprintf("opcode %d, payload %q", op, payload), in: frame(fin, op, payload),
					want: []string{failed(ErrReservedOpcode)}, failAt: 1,
				},
				frameCase{
					name: fmt.Sprintf("opcode %d, payload %q, after text, then ping", op, payload),
					in:   stream(frame(fin, OpText, "Hello"), frame(more, op, payload), frame(fin, OpPing, "")),
					want: []string{got(OpText, "Hello"), failed(ErrReservedOpcode)}, failAt: 11 + 1,
				},
				frameCase{
					name: fmt.Sprintf("opcode %d, payload %q, between fragments", op, payload),
					in:   stream(frame(more, OpText, "Hello"), frame(fin, op, payload)),
					want: []string{failed(ErrReservedOpcode)}, failAt: 11 + 1,
				})
		}
	}
	runFrames(t, cases)
}

func TestLengthEncoding(t *testing.T) {
	header16 := func(op Op, n uint16) []byte {
		return binary.BigEndian.AppendUint16([]byte{0x80 | byte(op), 0xfe}, n)
	}
	header64 := func(op Op, n uint64) []byte {
		return binary.BigEndian.AppendUint64([]byte{0x80 | byte(op), 0xff}, n)
	}
	cases := []frameCase{
		{name: "16 bits, least", in: stream(header16(OpBinary, 126), make([]byte, 4+126)), want: []string{got(OpBinary, strings.Repeat("\x00", 126))}},
		{name: "64 bits, least", in: stream(header64(OpBinary, 65536), make([]byte, 4+65536)), want: []string{got(OpBinary, strings.Repeat("\x00", 65536))}},
		{name: "16 bits for 0", in: header16(OpText, 0), want: []string{failed(ErrLengthEncoding)}, failAt: 4},
		{name: "16 bits for 125", in: header16(OpText, 125), want: []string{failed(ErrLengthEncoding)}, failAt: 4},
		{name: "64 bits for 0", in: header64(OpText, 0), want: []string{failed(ErrLengthEncoding)}, failAt: 10},
		{name: "64 bits for 126", in: header64(OpBinary, 126), want: []string{failed(ErrLengthEncoding)}, failAt: 10},
		{name: "64 bits for 65535", in: header64(OpBinary, 65535), want: []string{failed(ErrLengthEncoding)}, failAt: 10},
		{name: "most significant bit", in: header64(OpBinary, 1<<63), want: []string{failed(ErrLengthSign)}, failAt: 10},
		{name: "all bits", in: header64(OpBinary, 1<<64-1), want: []string{failed(ErrLengthSign)}, failAt: 10},
		{name: "all bits but the first", in: header64(OpBinary, 1<<63-1), want: []string{failed(ErrMessageTooLarge)}, failAt: 10},
		{name: "64 bits in a ping", in: header64(OpPing, 5), want: []string{failed(ErrControlTooLong)}, failAt: 2},
	}
	runFrames(t, cases)
}
