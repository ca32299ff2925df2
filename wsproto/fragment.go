package wsproto

import (
	"encoding/binary"

	"sluice/pool"
)

// A message in two frames (RFC 6455 §5.4) lets several clients share the bytes of the second frame.
// The bytes that differ between clients are in the first.

// AppendFirst appends a server's frame that begins a message: not final, not masked.
func AppendFirst(dst []byte, op Op, payload []byte) []byte {
	return append(appendHeader(dst, byte(op), 0, len(payload)), payload...)
}

// AppendLast appends the server's frame that ends a message begun by AppendFirst.
func AppendLast(dst, payload []byte) []byte {
	return append(appendHeader(dst, bitFin|byte(OpContinuation), 0, len(payload)), payload...)
}

// AppendDeflatedFirst is AppendFirst for clients that negotiated permessage-deflate. It stores the
// payload without compression, so it is for a few bytes. AppendDeflatedLast must follow.
func AppendDeflatedFirst(dst []byte, op Op, payload []byte) []byte {
	dst = appendHeader(dst, bitRsv1|byte(op), 0, storedLen(len(payload)))
	return appendStored(dst, payload)
}

// AppendDeflatedLast appends the frame that ends a message begun by AppendDeflatedFirst. It does
// not depend on the first frame: the DEFLATE blocks are byte-aligned, and refer to nothing before
// this frame.
func AppendDeflatedLast(dst, payload []byte) []byte {
	b := pool.GetBuffer(len(payload))
	defer b.Put()
	packed, ok := appendPacked(b.B, payload)
	b.B = packed
	if !ok {
		dst = appendHeader(dst, bitFin|byte(OpContinuation), 0, storedLen(len(payload))+1)
		// The header of an empty block, whose rest is the syncTail that a message is sent without.
		return append(appendStored(dst, payload), 0)
	}
	return append(appendHeader(dst, bitFin|byte(OpContinuation), 0, len(packed)), packed...)
}

const (
	storedMost   = 1<<16 - 1 // bytes in a stored block (RFC 1951 §3.2.4)
	storedHeader = 5
)

// storedLen returns how many bytes appendStored appends for n bytes.
func storedLen(n int) int { return n + storedHeader*((n+storedMost-1)/storedMost) }

// appendStored appends p as stored (uncompressed) blocks. The data before them must be
// byte-aligned.
func appendStored(dst, p []byte) []byte {
	for len(p) > 0 {
		n := min(len(p), storedMost)
		dst = binary.LittleEndian.AppendUint16(append(dst, 0), uint16(n))
		dst = binary.LittleEndian.AppendUint16(dst, ^uint16(n))
		dst = append(dst, p[:n]...)
		p = p[n:]
	}
	return dst
}
