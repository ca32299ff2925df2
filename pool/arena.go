package pool

import "unsafe"

// ChunkSize is the size in bytes of an Arena's allocations.
const ChunkSize = 32 << 10

// fresh is the minimum capacity that Begin returns. A message that outgrows the rest of the chunk
// moves to a new chunk; one above large keeps an allocation of its own.
const (
	fresh = 512
	large = ChunkSize / 4
)

// Arena allocates immutable byte slices that many outboxes share. It cuts them from large chunks in
// order, so messages committed in sequence are adjacent in memory and an outbox can write them as
// one. The garbage collector frees a chunk when no slice points into it. An Arena has one owner and
// is not safe for concurrent use.
type Arena struct {
	chunk []byte // len: committed bytes; the rest up to cap is free
}

// Begin returns an empty slice with spare capacity, to append one message to. Only one message may
// be open at a time; the next Begin discards one that was not committed.
func (a *Arena) Begin() []byte {
	if cap(a.chunk)-len(a.chunk) < fresh {
		a.chunk = make([]byte, 0, ChunkSize)
	}
	return a.chunk[len(a.chunk):]
}

// Commit completes the message and returns it with no spare capacity. It is immutable from then on.
// b is the slice that Begin returned with the message appended; append may have reallocated it.
func (a *Arena) Commit(b []byte) []byte {
	n := len(b)
	if n == 0 {
		return nil
	}
	at := len(a.chunk)
	if n <= cap(a.chunk)-at && &a.chunk[:at+1][at] == &b[0] {
		a.chunk = a.chunk[:at+n]
		return a.chunk[at : at+n : at+n]
	}
	if n > large {
		return b[:n:n]
	}
	a.chunk = append(make([]byte, 0, ChunkSize), b...)
	return a.chunk[:n:n]
}

// Copy commits a copy of b.
func (a *Arena) Copy(b []byte) []byte { return a.Commit(append(a.Begin(), b...)) }

// Join returns x and y as one slice if both were committed to the arena's current chunk, y directly
// after x. Adjacent addresses alone are not enough: a slice must not span two allocations.
func (a *Arena) Join(x, y []byte) ([]byte, bool) {
	from, ok := a.offset(x)
	if !ok {
		return nil, false
	}
	mid, ok := a.offset(y)
	if !ok || from+len(x) != mid {
		return nil, false
	}
	end := mid + len(y)
	return a.chunk[from:end:end], true
}

// offset returns the position of b in the current chunk. Addresses are only compared; b keeps its
// chunk alive.
func (a *Arena) offset(b []byte) (int, bool) {
	if len(b) == 0 || len(a.chunk) == 0 {
		return 0, false
	}
	base := uintptr(unsafe.Pointer(unsafe.SliceData(a.chunk)))
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	if at < base || at+uintptr(len(b)) > base+uintptr(len(a.chunk)) {
		return 0, false
	}
	return int(at - base), true
}
