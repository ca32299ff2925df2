// Package fanout owns one event loop's topics: the resources that the loop's
// clients are subscribed to, the subscribers of each, and the frames of their
// events. It encodes an event once for each variant and sends the same immutable
// slice to all subscribers.
//
// It does no I/O, never asks for access, and knows neither connections nor shards:
// they implement the interfaces declared here. Everything in it belongs to one
// loop and must only be used there.
package fanout

import (
	"sync/atomic"
	"time"

	"sluice/internal/invariants"
	"sluice/internal/res"
	"sluice/internal/state"
	"sluice/pool"
)

// Source provides a hub's resources: the cache shards. A subscription is named by
// ref, which the hub never uses twice. Updates with the same ref follow Subscribe.
// first, if not nil, is called once, on any goroutine, when events of the resource
// reach the source and before it gets the resource from a service.
type Source interface {
	Subscribe(ref uint64, name, query string, first func())
	Unsubscribe(ref uint64, name, query string)
	// Refetch makes the source refetch a resource whose state is in doubt.
	Refetch(name string)
}

// Outbox is one client's write queue. A call of Send has one frame, or several
// concatenated ones. The outbox keeps the slice, which never changes, and must not
// call the hub.
type Outbox interface{ Send(frame []byte) }

// Framer appends the transport frame of a JSON message to dst.
type Framer func(dst, message []byte) []byte

// Framers has the framer of each form; nil for forms that no client uses.
type Framers [Forms]Framer

// Metrics counts the work of hubs. The hubs of all loops share one.
type Metrics struct {
	Topics     atomic.Int64  // current topics
	Members    atomic.Int64  // current memberships
	Events     atomic.Uint64 // events applied to topics
	Deliveries atomic.Uint64 // events sent to an outbox
	Encodings  atomic.Uint64 // frames built for events; compare with Deliveries

	SetEncodings atomic.Uint64 // large resource sets built for responses

	VersionBytes  atomic.Int64 // old states and long differences that subscribers keep, see Version
	VersionShares atomic.Int64 // the same, in full for each subscriber that keeps one
}

// Hub is one loop's registry of topics.
type Hub struct {
	// Portion is how many events of a long difference a client gets at a time.
	// It may be set before the first topic.
	Portion int
	// Now returns the owner's time, from which the rates of deliveries follow. It may
	// be set before the first topic.
	Now func() time.Duration
	// Traced is called for each event that the subscribers of a resource get, and with the name ""
	// for a long difference; nil: no trace is on. It may be set at any time.
	Traced func(name, query, event string, subscribers int)

	remembers bool                    // see Remember
	gone      map[topicKey][]Happened // see keepPast

	// Fixed after construction.
	source    Source
	framers   Framers
	splitters [Forms]splitter
	arena     *pool.Arena
	metrics   *Metrics

	// Owned by the loop.
	topics  topics
	slots   []slot   // topics by the low half of their ref
	free    []uint32 // slots not in use
	buf     []byte   // the message being encoded
	recent  recentFrames
	shared  sharedSets
	scratch []member // memory for copyMembers
	at      delivery // the fan-out in progress
	resets  []*Topic // whose subscribers ResetAccess has yet to call
	why     Reason   // the reason of ResetAccess
}

// slot finds a topic by its ref. The generation distinguishes a late update for a
// topic that is gone from one for the slot's next topic.
type slot struct {
	topic *Topic
	gen   uint32
}

// topicKey names a topic. Two clients that wrote the same resource ID share a
// topic unless {cid} made different resources of it.
type topicKey struct{ rid, name, query string }

// NewHub returns an empty hub. Frames are allocated from arena.
func NewHub(source Source, framers Framers, arena *pool.Arena, m *Metrics) *Hub {
	return &Hub{Portion: defaultPortion, Now: func() time.Duration { return 0 }, source: source, framers: framers, arena: arena, metrics: m}
}

// Find returns the topic of a resource, nil if the loop has none. Joining an alive
// topic sends no request.
func (h *Hub) Find(rid, name, query string) *Topic { return h.topics.find(topicKey{rid, name, query}) }

// Join makes sub a member of the topic of rid and returns the
// topic. rid is the resource ID as the client writes it; services know it by name
// and query. If the topic is loading, sub.Loaded is called at the end of that. A
// new member gets no events on the fast path before SetReady. first is that of
// Source.Subscribe; it is nil if there is such a topic already (Find).
func (h *Hub) Join(sub Subscriber, out Outbox, v Variant, rid, name, query string, first func()) *Topic {
	key := topicKey{rid, name, query}
	t := h.topics.find(key)
	if t == nil {
		t = &Topic{hub: h, key: key}
		h.topics.add(t)
		h.metrics.Topics.Add(1)
		t.ref = h.allot(t)
		h.source.Subscribe(t.ref, name, query, first)
	} else if invariants.Enabled {
		invariants.Check(first == nil, "%s: first is given, but the topic exists", rid)
	}
	t.add(sub, out, v)
	h.metrics.Members.Add(1)
	return t
}

