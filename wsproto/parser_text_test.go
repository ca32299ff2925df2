package wsproto

import (
	"fmt"
	"testing"
	"unicode/utf8"
)

// UTF-8, RFC 6455 sections 5.6 and 8.1, RFC 3629.

// fragmentEach returns text as a message with one fragment for each byte.
func fragmentEach(text string) []byte {
	b := frame(more, OpText, "")
	for i := range len(text) {
		b = append(b, frame(more, OpContinuation, text[i:i+1])...)
	}
	return append(b, frame(fin, OpContinuation, "")...)
}

var validTexts = []string{
	"", "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00",
	// the first and the last of each length
	"\u0001", "\u007f", "\u0080", "\u07ff", "\u0800", "\uffff", "\U00010000", "\U0010ffff",
	// around the surrogates, and the replacement character
	"\ud7ff", "\ue000", "\ufffd", "\U000fffff", "\U00100000",
	// noncharacters are characters for this purpose
	"\ufdd0", "\ufffe", "\U0001fffe", "\U0010fffe",
	"日本語テキスト", "😀😁😂", "a\u0300\u0301",
}

// invalidTexts maps texts to the length of their shortest prefix that no valid text has;
// beyond the end if only the end makes them invalid.
var invalidTexts = []struct {
	text string
	at   int
}{
	// continuation bytes without a start
	{"\x80", 1}, {"\xbf", 1}, {"a\x80", 2}, {"é\x80", 3}, {"€\xbf", 4}, {"😀\x80", 5},
	// bytes that never occur
	{"\xfe", 1}, {"\xff", 1}, {"a\xff\xfe", 2}, {"\xf5", 1}, {"\xf8\x88\x80\x80\x80", 1}, {"\xfc\x84\x80\x80\x80\x80", 1},
	// start bytes without what they announce
	{"\xc3 ", 2}, {"\xe2 ", 2}, {"\xe2\x82 ", 3}, {"\xf0\x9f\x98 ", 4}, {"\xc3\xc3", 2}, {"\xe2\x82\xe2", 3},
	// ends within a character
	{"\xc3", 2}, {"\xe2\x82", 3}, {"\xf0\x9f\x98", 4}, {"Hello \xce", 8},
	// overlong forms
	{"\xc0\xaf", 1}, {"\xc1\xbf", 1}, {"\xe0\x80\xaf", 2}, {"\xe0\x9f\xbf", 2}, {"\xf0\x80\x80\xaf", 2}, {"\xf0\x8f\xbf\xbf", 2}, {"\xc0\x80", 1},
	// surrogates
	{"\xed\xa0\x80", 2}, {"\xed\xaf\xbf", 2}, {"\xed\xb0\x80", 2}, {"\xed\xbf\xbf", 2}, {"\xed\xa0\x80\xed\xb0\x80", 2},
	// beyond U+10FFFF
	{"\xf4\x90\x80\x80", 2}, {"κόσμε\xf4\x90\x80\x80edited", 12},
	{"κόσμε\xed\xa0\x80edited", 12},
}

