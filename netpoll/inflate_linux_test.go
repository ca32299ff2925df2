package netpoll

import (
	"bytes"
	"compress/flate"
	"encoding/hex"
	"runtime"
	"testing"
)

// BenchmarkHostileDeflate is what an iteration costs the loop in which a client sends a mebibyte
// that takes long to inflate, as one message or in many that are short enough for the loop. It is
// CPU time of the loop's thread: that of workers, and of other programs, does not count.
func BenchmarkHostileDeflate(b *testing.B) {
	tables, err := hex.DecodeString(emptyTables)
	if err != nil {
		b.Fatal(err)
	}
	empty := func(size int) []byte {
		return append(bytes.Repeat(tables, (size-1)/len(tables)), 0)
	}
	bomb := func(size int) []byte { // of text that is a thousand times as long
		var packed bytes.Buffer
		z, err := flate.NewWriter(&packed, flate.BestCompression)
		if err != nil {
			b.Fatal(err)
		}
		for zeros := make([]byte, 1<<20); packed.Len() < size; {
			_, _ = z.Write(zeros) // a bytes.Buffer takes all
			_ = z.Flush()
		}
		return bytes.TrimSuffix(packed.Bytes(), []byte("\x00\x00\xff\xff"))
	}
	for name, message := range map[string][]byte{
		"tables/1MiB": empty(1 << 20), "tables/4KiB": empty(inflateInline), "tables/1KiB": empty(1 << 10),
		"bomb/1MiB": bomb(1 << 20), "bomb/1KiB": bomb(1),
	} {
		b.Run(name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			l := looseLoop(b, 1<<20)
			frame := packedFrame(message)
			all := bytes.Repeat(frame, max(1<<20/len(frame), 1))
			read := make([]byte, readSize)
			var cpu int64
			for b.Loop() {
				c := looseConn(l, -1)
				c.EnableDeflate()
				l.begin()
				l.inflater.used = 0
				before := threadTime()
				for rest := all; len(rest) > 0 && c.paused == 0 && c.state == stateOpen; {
					n := copy(read, rest)
					rest = rest[n:]
					c.receive(read[:n])
				}
				cpu += threadTime() - before
				l.inflater.drain()
				l.table.remove(c)
			}
			b.ReportMetric(float64(cpu)/1e6/float64(b.N), "loop-ms")
		})
	}
}
