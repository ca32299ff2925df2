package wsproto

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"sluice/pool"
)

// DefaultMaxMessage is the limit, in bytes, of a message when none is given.
const DefaultMaxMessage = 1 << 20

// maxLimit is the largest limit that is heeded: the length of a frame is an int.
const maxLimit = math.MaxInt - maxClientHeader

// Limits bounds what a peer may send.
type Limits struct {
	Message int // bytes of a whole message, all fragments together, inflated; 0: DefaultMaxMessage
	Inflate int // bytes of a compressed message, as it came, beyond which it is left to the caller to inflate; 0: none is
}

// Message is a complete message or control frame of a peer.
type Message struct {
	Op      Op     // OpText, OpBinary, OpClose, OpPing or OpPong
	Payload []byte // unmasked and inflated; of a close frame the reason
	Code    uint16 // of a close frame: its code, CloseNoStatus if it has none; else 0
	Cost    int    // bytes that were inflated to get Payload; 0: it came as it is

	// Compressed reports whether Payload is still compressed: only with KeepCompressed.
	Compressed bool
}

// Parser is what one connection remembers of its peer's frames. The zero value
// is ready for those of a client. It is small while no fragmented message is
// open: only such a message takes a buffer, whose size follows what has arrived
// and not what the peer announced, and one that was inflated, until the next
// call. A decompressor is taken only while a message is inflated, which is done
// at once when the message is complete.
type Parser struct {
	frag *pool.Buffer // the fragmented message so far, as it came, or the delivered one; nil while it has no bytes
	need int          // see Need; 0: all that is known is that a header comes

	// seen is how many payload bytes of the unfinished text frame at the
	// beginning of the input text has been fed with.
	seen int
	text textCheck // of the open text message

	open      Op   // the fragmented message's opcode; OpContinuation: none is open
	packed    bool // the open message is compressed
	delivered bool // frag was handed out with the last message
	ended     bool // a close frame or an error came: the rest is discarded

	mode mode // fixed before the first frame
}

// mode says which frames are expected.
type mode uint8

const (
	modeDeflate mode = 1 << iota // compressed ones, too
	modeServer                   // those of a server
	modeKeep                     // compressed ones are not inflated
)

// EnableDeflate makes p take compressed messages, too: to be called once
// permessage-deflate without context takeover is negotiated, before the first
// call of Next. Limits.Message bounds what a message inflates to, and before that
// its compressed form, with the few bytes more that incompressible data needs.
func (p *Parser) EnableDeflate() { p.mode |= modeDeflate }

// FromServer makes p the parser of a client, for tests and load clients: frames
// must not be masked, all else is the same. To be called before the first call
// of Next.
func (p *Parser) FromServer() { p.mode |= modeServer }

// KeepCompressed makes p accept compressed messages, as EnableDeflate does, and
// return them as they were sent, with Message.Compressed set. The caller passes
// them to Inflate. It is for load clients: thousands of them receive the same
// bytes, so one inflation serves all. p does not check the UTF-8 of such a message.
// The caller must call it before the first call of Next.
func (p *Parser) KeepCompressed() { p.mode |= modeDeflate | modeKeep }

// Next takes at most one frame from the beginning of buf, n bytes of it, and
// changes these: payloads are unmasked in place.
//
//   - n > 0, done: m is complete. Its payload is valid until the next call of
//     Next or Reset, and until buf is changed: a plain message in one frame
//     points into buf, a fragmented or inflated one into the parser's own buffer.
//   - n > 0, not done: a fragment was taken.
//   - n == 0: buf does not hold a whole frame. It is unchanged; the next call
//     must pass the same bytes and those that came since, possibly moved
//     elsewhere in memory.
//   - err != nil: a *CloseError, the connection is to be failed with its code;
//     n is 0 and the rest of buf is of no use. Errors show as soon as the bytes
//     seen cannot be continued correctly: lengths are judged on the header,
//     text while its frame is still coming in; what is compressed, when the
//     message is complete.
//
// Control frames are returned between the fragments of a message. After a close
// frame or an error everything else is consumed and ignored (RFC 6455 §1.4,
// §7.1.7). Call Next until n == 0, also with an empty buf: this also gives the
// buffer of a fragmented message back.
func (p *Parser) Next(buf []byte, lim Limits) (m Message, n int, done bool, err error) {
	if p.delivered {
		p.release()
	}
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
		p.need = n
		if text && !p.peek(buf[h.size+p.seen:], h.key) {
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

// take handles a whole frame, unmasked and, if plain text, validated.
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
	}
	return m, true, err
}

