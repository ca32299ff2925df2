package session

import "sluice/internal/res"

// need returns the subscription of rid and has it load unless it is loading or
// loaded. loads, if not nil, limits the load and those of its references. The
// caller freezes the graph, or is called by proceed, until it has counted its
// edge or root.
func (s *Session) need(rid string, loads *throttle) *Sub {
	b := s.sub(rid)
	s.want(b, loads, nil)
	return b
}

// sub returns the subscription of rid, making it if needed; want has it load.
func (s *Session) sub(rid string) *Sub {
	b := s.subs.Get(rid)
	if b == nil {
		b = &Sub{s: s, named: named{rid}}
		s.subs.Put(b)
		s.env.Metrics.Subscriptions.Add(1)
	}
	return b
}

// want has a subscription load; see need. first is passed to the topic's source.
// It may be given only if b is unjoined and the hub has no such topic.
func (s *Session) want(b *Sub, loads *throttle, first func()) {
	switch {
	case !b.unjoined():
	case b.state != subLoading:
		s.reload(b, loads, first)
	case b.work == nil || !b.work.slot.queued:
		s.load(b, loads, first)
	case loads == nil:
		b.work.slot = slot{} // needed now, without a place in the throttle
		s.join(b, first)
	}
}

// load joins b's topic, immediately or when the throttle has a free place.
func (s *Session) load(b *Sub, loads *throttle, first func()) {
	b.to(subLoading)
	if s.env.span != nil {
		s.env.loads(b)
	}
	if loads != nil {
		b.ensureWork().loads = loads
		name, query := s.resolve(b.rid)
		if t := s.env.Hub.Find(b.rid, name, query); (t == nil || !t.Alive()) && !loads.enter(b) {
			return
		}
	}
	s.join(b, first)
}

func (s *Session) join(b *Sub, first func()) {
	if s.env.Recorder != nil {
		defer s.env.Within(s.env.Within(s.env.loader(b)))
	}
	name, query := s.resolve(b.rid)
	t := s.env.Hub.Join(b, s.out, s.variant(), b.rid, name, query, first)
	if t.Settled() {
		b.Loaded()
	}
}

// reload loads a subscription again that failed or whose resource was deleted.
// The client keeps its copy, with the edges of that, until the new one is sent.
func (s *Session) reload(b *Sub, loads *throttle, first func()) {
	w := b.ensureWork()
	stale := w.staleCopy
	if b.state == subDeleted {
		stale = w.snap
	}
	w.dropEvents(s.env.Metrics)
	*w = work{onAccess: w.onAccess, judged: w.judged, err: w.err, staleCopy: stale}
	s.load(b, loads, first)
}

// cancelReload undoes a reload that no request or reference needs any more: b
// returns to the state that it has for the client.
func (s *Session) cancelReload(b *Sub, loose []*Sub) []*Sub {
	if b.state == subReady {
		loose = s.unlink(b.snapshot(), false, loose)
	}
	w := b.ensureWork()
	w.slot.free()
	w.dropEvents(s.env.Metrics)
	b.leave()
	if w.staleCopy != nil {
		b.to(subDeleted)
		*w = work{onAccess: w.onAccess, backlog: backlog{snap: w.staleCopy}}
		return loose
	}
	b.to(subFailed)
	if w.err == nil {
		w.err = res.ErrNotFound
	}
	*w = work{onAccess: w.onAccess, err: w.err}
	return loose
}
