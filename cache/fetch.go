package cache

import (
	"time"

	"sluice/internal/limit"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

// Back-off between re-gets that fail, for entries that may have missed events.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

// fetch is a get request. It may outlive its entry.
type fetch struct {
	e     *entry // nil: the reply is ignored
	sent  bool
	again bool // a reset came after it was sent: its reply may be outdated
	slot  bool // it holds a place in the reset throttle
}

// fetched is the result of a fetch.
type fetched struct {
	f          *fetch
	got        res.GetResult
	err        *res.Error
	unanswered bool // err is not from a service: there was no reply
	large      bool // err is that the reply exceeds MaxResource
}

// get sends an entry's first get.
func (e *entry) get() {
	e.fetch = &fetch{e: e}
	e.r.s.metrics.Gets.Add(1)
	e.r.s.send(e.fetch)
}

// reget refetches an entry. A get in flight may already be answered, so another one follows it.
func (e *entry) reget() {
	s := e.r.s
	if f := e.fetch; f != nil {
		f.again = f.again || f.sent
		return
	}
	e.retry.cancel(s.wheel)
	f := &fetch{e: e}
	e.fetch = f
	if s.opt.ResetThrottle == nil {
		s.metrics.Regets.Add(1)
		s.send(f)
		return
	}
	s.opt.ResetThrottle.Acquire(func() { s.Run(func() { s.granted(f) }) })
}

// granted sends a re-get that has got its place in the reset throttle.
func (s *Shard) granted(f *fetch) {
	f.slot = true
	sent := false
	defer func() {
		if !sent { // not needed any more, or a panic
			f.release(s)
		}
	}()
	if f.e == nil {
		return
	}
	s.doubt.r = f.e.r
	s.metrics.Regets.Add(1)
	s.send(f)
	sent = true
}

// release gives the fetch's slot of the shard's reset throttle back, if it holds one.
func (f *fetch) release(s *Shard) {
	if f.slot {
		f.slot = false
		s.opt.ResetThrottle.Release()
	}
}

func (s *Shard) send(f *fetch) {
	f.sent = true
	e := f.e
	p := limit.Load
	if e.snap != nil {
		p = limit.Refresh // its subscribers have a state
	}
	s.bus.Request(p, e.r.name, "get."+e.r.name, res.AppendGetRequest(nil, e.query), func(payload []byte, err *res.Error) {
		f.release(s)
		if f.e == nil {
			return
		}
		r := f.e.r
		s.doubt.r = r
		a := fetched{f: f, err: err, unanswered: err != nil}
		switch {
		case err != nil:
		case s.tooLarge(len(payload)):
			a.err = f.e.large("get."+e.r.name, len(payload))
			a.large = true
		default:
			if a.got, a.err = s.parser.Get(payload); a.err != nil && a.err.Invalid() {
				s.opt.Invalid("get."+e.r.name, a.err)
			}
		}
		if r.lock.held() && f.e.snap != nil {
			r.lock.queue(deferred{reply: &a})
			return
		}
		a.settle()
	})
}

// settle applies the result of a fetch to its entry.
func (a *fetched) settle() {
	e := a.f.e
	if e == nil {
		return
	}
	e.fetch = nil
	switch {
	case e.snap != nil:
		e.refreshed(a)
	case a.err != nil:
		e.r.s.metrics.GetFailures.Add(1)
		e.fail(a.err)
	default:
		e.loaded(a)
	}
}

func (a *fetched) snapshot() *state.Snapshot {
	return snapshotOf(a.got.IsModel, a.got.Props, a.got.Values)
}

func snapshotOf(model bool, props []res.Prop, values []res.Value) *state.Snapshot {
	if model {
		return state.NewModel(props)
	}
	return state.NewCollection(values)
}

// loaded applies the reply to an entry's first get.
func (e *entry) loaded(a *fetched) {
	s := e.r.s
	waiting := e.subs.list
	if len(s.refusals) > 0 {
		delete(s.refusals, e.r.name)
		delete(s.refusals, largeKey(e.r.name, e.query))
	}
	if query := a.got.Query; query != e.query {
		to := e.r.entries.get(query)
		if to == nil {
			e.rename(query)
		} else {
			e.merge(to)
			if to.snap == nil {
				// The other entry's get is still in flight. This reply serves as well.
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
			defer e.reget()
		}
	}
	for _, sb := range waiting {
		s.post(sb, state.Update{Kind: state.Loaded, Snapshot: e.snap, Query: e.query})
	}
}

// rename files an entry under the normalised query in its reply.
func (e *entry) rename(query string) {
	r, s := e.r, e.r.s
	r.entries.remove(e.query)
	l := r.link(e.query, e)
	e.query = query
	r.entries.put(e)
	for _, sb := range e.subs.list {
		sb.link = l
	}
	l.subs = len(e.subs.list)
	if l.subs == 0 {
		s.wheel.Schedule(&l.idle, s.now+s.opt.EvictAfter, l)
	}
}

// merge moves the subs of a loading entry to the entry of its normalised query. The loading one is
// gone.
func (e *entry) merge(to *entry) {
	r, s := e.r, e.r.s
	e.gone = true
	r.entries.remove(e.query)
	e.use()
	s.metrics.Entries.Add(-1)
	l := r.link(e.query, to)
	for _, sb := range e.subs.list {
		sb.e, sb.link = to, l
		to.subs.add(sb)
	}
	l.subs = len(e.subs.list)
	if l.subs > 0 {
		to.use()
		to.enter()
	}
	e.leave()
	if l.subs == 0 {
		s.wheel.Schedule(&l.idle, s.now+s.opt.EvictAfter, l)
	}
}

// refreshed applies the reply to a re-get.
func (e *entry) refreshed(a *fetched) {
	s := e.r.s
	switch {
	case a.err == nil:
		// If another get follows, only that one restores lost events.
		e.lost, e.retries = e.lost && a.f.again, 0
		if !e.replace(a.snapshot()) {
			s.metrics.RegetFailures.Add(1)
		}
		if a.f.again {
			e.reget()
		}
	case a.large:
		s.metrics.RegetFailures.Add(1)
		e.end(a.err)
	case a.err.Code == res.CodeNotFound && !(a.unanswered && e.lost):
		e.deleted()
	default:
		s.metrics.RegetFailures.Add(1)
		s.logs.warn(&s.logs.refetch, "refetch of a resource failed; its old state stays",
			"resource", e.r.name, "query", e.query, "error", a.err)
		switch {
		case a.f.again:
			e.reget()
		case e.lost:
			e.backOff()
		}
	}
}

// backOff schedules the next re-get of an entry that may have missed events.
func (e *entry) backOff() {
	s := e.r.s
	wait := min(retryFirst<<min(e.retries, 10), retryMost)
	e.retries++
	e.retry.schedule(s.wheel, s.now+wait, owner.Func(func(time.Duration) {
		s.doubt.r = e.r
		e.reget()
	}))
}

// replace gives an entry another value and sends the difference as events. It reports whether that
// is possible: a collection cannot replace a model, nor a model a collection.
func (e *entry) replace(snap *state.Snapshot) bool {
	s := e.r.s
	snap.Replaces(e.snap)
	events, err := state.Diff(e.snap, snap)
	if err != nil {
		s.logs.warn(&s.logs.newType, "a resource changed its type; its old state stays", "resource", e.r.name, "query", e.query)
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
