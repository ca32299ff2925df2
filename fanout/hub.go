// Package fanout owns one event loop's topics: which resources the loop's
// clients look at, who the subscribers of each are, and the frames that carry
// their events. It encodes an event once for every variant of its bytes and
// hands the same immutable slice to all subscribers.
//
// It never does I/O, never asks for access, and knows neither connections nor
// shards: both meet it through the interfaces declared here. Everything in it
// belongs to one loop and must only be used there.
package fanout

import (
	"sync/atomic"

	"sluice/internal/invariants"
	"sluice/internal/res"
	"sluice/internal/state"
	"sluice/pool"
)

// Source is where a hub gets its resources from: the cache shards. A
// subscription is named by ref, which the hub never uses twice. The answer to
// Subscribe, and everything after it, comes back as updates with the same ref.
// first, if not nil, is called once, on any goroutine, when events of the
// resource reach the source and before it asks a service for the resource.
type Source interface {
	Subscribe(ref uint64, name, query string, first func())
	Unsubscribe(ref uint64, name, query string)
	// Refetch asks for the state of a resource name to be fetched again: what is
	// known of it is in doubt.
	Refetch(name string)
}

// Outbox takes frames for one client: one at a time, or several that lie one
// behind the other. It keeps the slice, which never changes again, and must not
// call back into the hub.
type Outbox interface{ Send(frame []byte) }

// Framer makes a transport frame of a JSON message by appending it to dst.
type Framer func(dst, message []byte) []byte

// Framers has the framer of each form; a form that no client has may be nil.
type Framers [Forms]Framer

// Metrics counts what hubs do. The hubs of all loops share one.
type Metrics struct {
	Topics     atomic.Int64  // topics there are now
	Members    atomic.Int64  // memberships there are now
	Events     atomic.Uint64 // events applied to topics
	Deliveries atomic.Uint64 // events handed to an outbox
	Encodings  atomic.Uint64 // frames built for events; compare with Deliveries

	SetEncodings atomic.Uint64 // large resource sets built for answers
}

// Hub is one loop's registry of topics.
type Hub struct {
	// Portion is how many events of a long difference a client gets at a time.
	// It may be set before the first topic.
	Portion int

	// Fixed after construction.
	source    Source
	framers   Framers
	splitters [Forms]splitter
	arena     *pool.Arena
	metrics   *Metrics

	// Owned by the loop.
	topics  map[topicKey]*Topic
	slots   []slot   // topics by the low half of their ref
	free    []uint32 // slots not in use
	buf     []byte   // the message being encoded
	recent  recentFrames
	shared  sharedSets
	scratch []member // memory for take
	at      delivery // is being handed out
	resets  []*Topic // whose subscribers ResetAccess has yet to tell
	why     Reason   // of that
}

// slot finds a topic by its ref; the generation tells a late update for a
// topic that is gone from one for its successor.
type slot struct {
	topic *Topic
	gen   uint32
}

// topicKey names a topic. Two clients that wrote the same resource ID share a
// topic unless {cid} made different resources of it.
type topicKey struct{ rid, name, query string }

// NewHub returns an empty hub. Frames are cut from arena.
func NewHub(source Source, framers Framers, arena *pool.Arena, m *Metrics) *Hub {
	return &Hub{Portion: defaultPortion, source: source, framers: framers, arena: arena, metrics: m, topics: make(map[topicKey]*Topic)}
}

// Find returns the topic of a resource, nil if the loop has none. Joining one
// that is alive costs no request.
func (h *Hub) Find(rid, name, query string) *Topic { return h.topics[topicKey{rid, name, query}] }

// Join makes sub, which embeds m, a member of the topic of rid (as the client
// writes it; name and query are what the services know it by) and returns the
// topic. If it is not loaded yet, sub.Loaded is called when it is, or when it
// failed. A new member gets no events on the fast path before SetReady. first is
// that of Source.Subscribe; it is nil if there is such a topic already (Find).
func (h *Hub) Join(sub Subscriber, m *Member, out Outbox, v Variant, rid, name, query string, first func()) *Topic {
	key := topicKey{rid, name, query}
	t := h.topics[key]
	if t == nil {
		t = &Topic{hub: h, key: key}
		h.topics[key] = t
		h.metrics.Topics.Add(1)
		t.ref = h.allot(t)
		h.source.Subscribe(t.ref, name, query, first)
	} else if invariants.Enabled {
		invariants.Check(first == nil, "%s: its topic exists, so nothing comes first", rid)
	}
	t.add(sub, m, out, v)
	h.metrics.Members.Add(1)
	return t
}

// Leave ends a membership; without one it does nothing. A topic without
// members is given back to the source.
func (h *Hub) Leave(m *Member) {
	t := m.topic
	if t == nil {
		return
	}
	t.remove(m)
	h.metrics.Members.Add(-1)
	if len(t.members) == 0 && t.phase < phaseGone {
		h.source.Unsubscribe(t.ref, t.key.name, t.key.query)
		h.forget(t)
	}
}

