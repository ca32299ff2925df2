package netpoll

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// A tls.Conn never releases its input buffers, which are as large as the largest record and
// handshake message so far: some kilobytes for an idle connection. Its API cannot release them, so
// this file does, by reflection: it removes empty buffers, and lends a buffer of the loop for the
// time of a read. The fields are found by name and type. If another version of Go has different
// ones, they are left alone, and a connection needs more memory; a test reports that.

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

// lendRaw lends the loop's buffer to c for a read. It returns false if c has a buffer that is not
// empty.
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

// takeRaw takes back the lent buffer, or leaves it to c if it is not empty.
func takeRaw(c *tls.Conn, s *tlsLoop) {
	raw := bufferAt(c, rawOffset)
	if raw.Len() > 0 {
		s.raw = make([]byte, 0, rawRoom) // the other is owned by c now
		return
	}
	raw.Reset()
	s.raw = raw.AvailableBuffer()
	*raw = bytes.Buffer{}
}

// dropBuffers removes empty buffers from c.
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
