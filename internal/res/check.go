package res

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf8"
)

// MaxDepth is the maximum nesting depth of objects and arrays in JSON text. It bounds the recursion
// of check and of every later reader of the text.
const MaxDepth = 256

// traits are properties that check finds in a valid text.
type traits uint8

const (
	spaced traits = 1 << iota // white space between tokens: not compact
	lone                      // a lone escaped surrogate: see repair
)

// check reports whether b is strict JSON in valid UTF-8 within MaxDepth. It does not allocate.
//
// fastjson sees only text that check has accepted. Its parser accepts NaN, control characters and
// invalid escapes. Its parser and its validator both copy the rest of the text into an error, again
// at each level of nesting: a hostile megabyte costs gigabytes of copying.
//
// yield, if not nil, is called every 0.2 ms or more often.
func check(b []byte, yield func()) (traits, bool) {
	if !valid(b, yield) {
		return 0, false
	}
	c := newChecker(b, yield)
	if !c.space() || !c.value(0) || c.space() {
		return 0, false
	}
	return c.traits, true
}

// valid reports whether b is valid UTF-8.
func valid(b []byte, yield func()) bool {
	for yield != nil && len(b) > yieldText {
		n := yieldText
		for n > yieldText-utf8.UTFMax && !utf8.RuneStart(b[n]) {
			n--
		}
		if !utf8.Valid(b[:n]) {
			return false
		}
		b = b[n:]
		yield()
	}
	return utf8.Valid(b)
}

// What takes less than 0.2 ms, in bytes.
const (
	yieldText  = 64 << 10 // of a check of UTF-8
	yieldBytes = 4 << 10  // of a check of JSON
)

// Diagnose returns where and why p rejects a text with ErrMalformed: the offset, in bytes
// from 0, of the first byte that is invalid or missing, and a reason for users, which does not
// quote the text. For an escape sequence it is the offset of the backslash. Valid text has the
// reason "". Diagnose does not allocate. It reads the text again, so call it only after an error.
func (p *Parser) Diagnose(b []byte) (offset int, reason string) {
	c := newChecker(b, p.Yield)
	valid := false
	if c.space() {
		if valid = c.value(0); valid && c.space() {
			valid = c.fail("text after the end of the value")
		}
	} else {
		c.fail(expectedValue)
	}
	// str accepts invalid UTF-8, so that is the first fault if it precedes the checker's.
	if n := validUTF8(b); n < len(b) && (valid || n <= c.i) {
		return n, "invalid UTF-8"
	}
	switch {
	case valid:
		return len(b), ""
	case c.i == len(b):
		return c.i, "unexpected end"
	case c.i == 0 && bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		return 0, "byte order mark before the value"
	}
	return c.i, c.reason
}

