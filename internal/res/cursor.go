package res

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// The functions here walk over text that has passed check and been repaired, and so need not look for errors. Resources,
// events, requests and the envelopes of answers are read this way and never become a tree of values: fastjson's takes
// 88 bytes and a list of members for each, so a get answer of 100,000 references cost 103 MB and as many allocations,
// where its result takes 7 MB. What is small and not on the path of an event (errors, meta, access, system events) is
// read with fastjson: see tree.go.

// jsonNull is the text of null.
const jsonNull = "null"

// skipSpace returns the index of the first byte from i on that is not white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' {
		i++
	}
	return i
}

// trim cuts white space off the start of a text. What stands behind a value does no harm.
func trim(b []byte) []byte { return b[skipSpace(b, 0):] }

// valueEnd returns the index behind the value that begins at b[i].
func valueEnd(b []byte, i int) int {
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		for depth := 0; ; i++ {
			switch b[i] {
			case '"':
				i = stringEnd(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(b) && b[i] > ' ' && b[i] != ',' && b[i] != ']' && b[i] != '}' {
		i++
	}
	return i
}

// stringEnd returns the index behind the string that begins at b[i].
func stringEnd(b []byte, i int) int {
	for {
		i += 1 + bytes.IndexByte(b[i+1:], '"')
		// A quote is escaped if the backslashes before it are odd in number. A string's own first quote ends the count.
		n := i
		for b[n-1] == '\\' {
			n--
		}
		if (i-n)%2 == 0 {
			return i + 1
		}
	}
}

// walk goes over the members of an object or the elements of an array: the text is the bytes of it, from its bracket on.
//
//	for w := (walk{text: b}); w.next(); { w.key, w.value }
type walk struct {
	text  []byte
	at    int
	key   []byte // of an object's member: unescaped, valid until the next call if it had escapes
	value []byte // raw

	unescaped []byte
}

func (w *walk) next() bool {
	b := w.text
	i := skipSpace(b, w.at+1) // the bracket or the comma is at w.at
	if b[i] == '}' || b[i] == ']' {
		return false
	}
	if b[0] == '{' {
		end := stringEnd(b, i)
		w.key = b[i+1 : end-1]
		if bytes.IndexByte(w.key, '\\') >= 0 {
			w.unescaped = unescape(w.unescaped[:0], w.key)
			w.key = w.unescaped
		}
		i = skipSpace(b, end) // at the colon
		i = skipSpace(b, i+1) // at the value
	}
	end := valueEnd(b, i)
	w.value = b[i:end]
	w.at = skipSpace(b, end)
	if b[w.at] != ',' {
		w.at-- // so that the next call finds the closing bracket
	}
	return true
}

// count tells how many members or elements there are.
func count(b []byte) (n int) {
	i := skipSpace(b, 1)
	if b[i] == '}' || b[i] == ']' {
		return 0
	}
	for {
		n++
		if b[0] == '{' {
			i = skipSpace(b, stringEnd(b, i))
			i = skipSpace(b, i+1)
		}
		i = skipSpace(b, valueEnd(b, i))
		if b[i] != ',' {
			return n
		}
		i = skipSpace(b, i+1)
	}
}

// isObject and its like tell of what form a raw value is; there may be none.
func isObject(b []byte) bool { return len(b) > 0 && b[0] == '{' }
func isArray(b []byte) bool  { return len(b) > 0 && b[0] == '[' }
func isString(b []byte) bool { return len(b) > 0 && b[0] == '"' }
func isNumber(b []byte) bool { return len(b) > 0 && (b[0] == '-' || b[0]-'0' <= 9) }
func isNone(b []byte) bool   { return len(b) == 0 || string(b) == jsonNull }

// content returns the unescaped content of a raw string: a part of it, or if it has escapes appended to dst.
func content(dst, b []byte) []byte {
	b = b[1 : len(b)-1]
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	return unescape(dst, b)
}

// unescape appends what stands between the quotes of a string, its escapes resolved.
func unescape(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return append(dst, b...)
		}
		dst = append(dst, b[:i]...)
		n, _ := escape(b[i:])
		switch b[i+1] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			u, _ := hex4(b[i+2:])
			r := rune(u)
			if n == 12 {
				low, _ := hex4(b[i+8:])
				r = utf16.DecodeRune(r, rune(low))
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, b[i+1])
		}
		b = b[i+n:]
	}
}
