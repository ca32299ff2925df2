package wsproto

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"unicode/utf8"
)

// The reference decoder implements the rules of RFC 6455 and RFC 7692 in the simplest form: over a
// whole stream, without state between calls and without changing its input. Tests compare Parser
// with it.

func reference(in []byte, limit int, mode mode) (events []string) {
	var message []byte
	open, packed := OpContinuation, false
	for len(in) > 0 {
		f, err := referenceFrame(in, open, packed, len(message), limit, mode)
		if err == nil && f.op&8 == 0 && !f.packed {
			kind := f.op
			if kind == OpContinuation {
				kind = open
			}
			text := append(append([]byte(nil), message...), f.payload...)
			if kind == OpText && (!viableText(text) || f.whole && f.fin && !utf8.Valid(text)) {
				err = ErrInvalidUTF8
			}
		}
		if err != nil {
			return append(events, failed(err))
		}
		if !f.whole {
			return events
		}
		in = in[f.size:]
		switch {
		case f.op == OpClose && len(f.payload) == 0:
			return append(events, gotClose(CloseNoStatus, ""))
		case f.op == OpClose:
			if len(f.payload) == 1 {
				return append(events, failed(ErrCloseLength))
			}
			code, reason := uint16(f.payload[0])<<8|uint16(f.payload[1]), f.payload[2:]
			if !referenceCode(code) {
				return append(events, failed(ErrCloseCode))
			}
			if !utf8.Valid(reason) {
				return append(events, failed(ErrCloseReason))
			}
			return append(events, gotClose(code, string(reason)))
		case f.op == OpPing || f.op == OpPong:
			events = append(events, got(f.op, string(f.payload)))
		default:
			message = append(message, f.payload...)
			if f.op != OpContinuation {
				open, packed = f.op, f.packed
			}
			if f.fin {
				if packed {
					message, err = referenceInflate(message, limit)
					if err == nil && open == OpText && !utf8.Valid(message) {
						err = ErrInvalidUTF8
					}
					if err != nil {
						return append(events, failed(err))
					}
				}
				events = append(events, got(open, string(message)))
				message, open = nil, OpContinuation
			}
		}
	}
	return events
}

type referencedFrame struct {
	op      Op
	fin     bool
	packed  bool // of a compressed message
	whole   bool
	size    int
	payload []byte // as far as it has come
}

func referenceFrame(in []byte, open Op, packed bool, stored, limit int, mode mode) (f referencedFrame, err error) {
	f.op, f.fin = Op(in[0]%16), in[0] >= 128
	control := f.op >= 8
	switch bits := in[0] / 16 % 8; {
	case bits == 0:
		f.packed = f.op == OpContinuation && packed
	case bits == 4 && mode&modeDeflate != 0 && (f.op == OpText || f.op == OpBinary):
		f.packed = true
	default:
		return f, ErrReservedBits
	}
	if f.packed {
		limit += limit/8 + limit/64 + 64
	}
	if f.op >= 3 && f.op <= 7 || f.op >= 11 {
		return f, ErrReservedOpcode
	}
	if control && !f.fin {
		return f, ErrControlFragmented
	}
	if !control && f.op == OpContinuation && open == OpContinuation {
		return f, ErrUnexpectedContinuation
	}
	if !control && f.op != OpContinuation && open != OpContinuation {
		return f, ErrExpectedContinuation
	}
	if len(in) < 2 {
		return f, nil
	}
	server := mode&modeServer != 0
	if in[1] < 128 && !server {
		return f, ErrUnmasked
	}
	if in[1] >= 128 && server {
		return f, ErrMasked
	}
	length, at := uint64(in[1]%128), 2
	if control && length > 125 {
		return f, ErrControlTooLong
	}
	if length == 126 {
		if len(in) < 4 {
			return f, nil
		}
		length, at = uint64(binary.BigEndian.Uint16(in[2:4])), 4
		if length < 126 {
			return f, ErrLengthEncoding
		}
	} else if length == 127 {
		if len(in) < 10 {
			return f, nil
		}
		length, at = binary.BigEndian.Uint64(in[2:10]), 10
		if length >= 1<<63 {
			return f, ErrLengthSign
		}
		if length < 65536 {
			return f, ErrLengthEncoding
		}
	}
	if !control && uint64(stored)+length > uint64(limit) {
		return f, ErrMessageTooLarge
	}
	key := []byte{0, 0, 0, 0}
	if !server {
		if len(in) < at+4 {
			return f, nil
		}
		key = in[at : at+4]
		at += 4
	}
	for i, c := range in[at:] {
		if uint64(i) == length {
			break
		}
		f.payload = append(f.payload, c^key[i%4])
	}
	f.size = at + int(length)
	f.whole = len(in) >= f.size
	return f, nil
}

// referenceInflate decompresses a message with the standard library.
func referenceInflate(packed []byte, limit int) (out []byte, err error) {
	in := bytes.NewReader(append(bytes.Clone(packed), "\x00\x00\xff\xff\x01\x00\x00\xff\xff"...))
	for streams := 0; in.Len() > 9; streams++ {
		if streams == 16+len(packed)/256 {
			return nil, ErrCompressed
		}
		r := flate.NewReaderDict(in, out[max(0, len(out)-32768):])
		more, err := io.ReadAll(io.LimitReader(r, int64(limit-len(out)+1)))
		if out = append(out, more...); len(out) > limit {
			return nil, ErrMessageTooLarge
		}
		if err != nil {
			return nil, ErrCompressed
		}
	}
	if left := in.Len(); left != 0 && left != 5 && left != 9 {
		return nil, ErrCompressed
	}
	return out, nil
}

// referenceCode is the registry of close codes, spelled out.
func referenceCode(code uint16) bool {
	switch code {
	case 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014:
		return true
	}
	return 3000 <= code && code <= 4999
}

// viableText reports whether b can be continued, or is already, valid UTF-8. It
// tries: if any completion exists, one of boundary values does.
func viableText(b []byte) bool {
	if utf8.Valid(b) {
		return true
	}
	// A completion only helps if the part before the unfinished character is valid.
	for n := 1; n <= 3 && n <= len(b); n++ {
		if utf8.Valid(b[:len(b)-n]) && completable(b[len(b)-n:], 3) {
			return true
		}
	}
	return false
}

func completable(b []byte, more int) bool {
	if utf8.Valid(b) {
		return true
	}
	if more == 0 {
		return false
	}
	for _, c := range []byte{0x80, 0x90, 0xa0, 0xbf} {
		if completable(append(append([]byte(nil), b...), c), more-1) {
			return true
		}
	}
	return false
}
