package pool

import (
	"math/bits"
	"sync"
)

// Buffer sizes are powers of two from 512 bytes to 4 MiB. Larger buffers are not pooled.
const (
	minShift = 9
	maxShift = 22
)

var classes [maxShift - minShift + 1]sync.Pool

// Buffer is a byte buffer for transient use. The caller of GetBuffer owns B, may grow it, and calls
// Put at most once.
type Buffer struct{ B []byte }

// GetBuffer returns an empty buffer with a capacity of at least n bytes. It is safe for concurrent
// use.
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

// Put returns the buffer to the pool. The caller must not use it, or a slice of its bytes,
// afterwards.
func (b *Buffer) Put() {
	class := bits.Len(uint(cap(b.B))) - 1 - minShift // the largest class whose minimum capacity it has
	if class < 0 || class >= len(classes) {
		return
	}
	b.B = b.B[:0]
	classes[class].Put(b)
}
