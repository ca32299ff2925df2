//go:build linux

package client

import (
	"encoding/binary"
	"errors"

	"sluice/wsproto"
)

// Opcodes as they stand in a frame (RFC 6455 §5.2).
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// What a server's frame can be wrong about. The harness checks only what would
// make it misread the stream; it is no test of the server's conformance.
var (
	errMasked   = errors.New("the server masks its frames")
	errTooLong  = errors.New("a frame is longer than 64 MiB")
	errReserved = errors.New("a reserved bit is set in a frame")
)

// maxFrame bounds what a server may make the harness keep for one connection.
const maxFrame = 64 << 20

// frame is one frame of a server; payload points into the buffer it was read to.
type frame struct {
	op         byte
	fin        bool
	compressed bool
	payload    []byte
}

// nextFrame takes the first frame of buf. n is its length in bytes, or 0 if buf
// does not hold all of it; need is then how long buf must at least become.
func nextFrame(buf []byte) (f frame, n, need int, err error) {
	if len(buf) < 2 {
		return f, 0, 2, nil
	}
	head, length := 2, int(buf[1]&0x7f)
	switch {
	case buf[1]&0x80 != 0:
		return f, 0, 0, errMasked
	case buf[0]&0x30 != 0:
		return f, 0, 0, errReserved
	case length == 126:
		if head = 4; len(buf) < head {
			return f, 0, head, nil
		}
		length = int(binary.BigEndian.Uint16(buf[2:]))
	case length == 127:
		if head = 10; len(buf) < head {
			return f, 0, head, nil
		}
		long := binary.BigEndian.Uint64(buf[2:])
		if long > maxFrame {
			return f, 0, 0, errTooLong
		}
		length = int(long)
	}
	if len(buf) < head+length {
		return f, 0, head + length, nil
	}
	return frame{
		op:         buf[0] & 0x0f,
		fin:        buf[0]&0x80 != 0,
		compressed: buf[0]&0x40 != 0,
		payload:    buf[head : head+length],
	}, head + length, 0, nil
}

// appendFrame appends a client's frame: final and masked.
func (t *Thread) appendFrame(dst []byte, op byte, payload []byte) []byte {
	t.seed ^= t.seed << 13
	t.seed ^= t.seed >> 17
	t.seed ^= t.seed << 5
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], t.seed)
	return wsproto.AppendMaskedFrame(dst, true, wireOp(op), payload, key)
}

func wireOp(op byte) wsproto.Op {
	switch op {
	case opBinary:
		return wsproto.OpBinary
	case opPong:
		return wsproto.OpPong
	case opClose:
		return wsproto.OpClose
	}
	return wsproto.OpText
}
