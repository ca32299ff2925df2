package httpapi

import (
	"bytes"
	"crypto/sha256"
	"sync"
	"unsafe"
	"weak"
)

// largeBody is the length, in bytes, from which an encoded body is shared by all responses with the
// same content, and counts toward the backlog.
const largeBody = 16 << 10

// bodyKey identifies the content of a body: two bodies with the same key are equal.
type bodyKey struct {
	sum    [sha256.Size]byte // of the body without a content coding
	coding coding
}

// sharedBodies are the encoded bodies in some connection's outbox, so that many clients that
// request one resource at the same time, and do not read, cost one copy. An entry does not keep its
// body alive: it is collected when the last outbox has released it. Any goroutine but an event loop
// may use it, since it has a lock.
type sharedBodies struct {
	mu    sync.Mutex
	live  map[bodyKey]weakBody
	sweep int // number of entries at which those whose body was collected are removed
}

// weakBody is a weak reference to a body.
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

// find returns the body with a key, nil if there is none.
func (s *sharedBodies) find(key bodyKey) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[key].get()
}

// intern returns the shared body equal to body, which has the key: the existing one, or a new copy.
// It is immutable.
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

// share replaces a large body by the shared one.
func (h *Handler) share(resp *Response, c coding) {
	if !resp.Shared && resp.summed && len(resp.Body) >= largeBody {
		resp.Body, resp.Shared = h.bodies.intern(bodyKey{resp.sum, c}, resp.Body), true
		resp.Free()
	}
}
