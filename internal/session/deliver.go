package session

import (
	"sluice/internal/res"
	"sluice/internal/state"
)

// Updates of resources reach a session through its subscriptions.
//
// Event implements fanout.Subscriber: an event that the hub could not send by
// itself.
func (b *Sub) Event(e *state.Event, prev *state.Snapshot) {
	env := b.s.env
	before := env.Enter(b.s)
	if e.Kind == state.Delete {
		b.dropAccess() // what follows of the resource does not reach b
	}
	switch {
	case (env.ahead != nil || b.holds&holdAhead != 0) && newcomer{b}.skip(e):
	case b.state == subReady,
		b.state == subSent && (b.holds != 0 || b.work != nil && b.work.pending()):
		w := b.ensureWork()
		if b.state == subSent && e.Kind < state.Delete {
			prev.DropTexts() // what is held is not sent as a whole
		}
		w.push(e, env.Limits.HeldEvents, env.Metrics)
		if w.conflated {
			w.keepBase(b.Topic())
		}
	case b.state == subSent:
		b.fix(prev)
		b.process(e)
		b.resume()
	}
	env.Enter(before)
}

// resume sends what is queued until something holds it, and returns b to the
// hub's fast path when nothing is left.
func (b *Sub) resume() {
	s := b.s
	if s.lagging {
		b.lag()
	}
	for b.state == subSent && b.holds == 0 {
		if b.reaccess && !b.asking {
			if b.direct > 0 {
				b.recheck(false)
				continue
			}
			b.cancelReaccess()
		}
		w := b.work
		if w != nil && w.script != nil {
			b.sendPortion()
			continue
		}
		if w != nil && w.conflated {
			w.conflated = false
			if events, err := state.Diff(w.snap, w.latest); err == nil {
				if script := s.env.Hub.NewScript(b.rid, events); script != nil {
					w.setScript(script, b.Topic())
				} else {
					w.unshift(w.takeLost(events), s.env.Metrics)
				}
			}
			w.settleBase()
			continue
		}
		if w != nil && w.lost > 0 {
			w.unshift(w.takeLost(nil), s.env.Metrics)
			continue
		}
		if w == nil || len(w.queue) == 0 {
			b.idle()
			return
		}
		b.process(w.pop(s.env.Metrics))
	}
}

// Lag sets whether the client is a slow consumer. While it is, its events are held. Events of state
// go to a bounded queue, and then to the difference between what the client has and the newest
// state. Responses are still sent.
func (s *Session) Lag(lagging bool) {
	if s.closed || s.lagging == lagging {
		return
	}
	before := s.env.Enter(s)
	s.lagging = lagging
	for _, b := range s.subs.all() {
		switch {
		case lagging:
			b.lag()
		case b.holds&holdLag != 0:
			b.holds &^= holdLag
			b.resume()
		}
	}
	s.env.Enter(before)
}

// Held returns the size of the events that are held for the client, and of the old states and long
// differences that it needs, in bytes. Other clients share both.
func (s *Session) Held() (events, versions int64) {
	s.subs.each(func(b *Sub) {
		if b.work != nil {
			events += int64(b.work.bytes)
			versions += int64(b.work.kept())
		}
	})
	return events, versions
}

// lag holds b's events for a slow consumer.
func (b *Sub) lag() {
	if b.state == subSent && b.holds&holdLag == 0 {
		b.fix(b.Topic().Snapshot())
		b.holds |= holdLag
	}
}

// idle returns b to the hub's fast path: the client has the topic's newest state.
func (b *Sub) idle() {
	if w := b.work; w != nil {
		w.snap, w.latest, w.queue = nil, nil, nil
	}
	if b.s.env.ahead != nil && len(newcomer{b}.expected()) > 0 {
		return // each event is to be compared
	}
	if w := b.work; w != nil {
		if w.onAccess.len() == 0 && len(w.judged) == 0 && len(w.waiters) == 0 {
			b.s.env.endWork(b)
		}
	}
	b.SetReady(true)
}

// process sends an event, or holds it until the references that it adds are
// loaded. b is sent, its snapshot is fixed, and nothing holds its events.
func (b *Sub) process(e *state.Event) {
	s := b.s
	if e.Kind == state.Delete {
		b.sendDelete(e)
		return
	}
	if len(e.AddedRefs) == 0 {
		b.sendEvent(e, nil)
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
	w := b.ensureWork()
	w.blocked.event = e
	b.holds |= holdReferences
	sent := false
	waiter := newWaiter(s, added, func() {
		sent = true
		b.holds &^= holdReferences
		b.work.blocked = blocked{}
		b.sendEvent(e, added)
		b.resume()
	})
	if !sent && b.work != nil && b.work.blocked.event == e {
		b.work.blocked.waiter = waiter
	}
}

// sendEvent sends an event with the resources that the client lacks of added,
// and advances b's snapshot.
func (b *Sub) sendEvent(e *state.Event, added []*Sub) {
	s := b.s
	if e.Lost > 0 && !s.tellLost {
		return
	}
	s.env.set = s.collectSet(s.env.set[:0], added...)
	s.out.Send(s.env.Hub.Event(b.rid, e, s.variant(), s.env.set))
	clear(s.env.set)
	if e.Kind == state.Custom {
		return
	}
	b.ensureWork().snap = e.Next
	sent, loose := s.markSent(nil, added...)
	for _, c := range added {
		c.inSent++
	}
	for _, rid := range e.RemovedRefs {
		if c := s.subs.Get(rid); c != nil {
			c.in--
			c.inSent--
			loose = append(loose, c)
		}
	}
	s.collect(loose...)
	resumeAll(sent)
}

// sendDelete sends the end of a resource: a delete event, or the reason why the
// gateway ends it. Direct subscriptions end with it.
func (b *Sub) sendDelete(e *state.Event) {
	s := b.s
	if e.Reason == nil || b.inSent > 0 { // else revoke tells the client
		s.out.Send(s.env.Hub.Event(b.rid, e, s.variant(), nil))
	}
	b.to(subDeleted)
	b.ensureWork().dropEvents(s.env.Metrics)
	newcomer{b}.dropStateAhead()
	b.holds = 0
	b.leave()
	if b.direct > 0 {
		reason := res.ErrDeleted
		if e.Reason != nil {
			reason = e.Reason
		}
		b.revoke(reason)
	}
}

// resumeAll resumes subscriptions that were just sent.
func resumeAll(sent []*Sub) {
	for _, b := range sent {
		b.resume()
	}
}
