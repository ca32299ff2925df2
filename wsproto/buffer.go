package wsproto

import "sync"

// buffer collects a fragmented message. It grows with what arrives and is
// pooled while no message needs it.
type buffer struct{ b []byte }

const (
	minBuffer  = 512      // first size of a buffer, in bytes
	keepBuffer = 64 << 10 // larger ones are left to the garbage collector
)

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// stored returns how much of the open message has arrived, in bytes.
func (p *Parser) stored() int {
	if p.frag == nil {
		return 0
	}
	return len(p.frag.b)
}

// store appends a fragment to the open message; the limit has been checked and
// bounds the buffer too.
func (p *Parser) store(payload []byte, limit int) {
	if len(payload) == 0 {
		return
	}
	if p.frag == nil {
		p.frag = buffers.Get().(*buffer)
	}
	b := p.frag.b
	if need := len(b) + len(payload); need > cap(b) {
		grown := make([]byte, len(b), max(need, min(max(2*cap(b), minBuffer), limit)))
		copy(grown, b)
		b = grown
	}
	p.frag.b = append(b, payload...)
}

func (p *Parser) release() {
	if p.frag == nil {
		return
	}
	if cap(p.frag.b) <= keepBuffer {
		p.frag.b = p.frag.b[:0]
		buffers.Put(p.frag)
	}
	p.frag, p.delivered = nil, false
}
