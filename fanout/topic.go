package fanout

import (
	"sluice/internal/invariants"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

// Form is the transport encoding of a client's messages.
type Form uint8

const (
	// Message is a WebSocket message.
	Message Form = iota
	// Deflated is a WebSocket message of a client that negotiated compression.
	Deflated
	// Stream is a server-sent event.
	Stream
	// Forms is the number of forms.
	Forms
)

// Variant selects one of the encodings of an event: the form, and whether the
// client's protocol version is below 1.2.1.
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

// Form returns the variant's transport encoding.
func (v Variant) Form() Form { return Form(v &^ legacy) }

// Legacy reports whether the variant is for clients below protocol 1.2.1.
func (v Variant) Legacy() bool { return v&legacy != 0 }

// index returns the variant's number, from 0.
func (v Variant) index() int {
	if v.Legacy() {
		return int(Forms) + int(v.Form())
	}
	return int(v)
}

// Subscriber is one client's subscription of a topic: it embeds its Member. The hub calls it on its
// loop.
type Subscriber interface {
	// Loaded is called when the topic is loaded, or has failed (Topic.Error).
	Loaded()
	// Event delivers an event that the hub cannot send by itself. Either the member is not ready,
	// or the event changes references or ends the resource. prev is the resource before it. If the
	// member is not ready, Event must not join or leave any topic of the hub.
	Event(e *state.Event, prev *state.Snapshot)
	// Script delivers a long difference, to be sent in portions. prev is the
	// resource before it.
	Script(s *Script, prev *state.Snapshot)
	// Reaccess is called when access to the resource must be rechecked.
	Reaccess(why Reason)
	// membership is that of the Member which a subscriber embeds.
	membership() *Member
}

// Reason is why access must be rechecked.
type Reason uint8

const (
	// Changed: a reaccess event of the resource, or a new token of the client.
	Changed Reason = iota
	// Reset: a system.reset, perhaps for a large number of resources.
	Reset
	// Gap: messages from services were lost, perhaps one of the above. Services may
	// still be unreachable.
	Gap
)

// Member is the subscriber's side of a membership; subscribers embed it. The zero
// value is a member of no topic.
type Member struct {
	topic *Topic
	pos   int32 // index in topic.members
}

func (m *Member) membership() *Member { return m }

// Topic returns the topic, nil if there is none.
func (m *Member) Topic() *Topic { return m.topic }

// SetReady sets whether the hub may send events that change no references
// directly to the client's outbox.
func (m *Member) SetReady(ready bool) {
	if m.topic != nil {
		m.topic.members[m.pos].ready = ready
	}
}

// SetVariant sets which encoding of events the client gets.
func (m *Member) SetVariant(v Variant) {
	if m.topic != nil {
		m.topic.members[m.pos].variant = v
	}
}

// SetOutbox sets where the hub sends the client's events.
func (m *Member) SetOutbox(out Outbox) {
	if m.topic != nil {
		m.topic.members[m.pos].out = out
	}
}

// member is what delivery needs of a membership. Members are adjacent in memory,
// so that a fan-out reads it in order.
type member struct {
	out     Outbox
	sub     Subscriber
	ready   bool
	variant Variant
}

// phase is the state of a topic.
type phase uint8

const (
	// phaseLoading: the hub has subscribed to the source; there is no snapshot. The
	// first update ends it (loaded or fail), or the last member's leave (forget).
	phaseLoading phase = iota
	// phaseReady: the snapshot is set and follows the source's updates. A delete or
	// a failure of the source ends it, or the last member's leave (forget).
	phaseReady
	// phaseGone: failed, deleted, or without members. The topic is not in the hub
	// any more and gets no updates; its members keep it until they leave. Final.
	phaseGone
)

// Topic is one client-visible resource with its subscribers on this loop.
type Topic struct {
	hub     *Hub
	key     topicKey
	next    *Topic // with the same RID, see topics
	ref     uint64
	snap    *state.Snapshot // the newest; set when loaded
	err     *res.Error
	members []member
	past    *past // what they were told lately; nil unless the hub remembers it

	versions []*Version // older states that members keep, the oldest first

	delivered owner.Rate // events sent to members
	phase     phase
}

// RID returns the resource ID as clients write it.
func (t *Topic) RID() string { return t.key.rid }

// Snapshot returns the resource as it is now; nil while it is not loaded.
func (t *Topic) Snapshot() *state.Snapshot { return t.snap }

// Settled reports whether the topic is loaded or has failed.
func (t *Topic) Settled() bool { return t.phase != phaseLoading }

// Alive reports whether the topic is loaded and gets updates.
func (t *Topic) Alive() bool { return t.phase == phaseReady }

// loaded moves a loading topic to phaseReady.
func (t *Topic) loaded(snap *state.Snapshot) {
	if invariants.Enabled {
		invariants.Check(t.phase == phaseLoading, "%s: topic loaded in phase %d", t.key.rid, t.phase)
	}
	t.snap, t.phase = snap, phaseReady
	if t.hub.remembers {
		t.past = t.hub.pastOf(t)
	}
}

// gone moves a loading or ready topic to phaseGone.
func (t *Topic) gone() {
	if invariants.Enabled {
		invariants.Check(t.phase != phaseGone, "%s: topic ends twice", t.key.rid)
	}
	t.phase = phaseGone
}

func (t *Topic) add(sub Subscriber, out Outbox, v Variant) {
	m := sub.membership()
	m.topic, m.pos = t, int32(len(t.members))
	t.members = append(t.members, member{out: out, sub: sub, variant: v})
}

func (t *Topic) remove(m *Member) {
	last := len(t.members) - 1
	if pos := m.pos; int(pos) != last {
		t.members[pos] = t.members[last]
		t.members[pos].sub.membership().pos = pos
	}
	t.members[last] = member{}
	t.members = t.members[:last]
	if cap(t.members) > 64 && last < cap(t.members)/4 {
		t.members = append(make([]member, 0, cap(t.members)/2), t.members...)
	}
	m.topic = nil
}

// each calls f for every subscriber that is still a member at its turn. f may join
// and leave topics, so each iterates over a copy.
func (t *Topic) each(f func(Subscriber)) {
	d := &t.hub.at
	d.topic, d.call, d.members, d.i, d.begun = t, f, t.hub.copyMembers(t.members), 0, true
	t.hub.callRest()
}

// callRest calls each's function for the members that are left.
func (h *Hub) callRest() {
	d := &h.at
	for ; d.i < len(d.members); d.i++ {
		if m := &d.members[d.i]; m.sub.membership().topic == d.topic {
			d.call(m.sub)
		}
	}
	h.releaseCopy(d.members)
	h.at = delivery{then: d.then}
}

// deliver sends an event to all members. Ready ones get shared bytes, unless the
// event changes references: then it goes through the sessions, which may change
// memberships. So does one that only some clients get.
func (t *Topic) deliver(e *state.Event, prev *state.Snapshot) {
	if e.Kind == state.Delete || e.Lost > 0 || len(e.AddedRefs)+len(e.RemovedRefs) > 0 {
		t.each(func(s Subscriber) { s.Event(e, prev) })
		return
	}
	d := &t.hub.at
	d.i, d.begun = 0, true
	t.deliverRest()
}

// deliverRest sends the present event to the members from delivery.i on.
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
	t.delivered.Add(t.hub.Now(), sent)
}

// copyMembers copies members into the hub's scratch memory; a nested call
// allocates its own.
func (h *Hub) copyMembers(members []member) []member {
	scratch := h.scratch
	h.scratch = nil
	return append(scratch[:0], members...)
}

// releaseCopy returns the memory of copyMembers.
func (h *Hub) releaseCopy(members []member) {
	clear(members)
	h.scratch = members[:0]
}
