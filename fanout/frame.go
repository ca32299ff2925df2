package fanout

import (
	"sluice/internal/res"
	"sluice/internal/state"
)

// Resource is an element of a resource set: a snapshot, or the error that replaces
// it.
type Resource struct {
	RID      string
	Snapshot *state.Snapshot
	Err      *res.Error
}

// AppendSet appends the groups of a resource set (RES.md 2.2), without braces,
// with a comma before the first group if more is true. It appends nothing for
// an empty set.
func AppendSet(dst []byte, set []Resource, legacy, more bool) []byte {
	type group struct {
		name string
		in   func(*Resource) bool
	}
	for _, g := range [...]group{
		{`"models":{`, func(r *Resource) bool { return r.Err == nil && r.Snapshot.IsModel() }},
		{`"collections":{`, func(r *Resource) bool { return r.Err == nil && !r.Snapshot.IsModel() }},
		{`"errors":{`, func(r *Resource) bool { return r.Err != nil }},
	} {
		open := false
		for i := range set {
			r := &set[i]
			if !g.in(r) {
				continue
			}
			if open || more {
				dst = append(dst, ',')
			}
			if !open {
				dst = append(dst, g.name...)
				open, more = true, true
			}
			dst = append(res.AppendString(dst, r.RID), ':')
			if r.Err != nil {
				dst = r.Err.AppendJSON(dst)
			} else {
				dst = r.Snapshot.AppendJSON(dst, legacy)
			}
		}
		if open {
			dst = append(dst, '}')
		}
	}
	return dst
}

// Event returns the frame of an event on rid that includes the resources of set.
// Clients that need the same frame share it.
func (h *Hub) Event(rid string, e *state.Event, v Variant, set []Resource) []byte {
	if f := h.recent.find(rid, e, v, set); f != nil {
		return f
	}
	h.metrics.Encodings.Add(1)
	f := h.Frame(h.encode(rid, e, v, set), v.Form())
	h.recent.add(rid, e, v, set, f)
	return f
}

// encode returns an event's message, valid until the next call.
func (h *Hub) encode(rid string, e *state.Event, v Variant, set []Resource) []byte {
	b := res.AppendEventStart(h.buf[:0], rid, eventName(e))
	switch e.Kind {
	case state.Delete:
	case state.Custom:
		if e.Payload != nil {
			b = append(append(b, `,"data":`...), e.Payload...)
		}
	default:
		b = append(b, `,"data":`...)
		b = e.AppendData(b, v.Legacy())
		b = append(AppendSet(b, set, v.Legacy(), true), '}')
	}
	b = append(b, '}')
	h.buf = b
	return b
}

func eventName(e *state.Event) string {
	if e.Kind == state.Custom {
		return e.Name
	}
	return e.Kind.String()
}

// recentFrames caches the frames of the event that is being delivered. Clients
// differ in the resources that they hold, so a few sets of included resources are
// usual and many are rare.
type recentFrames struct {
	frames [8]recentFrame
	next   int
}

type recentFrame struct {
	rid   string
	event *state.Event
	v     Variant
	set   []Resource
	frame []byte
}

func (r *recentFrames) find(rid string, e *state.Event, v Variant, set []Resource) []byte {
	for i := range r.frames {
		f := &r.frames[i]
		if f.event == e && f.v == v && f.rid == rid && sameSet(f.set, set) {
			return f.frame
		}
	}
	return nil
}

func (r *recentFrames) add(rid string, e *state.Event, v Variant, set []Resource, frame []byte) {
	f := &r.frames[r.next]
	*f = recentFrame{rid, e, v, append(f.set[:0], set...), frame}
	r.next = (r.next + 1) % len(r.frames)
}

// reset releases the frames.
func (r *recentFrames) reset() {
	for i := range r.frames {
		f := &r.frames[i]
		if f.event != nil {
			clear(f.set)
			*f = recentFrame{set: f.set[:0]}
		}
	}
}

func sameSet(a, b []Resource) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Snapshot != b[i].Snapshot || a[i].Err != b[i].Err || a[i].RID != b[i].RID {
			return false
		}
	}
	return true
}
