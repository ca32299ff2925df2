package httpapi

import (
	"crypto/sha256"
	"encoding/base64"
	"unsafe"
)

// entityTag returns the weak entity tag of a body (RFC 9110 section 8.8.3), which is the same for
// all its content codings.
func entityTag(sum [sha256.Size]byte) string {
	var b [24]byte
	copy(b[:], `W/"`)
	base64.RawURLEncoding.Encode(b[3:23], sum[:15])
	b[23] = '"'
	return string(b[:])
}

// tagMemo has the entity tags of the newest short texts that are shared: those of the resources
// that clients get most. It has one user at a time.
type tagMemo [64]taggedText

// taggedText is a text, which is immutable, with its tag as the values of a field.
type taggedText struct {
	first  *byte // keeps the text, so that no other can have its place
	length int
	tag    []string
}

// maxTagged is the length, in bytes, up to which a text is kept.
const maxTagged = 2 << 10

// of returns where the tag of a text is, or is to be; nil if it is not kept.
func (m *tagMemo) of(text []byte) *taggedText {
	if m == nil || len(text) == 0 || len(text) > maxTagged {
		return nil
	}
	first := unsafe.SliceData(text)
	t := &m[uintptr(unsafe.Pointer(first))/32%uintptr(len(m))]
	if t.first != first || t.length != len(text) {
		*t = taggedText{first: first, length: len(text)}
	}
	return t
}

// tag sets the entity tag of a body, and returns it. A service's own takes precedence. keep says
// that the body is shared, and its sum not needed for anything else.
func (resp *Response) tag(body []byte, keep bool) string {
	own := resp.Header["Etag"]
	if len(own) > 0 && own[0] == "" {
		own = nil
	}
	var known *taggedText
	if keep && own == nil {
		if known = resp.tags.of(body); known != nil && known.tag != nil {
			resp.Header["Etag"] = known.tag
			return known.tag[0]
		}
	}
	resp.sum, resp.summed = sha256.Sum256(body), true
	if own == nil {
		own = []string{entityTag(resp.sum)}
		resp.Header["Etag"] = own
		if known != nil {
			known.tag = own
		}
	}
	return own[0]
}
