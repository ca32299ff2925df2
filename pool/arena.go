package pool

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
