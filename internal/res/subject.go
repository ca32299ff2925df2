package res

import (
	"unicode"
	"unicode/utf8"
)

// ValidSubject tells whether s may be handed to NATS as the subject of a message: tokens that are not empty, joined by
// dots; valid UTF-8 without white space or control characters; no wildcards (RES.md 3.2, "Subjects"). How long a subject
// may be is natsbus's to say.
//
// '*' and '>' are refused wherever they stand, though NATS takes them for wildcards only as whole tokens.
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