// Leave ends a membership; without one it does nothing. The hub unsubscribes a
// topic without members.
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

// Apply handles an update from the source. It ignores an update for a topic that
// is gone.
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
		if t.phase == phaseReady { // the shard has started over after a panic
			h.sync(t, u)
			return
		}
		t.loaded(u.Snapshot)
		t.each(Subscriber.Loaded)
	case state.Failed:
		if t.phase == phaseReady { // the shard can no longer follow the resource
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
			t.loaded(u.Snapshot)
			t.each(Subscriber.Loaded)
			return
		}
		h.sync(t, u)
		if u.Lost > 0 {
			h.applyEvent(t, state.NewLost(u.Lost, t.snap))
		}
	case state.Reaccess:
		if h.remembers {
			t.remember(nil, Changed)
		}
		t.each(func(s Subscriber) { s.Reaccess(Changed) })
	}
}

// ResetAccess calls Reaccess of the subscribers of every topic whose resource name
// matches.
func (h *Hub) ResetAccess(why Reason, match func(name string) bool) {
	h.why = why
	for _, s := range h.slots {
		if s.topic != nil && match(s.topic.key.name) {
			h.resets = append(h.resets, s.topic)
		}
	}
	h.resetNext()
}

// resetNext calls the subscribers that ResetAccess has yet to call.
func (h *Hub) resetNext() {
	for len(h.resets) > 0 {
		t := h.resets[0]
		h.resets = h.resets[1:]
		why := h.why
		if h.remembers {
			t.remember(nil, why)
		}
		t.each(func(s Subscriber) { s.Reaccess(why) })
		h.at = delivery{}
	}
	h.resets = nil
}

// EndTurn releases the frames that are kept for reuse within a loop iteration.
func (h *Hub) EndTurn() { h.recent.reset() }

// applyEvent applies one event to the topic and delivers it.
func (h *Hub) applyEvent(t *Topic, e *state.Event) {
	if t.phase != phaseReady {
		return
	}
	prev := t.snap
	d := &h.at
	d.topic, d.event, d.prev, d.begun = t, e, prev, false
	if h.remembers {
		t.remember(e, Changed)
	}
	switch e.Kind {
	case state.Delete:
		h.forget(t)
	case state.Custom:
	default:
		t.advance(e.Next)
	}
	h.metrics.Events.Add(1)
	if h.Traced != nil {
		h.Traced(t.key.name, t.key.query, eventName(e), len(t.members))
	}
	t.deliver(e, prev)
	d.topic, d.event, d.prev = nil, nil, nil
}

// sync brings a topic to the newest snapshot. Clients get the difference. If it is
// long, each gets it at its own pace, while the topic advances immediately.
func (h *Hub) sync(t *Topic, u state.Update) {
	if t.phase != phaseReady {
		return
	}
	events := u.Steps
	if events == nil {
		var err error
		if events, err = state.Diff(t.snap, u.Snapshot); err != nil {
			// A model became a collection, or the reverse. The shard deletes such a
			// resource instead, so this does not happen.
			h.applyEvent(t, state.NewDelete(t.snap))
			return
		}
	}
	if script := h.NewScript(t.key.rid, events); script != nil {
		prev := t.snap
		t.advance(script.End())
		h.metrics.Events.Add(uint64(len(events)))
		if h.Traced != nil {
			h.Traced(t.key.name, t.key.query, "", len(t.members))
		}
		t.each(func(s Subscriber) { s.Script(script, prev) })
		return
	}
	h.applyAll(t, events)
}

// allot assigns a topic its ref.
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

// forget removes a topic from the hub. Its members, if any, keep it until they
// leave; the next Join makes a new one.
func (h *Hub) forget(t *Topic) {
	t.gone()
	h.keepPast(t)
	h.topics.remove(t)
	h.metrics.Topics.Add(-1)
	i := uint32(t.ref)
	h.slots[i].topic = nil
	h.slots[i].gen++
	h.free = append(h.free, i)
}

// Len returns the number of topics.
func (h *Hub) Len() int { return h.topics.len }

// Frame returns the frame of a JSON message. It is immutable.
func (h *Hub) Frame(message []byte, f Form) []byte {
	return h.arena.Commit(h.framers[f](h.arena.Begin(), message))
}

// Error returns why the topic failed to load, nil if it did not.
func (t *Topic) Error() *res.Error { return t.err }
