package wsproto

import "encoding/binary"

// Op is a frame's opcode (RFC 6455 §5.2). A Message never has OpContinuation.
type Op uint8

// Opcodes.
const (
	OpContinuation Op = 0
	OpText         Op = 1
	OpBinary       Op = 2
	OpClose        Op = 8
	OpPing         Op = 9
	OpPong         Op = 10
)

// Control reports whether frames of this kind are control frames (RFC 6455 §5.5).
func (op Op) Control() bool { return op&8 != 0 }

func (op Op) reserved() bool { return op&7 > 2 }

const (
	// MaxHeader is the largest header, in bytes, of a server's frame.
	MaxHeader = 10
	// MaxControl is the largest payload, in bytes, of a control frame.
	MaxControl = 125

	len16 = 126 // in the second byte: the length follows in 16 bits
	len64 = 127 // in the second byte: the length follows in 64 bits

	bitFin  = 0x80 // first byte
	bitsRsv = 0x70
	bitsOp  = 0x0f
	bitMask = 0x80 // second byte
	bitsLen = 0x7f
)

// HeaderLen returns the length, in bytes, of the header of a server's frame
// with a payload of the given length.
func HeaderLen(length int) int {
	switch {
	case length < len16:
		return 2
	case length < 1<<16:
		return 4
	default:
		return MaxHeader
	}
}

// AppendHeader appends the header of a server's frame: final, not masked.
func AppendHeader(dst []byte, op Op, length int) []byte {
	return appendHeader(dst, bitFin|byte(op), 0, length)
}

// AppendFrame appends a server's frame: final, not masked. It does not allocate
// if dst has room for MaxHeader+len(payload) bytes.
func AppendFrame(dst []byte, op Op, payload []byte) []byte {
	return append(AppendHeader(dst, op, len(payload)), payload...)
}

// AppendMaskedFrame appends a client's frame, for tests and load clients: fin
// says whether it ends its message, key is its masking key.
func AppendMaskedFrame(dst []byte, fin bool, op Op, payload []byte, key [4]byte) []byte {
	first := byte(op)
	if fin {
		first |= bitFin
	}
	dst = appendHeader(dst, first, bitMask, len(payload))
	dst = append(dst, key[:]...)
	n := len(dst)
	dst = append(dst, payload...)
	mask(dst[n:], key, 0)
	return dst
}

func appendHeader(dst []byte, first, masked byte, length int) []byte {
	switch HeaderLen(length) {
	case 2:
		return append(dst, first, masked|byte(length))
	case 4:
		return binary.BigEndian.AppendUint16(append(dst, first, masked|len16), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(dst, first, masked|len64), uint64(length))
	}
}
