package wsproto

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"sluice/pool"
)

// DefaultMaxMessage is the limit, in bytes, of a message when none is given.
const DefaultMaxMessage = 1 << 20

// maxLimit is the upper bound of limits: a Parser keeps lengths of frames as int32.
const maxLimit = math.MaxInt32 - maxClientHeader

// Limits bounds what a peer may send.
type Limits struct {
	Message int // bytes of a whole message, all fragments together, inflated, at most 2 GiB; 0: DefaultMaxMessage
	Inflate int // bytes of a compressed message, as it came, beyond which it is left to the caller to inflate; 0: none is
}

// Message is a complete message or control frame of a peer.
type Message struct {
	Op      Op     // OpText, OpBinary, OpClose, OpPing or OpPong
	Payload []byte // unmasked and inflated; of a close frame the reason
	Code    uint16 // of a close frame: its code, CloseNoStatus if it has none; else 0
	Cost    int    // what inflating Payload took: the bytes that were inflated, and of the text one in textPerCost; 0: it came as it is

	// Compressed reports whether Payload is still compressed: pass it to InflateMessage.
	Compressed bool
}

// Parser is the state of parsing a peer's frames. One connection owns it. The zero value parses a
// client's frames.
//
// A Parser has a buffer only while a fragmented message is open, and after an inflated message
// until the next call. The buffer grows with the bytes that arrived, not with the announced length.
// A message is inflated when it is complete, and uses a pooled decompressor only during that.
type Parser struct {
	frag *pool.Buffer // the fragmented message so far, as it came, or the delivered one; nil while it has no bytes
	need int32        // see Need; 0: all that is known is that a header comes

	// seen is how many payload bytes of the incomplete text frame, which begins the input, the
	// field text has checked.
	seen int32
	text textCheck // of the open text message

	open      Op   // the fragmented message's opcode; OpContinuation: none is open
	packed    bool // whether the open message is compressed
	delivered bool // whether frag is the payload of the last message
	ended     bool // after a close frame or an error: all further input is discarded

	mode mode // fixed before the first call of Next
}

// mode is the set of frames that a Parser accepts.
type mode uint8

const (
	modeDeflate mode = 1 << iota // also compressed messages
	modeServer                   // frames of a server
	modeKeep                     // compressed messages are not inflated
)

// EnableDeflate makes p accept compressed messages. Call it after permessage-deflate without
// context takeover was negotiated, and before the first call of Next. Limits.Message bounds the
// inflated message. It also bounds the compressed form, with the overhead of incompressible data
// added.
func (p *Parser) EnableDeflate() { p.mode |= modeDeflate }

// Deflates reports whether p accepts compressed messages.
func (p *Parser) Deflates() bool { return p.mode&modeDeflate != 0 }

// AppendOpen appends a frame of a client with the fragmented message so far, if one is open. A new
// Parser that is given it, and then the input that this one has not consumed, goes on in its place.
func (p *Parser) AppendOpen(dst []byte) []byte {
	if p.open == OpContinuation {
		return dst
	}
	first := byte(p.open)
	if p.packed {
		first |= bitRsv1
	}
	dst = append(appendHeader(dst, first, bitMask, p.stored()), 0, 0, 0, 0) // the mask
	if p.frag != nil {
		dst = append(dst, p.frag.B...)
	}
	return dst
}

// FromServer makes p parse a server's frames, for tests and load clients: they must not be masked,
// and all other rules are the same. Call it before the first call of Next.
func (p *Parser) FromServer() { p.mode |= modeServer }

// KeepCompressed makes p accept compressed messages, as EnableDeflate does, and
// return them as they were sent, with Message.Compressed set. The caller passes
// them to InflateMessage. It is for load clients: thousands of them receive the same
// bytes, so one inflation serves all.
// The caller must call it before the first call of Next.
func (p *Parser) KeepCompressed() { p.mode |= modeDeflate | modeKeep }

