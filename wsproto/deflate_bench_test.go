package wsproto

import (
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"
)

var eventSizes = []int{277, 500, 1000, 4096, 65536}

// BenchmarkAppendDeflated: what compressing an event costs once, for all who get
// it, and what part of it is left.
func BenchmarkAppendDeflated(b *testing.B) {
	for _, n := range eventSizes {
		payload := event(n)
		buf := make([]byte, 0, len(payload)+MaxHeader)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendDeflated(buf[:0], OpText, payload)
			}
			b.ReportMetric(float64(len(buf))/float64(len(payload)), "left")
		})
	}
}

// BenchmarkDeflateLevels compares the compressor's levels, and the one that keeps
// no tables between messages.
func BenchmarkDeflateLevels(b *testing.B) {
	for _, n := range eventSizes {
		payload := event(n)
		run := func(name string, compress func(d *deflater)) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				d := &deflater{most: 2*len(payload) + 100}
				for b.Loop() {
					d.out = d.out[:0]
					compress(d)
				}
				b.ReportMetric(float64(len(d.out)-len(syncTail))/float64(len(payload)), "left")
			})
		}
		for _, level := range []int{1, 2, 3, 5, 6, 9} {
			w, err := flate.NewWriter(nil, level)
			if err != nil {
				b.Fatal(err)
			}
			run(fmt.Sprint(level), func(d *deflater) {
				w.Reset(d)
				_, _ = w.Write(payload)
				_ = w.Flush()
			})
		}
		run("stateless", func(d *deflater) { _ = flate.StatelessDeflate(d, payload, false, nil) })
	}
}

// BenchmarkNextDeflated parses one compressed message a time, the copy into the
// buffer included.
func BenchmarkNextDeflated(b *testing.B) {
	run := func(name, payload string) {
		in := withBits(0x40, frame(fin, OpBinary, payload))
		b.Run(name, func(b *testing.B) {
			var p Parser
			p.EnableDeflate()
			buf := make([]byte, len(in))
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, in)
				if _, n, _, err := p.Next(buf, Limits{}); err == nil && n == 0 {
					b.Fatal("incomplete")
				}
				p.Reset()
				p.EnableDeflate()
			}
		})
	}
	for _, n := range eventSizes {
		run(fmt.Sprintf("event/%d", n), pack(string(event(n))))
	}
	// The worst that a client can do with a message: blocks that have tables and
	// no content, and streams as many as it may.
	run("bomb", pack(strings.Repeat("\x00", 64<<20)))
	run("tables/1MB", emptyDynamicBlocks(1<<20))
	run("streams/1MB", strings.Repeat("\x03\x00", freeStreams+1<<20/bytesPerStream)+strings.Repeat("\x00\x00\x00\xff\xff", (1<<20-1<<20*2/bytesPerStream)/5))
}

// emptyDynamicBlocks returns about n bytes of blocks with Huffman tables of their
// own (RFC 1951 §3.2.7) that hold nothing but their end.
func emptyDynamicBlocks(n int) string {
	var out []byte
	var acc, have uint
	put := func(v, bits uint) { // least significant bit first
		acc |= v << have
		for have += bits; have >= 8; have -= 8 {
			out, acc = append(out, byte(acc)), acc>>8
		}
	}
	for len(out) < n {
		put(0, 1)  // not final
		put(2, 2)  // with its own tables
		put(0, 5)  // 257 literals and lengths
		put(0, 5)  // 1 distance
		put(14, 4) // 18 code lengths, in the order of the section
		for _, symbol := range []uint{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1} {
			put(map[uint]uint{18: 1, 0: 2, 1: 2}[symbol], 3)
		}
		put(0, 1)
		put(138-11, 7) // 138 zeros
		put(0, 1)
		put(118-11, 7) // 118 zeros
		put(3, 2)      // the end has a code of one bit
		put(1, 2)      // no distance
		put(0, 1)      // the end
	}
	put(0, 3) // a block without compression, empty
	if have > 0 {
		put(0, 8-have)
	}
	return string(out)
}
