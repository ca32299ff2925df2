package netpoll

import "sluice/pool"

// pendingBytes are bytes that wait: input of an incomplete message, or output that a socket did not
// take. They are in a pooled buffer that exists only while there are any, so an idle connection has
// none. The zero value is empty. Its owner is that of the struct that contains it.
type pendingBytes struct {
	buf *pool.Buffer // nil: empty
}

func (p *pendingBytes) empty() bool { return p.buf == nil }

// bytes returns the bytes; they are valid until the next call of another method.
func (p *pendingBytes) bytes() []byte {
	if p.buf == nil {
		return nil
	}
	return p.buf.B
}

// add appends a copy of b and returns all bytes. The buffer grows with the bytes that arrived, not
// with an announced length.
func (p *pendingBytes) add(b []byte) []byte {
	switch {
	case len(b) == 0:
		return p.bytes()
	case p.buf == nil:
		p.buf = pool.GetBuffer(len(b))
	default:
		if n := len(p.buf.B) + len(b); n > cap(p.buf.B) {
			larger := pool.GetBuffer(max(n, 2*cap(p.buf.B)))
			larger.B = append(larger.B, p.buf.B...)
			p.buf.Put()
			p.buf = larger
		}
	}
	p.buf.B = append(p.buf.B, b...)
	return p.buf.B
}

// keep keeps only rest, which is the end of the bytes, or of other memory if there are none.
func (p *pendingBytes) keep(rest []byte) {
	switch {
	case p.buf == nil:
		p.add(rest)
	case len(rest) == 0:
		p.drop()
	case len(rest) < len(p.buf.B):
		p.buf.B = p.buf.B[:copy(p.buf.B, rest)]
	}
}

// drop removes all bytes.
func (p *pendingBytes) drop() {
	if p.buf != nil {
		p.buf.Put()
		p.buf = nil
	}
}

// detach removes all bytes and returns their buffer, which the caller releases; nil if there are
// none.
func (p *pendingBytes) detach() (buf *pool.Buffer) {
	buf, p.buf = p.buf, nil
	return buf
}
