package wsproto

import (
	"bytes"
	"math"
)

// DefaultMaxHead is the limit, in bytes, of a request head when none is given.
const DefaultMaxHead = 64 << 10

// http10 is the protocol version without upgrades, Host and transfer codings.
const http10 = "HTTP/1.0"

// Head is the head of an HTTP/1.x request. Its slices, and those that its methods return, alias the
// buffer that was parsed: they are valid until that buffer is changed or reused. A Head may be
// reused for another request; in steady state parsing does not allocate.
type Head struct {
	Method []byte // for example "GET"; case matters
	Target []byte // as sent: origin, absolute, authority or asterisk form
	Proto  []byte // "HTTP/1.0" … "HTTP/1.9"

	raw    []byte  // the whole head, blank line included
	fields []field // in order of arrival, as offsets in raw
}

// field is one header field: raw[start:colon] is its name, raw[from:to] its
// value without surrounding white space.
type field struct{ start, colon, from, to int32 }

// ParseHead parses the request head at the beginning of buf. It returns its
// length n, blank line included, or n == 0 and no error if the head is not yet
// complete. limit bounds the head's length in bytes (0: DefaultMaxHead).
//
// The grammar is that of RFC 9112 without its tolerances, each of which lets two parsers disagree
// on where a request ends. Lines end in CR LF. Folded fields, empty names and white space before a
// colon are errors, and the body's length must be unambiguous. Errors are of type *HandshakeError.
//
// ParseHead parses buf from its beginning each time. Use a HeadScanner where the head may arrive in
// many pieces.
func ParseHead(buf []byte, limit int, h *Head) (n int, err error) {
	var s HeadScanner
	return s.Parse(buf, limit, h)
}

// HeadScanner parses a request head that arrives in pieces, and scans each byte once. The zero
// value is ready. One connection owns it, and reuses it for the next head after a complete one.
type HeadScanner struct {
	line int32 // offset of the first incomplete line
	scan int32 // the line has no line feed and no forbidden byte before this offset
}

// Parse is ParseHead for a growing buffer. Each call must pass the bytes of the previous call and
// those that arrived since; they may have moved in memory. A head that cannot become valid is
// rejected at the first complete line or forbidden byte that shows it. h is valid only if n > 0.
func (s *HeadScanner) Parse(buf []byte, limit int, h *Head) (n int, err error) {
	if limit <= 0 {
		limit = DefaultMaxHead
	}
	limit = min(limit, math.MaxInt32) // offsets are 32 bits
	in := buf[:min(len(buf), limit)]
	resumed := s.line > 0
	h.raw, h.fields = in, h.fields[:0]
	for {
		lf := bytes.IndexByte(in[s.scan:], '\n')
		if lf < 0 {
			break
		}
		end := int(s.scan) + lf
		rest := in[s.scan:end]
		cr := len(rest) > 0 && rest[len(rest)-1] == '\r'
		if cr {
			rest = rest[:len(rest)-1]
			end--
		}
		switch {
		case hasControl(rest):
			return 0, ErrHeadControl
		case !cr:
			return 0, ErrHeadLineEnd
		}
		start := int(s.line)
		switch {
		case start == 0:
			err = h.parseRequestLine(in[:end])
		case start == end:
			*s = HeadScanner{}
			n = end + 2
			if resumed { // an earlier call parsed the first lines: collect all fields
				return s.Parse(buf, limit, h)
			}
			h.raw = in[:n]
			if err := h.checkBodyLength(); err != nil {
				return 0, err
			}
			return n, nil
		default:
			err = h.parseField(in, start, end)
		}
		if err != nil {
			return 0, err
		}
		s.line, s.scan = int32(end+2), int32(end+2)
	}
	rest := in[s.scan:]
	if len(rest) > 0 && rest[len(rest)-1] == '\r' {
		rest = rest[:len(rest)-1] // checked once the byte after it has arrived
	}
	if hasControl(rest) {
		return 0, ErrHeadControl
	}
	s.scan += int32(len(rest))
	if len(in) == limit {
		return 0, ErrHeadTooLarge
	}
	return 0, nil
}

// parseRequestLine parses "method SP target SP version" (RFC 9112 §3).
func (h *Head) parseRequestLine(line []byte) error {
	method, rest, ok := bytes.Cut(line, space)
	if !ok || !isToken(method) {
		return ErrRequestLine
	}
	target, proto, ok := bytes.Cut(rest, space)
	if !ok || len(target) == 0 || bytes.IndexByte(target, '\t') >= 0 {
		return ErrRequestLine
	}
	const form = "HTTP/1.1"
	if len(proto) != len(form) || string(proto[:5]) != form[:5] ||
		!isDigit(proto[5]) || proto[6] != '.' || !isDigit(proto[7]) {
		return ErrRequestLine
	}
	if proto[5] != '1' {
		return ErrHTTPVersion
	}
	h.Method, h.Target, h.Proto = method, target, proto
	return nil
}