// validUTF8 returns the length of the longest prefix that is valid UTF-8.
func validUTF8(b []byte) (n int) {
	for n < len(b) {
		r, size := utf8.DecodeRune(b[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// checker reads a text once. When one of its methods returns false for invalid text, i is the
// offset of the fault, and reason says what it is unless the text has ended.
type checker struct {
	b      []byte
	i      int
	traits traits
	reason string
	yield  func()
	next   int // from this offset on it is to be called
}

func newChecker(b []byte, yield func()) checker {
	c := checker{b: b, yield: yield, next: yieldBytes}
	if yield == nil {
		c.next = len(b)
	}
	return c
}

// pause lets others go on.
func (c *checker) pause() {
	if c.yield != nil {
		c.yield()
	}
	c.next = c.i + yieldBytes
}

const expectedValue = "expected a value"

var tooDeep = "nested deeper than " + strconv.Itoa(MaxDepth) + " levels"

// fail records the reason and returns false.
func (c *checker) fail(reason string) bool {
	c.reason = reason
	return false
}

// space skips white space and reports whether anything follows.
func (c *checker) space() bool {
	if c.i < len(c.b) && c.b[c.i] > ' ' {
		return true
	}
	for ; c.i < len(c.b); c.i++ {
		switch c.b[c.i] {
		case ' ', '\t', '\n', '\r':
			c.traits |= spaced
		default:
			return true
		}
	}
	return false
}

// take skips ch if it is the next byte, and reports whether it was.
func (c *checker) take(ch byte) bool {
	if c.i < len(c.b) && c.b[c.i] == ch {
		c.i++
		return true
	}
	return false
}

func (c *checker) value(depth int) bool {
	if c.i >= len(c.b) {
		return false
	}
	if c.i >= c.next {
		c.pause()
	}
	switch c.b[c.i] {
	case '{':
		if depth == MaxDepth {
			return c.fail(tooDeep)
		}
		return c.object(depth + 1)
	case '[':
		if depth == MaxDepth {
			return c.fail(tooDeep)
		}
		return c.array(depth + 1)
	case '"':
		return c.str()
	case 't':
		return c.word("true")
	case 'f':
		return c.word("false")
	case 'n':
		return c.word("null")
	}
	return c.number()
}

func (c *checker) object(depth int) bool {
	c.i++
	c.space()
	if c.take('}') {
		return true
	}
	for {
		if c.i >= len(c.b) || c.b[c.i] != '"' {
			return c.fail("expected a property name in double quotes")
		}
		if !c.str() {
			return false
		}
		c.space()
		if !c.take(':') {
			return c.fail("expected ':' after a property name")
		}
		c.space()
		if !c.value(depth) {
			return false
		}
		c.space()
		if c.take('}') {
			return true
		}
		if !c.take(',') {
			return c.fail("expected ',' or '}' after a property")
		}
		c.space()
	}
}

func (c *checker) array(depth int) bool {
	c.i++
	c.space()
	if c.take(']') {
		return true
	}
	for {
		if !c.value(depth) {
			return false
		}
		c.space()
		if c.take(']') {
			return true
		}
		if !c.take(',') {
			return c.fail("expected ',' or ']' after an element")
		}
		c.space()
	}
}

func (c *checker) word(w string) bool {
	if !bytes.HasPrefix(c.b[c.i:], []byte(w)) {
		for n := 0; c.i < len(c.b) && c.b[c.i] == w[n]; n++ {
			c.i++
		}
		return c.fail(expectedValue)
	}
	c.i += len(w)
	return true
}

// digits skips decimal digits and returns their number.
func (c *checker) digits() int {
	from := c.i
	for c.i < len(c.b) && c.b[c.i]-'0' <= 9 {
		c.i++
	}
	return c.i - from
}

func (c *checker) number() bool {
	c.take('-')
	zero := c.i < len(c.b) && c.b[c.i] == '0'
	switch n := c.digits(); {
	case n == 0:
		return c.fail(expectedValue)
	case zero && n > 1:
		c.i -= n - 1
		return c.fail("number with a leading zero")
	}
	if c.take('.') && c.digits() == 0 {
		return c.fail("expected a digit after the decimal point")
	}
	if c.take('e') || c.take('E') {
		if !c.take('-') {
			c.take('+')
		}
		if c.digits() == 0 {
			return c.fail("expected a digit in the exponent")
		}
	}
	return true
}

const (
	ones = 0x0101010101010101
	high = 0x8080808080808080
)

// str skips a string and reports whether it is valid. The UTF-8 has been checked before.
func (c *checker) str() bool {
	b, i := c.b, c.i+1
	for i < len(b) {
		// Eight bytes at a time while none of them is a quote, a backslash or below the space. The
		// lowest marked byte is exact; those above it may not be.
		if i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			q, s := x^ones*'"', x^ones*'\\'
			m := ((x-ones*' ')&^x | (q-ones)&^q | (s-ones)&^s) & high
			if m == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(m) / 8
		}
		switch ch := b[i]; {
		case ch == '"':
			c.i = i + 1
			return true
		case ch < ' ':
			c.i = i
			return c.fail("control character in a string")
		case ch != '\\':
			i++
		default:
			n, isLone := escape(b[i:])
			if n == 0 {
				c.i = i
				return c.fail("invalid escape sequence in a string")
			}
			if isLone {
				c.traits |= lone
			}
			if i += n; i >= c.next {
				c.i = i
				c.pause()
			}
		}
	}
	c.i = len(b)
	return false
}

// escape reads the escape sequence at the start of b: n is its length, a surrogate pair taken as
// one, and 0 if it is invalid. isLone: it is a surrogate without its other half.
func escape(b []byte) (n int, isLone bool) {
	if len(b) < 2 {
		return 0, false
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, false
	case 'u':
		u, ok := hex4(b[2:])
		switch {
		case !ok:
			return 0, false
		case u < 0xD800 || u > 0xDFFF:
			return 6, false
		case u < 0xDC00 && len(b) >= 12 && b[6] == '\\' && b[7] == 'u':
			if low, ok := hex4(b[8:]); ok && low >= 0xDC00 && low <= 0xDFFF {
				return 12, false
			}
		}
		return 6, true
	}
	return 0, false
}

func hex4(b []byte) (u uint16, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, ch := range b[:4] {
		switch {
		case ch-'0' <= 9:
			ch -= '0'
		case ch|0x20-'a' <= 5:
			ch = ch | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		u = u<<4 | uint16(ch)
	}
	return u, true
}

// repair appends valid JSON text with each lone surrogate replaced by U+FFFD, as encoding/json
// reads it.
func repair(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return append(dst, b...)
		}
		dst = append(dst, b[:i]...)
		n, isLone := escape(b[i:])
		if isLone {
			dst = append(dst, `\ufffd`...)
		} else {
			dst = append(dst, b[i:i+n]...)
		}
		b = b[i+n:]
	}
}

// compact appends valid JSON text without the white space between its tokens. yield, if not nil, is
// called every millisecond or more often.
func compact(dst, b []byte, yield func()) []byte {
	next := len(b)
	if yield != nil {
		dst = slices.Grow(dst, len(b))
		next = yieldText
	}
	for i := 0; i < len(b); {
		from := i
		if i >= next {
			yield()
			next = i + yieldText
		}
		switch b[i] {
		case ' ', '\t', '\n', '\r':
			i++
			continue
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			i++
		default:
			for i++; i < len(b) && b[i] > ' ' && b[i] != '"'; i++ {
			}
		}
		dst = append(dst, b[from:i]...)
	}
	return dst
}
