package fanout

import "sluice/internal/state"

// A panic in the middle of a fan-out must not cost the subscribers that come after the one at fault. So the hub keeps
// where it is: Mend tells who was at fault, and Resume goes on behind it.

// delivery is what the hub is handing out.
type delivery struct {
	topic *Topic
	event *state.Event    // nil: a call of each
	prev  *state.Snapshot // before event
	then  []*state.Event  // the rest of a difference that event is a part of

	members  []member // of each: a copy; else those of topic
	call     func(Subscriber)
	i        int     // the member at hand
	skip     *Member // was at fault
	begun    bool    // some member is
	encoding bool    // an event, for the member at hand and those like it
	poisoned bool    // event could not be encoded
}

// Mend prepares for Resume after a panic that came from a call of Apply or ResetAccess. It returns the subscriber that
// was at hand; nil if none was, or if what was handed out is to blame itself.
func (h *Hub) Mend() Subscriber {
	d := &h.at
	if d.topic == nil || !d.begun {
		return nil
	}
	if d.encoding {
		d.encoding, d.poisoned = false, true
		return nil
	}
	if d.call != nil {
		if d.i >= len(d.members) {
			return nil
		}
		d.i++
		return d.members[d.i-1].sub
	}
	if d.i >= len(d.topic.members) {
		return nil
	}
	m := &d.topic.members[d.i]
	d.skip = m.m
	return m.sub
}

// Resume goes on with what a panic has interrupted. If the event itself was to blame, the subscribers that have not got
// it get the difference that it makes instead, and the resource is fetched again.
func (h *Hub) Resume() {
	d := &h.at
	t := d.topic
	if t == nil {
		h.resetNext()
		return
	}
	// The subscriber at fault has left, and another has its place; or it is still there.
	if d.skip != nil && d.i < len(t.members) && t.members[d.i].m == d.skip {
		d.i++
	}
	d.skip = nil
	switch {
	case d.call != nil:
		h.goThrough()
	case d.event == nil: // it had not come to that
		h.source.Refetch(t.key.name)
	case d.poisoned:
		h.source.Refetch(t.key.name)
		t.deliverDifference()
	default:
		t.deliverRest()
	}
	then := d.then
	h.at = delivery{}
	h.applyAll(t, then)
	h.resetNext()
}

// applyAll moves the topic on by several events.
func (h *Hub) applyAll(t *Topic, events []*state.Event) {
	for i, e := range events {
		h.at.then = events[i+1:]
		h.applyEvent(t, e)
	}
	h.at.then = nil
}

// deliverDifference is deliverRest for an event that cannot be encoded. Custom events make no difference: they are lost.
func (t *Topic) deliverDifference() {
	d := &t.hub.at
	e, prev := d.event, d.prev
	if e.Kind == state.Custom {
		return
	}
	steps, err := state.Diff(prev, e.Next)
	if err != nil || len(steps) == 0 {
		return
	}
	script := &Script{hub: t.hub, rid: t.key.rid, events: steps, portions: make([]portion, (len(steps)+t.hub.Portion-1)/t.hub.Portion)}
	for ; d.i < len(t.members); d.i++ {
		if m := &t.members[d.i]; m.ready {
			m.sub.Script(script, prev)
		} else {
			m.sub.Event(e, prev)
		}
	}
}
