package cache

import (
	"time"

	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

// Times between a failed re-get and the next, for entries that may have missed events.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

// fetch is a get request. It outlives its entry if that goes first.
type fetch struct {
	e     *entry // nil: nobody waits for the answer any more
	sent  bool
	again bool // a reset came after it was sent: what it brings may be out of date
	slot  bool // it holds a slot of the reset throttle
}

// answer is what came of a fetch.
type answer struct {
	f   *fetch
	got res.GetResult
	err *res.Error
	// unanswered says that err is not a service's answer but the lack of one.
	unanswered bool
}

// get sends an entry's first get.
func (s *Shard) get(e *entry) {
	e.fetch = &fetch{e: e}
	s.metrics.Gets.Add(1)
	s.send(e.fetch)
}

// reget has an entry fetched anew. If a request is under way that may have been answered already it is followed by
// another one.
func (s *Shard) reget(e *entry) {
	if f := e.fetch; f != nil {
		f.again = f.again || f.sent
		return
	}
	s.wheel.Cancel(&e.retry)
	f := &fetch{e: e}
	e.fetch = f
	if s.opt.ResetThrottle == nil {
		s.metrics.Regets.Add(1)
		s.send(f)
		return
	}
	s.opt.ResetThrottle.Acquire(func() { s.Run(func() { s.granted(f) }) })
}

// granted has a re-get sent for which there is a slot now.
func (s *Shard) granted(f *fetch) {
	if f.e == nil {
		s.opt.ResetThrottle.Release()
		return
	}
	f.slot = true
	s.metrics.Regets.Add(1)
	s.send(f)
}

func (s *Shard) send(f *fetch) {
	f.sent = true
	e := f.e
	s.bus.Request(e.r.name, "get."+e.r.name, res.AppendGetRequest(nil, e.query), func(payload []byte, err *res.Error) {
		if f.slot {
			s.opt.ResetThrottle.Release()
		}
		if f.e == nil {
			return
		}
		r := f.e.r
		s.doubt.r = r
		a := answer{f: f, err: err, unanswered: err != nil}
		if err == nil {
			if a.got, a.err = s.parser.Get(payload); a.err != nil && a.err.Invalid() {
				s.opt.Invalid("get."+e.r.name, a.err)
			}
		}
		if r.lock.held() && f.e.snap != nil {
			r.lock.queue(held{answer: &a})
			return
		}
		s.settle(a)
	})
}

// settle makes use of an answer.
func (s *Shard) settle(a answer) {
	e := a.f.e
	if e == nil {
		return
	}
	e.fetch = nil
	if e.snap != nil {
		s.refreshed(e, a)
		return
	}
	if a.err != nil {
		s.metrics.GetFailures.Add(1)
		for _, sb := range e.subs.list {
			s.post(sb, state.Update{Kind: state.Failed, Err: a.err})
		}
		s.drop(e, false)
		return
	}
	s.loaded(e, a)
}

func (a *answer) snapshot() *state.Snapshot {
	return snapshotOf(a.got.IsModel, a.got.Props, a.got.Values)
}

func snapshotOf(model bool, props []res.Prop, values []res.Value) *state.Snapshot {
	if model {
		return state.NewModel(props)
	}
	return state.NewCollection(values)
}

// loaded makes use of the answer to an entry's first get.
func (s *Shard) loaded(e *entry, a answer) {
	waiting := e.subs.list
	if query := a.got.Query; query != e.query {
		to := e.r.entries[query]
		if to == nil {
			s.rename(e, query)
		} else {
			s.merge(e, to)
			if to.snap == nil {
				// The other waits for an answer of its own. This one is just as good, and is there.
				waiting = to.subs.list
				to.fetch.e = nil
				to.fetch = nil
			}
			e = to
		}
	}
	if e.snap == nil {
		e.set(a.snapshot())
		e.r.lock.loaded(e)
		if a.f.again {
			defer s.reget(e)
		}
	}
	if len(s.refusals) > 0 {
		delete(s.refusals, e.r.name)
	}
	for _, sb := range waiting {
		s.post(sb, state.Update{Kind: state.Loaded, Snapshot: e.snap})
	}
}

// rename gives an entry the normalised query that its answer came with.
func (s *Shard) rename(e *entry, query string) {
	r := e.r
	delete(r.entries, e.query)
	l := r.link(e.query, e)
	e.query = query
	r.entries[query] = e
	for _, sb := range e.subs.list {
		sb.link = l
	}
	l.subs = len(e.subs.list)
	if l.subs == 0 {
		s.wheel.Schedule(&l.idle, s.now+s.opt.EvictAfter, l)
	}
}

// merge moves the subs of an entry that was being loaded to the one that it turns out to be. The entry itself goes.
func (s *Shard) merge(e, to *entry) {
	r := e.r
	e.gone = true
	delete(r.entries, e.query)
	s.wheel.Cancel(&e.idle)
	s.metrics.Entries.Add(-1)
	l := r.link(e.query, to)
	for _, sb := range e.subs.list {
		sb.e, sb.link = to, l
		to.subs.add(sb)
	}
	l.subs = len(e.subs.list)
	if l.subs > 0 {
		s.wheel.Cancel(&to.idle)
	} else {
		s.wheel.Schedule(&l.idle, s.now+s.opt.EvictAfter, l)
	}
}

// refreshed makes use of the answer to a re-get.
func (s *Shard) refreshed(e *entry, a answer) {
	switch {
	case a.err == nil:
		// With another fetch to follow, that one is the one to rely on.
		e.lost, e.retries = e.lost && a.f.again, 0
		if !s.replace(e, a.snapshot()) {
			s.metrics.RegetFailures.Add(1)
		}
		if a.f.again {
			s.reget(e)
		}
	case a.err.Code == res.CodeNotFound && !(a.unanswered && e.lost):
		s.deleted(e)
	default:
		s.metrics.RegetFailures.Add(1)
		s.log.Warn("a resource could not be fetched anew, the old state stays",
			"resource", e.r.name, "query", e.query, "error", a.err)
		switch {
		case a.f.again:
			s.reget(e)
		case e.lost:
			s.retry(e)
		}
	}
}

// retry has an entry fetched again after a while.
func (s *Shard) retry(e *entry) {
	wait := min(retryFirst<<min(e.retries, 10), retryMost)
	e.retries++
	s.wheel.Schedule(&e.retry, s.now+wait, owner.Func(func(time.Duration) {
		s.doubt.r = e.r
		s.reget(e)
	}))
}

// replace puts another value in an entry's place, by way of the events that make the difference. A collection cannot
// replace a model, nor the other way round.
func (s *Shard) replace(e *entry, snap *state.Snapshot) bool {
	events, err := state.Diff(e.snap, snap)
	if err != nil {
		s.log.Warn("a resource has become one of the other type, the old state stays", "resource", e.r.name, "query", e.query)
		return false
	}
	if len(events) > manySteps {
		e.set(events[len(events)-1].Next)
		s.deliverSteps(e, events)
		return true
	}
	for _, ev := range events {
		e.set(ev.Next)
		s.deliver(e, ev)
	}
	return true
}
