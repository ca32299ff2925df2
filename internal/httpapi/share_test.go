package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// TestBodiesAreShared: responses with the same content and coding share one body while one of them
// is alive.
func TestBodiesAreShared(t *testing.T) {
	var text strings.Builder // which does not get short by a coding
	for sum := sha256.Sum256(nil); text.Len() < 200<<10; sum = sha256.Sum256(sum[:]) {
		text.WriteString(hex.EncodeToString(sum[:]))
	}
	large := resources{
		"m": `{"text":"` + text.String() + `","r":{"rid":"r"}}`, "r": `{"a":1}`,
	}
	h := New(Options{}, &fakeBackend{})
	answer := func(accept string) *Response {
		a := &Response{Header: http.Header{}}
		q := &Query{Method: "GET", Path: "/api/m"}
		if accept != "" {
			q.AcceptEncoding = []string{accept}
		}
		h.Encode(a, q, large.graph(t, "m"))
		a.Free()
		if !a.Shared || a.Status != 200 {
			t.Errorf("%q: status %d, shared: %v", accept, a.Status, a.Shared)
		}
		return a
	}
	for _, accept := range []string{"", "gzip", "br"} {
		one, two := answer(accept), answer(accept)
		if &one.Body[0] != &two.Body[0] {
			t.Errorf("%q: two bodies", accept)
		}
		if one.Header.Get("Content-Encoding") != accept || one.Header.Get("Etag") != two.Header.Get("Etag") {
			t.Errorf("%q: header %v", accept, one.Header)
		}
		runtime.KeepAlive(one)
	}
	live := func() (n int) {
		h.bodies.mu.Lock()
		defer h.bodies.mu.Unlock()
		for _, w := range h.bodies.live {
			if w.get() != nil {
				n++
			}
		}
		return n
	}
	kept := answer("").Body[1000:] // as an outbox that has sent some of it
	for range 3 {
		runtime.GC()
	}
	if n := live(); n != 1 || h.bodies.find(h.keyOf(t)) == nil {
		t.Errorf("%d bodies, want only the one in use", n)
	}
	runtime.KeepAlive(kept)
	for range 3 {
		runtime.GC()
	}
	if n := live(); n != 0 {
		t.Errorf("%d bodies that no connection uses", n)
	}
}

// keyOf returns the key of the only entry without a coding.
func (h *Handler) keyOf(t *testing.T) bodyKey {
	t.Helper()
	for k := range h.bodies.live {
		if k.coding == identity {
			return k
		}
	}
	t.Fatal("there is no entry")
	return bodyKey{}
}

// TestSharedBodiesAreSwept: entries whose body was collected are removed.
func TestSharedBodiesAreSwept(t *testing.T) {
	var s sharedBodies
	for i := range 1000 {
		var key bodyKey
		key.sum[0], key.sum[1] = byte(i), byte(i>>8)
		_ = s.intern(key, make([]byte, largeBody))
		if i%50 == 0 {
			runtime.GC()
		}
	}
	if n := len(s.live); n > 300 {
		t.Errorf("%d entries", n)
	}
}
