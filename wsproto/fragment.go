package wsproto

import (
	"encoding/binary"

	"sluice/pool"
)

// A message in two frames (RFC 6455 §5.4), so that several clients' messages can share the bytes of the second: whatever
// differs between them stands in the first.

// AppendFirst appends a server's frame that begins a message: not final, not masked.
func AppendFirst(dst []byte, op Op, payload []byte) []byte {
	return append(appendHeader(dst, byte(op), 0, len(payload)), payload...)
}

// AppendLast appends the server's frame that ends a message begun by AppendFirst.
func AppendLast(dst, payload []byte) []byte {
	return append(appendHeader(dst, bitFin|byte(OpContinuation), 0, len(payload)), payload...)
}

// AppendDeflatedFirst is AppendFirst for clients with whom permessage-deflate was negotiated. What it makes is not shorter
// than the payload: it is for a few bytes, which AppendDeflatedLast must follow.
func AppendDeflatedFirst(dst []byte, op Op, payload []byte) []byte {
	dst = appendHeader(dst, bitRsv1|byte(op), 0, storedLen(len(payload)))
	return appendStored(dst, payload)
}

// AppendDeflatedLast appends the frame that ends a message begun by AppendDeflatedFirst. It depends on nothing that was sent
// before, the message's own beginning included: blocks of DEFLATE end at whole bytes here, and refer to nothing
// before the frame.
func AppendDeflatedLast(dst, payload []byte) []byte {
	b := pool.GetBuffer(len(payload))
	defer b.Put()
	packed, ok := appendPacked(b.B, payload)
	b.B = packed
	if !ok {
		dst = appendHeader(dst, bitFin|byte(OpContinuation), 0, storedLen(len(payload))+1)
		// The header of an empty block. The rest of that is what a message is sent without.
		return append(appendStored(dst, payload), 0)
	}
	return append(appendHeader(dst, bitFin|byte(OpContinuation), 0, len(packed)), packed...)
}

const (
	storedMost   = 1<<16 - 1 // bytes in a stored block (RFC 1951 §3.2.4)
	storedHeader = 5
)

// storedLen is what appendStored appends for n bytes.
func storedLen(n int) int { return n + storedHeader*((n+storedMost-1)/storedMost) }

// appendStored appends p as blocks that are not compressed. What is before them must end at a whole byte.
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
