//go:build linux

package client

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"sluice/wsproto"
)

// Whatever the length of a frame and wherever the stream is cut, the frames that
// come out are those that went in.
func TestFramesSurviveAnyCut(t *testing.T) {
	var stream []byte
	lengths := []int{0, 1, 125, 126, 127, 65535, 65536, 70000}
	for _, n := range lengths {
		stream = wsproto.AppendFrame(stream, wsproto.OpText, bytes.Repeat([]byte{'x'}, n))
	}
	for _, cut := range []int{1, 2, 3, 7, 129, 4096, 65539, len(stream)} {
		var got []int
		var buf []byte
		for rest := stream; len(rest) > 0; {
			n := min(cut, len(rest))
			buf, rest = append(buf, rest[:n]...), rest[n:]
			for {
				f, used, need, err := nextFrame(buf)
				if err != nil {
					t.Fatal(err)
				}
				if used == 0 {
					if need <= len(buf) {
						t.Fatalf("cut %d: %d bytes are said to need %d", cut, len(buf), need)
					}
					break
				}
				if !f.fin || f.op != opText || f.compressed {
					t.Fatalf("cut %d: %+v", cut, f)
				}
				got, buf = append(got, len(f.payload)), buf[used:]
			}
		}
		if len(got) != len(lengths) || len(buf) != 0 {
			t.Fatalf("cut %d: got %v, %d bytes left", cut, got, len(buf))
		}
	}
}

func TestFramesThatWouldMislead(t *testing.T) {
	for _, c := range []struct {
		frame []byte
		want  error
	}{
		{[]byte{0x81, 0x81, 0, 0, 0, 0, 0}, errMasked},
		{[]byte{0x91, 0}, errReserved},
		{[]byte{0x81, 127, 0x7f, 0, 0, 0, 0, 0, 0, 0}, errTooLong},
	} {
		if _, _, _, err := nextFrame(c.frame); !errors.Is(err, c.want) {
			t.Errorf("% x: %v, want %v", c.frame, err, c.want)
		}
	}
}

func TestStamps(t *testing.T) {
	for _, size := range []int{0, 64, 128, 1000} {
		b := AppendEvent(nil, 1234567890123456789, size)
		if size > 60 && len(b) != size {
			t.Errorf("size %d gives %d bytes", size, len(b))
		}
		wrapped := append(append([]byte(`{"event":"load.t0.tick","data":`), b...), `}{"due":77}`...)
		due, rest, ok := nextStamp(wrapped)
		if !ok || due != 1234567890123456789 {
			t.Errorf("stamp is %d, %v", due, ok)
		}
		if due, rest, ok = nextStamp(rest); !ok || due != 77 {
			t.Errorf("second stamp is %d, %v", due, ok)
		}
		if _, _, ok = nextStamp(rest); ok {
			t.Error("a third stamp")
		}
	}
	if n, ok := lastNumber([]byte(`{"result":{"id":5},"id":123}`), resID); !ok || n != 123 {
		t.Errorf("last id is %d", n)
	}
}

func TestClientsShareTopicsEvenly(t *testing.T) {
	cfg := Config{Topics: 1000, PerClient: 5}
	for i, n := range cfg.Subscribers(1000) {
		if n != 5 {
			t.Fatalf("topic %d has %d subscribers", i, n)
		}
	}
	cfg = Config{Topics: 1, PerClient: 1, Slow: 0.1}
	if n := cfg.Subscribers(1000)[0]; n != 900 {
		t.Errorf("%d of 1000 are not slow, want 900", n)
	}
}

func TestRequestIDsKeepTheirTime(t *testing.T) {
	th := &Thread{phase: 5_000_000_000}
	for _, us := range []int64{1, 2, 1_000_000, 8 * 60 * 1_000_000} {
		id := th.requestID(Call, th.phase+us*1000)
		kind, due := th.requestOf(id)
		if kind != Call || due != th.phase+us*1000 || id >= 1<<32 || id < idReserved {
			t.Errorf("%d µs: id %d, kind %v, due %d", us, id, kind, due-th.phase)
		}
	}
}

func FuzzNextFrame(f *testing.F) {
	f.Add(wsproto.AppendFrame(nil, wsproto.OpText, []byte("hello")))
	f.Add([]byte{0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0})
	f.Add([]byte(strings.Repeat("\x81\x7e\x00\x01x", 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			fr, n, need, err := nextFrame(b)
			if err != nil {
				return
			}
			if n == 0 {
				if need <= len(b) || need > maxFrame+10 {
					t.Fatalf("%d bytes need %d", len(b), need)
				}
				return
			}
			if n < 2+len(fr.payload) || n > len(b) {
				t.Fatalf("a frame of %d with a payload of %d in %d bytes", n, len(fr.payload), len(b))
			}
			b = b[n:]
		}
	})
}
