package cache

import (
	"time"

	"sluice/internal/invariants"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

// A panic in a turn of the shard is contained: it is logged and counted, the resource that the shard was working on is
// in doubt and starts over, and the turn goes on with the next message. The process dies instead in builds with
// assertions.
//
// To start over means: the resource keeps its subs and each entry's snapshot, which is immutable and hence the state
// before or after what was interrupted. All else that it had under way (requests, the lock, timers) is forgotten, the
// entries are fetched again as after lost events, and every sub counts as behind, since no one knows which of them got
// the last update. So clients get the difference, whatever it is.
type doubt struct {
	r       *resource // in work; nil: none
	joining subKey    // its sub is being added; ref 0 without r: none
	sweep   bool      // many resources are in work one after the other

	handling bool      // a message is
	faulty   bool      // there was a panic: mend is due
	last     *resource // being mended; a panic in that is the end of it
}

const (
	// maxFaults is how many panics of a turn are answered by trying the same step again.
	maxFaults = 100
	// faultsToFail is how many panics a resource may cause, each within faultsApart of the one before, until it fails.
	faultsToFail = 5
	faultsApart  = time.Minute
)

// The steps of a turn.
const (
	stepTimers = iota
	stepMail
	stepJudge
	stepLoss
	stepSend
	stepRearm
	stepEnd
)

// turn does what is due and what has come.
func (s *Shard) turn() {
	s.step = stepTimers
	for faults := 1; !s.steps(); faults++ {
		if faults%maxFaults == 0 {
			s.step++
		}
	}
}

// steps does the turn from s.step on. It returns false after a panic.
func (s *Shard) steps() (done bool) {
	defer s.contain()
	if s.doubt.faulty {
		s.doubt.faulty = false
		s.mend()
	}
	for ; s.step < stepEnd; s.step++ {
		s.doubt = doubt{}
		switch s.step {
		case stepTimers:
			s.ticker.Turn(&s.now)
		case stepMail:
			s.behind = s.mail.Drain(turnMessages, s.handler)
		case stepJudge:
			s.ticker.Judge(s.now, s.behind)
		case stepLoss:
			s.recoverLoss()
			if invariants.Enabled {
				s.check()
			}
		case stepSend:
			s.bus.Flush()
		case stepRearm:
			s.ticker.Rearm()
		}
	}
	return true
}

// contain is deferred by steps.
func (s *Shard) contain() {
	if !owner.Containing {
		return
	}
	value := recover()
	if value == nil {
		return
	}
	d := &s.doubt
	d.faulty = true
	name := ""
	if d.r != nil {
		name = d.r.name
	}
	s.opt.Faults.Note(owner.Shard, value, "shard", s.opt.Index, "resource", name)
}

// mend brings the shard into a sound state after a panic.
func (s *Shard) mend() {
	d := &s.doubt
	r, joining, sweep, handling, last := d.r, d.joining, d.sweep, d.handling, d.last
	*d = doubt{last: r}
	if handling {
		defer s.pending.Add(-1) // behind the updates that mending posts
	}
	switch {
	case last != nil:
		s.abandon(last)
	case r != nil:
		s.startOver(r)
	}
	if joining.ref != 0 || joining.loop != 0 {
		if !s.has(r, joining) {
			s.loops.Post(joining.loop, state.Update{Ref: joining.ref, Kind: state.Failed, Err: res.InternalError("")})
		}
	}
	d.last = nil
	if !s.catchUp.Armed() { // it may be the timer that panicked
		s.wheel.Schedule(&s.catchUp, s.now+catchUpAfter, catchUp{s})
	}
	if sweep && !s.sweepAgain.Armed() {
		// Resources whose turn had not come are missing what the sweep was for.
		s.wheel.Schedule(&s.sweepAgain, s.now+retryFirst, owner.Func(func(time.Duration) { s.resetAll() }))
	}
}

// has reports whether a sub has a place in the resource named like r.
func (s *Shard) has(r *resource, key subKey) bool {
	if r == nil {
		return false
	}
	if r = s.resources[r.name]; r == nil {
		return false
	}
	for _, e := range r.entries {
		if e.subs.find(key.loop, key.ref) != nil {
			return true
		}
	}
	return false
}

// startOver puts a new resource in the place of one that is in doubt.
func (s *Shard) startOver(r *resource) {
	if s.resources[r.name] != r {
		return
	}
	n := &resource{s: s, name: r.name, entries: make(map[string]*entry, len(r.entries)), faults: 1, faulted: s.now}
	if r.faults > 0 && s.now < r.faulted+faultsApart {
		n.faults += r.faults
	}
	s.resources[n.name] = n
	s.index.add(n.name, n)
	s.bus.Subscribe(n.name) // it may not have come to that; twice is once
	s.wheel.Cancel(&r.linger)
	r.lock.waiting, r.lock.lossy = nil, false // its query requests may still be answered
	for _, e := range r.sorted() {
		s.inherit(n, e)
	}
	for _, l := range r.links {
		s.wheel.Cancel(&l.idle)
	}
	for _, e := range n.sorted() {
		s.refetch(e)
	}
	if len(n.entries) == 0 {
		n.vacant(false)
	}
}

// inherit gives n an entry with the snapshot and the subs of e.
func (s *Shard) inherit(n *resource, e *entry) {
	s.wheel.Cancel(&e.idle)
	s.wheel.Cancel(&e.retry)
	e.gone = true
	if e.fetch != nil {
		e.fetch.e, e.fetch = nil, nil
	}
	c := &entry{r: n, query: e.query, snap: e.snap}
	n.entries[c.query] = c
	for _, sb := range e.subs.list {
		old := sb.link
		sb.e, sb.link = c, nil
		c.subs.add(sb)
		if old == nil {
			continue
		}
		l := n.links[old.query]
		if l == nil {
			l = n.link(old.query, c)
		}
		sb.link = l
		l.subs++
	}
}

// refetch has an entry that was in doubt fetched, and its subs brought up to date.
func (s *Shard) refetch(e *entry) {
	if len(e.subs.list) == 0 {
		s.wheel.Schedule(&e.idle, s.now+s.opt.EvictAfter, e)
	}
	switch {
	case e.r.faults == faultsToFail:
		s.fail(e, res.InternalError(""))
	case e.snap == nil:
		s.get(e)
	default:
		e.lost = true
		for _, sb := range e.subs.list {
			s.setBehind(sb, true)
		}
		if e.r.faults == 1 {
			s.reget(e)
		} else {
			e.retries = e.r.faults - 1
			s.retry(e)
		}
	}
}

// fail ends an entry that cannot be served.
func (s *Shard) fail(e *entry, err *res.Error) {
	for _, sb := range e.subs.list {
		s.post(sb, state.Update{Kind: state.Failed, Err: err})
	}
	s.drop(e, false)
}

// abandon forgets a resource that cannot even start over, and tells its subs.
func (s *Shard) abandon(r *resource) {
	if n := s.resources[r.name]; n != nil {
		delete(s.resources, r.name)
		s.index.remove(r.name)
		s.metrics.Resources.Add(-1)
		s.bus.Unsubscribe(r.name)
		s.abandonSubs(n)
		if n == r {
			return
		}
	}
	s.abandonSubs(r)
}

func (s *Shard) abandonSubs(r *resource) {
	for _, e := range r.entries {
		e.gone = true
		if e.fetch != nil {
			e.fetch.e, e.fetch = nil, nil
		}
		for _, sb := range e.subs.list {
			if sb.e == e {
				s.forget(sb)
				s.post(sb, state.Update{Kind: state.Failed, Err: res.InternalError("")})
			}
		}
	}
}
