package wsproto

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
)

// Fragmentation, RFC 6455 section 5.4, and limits, sections 7.4.1 and 10.4.

func TestFragmentation(t *testing.T) {
	first := func(payload string) []byte { return frame(more, OpText, payload) }
	next := func(payload string) []byte { return frame(more, OpContinuation, payload) }
	last := func(payload string) []byte { return frame(fin, OpContinuation, payload) }
	ping := func(payload string) []byte { return frame(fin, OpPing, payload) }
	text := func(payload string) []byte { return frame(fin, OpText, payload) }
	bytewise := func(op Op, payload string) []byte {
		b := frame(more, op, "")
		for i := range len(payload) {
			b = append(b, next(payload[i:i+1])...)
		}
		return append(b, last("")...)
	}
	runFrames(t, []frameCase{
		{name: "fragmented ping", in: stream(frame(more, OpPing, "a"), last("b")), want: []string{failed(ErrControlFragmented)}, failAt: 1},
		{name: "fragmented pong", in: stream(frame(more, OpPong, "a"), last("b")), want: []string{failed(ErrControlFragmented)}, failAt: 1},
		{name: "fragmented close", in: frame(more, OpClose, ""), want: []string{failed(ErrControlFragmented)}, failAt: 1},
		{name: "fragmented ping in a message", in: stream(first("a"), frame(more, OpPing, "")), want: []string{failed(ErrControlFragmented)}},

		{name: "two fragments", in: stream(first("fragment1"), last("fragment2")), want: []string{got(OpText, "fragment1fragment2")}},
		{name: "three fragments", in: stream(first("a"), next("b"), last("c")), want: []string{got(OpText, "abc")}},
		{name: "binary", in: stream(frame(more, OpBinary, "\xff"), last("\xfe")), want: []string{got(OpBinary, "\xff\xfe")}},
		{name: "one byte each", in: bytewise(OpBinary, "fragment\xff"), want: []string{got(OpBinary, "fragment\xff")}},
		{name: "all empty", in: stream(first(""), next(""), last("")), want: []string{got(OpText, "")}},
		{name: "empty but for the last", in: stream(first(""), next(""), last("a")), want: []string{got(OpText, "a")}},
		{name: "empty but for the middle", in: stream(first(""), next("a"), last("")), want: []string{got(OpText, "a")}},
		{name: "empty but for the first", in: stream(first("a"), next(""), last("")), want: []string{got(OpText, "a")}},
		{
			name: "two messages", in: stream(first("a"), last("b"), first("c"), last("d")),
			want: []string{got(OpText, "ab"), got(OpText, "cd")},
		},
		{
			name: "whole messages before and after", in: stream(text("x"), first("a"), last("b"), text("y")),
			want: []string{got(OpText, "x"), got(OpText, "ab"), got(OpText, "y")},
		},

		{
			name: "ping between", in: stream(first("fragment1"), ping("ping"), last("fragment2")),
			want: []string{got(OpPing, "ping"), got(OpText, "fragment1fragment2")},
		},
		{
			name: "pong between", in: stream(first("a"), frame(fin, OpPong, "p"), last("b")),
			want: []string{got(OpPong, "p"), got(OpText, "ab")},
		},
		{
			name: "pings around five fragments",
			in:   stream(first("1"), next("2"), ping("p1"), next("3"), next("4"), ping("p2"), last("5"), ping("p3")),
			want: []string{got(OpPing, "p1"), got(OpPing, "p2"), got(OpText, "12345"), got(OpPing, "p3")},
		},
		{
			name: "ping right after the first, empty fragment", in: stream(first(""), ping("p"), last("a")),
			want: []string{got(OpPing, "p"), got(OpText, "a")},
		},

		{name: "continuation first, final", in: stream(last("x"), text("Hello")), want: []string{failed(ErrUnexpectedContinuation)}, failAt: 1},
		{name: "continuation first, not final", in: stream(next("x"), text("Hello")), want: []string{failed(ErrUnexpectedContinuation)}, failAt: 1},
		{name: "empty continuation first", in: stream(last(""), text("Hello")), want: []string{failed(ErrUnexpectedContinuation)}, failAt: 1},
		{
			name: "continuation after a message", in: stream(text("Hello"), last("x")),
			want: []string{got(OpText, "Hello"), failed(ErrUnexpectedContinuation)},
		},
		{
			name: "continuation after a fragmented message", in: stream(first("a"), last("b"), next("c"), text("Hello")),
			want: []string{got(OpText, "ab"), failed(ErrUnexpectedContinuation)},
		},
		{
			name: "continuation after a ping", in: stream(ping(""), last("b")),
			want: []string{got(OpPing, ""), failed(ErrUnexpectedContinuation)},
		},
		{name: "text in a message", in: stream(first("a"), text("b")), want: []string{failed(ErrExpectedContinuation)}, failAt: 7 + 1},
		{name: "fragmented text in a message", in: stream(first("a"), first("b")), want: []string{failed(ErrExpectedContinuation)}, failAt: 7 + 1},
		{name: "binary in a text", in: stream(first("a"), frame(fin, OpBinary, "b")), want: []string{failed(ErrExpectedContinuation)}, failAt: 7 + 1},
		{name: "text in a message of empty fragments", in: stream(first(""), text("b")), want: []string{failed(ErrExpectedContinuation)}, failAt: 6 + 1},
		{name: "text in a message, a ping between", in: stream(first("a"), ping(""), text("b")), want: []string{got(OpPing, ""), failed(ErrExpectedContinuation)}},
		{name: "message that does not end", in: stream(first("a"), next("b")), want: nil},
	})
}

