package wsproto

import (
	"encoding/binary"
	"math"

	"sluice/pool"
)

// DefaultMaxMessage is the limit, in bytes, of a message when none is given.
const DefaultMaxMessage = 1 << 20

// maxClientHeader is the largest header, in bytes, of a client's frame.
const maxClientHeader = MaxHeader + 4

// Limits bounds what a client may send.
type Limits struct {
	Message int // bytes of a whole message, all fragments together; 0: DefaultMaxMessage
}

// Message is a complete message or control frame of a client.
type Message struct {
	Op      Op     // OpText, OpBinary, OpClose, OpPing or OpPong
	Payload []byte // unmasked; of a close frame the reason
	Code    uint16 // of a close frame: its code, CloseNoStatus if it has none; else 0
}

// Parser is what one connection remembers of its client's frames. The zero
// value is ready. It is small while no fragmented message is open: only such a
// message takes a buffer, whose size follows what has arrived and not what the
// client announced.
type Parser struct {
	frag *pool.Buffer // payload of the fragmented message so far; nil while it has none
	need int          // see Need; 0: all that is known is that a header comes

	// seen is how many payload bytes of the unfinished text frame at the
	// beginning of the input text has been fed with.
	seen int
	text textCheck // of the open text message

	open      Op   // the fragmented message's opcode; OpContinuation: none is open
	delivered bool // frag was handed out with the last message
	ended     bool // a close frame or an error came: the rest is discarded
}

// Next takes at most one frame from the beginning of buf, n bytes of it, and
// changes these: payloads are unmasked in place.
//
//   - n > 0, done: m is complete. Its payload is valid until the next call of
//     Next or Reset, and until buf is changed: a message in one frame points
//     into buf, a fragmented one into the parser's own buffer.
//   - n > 0, not done: a fragment was taken.
//   - n == 0: buf does not hold a whole frame. It is unchanged; the next call
//     must pass the same bytes and those that came since, possibly moved
//     elsewhere in memory.
//   - err != nil: a *CloseError, the connection is to be failed with its code;
//     n is 0 and the rest of buf is of no use. Errors show as soon as the bytes
//     seen cannot be continued correctly: lengths are judged on the header,
//     text while its frame is still coming in.
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
	limit = min(limit, math.MaxInt-maxClientHeader) // the length of a frame is an int
	h, err := p.header(buf, limit)
	if err != nil {
		return m, 0, false, p.fail(err)
	}
	if h.size == 0 {
		return m, 0, false, nil
	}
	text := h.op == OpText || h.op == OpContinuation && p.open == OpText
	n = h.size + h.length
	if len(buf) < n {
		p.need = n
		if text && !p.peek(buf[h.size+p.seen:], h.key) {
			return m, 0, false, p.fail(ErrInvalidUTF8)
		}
		return m, 0, false, nil
	}
	payload := buf[h.size:n:n]
	if ascii := mask(payload, h.key, 0); text {
		if !ascii || p.text.missing > 0 {
			if !p.text.write(payload[p.seen:]) || h.fin && p.text.missing > 0 {
				return m, 0, false, p.fail(ErrInvalidUTF8)
			}
		}
		p.seen = 0
	}
	p.need = 0
	if m, done, err = p.take(h, payload, limit); err != nil {
		return Message{}, 0, false, p.fail(err)
	}
	return m, n, done, nil
}

// take handles a whole frame, unmasked and, if text, validated.
func (p *Parser) take(h frameHeader, payload []byte, limit int) (m Message, done bool, err error) {
	switch {
	case h.op == OpClose:
		code, reason, err := parseClose(payload)
		p.end()
		return Message{Op: OpClose, Payload: reason, Code: code}, true, err
	case h.op.Control():
		return Message{Op: h.op, Payload: payload}, true, nil
	case !h.fin:
		if h.op != OpContinuation {
			p.open = h.op
		}
		p.store(payload, limit)
		return m, false, nil
	case h.op != OpContinuation:
		return Message{Op: h.op, Payload: payload}, true, nil
	}
	m = Message{Op: p.open, Payload: payload}
	p.open = OpContinuation
	if p.frag != nil {
		p.store(payload, limit)
		m.Payload, p.delivered = p.frag.B, true
	}
	return m, true, nil
}

// Need returns how many bytes, at least, the next call of Next needs to take a
// frame, as far as is known: never more than a header and the limit that was
// given. It is a goal to wait for, not memory to reserve: the client has only
// claimed that so much will come. Next may be called earlier, and fails earlier
// then if the text is invalid.
func (p *Parser) Need() int { return max(p.need, 2) }

// Reset makes p as new and gives its buffer back.
func (p *Parser) Reset() {
	p.release()
	*p = Parser{}
}

// frameHeader is a client's frame header that has passed all checks.
type frameHeader struct {
	op     Op
	fin    bool
	key    [4]byte
	size   int // of the header itself; 0: incomplete
	length int // of the payload
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
	switch {
	case buf[0]&bitsRsv != 0:
		return h, ErrReservedBits
	case h.op.reserved():
		return h, ErrReservedOpcode
	case h.op.Control():
		if !h.fin {
			return h, ErrControlFragmented
		}
	case h.op == OpContinuation:
		if p.open == OpContinuation {
			return h, ErrUnexpectedContinuation
		}
	case p.open != OpContinuation:
		return h, ErrExpectedContinuation
	}
	if len(buf) == 1 {
		return h, nil
	}
	if buf[1]&bitMask == 0 {
		return h, ErrUnmasked
	}
	size, length := 2, uint64(buf[1]&bitsLen)
	if length > MaxControl {
		if h.op.Control() {
			return h, ErrControlTooLong
		}
		if size = 4; length == len64 {
			size = 10
		}
		if len(buf) < size {
			p.need = size + len(h.key)
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
	if !h.op.Control() && length > uint64(max(limit-p.stored(), 0)) {
		return h, ErrMessageTooLarge
	}
	h.length = int(length)
	if len(buf) < size+len(h.key) {
		p.need = size + len(h.key) + h.length
		return h, nil
	}
	h.size = size + copy(h.key[:], buf[size:])
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