// Next consumes at most one frame, the first n bytes of buf. It unmasks the payload in place.
//
//   - n > 0, done: m is complete. Its payload is valid until the next call of Next or Reset, and
//     until buf is changed: a plain message in one frame aliases buf, a fragmented or inflated one
//     the parser's buffer.
//   - n > 0, not done: a fragment was consumed.
//   - n == 0: buf has no whole frame, and is unchanged. The next call must pass the same bytes and
//     those that arrived since; they may have moved in memory.
//   - err != nil: a *CloseError. The caller fails the connection with its code; n is 0 and the rest
//     of buf is useless. Next reports it at the first byte that no valid input could have: a length
//     in the header, text within its incomplete frame, compressed data in the complete message.
//
// Control frames are returned between the fragments of a message. After a close frame or an error,
// Next consumes and discards all input (RFC 6455 §1.4, §7.1.7). Call Next until n == 0, or Release
// when buf is used up: either releases the buffer of a fragmented message.
func (p *Parser) Next(buf []byte, lim Limits) (m Message, n int, done bool, err error) {
	p.Release()
	if p.ended {
		return m, len(buf), false, nil
	}
	limit := lim.Message
	if limit <= 0 {
		limit = DefaultMaxMessage
	}
	limit = min(limit, maxLimit)
	h, err := p.header(buf, limit)
	if err != nil {
		return m, 0, false, p.fail(err)
	}
	if h.size == 0 {
		return m, 0, false, nil
	}
	text := !h.packed && (h.op == OpText || h.op == OpContinuation && p.open == OpText)
	n = h.size + h.length
	if len(buf) < n {
		p.need = int32(n)
		if text && !p.peek(buf[h.size+int(p.seen):], h.key) {
			return m, 0, false, p.fail(ErrInvalidUTF8)
		}
		return m, 0, false, nil
	}
	payload := buf[h.size:n:n]
	var ascii bool // false: not known
	if p.mode&modeServer == 0 {
		ascii = mask(payload, h.key, 0)
	} else if text {
		ascii = isASCII(payload)
	}
	if text {
		if !ascii || p.text.missing > 0 {
			if !p.text.write(payload[p.seen:]) || h.fin && p.text.missing > 0 {
				return m, 0, false, p.fail(ErrInvalidUTF8)
			}
		}
		p.seen = 0
	}
	p.need = 0
	if m, done, err = p.take(h, payload, limit, lim.Inflate); err != nil {
		return Message{}, 0, false, p.fail(err)
	}
	return m, n, done, nil
}

// take processes a whole frame, which is unmasked and, if plain text, valid UTF-8.
func (p *Parser) take(h frameHeader, payload []byte, limit, here int) (m Message, done bool, err error) {
	switch {
	case h.op == OpClose:
		code, reason, err := parseClose(payload)
		p.end()
		return Message{Op: OpClose, Payload: reason, Code: code}, true, err
	case h.op.IsControl():
		return Message{Op: h.op, Payload: payload}, true, nil
	case !h.fin:
		if h.op != OpContinuation {
			p.open, p.packed = h.op, h.packed
		}
		p.store(payload, h.limit(limit))
		return m, false, nil
	case h.op != OpContinuation:
		m = Message{Op: h.op, Payload: payload}
	default:
		m = Message{Op: p.open, Payload: payload}
		p.open, p.packed = OpContinuation, false
		if p.frag != nil {
			p.store(payload, h.limit(limit))
			m.Payload, p.delivered = p.frag.B, true
		}
	}
	switch {
	case !h.packed:
	case p.mode&modeKeep != 0 || here > 0 && len(m.Payload) > here:
		m.Compressed = true
	default:
		m.Cost = len(m.Payload)
		m.Payload, err = p.inflate(m, limit)
		m.Cost += len(m.Payload) / textPerCost
	}
	return m, true, err
}

// textPerCost is how many bytes of text take less time than the worst byte of compressed data: a
// kilobyte of Huffman tables 0.15 ms, a megabyte of text 0.4 ms with the check of its UTF-8.
const textPerCost = 16

// inflate replaces the payload of a complete message by what it inflates to.
func (p *Parser) inflate(m Message, limit int) ([]byte, error) {
	out, err := InflateMessage(m.Op, m.Payload, limit, nil)
	p.release()
	p.frag, p.delivered = out, true
	return out.B, err
}

// InflateMessage returns what a compressed message (Message.Compressed) inflates to, in a buffer
// that the caller gives back, also if there is an error: a *CloseError. Any goroutine may call it.
// yield, if not nil, is called every 0.2 ms or more often, so that it may let others go on.
func InflateMessage(op Op, packed []byte, limit int, yield func()) (*pool.Buffer, error) {
	out, err := inflate(packed, limit, yield)
	if err == nil && op == OpText && !utf8.Valid(out.B) {
		err = ErrInvalidUTF8
	}
	return out, err
}

// Need returns the minimum number of bytes with which Next can consume a frame, as far as is known.
// It is at most a header and the limit, or packedLimit for a compressed message. Wait for that many
// bytes, but do not reserve memory for them: the peer has only announced the length. Calling Next
// earlier is valid, and reports invalid text earlier.
func (p *Parser) Need() int { return int(max(p.need, 2)) }

// Release ends the validity of the last message, and releases the buffer that the parser may hold
// for it. The next call of Next does so, too.
func (p *Parser) Release() {
	if p.delivered {
		p.release()
	}
}

// Reset restores the zero value, which parses a client's plain frames, and releases the buffer.
func (p *Parser) Reset() {
	p.release()
	*p = Parser{}
}

