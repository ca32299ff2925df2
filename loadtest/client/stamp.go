//go:build linux

package client

import (
	"bytes"
	"strconv"
)

// stampMark begins an event's payload: the time at which the event was due is its first
// member. Receivers search for these bytes instead of parsing JSON. Whatever a gateway
// wraps around a payload, it does not change them. They begin with the brace because it
// is rare, which makes the search two to three times as fast as one for a quote.
var stampMark = []byte(`{"due":`)

// AppendEvent appends the payload of an event that is due at a time of Now: a JSON object
// of size bytes, or a few more if size is too small for the due time.
func AppendEvent(dst []byte, due int64, size int) []byte { return appendEvent(dst, due, -1, size) }

// AppendNumbered appends the payload of an event that has a number in its topic as well.
func AppendNumbered(dst []byte, due, number int64, size int) []byte {
	return appendEvent(dst, due, number, size)
}

func appendEvent(dst []byte, due, number int64, size int) []byte {
	from := len(dst)
	dst = append(dst, stampMark...)
	dst = strconv.AppendInt(dst, due, 10)
	if number >= 0 {
		dst = append(dst, numberMark...)
		dst = strconv.AppendInt(dst, number, 10)
	}
	dst = append(dst, `,"pad":"`...)
	for len(dst)-from < size-2 {
		dst = append(dst, padding[(len(dst)-from)%len(padding)])
	}
	return append(dst, `"}`...)
}

// numberMark comes between an event's due time and its number.
var numberMark = []byte(`,"number":`)

const padding = "the quick brown fox jumps over the lazy dog, 0123456789; "

// nextStamp returns the first due time in b and the bytes after it; ok is false if there is
// none.
func nextStamp(b []byte) (due int64, rest []byte, ok bool) {
	i := bytes.Index(b, stampMark)
	if i < 0 {
		return 0, nil, false
	}
	i += len(stampMark)
	for i < len(b) && b[i]-'0' < 10 {
		due = due*10 + int64(b[i]-'0')
		i++
	}
	return due, b[i:], true
}

// numberOf returns the number of the event whose bytes after the due time rest begins with.
func numberOf(rest []byte) (n int64, ok bool) {
	rest, ok = bytes.CutPrefix(rest, numberMark)
	if !ok || len(rest) == 0 || rest[0]-'0' >= 10 {
		return 0, false
	}
	for i := 0; i < len(rest) && rest[i]-'0' < 10; i++ {
		n = n*10 + int64(rest[i]-'0')
	}
	return n, true
}

// lastNumber returns the number after the last mark in b.
func lastNumber(b, mark []byte) (n uint64, ok bool) {
	i := bytes.LastIndex(b, mark)
	if i < 0 {
		return 0, false
	}
	for i += len(mark); i < len(b) && b[i]-'0' < 10; i++ {
		n, ok = n*10+uint64(b[i]-'0'), true
	}
	return n, ok
}
