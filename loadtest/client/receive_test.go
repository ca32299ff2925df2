//go:build linux

package client

import (
	"strings"
	"testing"

	"sluice/loadtest/hist"
	"sluice/wsproto"
)

// A connection counts each event once, however the reads cut the server's frames.
func TestFramesAreCutAnywhere(t *testing.T) {
	small, large := []int{0, 64, 125, 126, 127, 500, 2000}, []int{64, 65535, 65536, 70000}
	for _, c := range []struct {
		deflate     bool
		sizes, cuts []int
	}{
		{false, small, []int{1, 2, 3, 7, 129, 1 << 20}}, {true, small, []int{1, 2, 3, 7, 129, 1 << 20}},
		{false, large, []int{4096, 65539, 1 << 20}}, {true, large, []int{129, 4096, 1 << 20}},
	} {
		deflate := c.deflate
		var stream []byte
		for _, n := range c.sizes {
			event := append(append([]byte(`{"event":"load.t0.tick","data":`), AppendEvent(nil, 1, n)...), '}')
			if deflate {
				stream = wsproto.AppendDeflated(stream, wsproto.OpText, event)
			} else {
				stream = wsproto.AppendFrame(stream, wsproto.OpText, event)
			}
		}
		for _, cut := range c.cuts {
			th := newBareThread(deflate)
			conn := &th.conns[0]
			for rest := stream; len(rest) > 0; {
				k := copy(th.buf, conn.partial)
				n := copy(th.buf[k:], rest[:min(cut, len(rest))])
				rest = rest[n:]
				conn.feed(th.buf[:k+n])
			}
			got, want := th.count, int64(len(c.sizes))
			if got.Deliveries != want || got.Frames != want || got.LastError != "" || len(conn.partial) != 0 {
				t.Fatalf("cut %d, deflate %v: %+v, %d bytes left", cut, deflate, got, len(conn.partial))
			}
			if deflate != (got.Compressed > 0) {
				t.Fatalf("cut %d, deflate %v: %d messages compressed", cut, deflate, got.Compressed)
			}
		}
	}
}

// A server that breaks the protocol loses the connection, and the counters say why.
func TestInvalidFramesCloseTheConnection(t *testing.T) {
	for want, in := range map[string][]byte{
		"frame is masked":   {0x81, 0x81, 0, 0, 0, 0, 0},
		"reserved bit":      {0x91, 0},
		"message too large": {0x81, 127, 0, 0, 0, 0, 0x7f, 0, 0, 0},
		"code 1001 bye":     {0x88, 5, 0x03, 0xe9, 'b', 'y', 'e'},
		"compressed data":   {0xc1, 3, 0xff, 0xff, 0xff},
	} {
		th := newBareThread(true)
		th.conns[0].feed(append(th.buf[:0], in...))
		if th.count.Closed != 1 || !strings.Contains(th.count.LastError, want) {
			t.Errorf("% x: %+v", in, th.count)
		}
	}
}

// newBareThread returns a thread of one connection without sockets: tests feed it.
func newBareThread(deflate bool) *Thread {
	th := &Thread{cfg: Config{PerClient: 1, Compression: deflate}, driver: resDriver{}, buf: make([]byte, 4<<10)}
	for k := range th.hists {
		th.hists[k] = hist.New()
	}
	th.conns = []Conn{{t: th, state: stateReady, fd: 1 << 30}} // no such descriptor
	th.conns[0].negotiated(deflate)
	return th
}

func TestDueTimesInPayloads(t *testing.T) {
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

func TestTopicsAreSpreadEvenly(t *testing.T) {
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

func TestRequestIDsEncodeDueTimes(t *testing.T) {
	th := &Thread{phase: 5_000_000_000}
	for _, us := range []int64{1, 2, 1_000_000, 8 * 60 * 1_000_000} {
		id := th.requestID(Call, th.phase+us*1000)
		kind, due := th.requestOf(id)
		if kind != Call || due != th.phase+us*1000 || id >= 1<<32 || id < idReserved {
			t.Errorf("%d µs: id %d, kind %v, due %d", us, id, kind, due-th.phase)
		}
	}
}
