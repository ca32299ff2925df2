package fanout

import (
	"unsafe"
	"weak"

	"sluice/internal/res"
	"sluice/internal/state"
)

// ShareFrom is the size in bytes from which on the resource sets of answers are shared between clients.
const ShareFrom = 16 << 10

// splitter frames a message in two frames: its beginning, which is one client's, and the rest, which many have in common.
// A form without one gets whole messages.
type splitter struct{ first, last Framer }

// Share lets large resource sets in form f be shared: first frames the beginning of a message, last the rest of it.
func (h *Hub) Share(f Form, first, last Framer) { h.splitters[f] = splitter{first, last} }

// SendSet sends a message that is head, the groups of a resource set and tail. more says whether head ends in a member of
// the object that the groups belong to.
//
// The set of a large resource goes to all clients that need the same of it as one slice, encoded once: a thousand clients
// that subscribe to a megabyte must not cost a gigabyte. It is kept for as long as an outbox has it, and no longer.
func (h *Hub) SendSet(out Outbox, v Variant, head []byte, set []Resource, more bool, tail string) {
	if size(set) < ShareFrom || h.splitters[v.Form()].first == nil {
		b := append(h.buf[:0], head...)
		b = append(AppendSet(b, set, v.Legacy(), more), tail...)
		h.buf = b
		out.Send(h.Frame(b, v.Form()))
		return
	}
	if more {
		head = append(head, ',')
	}
	rest := h.shared.find(set, v, tail)
	if rest == nil {
		rest = h.encodeRest(set, v, tail)
		h.shared.add(set, v, tail, rest)
	}
	out.Send(h.arena.Commit(h.splitters[v.Form()].first(h.arena.Begin(), head)))
	out.Send(rest)
}

func (h *Hub) encodeRest(set []Resource, v Variant, tail string) []byte {
	h.metrics.SetEncodings.Add(1)
	b := make([]byte, 0, size(set)*5/4) // scratch of its own: such a message is rare
	b = append(AppendSet(b, set, v.Legacy(), false), tail...)
	rest := h.splitters[v.Form()].last(make([]byte, 0, frameRoom), b)
	return rest[:len(rest):len(rest)]
}

// frameRoom is what encodeRest begins a frame with; one that outgrows it gets the memory that it needs.
const frameRoom = 16

// size is about how long a set is in JSON.
func size(set []Resource) (n int) {
	for i := range set {
		if s := set[i].Snapshot; s != nil {
			n += s.Bytes() + s.Len()
		}
	}
	return n
}

// sharedSets remembers the newest large sets without keeping them, or the snapshots they are made of, in memory.
type sharedSets struct {
	sets [4]sharedSet
	next int
}

type sharedSet struct {
	key   []setKey
	v     Variant
	tail  string
	frame weak.Pointer[byte] // the first byte; its memory is the frame's alone
	len   int
}

type setKey struct {
	rid      string
	snapshot weak.Pointer[state.Snapshot]
	err      *res.Error
}

func keyOf(r *Resource) setKey { return setKey{r.RID, weak.Make(r.Snapshot), r.Err} }

func (s *sharedSets) find(set []Resource, v Variant, tail string) []byte {
	for i := range s.sets {
		c := &s.sets[i]
		if c.v != v || c.tail != tail || len(c.key) != len(set) || !c.matches(set) {
			continue
		}
		if p := c.frame.Value(); p != nil {
			return unsafe.Slice(p, c.len)
		}
	}
	return nil
}

func (c *sharedSet) matches(set []Resource) bool {
	for i := range set {
		if c.key[i] != keyOf(&set[i]) {
			return false
		}
	}
	return true
}

func (s *sharedSets) add(set []Resource, v Variant, tail string, frame []byte) {
	c := &s.sets[s.next]
	s.next = (s.next + 1) % len(s.sets)
	clear(c.key)
	*c = sharedSet{key: c.key[:0], v: v, tail: tail, frame: weak.Make(unsafe.SliceData(frame)), len: len(frame)}
	for i := range set {
		c.key = append(c.key, keyOf(&set[i]))
	}
}
