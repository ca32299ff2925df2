package wsproto

import (
	"encoding/binary"

	"github.com/gobwas/ws"
)

// Op is a frame's opcode (RFC 6455 §5.2). A Message never has OpContinuation.
type Op = ws.OpCode

// Opcodes.
const (
	OpContinuation = ws.OpContinuation
	OpText         = ws.OpText
	OpBinary       = ws.OpBinary
	OpClose        = ws.OpClose
	OpPing         = ws.OpPing
	OpPong         = ws.OpPong
)

const (
	// MaxHeader is the largest header, in bytes, of a server's frame.
	MaxHeader = maxClientHeader - keyLen
	// MaxControl is the largest payload, in bytes, of a control frame.
	MaxControl = ws.MaxControlFramePayloadSize

	maxClientHeader = ws.MaxHeaderSize
	keyLen          = 4

	len16 = 126 // in the second byte: the length follows in 16 bits
	len64 = 127 // in the second byte: the length follows in 64 bits

	bitFin  = 0x80 // first byte
	bitsRsv = 0x70
	bitRsv1 = 0x40
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

// AppendMaskedFrame appends a client's frame, for tests and load clients. fin marks the last frame
// of a message; key is the masking key.
func AppendMaskedFrame(dst []byte, fin bool, op Op, payload []byte, key [4]byte) []byte {
	first := byte(op)
	if fin {
		first |= bitFin
	}
	return appendMasked(dst, first, payload, key)
}

// appendMasked masks with ws.Cipher rather than mask: clients are not on the gateway's hot path,
// and in tests the two implementations check each other.
func appendMasked(dst []byte, first byte, payload []byte, key [4]byte) []byte {
	dst = appendHeader(dst, first, bitMask, len(payload))
	dst = append(dst, key[:]...)
	n := len(dst)
	dst = append(dst, payload...)
	ws.Cipher(dst[n:], key, 0)
	return dst
}

// appendHeader does what ws.WriteHeader does, but on a slice: passed to an io.Writer, the header
// escapes to the heap, one allocation per frame.
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
