//go:build linux

package client

import (
	"testing"

	"sluice/loadtest/hist"
	"sluice/wsproto"
)

// BenchmarkReceive measures the work of a client thread per event, without the system call:
// frame, inflation, driver, due time and histogram.
func BenchmarkReceive(b *testing.B) {
	for _, c := range []struct {
		name     string
		payload  int // bytes of an event's payload
		events   int // in one read
		compress bool
	}{
		{"event", 128, 1, false},
		{"batch", 128, 20, false},
		{"kilobyte", 1024, 1, false},
		{"compressed", 512, 1, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			t := &Thread{cfg: Config{PerClient: 1, Compression: c.compress}, driver: resDriver{}, buf: make([]byte, 256<<10)}
			t.hists[Delivery] = hist.New()
			t.conns = make([]Conn, 1000)
			for i := range t.conns {
				t.conns[i] = Conn{t: t, state: stateReady}
				t.conns[i].negotiated(c.compress)
			}
			n := 0
			for range c.events {
				event := append([]byte(`{"event":"load.t0.tick","data":`), AppendEvent(nil, 1_000_000, c.payload)...)
				event = append(event, '}')
				if c.compress {
					n += copy(t.buf[n:], wsproto.AppendDeflated(nil, wsproto.OpText, event))
				} else {
					n += copy(t.buf[n:], wsproto.AppendFrame(nil, wsproto.OpText, event))
				}
			}
			t.now = 2_000_000
			b.ReportAllocs()
			for i := 0; i < b.N; i += c.events {
				t.conns[i%len(t.conns)].feed(t.buf[:n])
			}
			if got := t.count.Deliveries; got < int64(b.N) || t.count.LastError != "" {
				b.Fatalf("%d events of %d, %s", got, b.N, t.count.LastError)
			}
		})
	}
}
