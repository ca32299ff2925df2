package wsproto

import (
	"fmt"
	"strings"
	"testing"
)

// Closing, RFC 6455 sections 5.5.1 and 7.

func TestClose(t *testing.T) {
	hello, bye := frame(fin, OpText, "Hello"), closeFrame(CloseNormal, "bye")
	closed := gotClose(CloseNormal, "bye")
	reason := strings.Repeat("*", MaxControl-2)
	runFrames(t, []frameCase{
		{name: "after a message", in: stream(hello, bye), want: []string{got(OpText, "Hello"), closed}},
		{name: "twice", in: stream(bye, bye), want: []string{closed}},
		{name: "then ping", in: stream(bye, frame(fin, OpPing, "")), want: []string{closed}},
		{name: "then text", in: stream(bye, hello), want: []string{closed}},
		{name: "then bytes that are no frame", in: stream(bye, []byte("\xff\xff\xff\xff")), want: []string{closed}},
		{
			name: "within a fragmented message",
			in:   stream(frame(more, OpText, "Hel"), bye, frame(fin, OpContinuation, "lo")), want: []string{closed},
		},
		{name: "after a large message", in: stream(frame(fin, OpText, strings.Repeat("x", 256<<10)), bye), want: []string{got(OpText, strings.Repeat("x", 256<<10)), closed}},

		{name: "without payload", in: frame(fin, OpClose, ""), want: []string{gotClose(CloseNoStatus, "")}},
		{name: "one byte", in: frame(fin, OpClose, "a"), want: []string{failed(ErrCloseLength)}},
		{name: "code", in: closeFrame(1000, ""), want: []string{gotClose(1000, "")}},
		{name: "code and reason", in: closeFrame(1000, "Hello World!"), want: []string{gotClose(1000, "Hello World!")}},
		{name: "longest reason", in: closeFrame(1000, reason), want: []string{gotClose(1000, reason)}},
		{name: "reason too long", in: closeFrame(1000, reason+"*"), want: []string{failed(ErrControlTooLong)}, failAt: 2},
		{name: "reason not UTF-8", in: closeFrame(1000, "κόσμε\xed\xa0\x80edited"), want: []string{failed(ErrCloseReason)}},
		{name: "reason ends within a character", in: closeFrame(1000, "\xce"), want: []string{failed(ErrCloseReason)}},
		{name: "reason of several bytes a character", in: closeFrame(1000, "κόσμε"), want: []string{gotClose(1000, "κόσμε")}},
		{name: "within an invalid code, reason not UTF-8", in: closeFrame(999, "\xff"), want: []string{failed(ErrCloseCode)}},
		{
			name: "within a text cut inside a character",
			in:   stream(frame(more, OpText, "\xce"), closeFrame(1000, "")), want: []string{gotClose(1000, "")},
		},
	})
}

func TestCloseCodes(t *testing.T) {
	var cases []frameCase
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		cases = append(cases, frameCase{
			name: fmt.Sprint("valid ", code), in: closeFrame(code, "x"), want: []string{gotClose(code, "x")},
		})
	}
	for _, code := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases, frameCase{
			name: fmt.Sprint("invalid ", code), in: closeFrame(code, ""), want: []string{failed(ErrCloseCode)},
		})
	}
	runFrames(t, cases)
}

// TestAfterFailure: nothing that comes after an error is looked at (§7.1.7).
func TestAfterFailure(t *testing.T) {
	bad := withBits(0x40, frame(fin, OpText, "x"))
	runFrames(t, []frameCase{
		{name: "text", in: stream(bad, frame(fin, OpText, "Hello")), want: []string{failed(ErrReservedBits)}},
		{name: "close", in: stream(bad, closeFrame(1000, "")), want: []string{failed(ErrReservedBits)}},
		{name: "another error", in: stream(bad, bad), want: []string{failed(ErrReservedBits)}},
	})
}

// TestResetRevives: Reset makes a parser usable for the next connection.
func TestResetRevives(t *testing.T) {
	f := newFeeder(t, 0)
	f.feed(closeFrame(1000, ""))
	f.p.Reset()
	f.feed(frame(fin, OpText, "Hello"))
	if want := got(OpText, "Hello"); len(f.events) != 2 || f.events[1] != want {
		t.Fatalf("got %q, want %q last", f.events, want)
	}
}