// inflate replaces the payload of a complete message by what it inflates to.
func (p *Parser) inflate(m Message, limit int) ([]byte, error) {
	out, err := InflateMessage(m.Op, m.Payload, limit)
	p.release()
	p.frag, p.delivered = out, true
	return out.B, err
}

// InflateMessage returns what a compressed message (Message.Compressed) inflates to, in a buffer that the caller gives back, also if
// there is an error: a *CloseError. Any goroutine may call it.
func InflateMessage(op Op, packed []byte, limit int) (*pool.Buffer, error) {
	out, err := inflate(packed, limit)
	if err == nil && op == OpText && !utf8.Valid(out.B) {
		err = ErrInvalidUTF8
	}
	return out, err
}

// Need returns how many bytes, at least, the next call of Next needs to take a
// frame, as far as is known: never more than a header and the limit that was
// given, or a little more for a compressed message. It is a goal to wait for, not
// memory to reserve: the peer has only claimed that so much will come. Next may
// be called earlier, and fails earlier then if the text is invalid.
func (p *Parser) Need() int { return max(p.need, 2) }

// Reset makes p as new, ready for a client's plain frames, and gives its buffer back.
func (p *Parser) Reset() {
	p.release()
	*p = Parser{}
}

// frameHeader is a frame header that has passed all checks. It is ours and not
// ws.Header because ws.CheckHeader wants a whole header, and does not judge lengths.
type frameHeader struct {
	op     Op
	fin    bool
	packed bool         // of a compressed message
	key    [keyLen]byte // zero if the frame is not masked
	size   int          // of the header itself; 0: incomplete
	length int          // of the payload
}

// limit returns how many bytes the frame's message may have on the wire if limit
// is how many it may have at all.
func (h *frameHeader) limit(limit int) int {
	if h.packed {
		return packedLimit(limit)
	}
	return limit
}

// header decodes and checks the header at the beginning of buf. The checks
// follow the order of the bytes, so that the error does not depend on how many
// of them are there.
func (p *Parser) header(buf []byte, limit int) (h frameHeader, err error) {
	p.need = 0
	if len(buf) == 0 {
		return h, nil
	}
	h.op, h.fin = Op(buf[0]&bitsOp), buf[0]&bitFin != 0
	if rsv := buf[0] & bitsRsv; rsv != 0 {
		// Only an extension can give them a meaning; ours does so in the first
		// frame of a message (RFC 7692 §6.1).
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
			p.need = size + keyed
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
		p.need = size + keyed + h.length
		return h, nil
	}
	h.size = size + copy(h.key[:keyed], buf[size:])
	return h, nil
}

// peek feeds the text check with masked bytes, the continuation of what it has
// seen of an unfinished frame, and leaves them as they are.
func (p *Parser) peek(masked []byte, key [4]byte) bool {
	var b [256]byte
	for len(masked) > 0 {
		n := copy(b[:], masked)
		mask(b[:n], key, p.seen)
		if !p.text.write(b[:n]) {
			return false
		}
		p.seen += n
		masked = masked[n:]
	}
	return true
}

func (p *Parser) fail(err error) error {
	p.end()
	return err
}

// end forgets an open message and ignores what comes from now on.
func (p *Parser) end() {
	p.Reset()
	p.ended = true
}

// stored returns how much of the open message has arrived, in bytes.
func (p *Parser) stored() int {
	if p.frag == nil {
		return 0
	}
	return len(p.frag.B)
}

// store appends a fragment to the open message. The limit has been checked.
func (p *Parser) store(payload []byte, limit int) {
	if len(payload) == 0 {
		return
	}
	if p.frag == nil {
		p.frag = pool.GetBuffer(len(payload))
	} else if need := p.stored() + len(payload); need > cap(p.frag.B) {
		// Doubling keeps many small fragments linear where the pool no longer rounds up.
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