// parseField adds the field line in[start:end] (RFC 9112 §5).
func (h *Head) parseField(in []byte, start, end int) error {
	if isSpace(in[start]) {
		return ErrHeadFold
	}
	colon := bytes.IndexByte(in[start:end], ':')
	if colon < 0 || !isToken(in[start:start+colon]) {
		return ErrFieldName
	}
	colon += start
	from, to := colon+1, end
	for from < to && isSpace(in[from]) {
		from++
	}
	for from < to && isSpace(in[to-1]) {
		to--
	}
	h.fields = append(h.fields, field{int32(start), int32(colon), int32(from), int32(to)})
	return nil
}

// checkBodyLength rejects a head whose body two parsers could delimit differently (RFC 9112 §6.1,
// §6.3).
func (h *Head) checkBodyLength() error {
	length, lengths := h.find("Content-Length")
	_, codings := h.find("Transfer-Encoding")
	switch {
	case lengths > 1 || lengths == 1 && !isNumber(length):
		return ErrContentLength
	case codings > 0 && (lengths > 0 || string(h.Proto) == http10):
		return ErrTransferEncoding
	}
	return nil
}

// Get returns the value of the first field with the name (case-insensitive), without surrounding
// white space; nil if there is none.
func (h *Head) Get(name string) []byte {
	for _, f := range h.fields {
		if equalFold(h.raw[f.start:f.colon], name) {
			return h.raw[f.from:f.to:f.to]
		}
	}
	return nil
}

// Each calls f for each field in order of arrival, names as sent, values
// without surrounding white space.
func (h *Head) Each(f func(name, value []byte)) {
	for _, x := range h.fields {
		f(h.raw[x.start:x.colon:x.colon], h.raw[x.from:x.to:x.to])
	}
}

// Path returns the target's path, without its query. The absolute form
// ("http://host/path") yields the path in it, "/" if it has none; the asterisk
// and authority forms are returned as they are.
func (h *Head) Path() []byte {
	path := h.Target
	if !bytes.HasPrefix(path, slash) {
		if _, rest, ok := bytes.Cut(path, schemeEnd); ok {
			i := bytes.IndexAny(rest, "/?")
			if i < 0 || rest[i] == '?' {
				return slash
			}
			path = rest[i:]
		}
	}
	path, _, _ = bytes.Cut(path, question)
	return path
}

// IsUpgrade reports whether the request asks for WebSocket, with "Upgrade: websocket" and
// "Connection: upgrade". CheckUpgrade reports whether the handshake is valid.
func (h *Head) IsUpgrade() bool {
	return h.hasToken("Upgrade", "websocket") && h.hasToken("Connection", "upgrade")
}

// find returns the first value of a field and the number of its occurrences.
func (h *Head) find(name string) (value []byte, n int) {
	for _, f := range h.fields {
		if equalFold(h.raw[f.start:f.colon], name) {
			if n == 0 {
				value = h.raw[f.from:f.to]
			}
			n++
		}
	}
	return value, n
}

// hasToken reports whether token is an element of the comma-separated list in all fields with the
// name.
func (h *Head) hasToken(name, token string) bool {
	for _, f := range h.fields {
		if equalFold(h.raw[f.start:f.colon], name) && hasElement(h.raw[f.from:f.to], token) {
			return true
		}
	}
	return false
}

// hasElement reports whether token is an element of a comma-separated list.
func hasElement(list []byte, token string) bool {
	for len(list) > 0 {
		var element []byte
		element, list, _ = bytes.Cut(list, comma)
		if equalFold(bytes.Trim(element, " \t"), token) {
			return true
		}
	}
	return false
}

var (
	space     = []byte{' '}
	slash     = []byte{'/'}
	question  = []byte{'?'}
	comma     = []byte{','}
	schemeEnd = []byte("://")
)

// equalFold reports whether b and s are equal under ASCII case folding.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// hasControl reports whether b holds a control byte other than a tab.
func hasControl(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// isToken reports whether b is a token (RFC 9110 §5.6.2).
func isToken(b []byte) bool {
	for _, c := range b {
		if !tokenBytes[c] {
			return false
		}
	}
	return len(b) > 0
}

var tokenBytes = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

func isSpace(c byte) bool { return c == ' ' || c == '\t' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNumber(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
	}
	return len(b) > 0
}
