package netpoll

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestPendingBytes holds pendingBytes against a plain slice. A buffer exists only while there are
// bytes.
func TestPendingBytes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	var p pendingBytes
	var want []byte
	input := make([]byte, 2000)
	for i := range input {
		input[i] = byte(i)
	}
	for step := range 20000 {
		piece := input[:rnd.IntN(len(input))]
		switch op := rnd.IntN(10); {
		case op < 5:
			want = append(want, piece...)
			if got := p.add(piece); !bytes.Equal(got, want) {
				t.Fatalf("step %d: add returned %d bytes, want %d", step, len(got), len(want))
			}
		case op < 8 && len(want) > 0:
			at := rnd.IntN(len(want) + 1)
			want = append([]byte(nil), want[at:]...)
			p.keep(p.bytes()[at:])
		case op < 8: // the end of a read
			want = append([]byte(nil), piece...)
			p.keep(piece)
		case op == 8:
			want = nil
			p.drop()
		default:
			if buf := p.detach(); buf != nil {
				if !bytes.Equal(buf.B, want) {
					t.Fatalf("step %d: detached %d bytes, want %d", step, len(buf.B), len(want))
				}
				buf.Put()
			}
			want = nil
		}
		if !bytes.Equal(p.bytes(), want) || p.empty() != (len(want) == 0) {
			t.Fatalf("step %d: %d bytes, empty %v; want %d", step, len(p.bytes()), p.empty(), len(want))
		}
	}
}
