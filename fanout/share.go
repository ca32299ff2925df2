package fanout

import (
	"unsafe"
	"weak"

	"sluice/internal/res"
	"sluice/internal/state"
)

// ShareFrom is the size in bytes from which on clients share the resource sets of responses.
const ShareFrom = 16 << 10

// splitter frames a message as two frames: its beginning, for one client, and the rest, which many
// clients share. A form without a splitter gets whole messages.
type splitter struct{ first, last Framer }

// Share enables sharing of large resource sets in form f: first frames a message's beginning, last
// the rest.
func (h *Hub) Share(f Form, first, last Framer) { h.splitters[f] = splitter{first, last} }

// SendSet sends a message of head, the groups of a resource set and tail. more says whether head
// ends in a member of the object that the groups belong to.
//
// A large set is encoded once and sent as one slice to all clients that need the same. A thousand
// clients that subscribe to a megabyte must not cost a gigabyte. Only the outboxes keep it alive.
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
	b := make([]byte, 0, size(set)*5/4) // not the hub's buffer: such a message is rare
	b = append(AppendSet(b, set, v.Legacy(), false), tail...)
	rest := h.splitters[v.Form()].last(make([]byte, 0, frameRoom), b)
	return rest[:len(rest):len(rest)]
}

// frameRoom is the initial capacity of a frame in encodeRest; the framer grows it to the size
// needed.
const frameRoom = 16

// size returns the approximate length of a set in JSON.
func size(set []Resource) (n int) {
	for i := range set {
		if s := set[i].Snapshot; s != nil {
			n += s.Bytes() + s.Len()
		}
	}
	return n
}

// sharedSets caches the newest large sets by weak pointers: it keeps neither them nor their
// snapshots alive.
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
