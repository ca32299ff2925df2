package res

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// This is the reader for the hot paths: client requests, events, resources and the envelopes of
// replies. It walks over text that check has accepted and repair has mended, so it has no errors to
// report, and it never builds a tree.
//
// A fastjson tree was measured for the same work (BenchmarkReaders, best of five runs or more, in
// ns):
//
//	                          walk     fastjson
//	call request               874        1,074
//	change event               292        1,090
//	add event                  462        1,137
//	model of 5 values          981        1,421
//	100 references          18,700       44,600
//	100,000 references  14,800,000  522,000,000
//
// A tree costs 88 bytes and a list of members for each value: for a get reply of 100,000 references
// that is 112 MB and 100,099 allocations, where the result itself has 7 MB. So fastjson reads only
// what is small and off these paths: see tree.go.

// jsonNull is the text of null.
const jsonNull = "null"

// skipSpace returns the index of the first byte from i on that is not white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' {
		i++
	}
	return i
}

// trim removes leading white space. The walk never reads white space after the value.
func trim(b []byte) []byte { return b[skipSpace(b, 0):] }

// valueEnd returns the index after the value that begins at b[i].
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

// stringEnd returns the index after the string that begins at b[i].
func stringEnd(b []byte, i int) int {
	for {
		i += 1 + bytes.IndexByte(b[i+1:], '"')
		// A quote is escaped if an odd number of backslashes precedes it. The string's first quote
		// ends the count.
		n := i
		for b[n-1] == '\\' {
			n--
		}
		if (i-n)%2 == 0 {
			return i + 1
		}
	}
}

// walk iterates over the members of an object or the elements of an array. Its text begins with the
// opening bracket.
//
//	for w := (walk{text: b}); w.next(); { w.key, w.value }
type walk struct {
	text  []byte
	at    int
	key   []byte // of an object's member, unescaped; valid until the next call if it had escapes
	value []byte // raw

	unescaped []byte
}

// next reads the next member or element, and reports whether there was one.
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

// count returns the number of members or elements of the object or array b.
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

// isObject and the following functions report the form of a raw value, which may be absent (empty).
func isObject(b []byte) bool { return len(b) > 0 && b[0] == '{' }
func isArray(b []byte) bool  { return len(b) > 0 && b[0] == '[' }
func isString(b []byte) bool { return len(b) > 0 && b[0] == '"' }
func isNumber(b []byte) bool { return len(b) > 0 && (b[0] == '-' || b[0]-'0' <= 9) }
func isNone(b []byte) bool   { return len(b) == 0 || string(b) == jsonNull }

// content returns the unescaped content of a raw string: a subslice of b, or appended to dst if b
// has escapes.
func content(dst, b []byte) []byte {
	b = b[1 : len(b)-1]
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	return unescape(dst, b)
}

// unescape appends the text between the quotes of a string, with its escapes resolved.
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
