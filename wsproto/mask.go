package wsproto

import (
	"encoding/binary"
	"math/bits"
)

// notASCII has the bit of each byte of a word that is zero in ASCII.
const notASCII = 0x8080808080808080

// mask applies a masking key in place (RFC 6455 §5.3); a second call restores the original. offset
// is the position of b within the frame's payload.
//
// It reports whether the result is pure ASCII. The same pass finds that out at almost no cost, and
// it saves most text messages the UTF-8 check. ws.Cipher, which processes 16 bytes at a time, takes
// up to twice as long even without that check (BenchmarkMask). subtle.XORBytes with a repeated key
// is not faster at any length.
func mask(b []byte, key [4]byte, offset int) (ascii bool) {
	k := bits.RotateLeft32(binary.LittleEndian.Uint32(key[:]), -8*(offset&3))
	kk := uint64(k)<<32 | uint64(k)
	var seen uint64
	for len(b) >= 32 {
		c := b[:32:32]
		w0 := binary.LittleEndian.Uint64(c) ^ kk
		w1 := binary.LittleEndian.Uint64(c[8:]) ^ kk
		w2 := binary.LittleEndian.Uint64(c[16:]) ^ kk
		w3 := binary.LittleEndian.Uint64(c[24:]) ^ kk
		binary.LittleEndian.PutUint64(c, w0)
		binary.LittleEndian.PutUint64(c[8:], w1)
		binary.LittleEndian.PutUint64(c[16:], w2)
		binary.LittleEndian.PutUint64(c[24:], w3)
		seen |= w0 | w1 | w2 | w3
		b = b[32:]
	}
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b) ^ kk
		binary.LittleEndian.PutUint64(b, w)
		seen |= w
		b = b[8:]
	}
	for i := range b {
		c := b[i] ^ byte(k)
		b[i] = c
		seen |= uint64(c)
		k = bits.RotateLeft32(k, -8)
	}
	return seen&notASCII == 0
}

// isASCII reports whether b is pure ASCII, for frames without a masking key. It takes 32
// bytes at a time, a fourth of the time of utf8.Valid.
func isASCII(b []byte) bool {
	var seen uint64
	for len(b) >= 32 {
		c := b[:32:32]
		seen |= binary.LittleEndian.Uint64(c) | binary.LittleEndian.Uint64(c[8:]) |
			binary.LittleEndian.Uint64(c[16:]) | binary.LittleEndian.Uint64(c[24:])
		b = b[32:]
	}
	for len(b) >= 8 {
		seen |= binary.LittleEndian.Uint64(b)
		b = b[8:]
	}
	for _, c := range b {
		seen |= uint64(c)
	}
	return seen&notASCII == 0
}
