package session

import (
	"cmp"
	"iter"
	"slices"

	"sluice/fanout"
	"sluice/internal/state"
)

// placeBytes is what an event takes up in a queue, whose slice grows by more than it needs.
const placeBytes = 16

// backlog has the events that a client has yet to be sent of one resource. They
// are sent in this order: the script, the difference to latest, the number of lost events, the
// queue.
type backlog struct {
	snap      *state.Snapshot // what the client has, or is to be sent; nil: the topic's newest
	queue     []*state.Event  // in order
	latest    *state.Snapshot // newest state, if conflated
	script    *fanout.Script  // a long difference, sent in portions
	at        int             // events of script that have been sent
	conflated bool            // events were dropped; the difference to latest replaces them
	lost      int             // custom events that were dropped
	bytes     int             // the sizes of the events in queue

	// What a difference or a script starts from, and where a script ends: kept as long as there is
	// one. The states within a script are made from these two.
	base, end *fanout.Version
}

// pending reports whether there is something to send before the next event.
func (l *backlog) pending() bool {
	return l.script != nil || len(l.queue) > 0 || l.conflated || l.lost > 0
}

// push queues an event. When the queue is full, the events that change the
// state are dropped: the difference between what the client has and the newest
// state replaces them. At twice the bound the oldest custom events are dropped, and counted.
func (l *backlog) push(e *state.Event, max int, m *Metrics) {
	m.Held.Add(1)
	stateful := e.Kind != state.Custom && e.Kind != state.Delete
	if stateful {
		l.latest = e.Next
	}
	switch {
	case l.conflated && stateful:
		m.Conflated.Add(1)
		return
	case max > 0 && len(l.queue) >= max && stateful:
		l.conflate(m)
		m.Conflated.Add(1)
		return
	case max > 0 && len(l.queue) >= 2*max && e.Kind == state.Custom:
		l.dropOldest(max, m)
	}
	l.queue = append(l.queue, e)
	l.hold(e, m)
}

// unshift puts events before those in the queue.
func (l *backlog) unshift(events []*state.Event, m *Metrics) {
	l.queue = append(events, l.queue...)
	for _, e := range events {
		l.hold(e, m)
	}
}

// hold counts an event that has come into the queue. Queues share events.
func (l *backlog) hold(e *state.Event, m *Metrics) {
	n := e.Size()
	l.bytes += n
	m.HeldShares.Add(int64(n))
	if e.Hold() {
		m.HeldBytes.Add(int64(n))
		if e.Kind == state.Delete {
			e.Next.DropTexts()
		}
	}
	// The place in the queue is the client's own.
	l.bytes += placeBytes
	m.HeldBytes.Add(placeBytes)
	m.HeldShares.Add(placeBytes)
}

// release counts an event that has left the queue.
func (l *backlog) release(e *state.Event, m *Metrics) {
	n := e.Size()
	l.bytes -= n
	m.HeldShares.Add(-int64(n))
	if e.Release() {
		m.HeldBytes.Add(-int64(n))
	}
	l.bytes -= placeBytes
	m.HeldBytes.Add(-placeBytes)
	m.HeldShares.Add(-placeBytes)
}

// keepBase keeps the state that the difference to the newest will start from, which no cache may
// have any more. What a queue without gaps needs of older states counts with its events.
func (l *backlog) keepBase(t *fanout.Topic) {
	if l.base == nil && l.snap != nil {
		l.snap.DropTexts()
		l.base = t.Keep(l.snap)
	}
}

// settleBase releases the base, and a script's end, when no difference and no script needs them.
func (l *backlog) settleBase() {
	if l.conflated || l.script != nil {
		return
	}
	for _, v := range []**fanout.Version{&l.base, &l.end} {
		if *v != nil {
			(*v).Release()
			*v = nil
		}
	}
}

// setScript sets a script of a resource of t, which starts from the state that the client has.
func (l *backlog) setScript(s *fanout.Script, t *fanout.Topic) {
	s.Keep()
	l.script, l.at = s, 0
	l.keepBase(t)
	end := t.Keep(s.End())
	if l.end != nil {
		l.end.Release()
	}
	l.end = end
}

// endScript ends the script, if there is one.
func (l *backlog) endScript() {
	if l.script != nil {
		l.script.Release()
		l.script = nil
		l.settleBase()
	}
}

// kept returns what the old states and the script weigh, in bytes; others may keep them too.
func (l *backlog) kept() (n int) {
	if l.base != nil {
		n += l.base.Size()
	}
	if l.end != nil {
		n += l.end.Size()
	}
	if l.script != nil {
		n += l.script.Size()
	}
	return n
}

// dropOldest makes room in a queue of custom events, behind which a Delete may stand. The events
// that change the state are replaced by the difference first.
func (l *backlog) dropOldest(max int, m *Metrics) {
	if !l.conflated && slices.ContainsFunc(l.queue, func(e *state.Event) bool { return e.Kind < state.Delete }) {
		l.conflate(m)
	}
	for len(l.queue) >= 2*max && l.queue[0].Kind == state.Custom {
		e := l.pop(m)
		if e.Lost == 0 {
			m.Lost.Add(1)
		}
		l.lost += cmp.Or(e.Lost, 1)
	}
}

// conflate drops the queued events that change the state; the difference to
// latest replaces them.
func (l *backlog) conflate(m *Metrics) {
	rest := l.queue[:0]
	for _, e := range l.queue {
		if e.Kind == state.Custom || e.Kind == state.Delete {
			rest = append(rest, e)
		} else {
			m.Conflated.Add(1)
			l.release(e, m)
		}
	}
	clear(l.queue[len(rest):])
	l.queue = rest
	l.conflated = true
}

// takeLost appends the event that replaces the dropped ones, if there are any.
func (l *backlog) takeLost(events []*state.Event) []*state.Event {
	if l.lost > 0 {
		events = append(events, state.NewLost(l.lost, l.latest))
		l.lost = 0
	}
	return events
}

// pop removes the first queued event and returns it.
func (l *backlog) pop(m *Metrics) *state.Event {
	e := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.release(e, m)
	return e
}

// dropEvents drops all that is to be sent.
func (l *backlog) dropEvents(m *Metrics) {
	for _, e := range l.queue {
		l.release(e, m)
	}
	l.queue, l.latest, l.conflated, l.lost = nil, nil, false, 0
	l.endScript()
	l.settleBase()
}

// blocked is an event that waits for the references that it adds to load.
type blocked struct {
	event  *state.Event
	waiter *waiter
}

// refs returns the references that the event adds.
func (e *blocked) refs() iter.Seq[string] { return slices.Values(e.event.AddedRefs) }
