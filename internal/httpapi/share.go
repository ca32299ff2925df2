package httpapi

import (
	"bytes"
	"crypto/sha256"
	"sync"
	"unsafe"
	"weak"
)

// largeBody is the length, in bytes, from which an encoded body is shared by all responses with the
// same content, and counts in the backlog.
const largeBody = 16 << 10

// bodyKey names the content of a body: two bodies with the same key are equal.
type bodyKey struct {
	sum    [sha256.Size]byte // of the body without a content coding
	coding coding
}

// sharedBodies are the encoded bodies that some connection still holds, so that many clients that
// ask for one resource at the same time, and do not read, cost one copy. An entry does not keep its
// body: when the last outbox has let go of it, the garbage collector takes it. Any goroutine may
// use it but for event loops, since it has a lock.
type sharedBodies struct {
	mu    sync.Mutex
	live  map[bodyKey]weakBody
	sweep int // number of entries at which those without a body are removed
}

// weakBody refers to a body without keeping it.
type weakBody struct {
	first  weak.Pointer[byte]
	length int
}

func (w weakBody) get() []byte {
	if first := w.first.Value(); first != nil {
		return unsafe.Slice(first, w.length)
	}
	return nil
}

// find returns the body with a key; nil if no connection holds it any more.
func (s *sharedBodies) find(key bodyKey) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[key].get()
}

// intern returns a body for all who need the same as body, which has the key: one that is there, or
// a copy. It is immutable.
func (s *sharedBodies) intern(key bodyKey, body []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.live[key].get(); b != nil {
		return b
	}
	b := bytes.Clone(body)
	if s.live == nil {
		s.live = make(map[bodyKey]weakBody)
	}
	if len(s.live) >= max(s.sweep, 64) {
		for k, w := range s.live {
			if w.get() == nil {
				delete(s.live, k)
			}
		}
		s.sweep = 2 * len(s.live)
	}
	s.live[key] = weakBody{weak.Make(&b[0]), len(b)}
	return b
}

// share replaces the answer's body by the one that all who need the same get.
func (h *Handler) share(a *Answer, c coding) {
	if !a.Shared && a.summed && len(a.Body) >= largeBody {
		a.Body, a.Shared = h.bodies.intern(bodyKey{a.sum, c}, a.Body), true
		a.Free()
	}
}
