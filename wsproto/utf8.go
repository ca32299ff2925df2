package wsproto

import "unicode/utf8"

// textCheck validates UTF-8 that comes in pieces cut at any byte (RFC 3629,
// RFC 6455 §8.1). The zero value is ready; it stands between two characters
// exactly if it is zero again.
//
// Within a character it holds how many bytes are missing and the range that
// the next one must be in. The range is what makes it fail at the first byte
// that no valid text could have: it excludes overlong forms, surrogates and
// code points above U+10FFFF at their second byte.
type textCheck struct{ missing, low, high uint8 }

// write takes the next piece and reports whether the text can still be valid.
func (t *textCheck) write(b []byte) bool {
	for t.missing > 0 {
		if len(b) == 0 {
			return true
		}
		if b[0] < t.low || b[0] > t.high {
			return false
		}
		t.low, t.high = 0x80, 0xbf
		if t.missing--; t.missing == 0 {
			*t = textCheck{}
		}
		b = b[1:]
	}
	// Whole characters go through the standard library; only one that is cut at
	// the end of b, at most three bytes, is taken by hand.
	cut := len(b)
	for i := len(b) - 1; i >= 0 && i >= len(b)-3; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				cut = i
			}
			break
		}
	}
	if !utf8.Valid(b[:cut]) {
		return false
	}
	if cut == len(b) {
		return true
	}
	t.start(b[cut])
	return t.write(b[cut+1:])
}

// start begins the character of more than one byte whose first byte is c.
func (t *textCheck) start(c byte) {
	t.low, t.high = 0x80, 0xbf
	switch {
	case c < 0xe0:
		t.missing = 1
	case c < 0xf0:
		t.missing = 2
	default:
		t.missing = 3
	}
	switch c {
	case 0xe0: // overlong below
		t.low = 0xa0
	case 0xed: // surrogates above
		t.high = 0x9f
	case 0xf0: // overlong below
		t.low = 0x90
	case 0xf4: // beyond U+10FFFF above
		t.high = 0x8f
	}
}
