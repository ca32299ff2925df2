package httpapi

import (
	"bytes"
	"strings"

	"sluice/internal/intern"
	"sluice/internal/res"
)

// Below reports whether an escaped path is below the API path, and so may name a resource. The
// setting apiPath is a decoded path; a request must have it in the escaping of net/url.
func (h *Handler) Below(path []byte) bool { return bytes.HasPrefix(path, h.prefixBytes) }

// IsAPIPath reports whether an escaped path is the API path itself, without its last slash.
func (h *Handler) IsAPIPath(path string) bool { return path+"/" == h.prefix }

// RID returns the resource ID that a request's target names (RES.md section 4). path is escaped, as
// by url.URL.EscapedPath. It returns false for a path outside of the API path, with a dot, an empty
// part or a trailing slash, and for one that gives an invalid resource ID.
//
// Parts are decoded, so an escaped dot separates parts, and an escaped question mark begins the
// query, as clients of Resgate may rely on.
func (h *Handler) RID(path, rawQuery string) (rid string, ok bool) {
	path, ok = strings.CutPrefix(path, h.prefix)
	if !ok {
		return "", false
	}
	return toRID(path, rawQuery, nil)
}

// Method returns the resource ID and the method that the target of a POST names. The method is the
// path's last part.
func (h *Handler) Method(path, rawQuery string) (rid, method string, ok bool) {
	path, ok = strings.CutPrefix(path, h.prefix)
	cut := strings.LastIndexByte(path, '/')
	if !ok || cut < 0 {
		return "", "", false
	}
	if method, ok = unescape(path[cut+1:], nil); !ok || !res.ValidPart(method) {
		return "", "", false
	}
	rid, ok = toRID(path[:cut], rawQuery, nil)
	return rid, method, ok
}

func toRID(path, rawQuery string, interned *intern.Cache) (rid string, ok bool) {
	// A trailing slash is invalid also as the end of an escaped query.
	if strings.HasSuffix(path, "/") {
		return "", false
	}
	if rid, ok = unescape(path, interned); !ok {
		return "", false
	}
	if rawQuery != "" {
		rid += "?" + rawQuery
	}
	return rid, res.ValidRID(rid)
}

// unescape turns slashes into dots, and decodes percent-encoding. It returns false for a literal
// dot or malformed encoding.
func unescape(path string, interned *intern.Cache) (s string, ok bool) {
	if strings.IndexByte(path, '.') >= 0 {
		return "", false
	}
	var short [64]byte
	b := short[:0]
	for i := 0; i < len(path); i++ {
		switch c := path[i]; c {
		case '/':
			b = append(b, '.')
		case '%':
			if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
				return "", false
			}
			b = append(b, unhex(path[i+1])<<4|unhex(path[i+2]))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return interned.Of(b), true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// Path returns the path of a valid resource ID, which RID maps back to it. It is printable ASCII
// without quotes, and needs no further escaping in a header or in JSON.
func (h *Handler) Path(rid string) string { return string(h.AppendPath(nil, rid)) }

// AppendPath appends Path(rid).
func (h *Handler) AppendPath(dst []byte, rid string) []byte {
	dst = append(dst, h.prefix...)
	name, query := res.SplitRID(rid)
	for i := range len(name) {
		dst = appendPathByte(dst, name[i])
	}
	switch {
	case query == "":
		return dst
	case plainQuery(query):
		dst = append(dst, '?')
		return append(dst, query...)
	}
	// As a URL's query it would be changed by a client or proxy, or have to be escaped, and RID
	// does not decode a query. So the question mark is escaped, and the query becomes part of the
	// path.
	dst = append(dst, "%3F"...)
	for i := range len(query) {
		if query[i] == '.' && (i+1 == len(query) || query[i+1] == '.') {
			// Dots become slashes: avoid an empty part and a trailing slash, which proxies may
			// change.
			dst = append(dst, "%2E"...)
			continue
		}
		dst = appendPathByte(dst, query[i])
	}
	return dst
}

const upperHex = "0123456789ABCDEF"

// appendPathByte appends one byte of a resource ID: a dot as a slash, and what a path cannot
// contain percent-encoded.
func appendPathByte(dst []byte, c byte) []byte {
	switch {
	case c == '.':
		return append(dst, '/')
	case partChars[c]:
		return append(dst, c)
	}
	return append(dst, '%', upperHex[c>>4], upperHex[c&0xF])
}

// partChars are the characters that need no escaping in a part of a path: those of RFC 3986 section
// 3.3 to which neither browsers nor proxies give a meaning. queryChars are those of a query that
// they do not change: all of RFC 3986 section 3.4 but the single quote.
var partChars, queryChars = func() (part, query [256]bool) {
	for c := range 256 {
		alnum := '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' && c < 0x80
		part[c] = alnum || c < 0x80 && strings.IndexByte("-_~$&+=:@", byte(c)) >= 0
		query[c] = alnum || c < 0x80 && strings.IndexByte("-._~!$&()*+,;=:@/?", byte(c)) >= 0
	}
	return part, query
}()

// plainQuery reports whether a query passes browsers and proxies unchanged as a URL's query.
func plainQuery(q string) bool {
	for i := 0; i < len(q); i++ {
		switch {
		case queryChars[q[i]]:
		case q[i] == '%' && i+2 < len(q) && isHex(q[i+1]) && isHex(q[i+2]):
			i += 2
		default:
			return false
		}
	}
	return true
}
