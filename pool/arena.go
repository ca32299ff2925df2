package pool

import "unsafe"

// ChunkSize is the size in bytes of the memory an Arena takes at a time.
const ChunkSize = 32 << 10

// fresh is the room that Begin offers at least. A message that needs more than is left is moved to a
// new chunk, or keeps memory of its own if it is large.
const (
	fresh = 512
	large = ChunkSize / 4
)

// Arena hands out immutable byte slices that many outboxes share, cut from large chunks one after the
// other: messages committed in a row lie side by side, so an outbox can treat them as one. The garbage
// collector frees a chunk when nothing points into it any more. One owner; not for concurrent use.
type Arena struct {
	chunk []byte // len: what is committed; the rest is free
}

// Begin returns an empty slice with room behind it, to append one message to. Only one message may be
// under way; one that is not committed is simply forgotten by the next Begin.
func (a *Arena) Begin() []byte {
	if cap(a.chunk)-len(a.chunk) < fresh {
		a.chunk = make([]byte, 0, ChunkSize)
	}
	return a.chunk[len(a.chunk):]
}

// Commit ends the message that was begun and returns it, with no capacity beyond its length. Nobody may
// change it from now on. b is what Begin returned with the message appended; it may have outgrown the room.
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

// Join returns x and y as one slice if both were committed to the arena's present chunk, y right behind
// x. That memory is adjacent would not be enough: a slice must not reach into another allocation.
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

// offset returns where in the present chunk b begins. Addresses are only compared: b keeps its chunk alive.
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
