package fanout

import "sluice/internal/state"

// A panic during a fan-out must not affect the subscribers after the failing one. So the hub
// records its position: Mend returns the failing subscriber, and Resume continues after it.

// delivery is the fan-out in progress.
type delivery struct {
	topic *Topic
	event *state.Event    // nil: a call of each
	prev  *state.Snapshot // the state before event
	then  []*state.Event  // the rest of the difference that event is part of

	members  []member // copy that each iterates over; nil: topic's members
	call     func(Subscriber)
	i        int     // index of the current member
	skip     *Member // the failing member
	begun    bool    // i is valid
	encoding bool    // event is being encoded for the current member's variant
	poisoned bool    // event cannot be encoded
}

// Mend prepares for Resume after a panic in Apply or ResetAccess. It returns the current
// subscriber; nil if there was none, or if the event itself caused the panic.
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
	d.skip = m.sub.membership()
	return m.sub
}

// Resume continues the fan-out that a panic has interrupted. If the event itself caused the panic,
// the remaining subscribers get the difference that it makes instead, and the source refetches the
// resource.
func (h *Hub) Resume() {
	d := &h.at
	t := d.topic
	if t == nil {
		h.resetNext()
		return
	}
	// The failing subscriber has left, and another has its index; or it is still there.
	if d.skip != nil && d.i < len(t.members) && t.members[d.i].sub.membership() == d.skip {
		d.i++
	}
	d.skip = nil
	switch {
	case d.call != nil:
		h.callRest()
	case d.event == nil: // the panic came before the fan-out
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

// applyAll applies several events to the topic.
func (h *Hub) applyAll(t *Topic, events []*state.Event) {
	for i, e := range events {
		h.at.then = events[i+1:]
		h.applyEvent(t, e)
	}
	h.at.then = nil
}

// deliverDifference is deliverRest for an event that cannot be encoded. A custom event is dropped.
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
	script := t.hub.newScript(t.key.rid, steps)
	for ; d.i < len(t.members); d.i++ {
		if m := &t.members[d.i]; m.ready {
			m.sub.Script(script, prev)
		} else {
			m.sub.Event(e, prev)
		}
	}
}
