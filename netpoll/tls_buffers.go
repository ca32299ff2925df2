package netpoll

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// A tls.Conn keeps its input buffers for life: as large as the largest record and the largest
// handshake message that ever came, some kilobytes for a connection that is idle. It has no way to
// give them up, so it is helped along: while they are empty, they are taken away, and the loop
// lends a buffer of its own for the time of a read. Where the fields are is looked up by name and
// type. If a later version of Go has none, or others, nothing is touched, and all works as before
// with more memory (a test tells).

// The offsets of the fields in a tls.Conn, if haveBuffers.
var (
	rawOffset, handOffset uintptr
	haveBuffers           bool
)

func init() {
	raw, ok := reflect.TypeFor[tls.Conn]().FieldByName("rawInput")
	hand, too := reflect.TypeFor[tls.Conn]().FieldByName("hand")
	buffer := reflect.TypeFor[bytes.Buffer]()
	if ok && too && raw.Type == buffer && hand.Type == buffer {
		rawOffset, handOffset, haveBuffers = raw.Offset, hand.Offset, true
	}
}

func bufferAt(c *tls.Conn, offset uintptr) *bytes.Buffer {
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), offset))
}

// lendRaw lends the loop's buffer to c for a read. False means that it has one with something in
// it.
func lendRaw(c *tls.Conn, s *tlsLoop) bool {
	if !haveBuffers {
		return false
	}
	raw := bufferAt(c, rawOffset)
	if raw.Len() > 0 {
		return false
	}
	*raw = *bytes.NewBuffer(s.raw[:0])
	return true
}

// takeRaw takes back what was lent, unless something is left in it.
func takeRaw(c *tls.Conn, s *tlsLoop) {
	raw := bufferAt(c, rawOffset)
	if raw.Len() > 0 {
		s.raw = make([]byte, 0, rawRoom) // the other is the connection's now
		return
	}
	raw.Reset()
	s.raw = raw.AvailableBuffer()
	*raw = bytes.Buffer{}
}

// dropBuffers takes empty buffers away from c.
func dropBuffers(c *tls.Conn) {
	if !haveBuffers {
		return
	}
	for _, offset := range [...]uintptr{rawOffset, handOffset} {
		if b := bufferAt(c, offset); b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}
