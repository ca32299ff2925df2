package wsproto

import "unicode/utf8"

// textCheck validates UTF-8 that arrives in pieces split at any byte (RFC 3629, RFC 6455 §8.1). The
// zero value is ready. The text so far ends between two characters if and only if the value is
// zero.
//
// Within a character it has the number of missing bytes and the range of the next one. The range
// excludes overlong forms, surrogates and code points above U+10FFFF at their second byte. So the
// check fails at the first byte that no valid text could have.
type textCheck struct{ missing, low, high uint8 }

// write checks the next piece and reports whether the text can still be valid.
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
	// The standard library checks whole characters; start handles one that is split at the end of
	// b, at most three bytes of it.
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
