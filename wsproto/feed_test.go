package wsproto

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"
)

// Frames of a client, as test cases write them down.

var testKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

const (
	fin  = true
	more = false
)

func frame(fin bool, op Op, payload string) []byte {
	return AppendMaskedFrame(nil, fin, op, []byte(payload), testKey)
}

// withBits returns frame with further bits set in its first byte.
func withBits(bits byte, frame []byte) []byte {
	frame[0] |= bits
	return frame
}

// maskedDeflated returns AppendDeflated's frame of a text as a client sends it.
func maskedDeflated(text []byte) []byte {
	in := AppendDeflated(nil, OpText, text)
	header := map[byte]int{len16: 4, len64: 10}[in[1]]
	return withBits(in[0]&bitsRsv, frame(fin, OpText, string(in[max(header, 2):])))
}

func closeFrame(code uint16, reason string) []byte {
	return frame(fin, OpClose, string([]byte{byte(code >> 8), byte(code)})+reason)
}

func stream(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// Outcomes: one line for each message or error.

func got(op Op, payload string) string {
	if len(payload) > 128 {
		payload = fmt.Sprintf("[%d bytes, %08x]", len(payload), crc32.ChecksumIEEE([]byte(payload)))
	}
	return fmt.Sprintf("%d %q", op, payload)
}

// kept is a message that stays compressed.
func kept(op Op, payload string) string { return "compressed " + got(op, payload) }

func gotClose(code uint16, reason string) string { return fmt.Sprintf("8 %d %q", code, reason) }

func failed(err error) string {
	var e *CloseError
	if !errors.As(err, &e) {
		return fmt.Sprintf("unexpected error %v", err)
	}
	return fmt.Sprintf("fail %d %s", e.Code, e.Reason)
}

// feeder is a connection in small: it keeps what the parser did not take and
// passes it again with what comes next, each time at another address.
type feeder struct {
	t       *testing.T
	p       Parser
	lim     Limits
	pending []byte
	events  []string
	arrived int
	failAt  int // bytes that had arrived when the error showed; -1: none
}

func newFeeder(t *testing.T, limit int, modes ...mode) *feeder {
	f := &feeder{t: t, lim: Limits{Message: limit}, failAt: -1}
	f.setMode(modes...)
	return f
}

func (f *feeder) setMode(modes ...mode) {
	for _, m := range modes {
		if m&modeDeflate != 0 {
			f.p.EnableDeflate()
		}
		if m&modeServer != 0 {
			f.p.FromServer()
		}
		if m&modeKeep != 0 {
			f.p.KeepCompressed()
		}
	}
}

func (f *feeder) feed(b []byte) {
	f.arrived += len(b)
	f.pending = append(slices.Clone(f.pending), b...)
	before := slices.Clone(f.pending)
	for f.next(before[len(before)-len(f.pending):]) {
	}
}

// next makes one call of the parser; before is what is pending, in a copy of its own.
func (f *feeder) next(before []byte) bool {
	m, n, done, err := f.p.Next(f.pending, f.lim)
	f.checkBounds()
	switch {
	case err != nil:
		if n != 0 || done {
			f.t.Fatalf("error %v with n=%d done=%v", err, n, done)
		}
		f.events, f.failAt = append(f.events, failed(err)), f.arrived
		return true // what follows must be swallowed
	case n == 0:
		if done || !bytes.Equal(before, f.pending) {
			f.t.Fatalf("n=0 with done=%v, buffer changed: %v", done, !bytes.Equal(before, f.pending))
		}
		if f.p.Need() <= len(f.pending) {
			f.t.Fatalf("Need() = %d of %d bytes", f.p.Need(), len(f.pending))
		}
		return false
	case done && m.Op == OpClose:
		f.events = append(f.events, gotClose(m.Code, string(m.Payload)))
	case done:
		if m.Code != 0 {
			f.t.Fatalf("code %d in a message of kind %d", m.Code, m.Op)
		}
		event := got
		if m.Compressed {
			event = kept
		}
		f.events = append(f.events, event(m.Op, string(m.Payload)))
	}
	f.pending = f.pending[n:]
	return true
}

// checkBounds holds the parser to its promises about memory.
func (f *feeder) checkBounds() {
	const header = 14
	limit := f.lim.Message
	if limit <= 0 {
		limit = DefaultMaxMessage
	}
	most := limit // on the wire
	if f.p.mode&modeDeflate != 0 {
		most = packedLimit(limit)
	}
	if need := f.p.Need(); need > header+max(most, MaxControl) {
		f.t.Fatalf("Need() = %d with a limit of %d", need, limit)
	}
	if b := f.p.frag; b != nil {
		capacity := max(512, 4*f.arrived)
		if f.p.mode&modeDeflate != 0 && f.p.delivered { // it may have been inflated
			most, capacity = limit, max(1024, 4*limit)
		}
		if len(b.B) > most || cap(b.B) > capacity {
			f.t.Fatalf("buffer of %d (capacity %d) with a limit of %d after %d bytes", len(b.B), cap(b.B), limit, f.arrived)
		}
	}
}

// outcomes feeds in whole, byte by byte and in random pieces, fails the test
// unless the outcome is the same each time, and returns it with the number of
// bytes after which the error showed when fed byte by byte (-1: no error).
func outcomes(t *testing.T, in []byte, limit int, mode mode) (events []string, failAt int) {
	t.Helper()
	whole := newFeeder(t, limit, mode)
	whole.feed(in)
	compare := func(how string, f *feeder) {
		t.Helper()
		if !slices.Equal(f.events, whole.events) {
			t.Fatalf("%s:\n got %q\nwant %q as when fed whole", how, f.events, whole.events)
		}
		if (f.p.frag == nil) != (whole.p.frag == nil) || len(f.pending) != len(whole.pending) {
			t.Fatalf("%s: %d bytes left, whole %d", how, len(f.pending), len(whole.pending))
		}
	}
	failAt = whole.failAt
	if len(in) <= 8<<10 { // the feeder copies what is pending: quadratic
		single := newFeeder(t, limit, mode)
		for i := range in {
			single.feed(in[i : i+1])
		}
		compare("byte by byte", single)
		failAt = single.failAt
	}
	rnd := rand.New(rand.NewPCG(uint64(len(in)), 1))
	rounds := 8
	if len(in) > 512<<10 {
		rounds = 2
	}
	for round := range rounds {
		f := newFeeder(t, limit, mode)
		most := 1 + rnd.IntN(len(in)/2+2)
		for rest := in; len(rest) > 0; {
			n := min(1+rnd.IntN(most), len(rest))
			f.feed(rest[:n])
			rest = rest[n:]
		}
		compare(fmt.Sprintf("random pieces, round %d, up to %d bytes", round, most), f)
	}
	return whole.events, failAt
}

type frameCase struct {
	name  string
	in    []byte
	limit int // of a message; 0: the default
	mode  mode
	want  []string
	// failAt, if not 0: the error shows after this many bytes, not later.
	failAt int
}

// runFrames runs each case twice: as it stands, and with the same frames coming
// from a server.
func runFrames(t *testing.T, cases []frameCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			events, failAt := outcomes(t, c.in, c.limit, c.mode)
			if !slices.Equal(events, c.want) {
				t.Fatalf("\n got %q\nwant %q", events, c.want)
			}
			if c.failAt != 0 && failAt != c.failAt {
				t.Fatalf("failed after %d bytes, want %d", failAt, c.failAt)
			}
			if in, ok := fromServer(c.in); ok && c.mode&modeServer == 0 {
				if events, _ := outcomes(t, in, c.limit, c.mode|modeServer); !slices.Equal(events, c.want) {
					t.Fatalf("from a server\n got %q\nwant %q", events, c.want)
				}
			}
		})
	}
}

// fromServer returns the same frames as a server sends them; false if one of them
// is that of a server already.
func fromServer(in []byte) (out []byte, ok bool) {
	for len(in) > 0 {
		header := 2
		length := uint64(0)
		if len(in) > 1 {
			if in[1] < 128 {
				return nil, false
			}
			length = uint64(in[1] - 128)
			if n := map[uint64]int{126: 4, 127: 10}[length]; n > len(in) {
				length = 0
			} else if n > 0 {
				length, header = 0, n
				for _, c := range in[2:n] {
					length = length<<8 | uint64(c)
				}
			}
		}
		frame := slices.Clone(in[:min(header, len(in))])
		if len(frame) > 1 {
			frame[1] &= 127
		}
		out, in = append(out, frame...), in[len(frame):]
		key := in[:min(4, len(in))]
		in = in[len(key):]
		n := int(min(length, uint64(len(in))))
		for i, c := range in[:n] {
			out = append(out, c^key[i%4])
		}
		in = in[n:]
	}
	return out, true
}
