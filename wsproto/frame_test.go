package wsproto

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

var frameLengths = []int{0, 1, 2, 125, 126, 127, 65535, 65536, 65537, 1 << 20}

// TestAppendFrame compares the encoders with those of another implementation.
func TestAppendFrame(t *testing.T) {
	for _, op := range []Op{OpText, OpBinary, OpClose, OpPing, OpPong} {
		for _, n := range frameLengths {
			if op.IsControl() && n > MaxControl {
				continue
			}
			payload := bytes.Repeat([]byte{'x'}, n)
			f := ws.NewFrame(ws.OpCode(op), true, payload)
			want := append([]byte("before"), ws.MustCompileFrame(f)...)
			if got := AppendFrame([]byte("before"), op, payload); !bytes.Equal(got, want) {
				t.Fatalf("op %d, %d bytes: header % x, want % x", op, n, got[:20], want[:20])
			}
			if got := len(AppendHeader(nil, op, n)); got != HeaderLen(n) || got > MaxHeader {
				t.Fatalf("op %d, %d bytes: header of %d, HeaderLen %d", op, n, got, HeaderLen(n))
			}
			for _, fin := range []bool{true, false} {
				f := ws.MaskFrameWith(ws.NewFrame(ws.OpCode(op), fin, bytes.Clone(payload)), testKey)
				want := ws.MustCompileFrame(f)
				if got := AppendMaskedFrame(nil, fin, op, payload, testKey); !bytes.Equal(got, want) {
					t.Fatalf("masked, op %d, %d bytes: % x…, want % x…", op, n, got[:6], want[:6])
				}
			}
		}
	}
}

// TestAppendFrameExamples: the unmasked examples of RFC 6455 section 5.7.
func TestAppendFrameExamples(t *testing.T) {
	for _, c := range []struct {
		op      Op
		payload string
		want    []byte
	}{
		{OpText, "Hello", []byte{0x81, 0x05, 'H', 'e', 'l', 'l', 'o'}},
		{OpPing, "Hello", []byte{0x89, 0x05, 'H', 'e', 'l', 'l', 'o'}},
		{OpBinary, strings.Repeat("x", 256), append([]byte{0x82, 0x7e, 0x01, 0x00}, strings.Repeat("x", 256)...)},
		{OpBinary, strings.Repeat("x", 65536), append([]byte{0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0}, strings.Repeat("x", 65536)...)},
	} {
		if got := AppendFrame(nil, c.op, []byte(c.payload)); !bytes.Equal(got, c.want) {
			t.Errorf("op %d, %d bytes: % x…", c.op, len(c.payload), got[:min(len(got), 16)])
		}
	}
}

func TestAppendClose(t *testing.T) {
	long := strings.Repeat("é", 100)
	for _, c := range []struct {
		code   uint16
		reason string
		want   string // payload
	}{
		{1000, "", "\x03\xe8"},
		{1001, "bye", "\x03\xe9bye"},
		{4999, "é", "\x13\x87é"},
		{1000, long[:122] + "a", "\x03\xe8" + long[:122] + "a"},
		{1000, long, "\x03\xe8" + long[:122]},
		{1000, "a" + long, "\x03\xe8a" + long[:122]},
		{1000, "ok\xff", "\x03\xe8ok"},
		{1000, "\ufffd", "\x03\xe8\ufffd"},
		{CloseNoStatus, "dropped", ""},
		{0, "", ""}, {1006, "x", ""}, {1015, "x", ""}, {5000, "x", ""},
	} {
		got := AppendClose([]byte("x"), c.code, c.reason)
		want := AppendFrame([]byte("x"), OpClose, []byte(c.want))
		if !bytes.Equal(got, want) {
			t.Errorf("%d %q: got %q, want %q", c.code, c.reason, got, want)
		}
		if len(got)-1 > 2+MaxControl || !utf8.Valid(got[min(len(got), 5):]) {
			t.Errorf("%d %q: illegal frame %q", c.code, c.reason, got)
		}
	}
}

// TestCloseErrors: the code and reason of every CloseError can be sent in a close frame.
func TestCloseErrors(t *testing.T) {
	for _, e := range []*CloseError{ErrReservedBits, ErrReservedOpcode, ErrControlFragmented, ErrUnexpectedContinuation, ErrExpectedContinuation,
		ErrUnmasked, ErrMasked, ErrCompressed, ErrControlTooLong, ErrLengthSign, ErrLengthEncoding, ErrMessageTooLarge, ErrInvalidUTF8, ErrCloseLength, ErrCloseCode, ErrCloseReason} {
		got := AppendClose(nil, e.Code, e.Reason)
		want := AppendFrame(nil, OpClose, []byte(string([]byte{byte(e.Code >> 8), byte(e.Code)})+e.Reason))
		if !bytes.Equal(got, want) || !strings.Contains(e.Error(), e.Reason) {
			t.Errorf("%v: %q", e, got)
		}
	}
}

// TestValidCloseCode compares all codes with the registry.
func TestValidCloseCode(t *testing.T) {
	for code := range 1 << 16 {
		if got, want := ValidCloseCode(uint16(code)), referenceCode(uint16(code)); got != want {
			t.Errorf("%d: %v, want %v", code, got, want)
		}
	}
}

// TestMask compares all lengths and alignments of one cache line and more with
// another implementation.
func TestMask(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for length := range 150 {
		for offset := range 9 {
			t.Run(fmt.Sprintf("%d bytes at %d", length, offset), func(t *testing.T) {
				key := [4]byte{byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())}
				plain := make([]byte, length)
				for i := range plain {
					plain[i] = byte(rnd.Uint32() & 0x7f)
				}
				if length > 0 && offset%2 == 1 {
					plain[rnd.IntN(length)] |= 0x80
				}
				masked := bytes.Clone(plain)
				ws.Cipher(masked, key, offset)
				guarded := append(bytes.Clone(masked), 0xaa)
				ascii := mask(guarded[:length], key, offset)
				if !bytes.Equal(guarded[:length], plain) || guarded[length] != 0xaa {
					t.Fatalf("got % x, want % x", guarded, plain)
				}
				if want := length == 0 || offset%2 == 0; ascii != want {
					t.Fatalf("ascii = %v", ascii)
				}
			})
		}
	}
}

// TestIsASCII: one byte beyond ASCII is found wherever it is.
func TestIsASCII(t *testing.T) {
	for n := range 100 {
		b := bytes.Repeat([]byte{0x7f}, n)
		if !isASCII(b) {
			t.Fatalf("%d bytes of ASCII are not", n)
		}
		for i := range b {
			b[i] = 0x80
			if isASCII(b) {
				t.Fatalf("byte %d of %d is missed", i, n)
			}
			b[i] = 0
		}
	}
}
