package wsproto

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

var benchSizes = []int{16, 60, 125, 500, 4096, 65536}

// BenchmarkNext parses one message a time. Copying the masked frame into the
// buffer, where a read would put it, is part of the figure.
func BenchmarkNext(b *testing.B) {
	run := func(name string, in []byte) {
		b.Run(name, func(b *testing.B) {
			var p Parser
			buf := make([]byte, len(in))
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, in)
				for rest := buf; len(rest) > 0; {
					_, n, _, err := p.Next(rest, Limits{})
					if err != nil || n == 0 {
						b.Fatal(n, err)
					}
					rest = rest[n:]
				}
			}
		})
	}
	for _, n := range benchSizes {
		run(fmt.Sprintf("ascii/%d", n), frame(fin, OpText, strings.Repeat("a", n)))
	}
	for _, n := range benchSizes {
		run(fmt.Sprintf("text/%d", n), frame(fin, OpText, strings.Repeat("é", n/2)))
	}
	for _, n := range benchSizes {
		run(fmt.Sprintf("binary/%d", n), frame(fin, OpBinary, strings.Repeat("a", n)))
	}
	run("ping", frame(fin, OpPing, ""))
	run("fragments/3x100", stream(frame(more, OpText, strings.Repeat("a", 100)),
		frame(more, OpContinuation, strings.Repeat("a", 100)), frame(fin, OpContinuation, strings.Repeat("a", 100))))
}

// BenchmarkMask compares the unmasking pass with its alternative, each with the
// question whether the result is text.
func BenchmarkMask(b *testing.B) {
	for _, n := range benchSizes {
		buf := bytes.Repeat([]byte{'a'}, n)
		var zero [4]byte // keeps buf ASCII
		b.Run(fmt.Sprintf("ours/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				if !mask(buf, zero, 0) {
					b.Fatal("not ASCII")
				}
			}
		})
		b.Run(fmt.Sprintf("gobwas/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				ws.Cipher(buf, zero, 0)
				if !utf8.Valid(buf) {
					b.Fatal("not text")
				}
			}
		})
		b.Run(fmt.Sprintf("gobwas without check/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				ws.Cipher(buf, zero, 0)
			}
		})
	}
}

func BenchmarkAppendFrame(b *testing.B) {
	for _, n := range benchSizes {
		payload := make([]byte, n)
		buf := make([]byte, 0, n+MaxHeader)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendFrame(buf[:0], OpText, payload)
			}
		})
	}
}

// BenchmarkHandshake: a browser's head parsed, checked and answered.
func BenchmarkHandshake(b *testing.B) {
	var h Head
	head, buf := []byte(browserHead), make([]byte, 0, 1024)
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			handshakeOnce(b, head, &h, &buf)
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if n, err := ParseHead(head, 0, &h); n == 0 || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("parse byte by byte", func(b *testing.B) {
		var s HeadScanner
		b.ReportAllocs()
		for b.Loop() {
			for i := range head {
				if n, err := s.Parse(head[:i+1], 0, &h); (n > 0) != (i == len(head)-1) || err != nil {
					b.Fatal(n, err)
				}
			}
		}
	})
}
