package tracing

import (
	"encoding/hex"
	"strings"
)

// Context identifies a span to other processes (W3C Trace Context). The zero value is no span. It
// does not change after it was made, so any goroutine may read it.
type Context struct {
	Trace   [16]byte
	Span    [8]byte
	Sampled bool   // the span is recorded
	State   string // tracestate: vendors' own fields, passed on unchanged
}

// Valid reports whether c identifies a span.
func (c *Context) Valid() bool { return c.Trace != [16]byte{} && c.Span != [8]byte{} }

// The names of the header fields.
const (
	ParentField = "traceparent"
	StateField  = "tracestate"
)

// maxState bounds a tracestate that is passed on, in bytes (W3C Trace Context section 3.3.1.5).
const maxState = 512

// parentLen is the length of a traceparent of version 00.
const parentLen = 55

// Parse reads the fields traceparent and tracestate of a request. Invalid ones are as none: then
// the zero value is returned, or one without a state (W3C Trace Context section 4.3).
func Parse(parent, state string) (c Context) {
	// A higher version may have more fields, after a dash. ff is invalid.
	if len(parent) < parentLen || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' ||
		len(parent) > parentLen && (parent[:2] == "00" || parent[parentLen] != '-') {
		return Context{}
	}
	var version, flags [1]byte
	if !unhex(version[:], parent[:2]) || version[0] == 0xff || !unhex(c.Trace[:], parent[3:35]) ||
		!unhex(c.Span[:], parent[36:52]) || !unhex(flags[:], parent[53:55]) || !c.Valid() {
		return Context{}
	}
	c.Sampled = flags[0]&1 != 0
	if len(state) <= maxState && printable(state) {
		c.State = state
	}
	return c
}

// unhex decodes lower-case hex digits.
func unhex(dst []byte, s string) bool {
	if strings.ContainsAny(s, "ABCDEF") {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// printable reports whether s can be the value of a header field.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Parent returns the field traceparent that names c.
func (c *Context) Parent() string {
	b := make([]byte, 0, parentLen)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, c.Trace[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, c.Span[:])
	if c.Sampled {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}
