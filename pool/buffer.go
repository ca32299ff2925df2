package pool

import (
	"math/bits"
	"sync"
)

// Sizes of buffers are powers of two from 512 bytes to 4 MiB. Larger ones are not kept.
const (
	minShift = 9
	maxShift = 22
)

var classes [maxShift - minShift + 1]sync.Pool

// Buffer is a byte buffer for transient use. Whoever got it owns B, may grow it, and gives it back once.
type Buffer struct{ B []byte }

// GetBuffer returns an empty buffer with room for n bytes at least. Any goroutine may call it.
func GetBuffer(n int) *Buffer {
	class := max(bits.Len(uint(max(n, 1)-1)), minShift) - minShift
	if class >= len(classes) {
		return &Buffer{B: make([]byte, 0, n)}
	}
	if b, _ := classes[class].Get().(*Buffer); b != nil {
		return b
	}
	return &Buffer{B: make([]byte, 0, 1<<(class+minShift))}
}

// Put gives the buffer back. Nobody may use it, or a slice of its bytes, from now on.
func (b *Buffer) Put() {
	class := bits.Len(uint(cap(b.B))) - 1 - minShift // the largest class whose promise it keeps
	if class < 0 || class >= len(classes) {
		return
	}
	b.B = b.B[:0]
	classes[class].Put(b)
}