func TestLimits(t *testing.T) {
	first := func(n int) []byte { return frame(more, OpBinary, strings.Repeat("x", n)) }
	next := func(n int) []byte { return frame(more, OpContinuation, strings.Repeat("x", n)) }
	last := func(n int) []byte { return frame(fin, OpContinuation, strings.Repeat("x", n)) }
	whole := func(n int) []byte { return frame(fin, OpBinary, strings.Repeat("x", n)) }
	want := func(n int) string { return got(OpBinary, strings.Repeat("x", n)) }
	tooLarge := failed(ErrMessageTooLarge)
	runFrames(t, []frameCase{
		{name: "at the limit", in: whole(100), limit: 100, want: []string{want(100)}},
		{name: "above the limit", in: whole(101), limit: 100, want: []string{tooLarge}, failAt: 2},
		{name: "above the limit, 16 bits", in: whole(1001), limit: 1000, want: []string{tooLarge}, failAt: 4},
		{name: "above the limit, 64 bits", in: whole(70000), limit: 66000, want: []string{tooLarge}},
		{name: "above the default", in: whole(DefaultMaxMessage + 1), want: []string{tooLarge}},
		{name: "at the default", in: whole(DefaultMaxMessage), want: []string{want(DefaultMaxMessage)}},
		{name: "together at the limit", in: stream(first(50), next(0), last(50)), limit: 100, want: []string{want(100)}},
		{name: "together above the limit", in: stream(first(50), last(51)), limit: 100, want: []string{tooLarge}, failAt: 56 + 2},
		{name: "together above the limit, many", in: stream(first(99), next(1), next(0), next(1)), limit: 100, want: []string{tooLarge}, failAt: 105 + 7 + 6 + 2},
		{name: "first fragment above the limit", in: stream(first(101), last(0)), limit: 100, want: []string{tooLarge}, failAt: 2},
		{name: "a new message has the whole limit", in: stream(first(50), last(50), first(50), last(50), whole(100)), limit: 100, want: []string{want(100), want(100), want(100)}},
		{name: "pings do not count", in: stream(first(100), frame(fin, OpPing, "ping"), last(0)), limit: 100, want: []string{got(OpPing, "ping"), want(100)}},
		{name: "invalid text beyond the limit", in: frame(fin, OpText, "\xff\xff"), limit: 1, want: []string{tooLarge}},
	})
}

// TestLargeMessages takes messages of up to 4 MiB, whole and in fragments of
// many sizes, with pings in between.
func TestLargeMessages(t *testing.T) {
	const limit = 4 << 20
	var cases []frameCase
	for _, size := range []int{64 << 10, 256 << 10, 1 << 20, limit} {
		text := strings.Repeat("aé€😀\n", size/11+1)[:size/11*11]
		cases = append(cases,
			frameCase{name: fmt.Sprintf("text of %d", len(text)), in: frame(fin, OpText, text), limit: limit, want: []string{got(OpText, text)}},
			frameCase{name: fmt.Sprintf("binary of %d", len(text)), in: frame(fin, OpBinary, text), limit: limit, want: []string{got(OpBinary, text)}})
	}
	text := strings.Repeat("aé€😀\n", 64<<10/11)
	for _, size := range []int{64, 256, 1000, 1300, 4096, 16 << 10} {
		var in []byte
		var want []string
		op, rest := OpText, text
		for len(rest) > size {
			in = append(in, frame(more, op, rest[:size])...)
			in = append(in, frame(fin, OpPing, "still here")...)
			want = append(want, got(OpPing, "still here"))
			op, rest = OpContinuation, rest[size:]
		}
		in = append(in, frame(fin, op, rest)...)
		cases = append(cases, frameCase{name: fmt.Sprintf("fragments of %d", size), in: in, want: append(want, got(OpText, text))})
	}
	runFrames(t, cases)
}

