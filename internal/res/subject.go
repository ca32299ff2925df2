package res

import (
	"unicode"
	"unicode/utf8"
)

// ValidSubject reports whether s is valid as the subject of a NATS message (RES.md 3.2,
// "Subjects"): nonempty tokens joined by dots, in valid UTF-8 without white space, control
// characters or wildcards. Package natsbus bounds the length.
//
// '*' and '>' are rejected at any position, though to NATS they are wildcards only as whole tokens.
func ValidSubject(s string) bool {
	start := true
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '.':
			if start {
				return false
			}
			start = true
			i++
			continue
		case c <= ' ' || c == 0x7F || c == '*' || c == '>':
			return false
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 || unicode.IsSpace(r) || unicode.IsControl(r) {
				return false
			}
			i += n
		}
		start = false
	}
	return !start
}
