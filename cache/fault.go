package cache

import (
	"time"

	"sluice/internal/invariants"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

// A panic in a turn of the shard is contained. It is logged and counted, the resource that the
// shard was working on starts over, and the turn continues with the next message. In builds with
// assertions the process dies instead.
//
// To start over means: the resource keeps its subs and each entry's snapshot, which is immutable
// and thus the state before or after the interrupted step. Everything else that it had in progress
// (requests, the lock, timers) is dropped. The entries are refetched as after lost events, and
// every sub counts as behind, since any of them may have missed the last update. So clients get the
// difference.
//
// doubt is what the shard was working on, in case of a panic.
type doubt struct {
	r       *resource // nil: none
	joining subKey    // the sub being added; ref 0 without r: none
	sweep   bool      // many resources are worked on, one after the other

	handling bool      // a message is being handled
	faulty   bool      // there was a panic: recover from it next
	last     *resource // the resource being restored; another panic ends it
}

const (
	// maxFaults is how many panics of a turn retry the same step.
	maxFaults = 100
	// faultsToFail is how many panics fail a resource, each within faultsApart of the previous one.
	faultsToFail = 5
	faultsApart  = time.Minute
)

// The steps of a turn.
const (
	stepTimers = iota
	stepMail
	stepJudge
	stepLoss
	stepTrim
	stepSend
	stepRearm
	stepEnd
)

// turn runs one turn: due timers, then messages.
func (s *Shard) turn() {
	s.step = stepTimers
	for faults := 1; !s.steps(); faults++ {
		if faults%maxFaults == 0 {
			s.step++
		}
	}
}

// steps runs the turn from s.step on. It reports whether there was no panic.
func (s *Shard) steps() (done bool) {
	defer s.contain()
	if s.doubt.faulty {
		s.doubt.faulty = false
		s.restore()
	}
	for ; s.step < stepEnd; s.step++ {
		s.doubt = doubt{}
		switch s.step {
		case stepTimers:
			s.ticker.Turn(&s.now)
		case stepMail:
			s.backlogged = s.mail.Drain(turnMessages, s.handler)
		case stepJudge:
			s.ticker.Judge(s.now, s.backlogged)
		case stepLoss:
			s.recoverLoss()
		case stepTrim:
			s.trim()
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

// contain recovers from a panic of steps, which defers it.
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

// restore makes the shard's state consistent after a panic.
func (s *Shard) restore() {
	d := &s.doubt
	r, joining, sweep, handling, last := d.r, d.joining, d.sweep, d.handling, d.last
	*d = doubt{last: r}
	if handling {
		defer s.pending.Add(-1) // after the updates that restore posts
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
	s.armCatchUp() // its timer may have panicked
	if sweep && !s.sweepAgain.Armed() {
		// The sweep has not reached some resources.
		s.wheel.Schedule(&s.sweepAgain, s.now+retryFirst, owner.Func(func(time.Duration) { s.resetAll() }))
	}
}

// has reports whether the resource named like r has the sub.
func (s *Shard) has(r *resource, key subKey) bool {
	if r == nil {
		return false
	}
	if r = s.resources.Get(r.name); r == nil {
		return false
	}
	for _, e := range r.entries.all() {
		if e.subs.find(key.loop, key.ref) != nil {
			return true
		}
	}
	return false
}

// startOver replaces a doubtful resource by a new one.
func (s *Shard) startOver(r *resource) {
	if s.resources.Get(r.name) != r {
		return
	}
	n := &resource{s: s, name: r.name, faults: 1, faulted: s.now}
	if r.faults > 0 && s.now < r.faulted+faultsApart {
		n.faults += r.faults
	}
	s.resources.Remove(r)
	s.resources.Put(n)
	s.index.remove(r.name)
	s.index.add(n)
	s.bus.Subscribe(n.name) // perhaps again; that is harmless
	r.linger.cancel(s.wheel)
	if l := r.lock; l != nil {
		l.waiting, l.lossy = nil, false // its query requests may still be answered
	}
	for _, e := range r.sorted() {
		n.inherit(e)
	}
	for _, l := range r.links {
		s.wheel.Cancel(&l.idle)
	}
	for _, e := range n.sorted() {
		e.refetch()
	}
	if n.entries.len() == 0 {
		n.vacant(false)
	}
}

// inherit gives n an entry with the snapshot and the subs of e.
func (n *resource) inherit(e *entry) {
	s := n.s
	e.use()
	e.retry.cancel(s.wheel)
	e.gone = true
	if e.fetch != nil {
		e.fetch.e, e.fetch = nil, nil
	}
	c := &entry{r: n, query: e.query, snap: e.snap}
	n.entries.put(c)
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

// refetch refetches a doubtful entry and brings its subs up to date.
func (e *entry) refetch() {
	s := e.r.s
	if len(e.subs.list) == 0 {
		e.rest()
	}
	switch {
	case e.r.faults == faultsToFail:
		e.fail(res.InternalError(""))
	case e.snap == nil:
		e.get()
	default:
		e.lost = true
		for _, sb := range e.subs.list {
			s.setBehind(sb, true)
		}
		if e.r.faults == 1 {
			e.reget()
		} else {
			e.retries = e.r.faults - 1
			e.backOff()
		}
	}
}

// abandon removes a resource that cannot start over, and fails its subs.
func (s *Shard) abandon(r *resource) {
	if n := s.resources.Get(r.name); n != nil {
		s.resources.Remove(n)
		s.index.remove(r.name)
		s.metrics.Resources.Add(-1)
		s.bus.Unsubscribe(r.name)
		n.abandonSubs()
		if n == r {
			return
		}
	}
	r.abandonSubs()
}

func (r *resource) abandonSubs() {
	s := r.s
	r.linger.cancel(s.wheel)
	for _, l := range r.links {
		s.wheel.Cancel(&l.idle)
	}
	for _, e := range r.entries.all() {
		if !e.gone {
			e.use()
			e.set(nil)
			e.retry.cancel(s.wheel)
			s.metrics.Entries.Add(-1)
		}
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
