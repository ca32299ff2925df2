package session

import (
	"sluice/internal/res"
	"sluice/internal/state"
)

// Event implements fanout.Subscriber: an event that the hub could not send by
// itself.
func (b *Sub) Event(e *state.Event, prev *state.Snapshot) {
	before := b.s.env.Enter(b.s)
	b.event(e, prev)
	b.s.env.Enter(before)
}

func (b *Sub) event(e *state.Event, prev *state.Snapshot) {
	switch b.state {
	case subReady:
		b.keep(e)
	case subSent:
		if b.hold != 0 || b.work != nil && b.work.waits() {
			b.keep(e)
			return
		}
		b.pin(prev)
		b.process(e)
		b.resume()
	}
}

// keep queues an event that may not be sent yet. When the queue is full, the
// events that carry state are dropped: the difference between what the client
// has and the newest state does as well (DESIGN: state over events). Events
// that carry none are dropped at twice that, and counted.
func (b *Sub) keep(e *state.Event) {
	m := b.s.env.Metrics
	max := b.s.env.Limits.HeldEvents
	w := b.busy()
	m.Held.Add(1)
	stateful := e.Kind != state.Custom && e.Kind != state.Delete
	if stateful {
		w.latest = e.Next
	}
	switch {
	case w.conflated && stateful:
		m.Conflated.Add(1)
		return
	case max > 0 && len(w.queue) >= max && stateful:
		w.conflate(m)
		m.Conflated.Add(1)
		return
	case max > 0 && len(w.queue) >= 2*max && e.Kind == state.Custom:
		m.Lost.Add(1)
		return
	}
	w.queue = append(w.queue, e)
}

// conflate drops the queued events that carry state; the difference to latest
// takes their place.
func (w *work) conflate(m *Metrics) {
	rest := w.queue[:0]
	for _, q := range w.queue {
		if q.Kind == state.Custom || q.Kind == state.Delete {
			rest = append(rest, q)
		} else {
			m.Conflated.Add(1)
		}
	}
	clear(w.queue[len(rest):])
	w.queue = rest
	w.conflated = true
}

// resume sends what is queued as far as nothing holds it back, and returns b
// to the hub's fast path when nothing is left.
func (b *Sub) resume() {
	if b.s.lagging {
		b.lag()
	}
	for b.state == subSent && b.hold == 0 {
		if b.reaccess && !b.asking {
			if b.held > 0 {
				b.reask(false)
				continue
			}
			b.lapse()
		}
		w := b.work
		if w != nil && w.script != nil {
			b.play()
			continue
		}
		if w != nil && w.conflated {
			w.conflated = false
			if events, err := state.Diff(w.snap, w.latest); err == nil {
				if w.script, w.at = b.s.env.Hub.NewScript(b.rid, events), 0; w.script == nil {
					w.queue = append(events, w.queue...)
				}
			}
			continue
		}
		if w == nil || len(w.queue) == 0 {
			b.idle()
			return
		}
		e := w.queue[0]
		w.queue[0] = nil
		w.queue = w.queue[1:]
		b.process(e)
	}
}

// Lag says whether the client has stopped to read what it is sent. While it
// has, events are held: what carries state comes to a bounded queue and then to
// the difference between what the client has and the newest state, however
// long it takes. Answers to requests are still sent.
func (s *Session) Lag(lagging bool) {
	before := s.env.Enter(s)
	s.setLagging(lagging)
	s.env.Enter(before)
}

func (s *Session) setLagging(lagging bool) {
	if s.closed || s.lagging == lagging {
		return
	}
	s.lagging = lagging
	for _, b := range s.subs.all() {
		switch {
		case lagging:
			b.lag()
		case b.hold&holdLag != 0:
			b.hold &^= holdLag
			b.resume()
		}
	}
}

// lag holds b's events for a client that does not read.
func (b *Sub) lag() {
	if b.state == subSent && b.hold&holdLag == 0 {
		b.pin(b.Topic().Snapshot())
		b.hold |= holdLag
	}
}

// idle lets the hub send b's events by itself: the client's view is the
// topic's newest.
func (b *Sub) idle() {
	if w := b.work; w != nil {
		w.snap, w.latest, w.queue = nil, nil, nil
		if len(w.onAccess) == 0 && len(w.granted) == 0 && len(w.waiters) == 0 {
			b.work = nil
		}
	}
	b.SetReady(true)
}

// process sends an event, or holds it until the references that it adds are
// loaded. b is sent, pinned, and nothing holds its events.
func (b *Sub) process(e *state.Event) {
	s := b.s
	if e.Kind == state.Delete {
		b.end(e)
		return
	}
	if len(e.AddedRefs) == 0 {
		b.emit(e, nil)
		return
	}
	added := make([]*Sub, 0, len(e.AddedRefs))
	loads := s.newThrottle()
	s.freeze() // until b waits
	defer s.thaw()
	for _, rid := range e.AddedRefs {
		c := s.need(rid, loads)
		c.in++
		added = append(added, c)
	}
	w := b.busy()
	w.current = e
	b.hold |= holdReferences
	sent := false
	waiting := s.wait(added, func() {
		sent = true
		b.hold &^= holdReferences
		b.work.current, b.work.waiting = nil, nil
		b.emit(e, added)
		b.resume()
	})
	if !sent && b.work != nil && b.work.current == e {
		b.work.waiting = waiting
	}
}

// emit sends an event and moves the client's view on.
func (b *Sub) emit(e *state.Event, added []*Sub) {
	s := b.s
	s.env.set = s.collectSet(s.env.set[:0], added...)
	s.out.Send(s.env.Hub.Event(b.rid, e, s.variant(), s.env.set))
	clear(s.env.set)
	if e.Kind == state.Custom {
		return
	}
	b.busy().snap = e.Next
	sent := s.markSent(added...)
	for _, c := range added {
		c.inSent++
	}
	var loose []*Sub
	for _, rid := range e.RemovedRefs {
		if c := s.subs.get(rid); c != nil {
			c.in--
			c.inSent--
			loose = append(loose, c)
		}
	}
	s.collect(loose...)
	s.resume(sent)
}

// end passes on that the resource was deleted.
func (b *Sub) end(e *state.Event) {
	s := b.s
	if e.Reason == nil || b.inSent > 0 { // who holds it directly only is told by revoke
		s.out.Send(s.env.Hub.Event(b.rid, e, s.variant(), nil))
	}
	b.state = subDeleted
	w := b.busy()
	w.script, w.queue, w.latest, w.conflated = nil, nil, nil, false
	b.hold = 0
	b.leave()
	if b.held > 0 {
		reason := res.ErrDeleted
		if e.Reason != nil {
			reason = e.Reason
		}
		b.revoke(reason)
	}
}
