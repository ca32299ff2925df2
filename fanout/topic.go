package fanout

import (
	"sluice/internal/res"
	"sluice/internal/state"
)

// Form is how messages travel to a client.
type Form uint8

const (
	// Message is a WebSocket message.
	Message Form = iota
	// Deflated is a WebSocket message of a client that negotiated compression.
	Deflated
	// Stream is a server-sent event.
	Stream
	// Forms is how many forms there are.
	Forms
)

// Variant tells apart the bytes that one event can have: the form, and whether
// the client's protocol is older than 1.2.1.
type Variant uint8

const (
	legacy   Variant = 1 << 7
	variants         = 2 * int(Forms)
)

// VariantOf returns the variant for a form. Legacy writes soft references as
// strings and data values as "[Data]" (RES.md 2.5).
func VariantOf(f Form, isLegacy bool) Variant {
	if isLegacy {
		return Variant(f) | legacy
	}
	return Variant(f)
}

// Form returns how messages of the variant travel.
func (v Variant) Form() Form { return Form(v &^ legacy) }

// Legacy reports whether the variant is for clients below protocol 1.2.1.
func (v Variant) Legacy() bool { return v&legacy != 0 }

// index numbers the variants from 0.
func (v Variant) index() int {
	if v.Legacy() {
		return int(Forms) + int(v.Form())
	}
	return int(v)
}

// Subscriber is a client's interest in a topic. The hub calls it on its loop.
type Subscriber interface {
	// Loaded says that the topic is loaded, or that it failed (Topic.Error).
	Loaded()
	// Event hands over an event that the hub could not send by itself: the
	// member is not ready, or the event changes references or ends the
	// resource. prev is the resource before it. If the member is not ready,
	// Event must leave all memberships of the hub alone.
	Event(e *state.Event, prev *state.Snapshot)
	// Script hands over a long difference, to be sent in portions. prev is the
	// resource before it.
	Script(s *Script, prev *state.Snapshot)
	// Reaccess says that access to the resource must be asked again.
	Reaccess(why Reason)
}

// Reason is why access must be asked again.
type Reason uint8

const (
	// Changed: the service or the client's token says so for this resource.
	Changed Reason = iota
	// Reset: a system.reset does, perhaps for very much at once.
	Reset
	// Gap: messages from services were missed, so one of the above may be
	// among them. Services themselves may be out of reach still.
	Gap
)

// Member is the subscriber's side of a membership, embedded in it. The zero
// value is not a member of anything.
type Member struct {
	topic *Topic
	pos   int32 // index in topic.members
}

// Topic returns the topic, nil if there is none.
func (m *Member) Topic() *Topic { return m.topic }

// SetReady says whether the hub may send events that change no references
// straight to the client's outbox.
func (m *Member) SetReady(ready bool) {
	if m.topic != nil {
		m.topic.members[m.pos].ready = ready
	}
}

// SetVariant changes which form of events the client gets.
func (m *Member) SetVariant(v Variant) {
	if m.topic != nil {
		m.topic.members[m.pos].variant = v
	}
}

// member is what delivery needs of a membership, side by side with its
// neighbours so that a broadcast reads memory in order.
type member struct {
	out     Outbox
	sub     Subscriber
	m       *Member
	ready   bool
	variant Variant
}

type phase uint8

const (
	phaseLoading phase = iota
	phaseReady
	phaseGone // failed, deleted or given back: no updates any more
)

// Topic is one client-visible resource with its subscribers on this loop.
type Topic struct {
	hub     *Hub
	key     topicKey
	ref     uint64
	phase   phase
	snap    *state.Snapshot // the newest; set when loaded
	err     *res.Error
	members []member
}

// RID returns the resource ID as clients write it.
func (t *Topic) RID() string { return t.key.rid }

// Snapshot returns the resource as it is now; nil while it is not loaded.
func (t *Topic) Snapshot() *state.Snapshot { return t.snap }

// Settled reports whether the topic is loaded or has failed: whether there is
// nothing left to wait for.
func (t *Topic) Settled() bool { return t.phase != phaseLoading }

// Alive reports whether the topic is loaded and follows its resource.
func (t *Topic) Alive() bool { return t.phase == phaseReady }

func (t *Topic) add(sub Subscriber, m *Member, out Outbox, v Variant) {
	m.topic, m.pos = t, int32(len(t.members))
	t.members = append(t.members, member{out: out, sub: sub, m: m, variant: v})
}

func (t *Topic) remove(m *Member) {
	last := len(t.members) - 1
	if pos := m.pos; int(pos) != last {
		t.members[pos] = t.members[last]
		t.members[pos].m.pos = pos
	}
	t.members[last] = member{}
	t.members = t.members[:last]
	if cap(t.members) > 64 && last < cap(t.members)/4 {
		t.members = append(make([]member, 0, cap(t.members)/2), t.members...)
	}
	m.topic = nil
}

// each calls f for every subscriber that is still a member when its turn comes.
// Calls may join and leave at will, so it works on a copy.
func (t *Topic) each(f func(Subscriber)) {
	d := &t.hub.at
	d.topic, d.call, d.members, d.i, d.begun = t, f, t.hub.take(t.members), 0, true
	t.hub.goThrough()
}

// goThrough goes on with each.
func (h *Hub) goThrough() {
	d := &h.at
	for ; d.i < len(d.members); d.i++ {
		if m := &d.members[d.i]; m.m.topic == d.topic {
			d.call(m.sub)
		}
	}
	h.giveBack(d.members)
	h.at = delivery{then: d.then}
}

// deliver hands an event to all members. An event that changes no references
// goes to the ready ones as shared bytes; every other way leads through the
// session, which may change memberships.
func (t *Topic) deliver(e *state.Event, prev *state.Snapshot) {
	if e.Kind == state.Delete || len(e.AddedRefs)+len(e.RemovedRefs) > 0 {
		t.each(func(s Subscriber) { s.Event(e, prev) })
		return
	}
	d := &t.hub.at
	d.i, d.begun = 0, true
	t.deliverRest()
}

// deliverRest hands the present event to the members from the one at hand on.
func (t *Topic) deliverRest() {
	d := &t.hub.at
	e, prev := d.event, d.prev
	var frames [variants][]byte
	sent := 0
	for i := d.i; i < len(t.members); i++ {
		d.i = i
		m := &t.members[i]
		if !m.ready {
			m.sub.Event(e, prev)
			continue
		}
		f := frames[m.variant.index()]
		if f == nil {
			d.encoding = true
			f = t.hub.Event(t.key.rid, e, m.variant, nil)
			d.encoding = false
			frames[m.variant.index()] = f
		}
		m.out.Send(f)
		sent++
	}
	t.hub.metrics.Deliveries.Add(uint64(sent))
}

// take copies members into the hub's scratch memory; a nested take finds none
// there and makes its own.
func (h *Hub) take(members []member) []member {
	scratch := h.scratch
	h.scratch = nil
	return append(scratch[:0], members...)
}

func (h *Hub) giveBack(members []member) {
	clear(members)
	h.scratch = members[:0]
}