// frameHeader is a frame header that passed all checks. It replaces ws.Header, since ws.CheckHeader
// needs a whole header and does not check lengths.
type frameHeader struct {
	op     Op
	fin    bool
	packed bool         // whether the message is compressed
	key    [keyLen]byte // zero if the frame is not masked
	size   int          // of the header; 0 if it is incomplete
	length int          // of the payload
}

// limit returns the bound, in bytes, of the frame's message on the wire, if limit bounds its text.
func (h *frameHeader) limit(limit int) int {
	if h.packed {
		return packedLimit(limit)
	}
	return limit
}

// header decodes and checks the header at the beginning of buf. The checks follow the order of the
// bytes, so that the error does not depend on how many of them have arrived.
func (p *Parser) header(buf []byte, limit int) (h frameHeader, err error) {
	p.need = 0
	if len(buf) == 0 {
		return h, nil
	}
	h.op, h.fin = Op(buf[0]&bitsOp), buf[0]&bitFin != 0
	if rsv := buf[0] & bitsRsv; rsv != 0 {
		// Only an extension defines these bits: permessage-deflate RSV1 in the first frame of a
		// message (RFC 7692 §6.1).
		if rsv != bitRsv1 || p.mode&modeDeflate == 0 || h.op != OpText && h.op != OpBinary {
			return h, ErrReservedBits
		}
		h.packed = true
	}
	switch {
	case h.op.IsReserved():
		return h, ErrReservedOpcode
	case h.op.IsControl():
		if !h.fin {
			return h, ErrControlFragmented
		}
	case h.op == OpContinuation:
		if p.open == OpContinuation {
			return h, ErrUnexpectedContinuation
		}
		h.packed = p.packed
	case p.open != OpContinuation:
		return h, ErrExpectedContinuation
	}
	if len(buf) == 1 {
		return h, nil
	}
	keyed := keyLen // bytes
	if masked := buf[1]&bitMask != 0; p.mode&modeServer != 0 {
		if masked {
			return h, ErrMasked
		}
		keyed = 0
	} else if !masked {
		return h, ErrUnmasked
	}
	size, length := 2, uint64(buf[1]&bitsLen)
	if length > MaxControl {
		if h.op.IsControl() {
			return h, ErrControlTooLong
		}
		if size = 4; length == len64 {
			size = 10
		}
		if len(buf) < size {
			p.need = int32(size + keyed)
			return h, nil
		}
		if size == 4 {
			length = uint64(binary.BigEndian.Uint16(buf[2:]))
			if length < len16 {
				return h, ErrLengthEncoding
			}
		} else {
			length = binary.BigEndian.Uint64(buf[2:])
			if length>>63 != 0 {
				return h, ErrLengthSign
			}
			if length < 1<<16 {
				return h, ErrLengthEncoding
			}
		}
	}
	if !h.op.IsControl() && length > uint64(max(h.limit(limit)-p.stored(), 0)) {
		return h, ErrMessageTooLarge
	}
	h.length = int(length)
	if len(buf) < size+keyed {
		p.need = int32(size + keyed + h.length)
		return h, nil
	}
	h.size = size + copy(h.key[:keyed], buf[size:])
	return h, nil
}

// peek checks the text of the next masked bytes of an incomplete frame, without changing them. It
// reports whether the text can still be valid.
func (p *Parser) peek(masked []byte, key [4]byte) bool {
	var b [256]byte
	for len(masked) > 0 {
		n := copy(b[:], masked)
		mask(b[:n], key, int(p.seen))
		if !p.text.write(b[:n]) {
			return false
		}
		p.seen += int32(n)
		masked = masked[n:]
	}
	return true
}

func (p *Parser) fail(err error) error {
	p.end()
	return err
}

// end discards an open message and all further input.
func (p *Parser) end() {
	p.Reset()
	p.ended = true
}

// stored returns the length, in bytes, of the fragments of the open message.
func (p *Parser) stored() int {
	if p.frag == nil {
		return 0
	}
	return len(p.frag.B)
}

// store appends a fragment to the open message. The caller has checked the limit.
func (p *Parser) store(payload []byte, limit int) {
	if len(payload) == 0 {
		return
	}
	if p.frag == nil {
		p.frag = pool.GetBuffer(len(payload))
	} else if need := p.stored() + len(payload); need > cap(p.frag.B) {
		// Doubling keeps many small fragments linear in time beyond the sizes that the pool rounds
		// up.
		larger := pool.GetBuffer(max(need, min(2*cap(p.frag.B), limit)))
		larger.B = append(larger.B, p.frag.B...)
		p.frag.Put()
		p.frag = larger
	}
	p.frag.B = append(p.frag.B, payload...)
}

func (p *Parser) release() {
	if p.frag != nil {
		p.frag.Put()
	}
	p.frag, p.delivered = nil, false
}