// Apply handles an update from the source. An update for a topic that is gone
// is ignored.
func (h *Hub) Apply(u state.Update) {
	t := h.byRef(u.Ref)
	if t == nil {
		return
	}
	h.at.topic = t
	h.apply(t, u)
	h.at.topic = nil
}

func (h *Hub) apply(t *Topic, u state.Update) {
	switch u.Kind {
	case state.Loaded:
		if t.phase == phaseReady { // the shard has started over with it
			h.sync(t, u)
			return
		}
		t.snap, t.phase = u.Snapshot, phaseReady
		t.each(Subscriber.Loaded)
	case state.Failed:
		if t.phase == phaseReady { // the shard cannot follow it any more
			h.applyEvent(t, state.NewDelete(t.snap))
			return
		}
		t.err = u.Err
		h.forget(t)
		t.each(Subscriber.Loaded)
	case state.Applied:
		h.applyEvent(t, u.Event)
	case state.Synced:
		if t.phase == phaseLoading {
			t.snap, t.phase = u.Snapshot, phaseReady
			t.each(Subscriber.Loaded)
			return
		}
		h.sync(t, u)
	case state.Reaccess:
		t.each(func(s Subscriber) { s.Reaccess(Changed) })
	}
}

// ResetAccess says to the subscribers of every topic whose resource name
// matches that access must be asked again.
func (h *Hub) ResetAccess(why Reason, match func(name string) bool) {
	h.why = why
	for k, t := range h.topics {
		if match(k.name) {
			h.resets = append(h.resets, t)
		}
	}
	h.resetNext()
}

// resetNext goes on with ResetAccess.
func (h *Hub) resetNext() {
	for len(h.resets) > 0 {
		t := h.resets[0]
		h.resets = h.resets[1:]
		why := h.why
		t.each(func(s Subscriber) { s.Reaccess(why) })
		h.at = delivery{}
	}
	h.resets = nil
}

// EndTurn lets go of what the hub kept for reuse within a turn of the loop.
func (h *Hub) EndTurn() { h.recent.reset() }

// applyEvent moves the topic on by one event and delivers it.
func (h *Hub) applyEvent(t *Topic, e *state.Event) {
	if t.phase != phaseReady {
		return
	}
	prev := t.snap
	d := &h.at
	d.topic, d.event, d.prev, d.begun = t, e, prev, false
	switch e.Kind {
	case state.Delete:
		h.forget(t)
	case state.Custom:
	default:
		t.snap = e.Next
	}
	h.metrics.Events.Add(1)
	t.deliver(e, prev)
	d.topic, d.event, d.prev = nil, nil, nil
}

// sync brings a topic to the newest snapshot. Clients get the difference; if it
// is long, each goes through it at its own pace, and the topic is there at once.
func (h *Hub) sync(t *Topic, u state.Update) {
	if t.phase != phaseReady {
		return
	}
	events := u.Steps
	if events == nil {
		var err error
		if events, err = state.Diff(t.snap, u.Snapshot); err != nil {
			// A model became a collection or the other way round: the shard never
			// does that to a live subscription, it deletes it.
			h.applyEvent(t, state.NewDelete(t.snap))
			return
		}
	}
	if script := h.NewScript(t.key.rid, events); script != nil {
		prev := t.snap
		t.snap = script.End()
		h.metrics.Events.Add(uint64(len(events)))
		t.each(func(s Subscriber) { s.Script(script, prev) })
		return
	}
	h.applyAll(t, events)
}

// allot gives a topic its ref.
func (h *Hub) allot(t *Topic) uint64 {
	var i uint32
	if n := len(h.free); n > 0 {
		i, h.free = h.free[n-1], h.free[:n-1]
	} else {
		i = uint32(len(h.slots))
		h.slots = append(h.slots, slot{})
	}
	s := &h.slots[i]
	s.topic = t
	return uint64(s.gen)<<32 | uint64(i)
}

func (h *Hub) byRef(ref uint64) *Topic {
	i := uint32(ref)
	if int(i) >= len(h.slots) || h.slots[i].gen != uint32(ref>>32) {
		return nil
	}
	return h.slots[i].topic
}

// forget takes a topic out of the registry. Its members, if any, keep what
// they know of it until they leave; whoever joins from now on gets a new one.
func (h *Hub) forget(t *Topic) {
	t.phase = phaseGone
	delete(h.topics, t.key)
	h.metrics.Topics.Add(-1)
	i := uint32(t.ref)
	h.slots[i].topic = nil
	h.slots[i].gen++
	h.free = append(h.free, i)
}

// Len returns how many topics the loop has.
func (h *Hub) Len() int { return len(h.topics) }

// Frame frames a JSON message. The frame is immutable.
func (h *Hub) Frame(message []byte, f Form) []byte {
	return h.arena.Commit(h.framers[f](h.arena.Begin(), message))
}

// Error returns why the topic failed to load, nil if it did not.
func (t *Topic) Error() *res.Error { return t.err }
