// Package tlsrecord finds the bounds of TLS records in a stream, and the end of a ClientHello, so
// that crypto/tls is only given input that it can use without waiting.
//
// It consists of functions on byte slices. It never decrypts or validates anything, and knows
// neither sockets nor connections.
package tlsrecord

const (
	// HeaderLen is the length of a record's header in bytes (RFC 8446 §5.1).
	HeaderLen = 5
	// MaxPlaintext bounds the plaintext of a record in bytes (RFC 8446 §5.1).
	MaxPlaintext = 16 << 10
	// MaxPayload bounds the payload of a sealed record in bytes (RFC 5246 §6.2.3; RFC 8446 §5.2
	// allows less).
	MaxPayload = MaxPlaintext + 2048
)

// Position is how far a stream has been read, relative to its records. The zero value is the
// beginning of a record. One goroutine at a time uses it.
type Position struct {
	head [HeaderLen]byte
	have uint8  // bytes of head
	rest uint16 // missing bytes of the payload, if head is complete
}

// Next returns how many bytes can be read without passing the end of the header or, after it, the
// end of the record.
func (p *Position) Next() int {
	if p.have < HeaderLen {
		return HeaderLen - int(p.have)
	}
	return int(p.rest)
}

// Pass advances the position by the bytes b of the stream.
func (p *Position) Pass(b []byte) {
	for len(b) > 0 {
		n := min(len(b), p.Next())
		if p.have < HeaderLen {
			p.have += uint8(copy(p.head[p.have:], b[:n]))
			p.rest = payloadLen(p.head[:])
		} else {
			p.rest -= uint16(n)
		}
		b = b[n:]
		if p.have == HeaderLen && p.rest == 0 {
			p.have = 0
		}
	}
}

// Whole returns how many bytes of b, which follows the position, complete the record; 0 if b does
// not have all of them. Of a record longer than MaxPayload it returns the header alone, which
// crypto/tls rejects.
func (p *Position) Whole(b []byte) int {
	if p.have == HeaderLen {
		if len(b) < int(p.rest) {
			return 0
		}
		return int(p.rest)
	}
	head := p.head
	n := copy(head[p.have:], b)
	if int(p.have)+n < HeaderLen {
		return 0
	}
	size := int(payloadLen(head[:]))
	switch {
	case size > MaxPayload:
		return n
	case len(b) < n+size:
		return 0
	}
	return n + size
}

// payloadLen returns the length field of a complete header.
func payloadLen(head []byte) uint16 { return uint16(head[3])<<8 | uint16(head[4]) }