func TestText(t *testing.T) {
	var cases []frameCase
	for _, text := range validTexts {
		want := []string{got(OpText, text)}
		cases = append(cases,
			frameCase{name: fmt.Sprintf("%q", text), in: frame(fin, OpText, text), want: want},
			frameCase{name: fmt.Sprintf("%q, a fragment for each byte", text), in: fragmentEach(text), want: want},
			frameCase{
				name: fmt.Sprintf("%q, a ping within", text),
				in: stream(frame(more, OpText, text[:len(text)/2]), frame(fin, OpPing, "\xff"),
					frame(fin, OpContinuation, text[len(text)/2:])),
				want: append([]string{got(OpPing, "\xff")}, want...),
			})
	}
	const header, key = 2, 4
	for _, c := range invalidTexts {
		want := []string{failed(ErrInvalidUTF8)}
		at := header + key + min(c.at, len(c.text))
		fragmentsAt := (header + key) + c.at*(header+key+1)
		if c.at > len(c.text) { // only the final, empty fragment shows it
			fragmentsAt--
		}
		cases = append(cases,
			frameCase{name: fmt.Sprintf("%q", c.text), in: frame(fin, OpText, c.text), want: want, failAt: at},
			frameCase{name: fmt.Sprintf("%q, a fragment for each byte", c.text), in: fragmentEach(c.text), want: want, failAt: fragmentsAt},
			frameCase{name: fmt.Sprintf("%q as binary", c.text), in: frame(fin, OpBinary, c.text), want: []string{got(OpBinary, c.text)}},
			frameCase{
				name: fmt.Sprintf("%q as fragmented binary", c.text),
				in:   stream(frame(more, OpBinary, c.text[:1]), frame(fin, OpContinuation, c.text[1:])), want: []string{got(OpBinary, c.text)},
			})
	}
	runFrames(t, cases)
}

// TestTextFailsFast: invalid text is rejected before the rest of its frame or message has arrived.
func TestTextFailsFast(t *testing.T) {
	good, bad := "κόσμε", "\xf4\x90\x80\x80"
	large := frame(fin, OpText, good+bad+string(make([]byte, 1000)))
	runFrames(t, []frameCase{
		{
			name: "in the second of three fragments",
			in:   stream(frame(more, OpText, good), frame(more, OpContinuation, bad)),
			want: []string{failed(ErrInvalidUTF8)}, failAt: 6 + len(good) + 6 + 2,
		},
		{
			name: "in the first fragment's beginning",
			in:   frame(more, OpText, bad+string(make([]byte, 100)))[:20],
			want: []string{failed(ErrInvalidUTF8)}, failAt: 6 + 2,
		},
		{name: "in a frame of which a part has come", in: large[:100], want: []string{failed(ErrInvalidUTF8)}, failAt: 8 + len(good) + 2},
		{
			name: "in a continuation, a character across the fragments",
			in:   stream(frame(more, OpText, "\xf4"), frame(fin, OpContinuation, "\x90\x80\x80"+string(make([]byte, 100)))[:10]),
			want: []string{failed(ErrInvalidUTF8)}, failAt: 6 + 1 + 6 + 1,
		},
		{
			name: "ASCII within a character across the fragments",
			in:   stream(frame(more, OpText, "\xe2"), frame(more, OpContinuation, "a")),
			want: []string{failed(ErrInvalidUTF8)},
		},
		{name: "valid so far", in: stream(frame(more, OpText, good+"\xf4"), frame(more, OpContinuation, "\x8f")), want: nil},
	})
}

// TestTextCheck compares the validator with every sequence of two bytes and
// with the boundary values of longer ones, cut in all ways, against the
// standard library, and looks where exactly it fails.
func TestTextCheck(t *testing.T) {
	leads := []byte{0xc0, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff}
	bounds := []byte{0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xff}
	check := func(b []byte) {
		viable := viableText(b)
		for cuts := range 1 << (len(b) - 1) {
			var c textCheck
			ok, from := true, 0
			for i := range b {
				if cuts>>i&1 == 1 || i == len(b)-1 {
					ok = ok && c.write(b[from:i+1])
					from = i + 1
				}
			}
			if ok != viable || ok && (c == textCheck{}) != utf8.Valid(b) {
				t.Fatalf("% x, cuts %b: ok %v, state %+v; want ok %v, valid %v", b, cuts, ok, c, viable, utf8.Valid(b))
			}
		}
	}
	for i := range 1 << 16 {
		check([]byte{byte(i >> 8), byte(i)})
	}
	for _, lead := range leads {
		for second := byte(0x70); second < 0xd0; second++ {
			for _, third := range bounds {
				check([]byte{lead, second, third})
				for _, fourth := range bounds {
					check([]byte{lead, second, third, fourth})
				}
			}
		}
	}
}