// TestMemoryFollowsArrival: the length in a header allocates no memory.
func TestMemoryFollowsArrival(t *testing.T) {
	f := newFeeder(t, 1<<20)
	f.feed(frame(more, OpBinary, "x"))
	f.feed(frame(fin, OpContinuation, strings.Repeat("y", 1<<20-1))[:2000])
	if f.p.frag == nil || len(f.p.frag.B) != 1 {
		t.Fatal("the first fragment is not stored, or the unfinished one is")
	}
	if want := 14 + 1<<20 - 1; f.p.Need() != want {
		t.Fatalf("Need() = %d, want %d", f.p.Need(), want)
	}
	f.p.Reset()
	if f.p != (Parser{}) {
		t.Fatalf("after Reset: %+v", f.p)
	}
}

// TestNoLimit: the largest length that a header can hold, against the largest limit.
func TestNoLimit(t *testing.T) {
	header := stream([]byte{0x82, 0xff}, []byte{0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte("key!"), []byte("payload"))
	most := bytes.Clone(header) // as much as fits in an int together with its header
	most[9] -= maxClientHeader
	for _, in := range [][]byte{header, most, stream(frame(more, OpBinary, "x"), append([]byte{0x80}, most[1:]...))} {
		var p Parser
		for range 2 {
			_, n, done, err := p.Next(in, Limits{Message: math.MaxInt})
			if err != nil && err != ErrMessageTooLarge || done {
				t.Fatalf("done %v, %v", done, err)
			}
			in = in[n:]
		}
	}
}

// TestLimitLowered: a limit below what the open message holds already.
func TestLimitLowered(t *testing.T) {
	f := newFeeder(t, 100)
	f.feed(frame(more, OpText, strings.Repeat("x", 60)))
	_, _, _, err := f.p.Next(frame(fin, OpContinuation, "y"), Limits{Message: 50})
	if err != ErrMessageTooLarge {
		t.Fatalf("got %v", err)
	}
}

// TestBufferGrowth: many fragments of a large message are not copied over and
// over, and growing never takes more than the limit, where the pool's sizes end too.
func TestBufferGrowth(t *testing.T) {
	const limit, size = 9 << 20, 16 << 10
	var p Parser
	defer p.Reset()
	fragment := frame(more, OpContinuation, strings.Repeat("x", size))
	p.Next(frame(more, OpBinary, ""), Limits{Message: limit})
	grown, last := 0, 0
	for range limit / size {
		if _, n, _, err := p.Next(bytes.Clone(fragment), Limits{Message: limit}); n != len(fragment) || err != nil {
			t.Fatal(n, err)
		}
		if c := cap(p.frag.B); c != last {
			grown, last = grown+1, c
		}
	}
	if grown > 12 || last > 16<<20 {
		t.Fatalf("grown %d times, to %d", grown, last)
	}
}

// TestBufferIsGivenBack: after a fragmented message the next call returns the
// buffer, also if no byte has come, and so does the end of the conversation.
func TestBufferIsGivenBack(t *testing.T) {
	opened := frame(more, OpText, "Hello")
	for _, c := range []struct {
		name string
		then []byte
	}{
		{"last fragment", frame(fin, OpContinuation, "!")},
		{"close", closeFrame(CloseNormal, "")},
		{"error", frame(fin, OpText, "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFeeder(t, 0)
			f.feed(opened)
			if f.p.frag == nil {
				t.Fatal("no buffer while a message is open")
			}
			f.feed(c.then)
			if f.p.frag != nil || len(f.pending) > 0 {
				t.Fatal("the buffer is still held")
			}
		})
	}
}

// TestRelease: the buffer of a delivered message is released, that of an open one is not.
func TestRelease(t *testing.T) {
	var p Parser
	in := stream(frame(more, OpText, "a"), frame(fin, OpContinuation, "b"))
	_, n, done, err := p.Next(in, Limits{})
	p.Release()
	if done || err != nil || p.stored() != 1 {
		t.Fatalf("done %v, %v, %d bytes of the open message", done, err, p.stored())
	}
	m, _, done, err := p.Next(in[n:], Limits{})
	if !done || err != nil || string(m.Payload) != "ab" {
		t.Fatalf("message %q, done %v, %v", m.Payload, done, err)
	}
	p.Release()
	if p.frag != nil {
		t.Error("the parser still holds the buffer")
	}
	p.Release() // does nothing
}
