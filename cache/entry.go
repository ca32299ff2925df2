package cache

import (
	"time"

	"sluice/internal/owner"
	"sluice/internal/state"
)

// entry is one value: the plain resource, or a name with one normalised query. It is loading while snap is nil.
type entry struct {
	r     *resource
	query string
	links map[*link]struct{}
	subs  subs

	snap  *state.Snapshot
	fetch *fetch // under way: the first get while loading, else a re-get
	gone  bool   // evicted, deleted or failed; kept by closures only

	// lost says that events may be missing from snap, so that only the answer to a get makes it right again.
	lost    bool
	retry   owner.Timer // armed while a re-get that failed waits to be repeated
	retries int

	idle owner.Timer // armed while there are no subs
}

// sub is one loop's interest in an entry.
type sub struct {
	e    *entry // nil once forgotten
	link *link  // that it came through, if any
	loop int
	ref  uint64
	pos  int // in the entry's list

	behind bool // has missed events of state
	listed bool // is in its loop's list of laggards
}

// set puts a snapshot in place.
func (e *entry) set(snap *state.Snapshot) {
	bytes := 0
	if e.snap != nil {
		bytes -= e.snap.Bytes()
	}
	if snap != nil {
		bytes += snap.Bytes()
	}
	e.snap = snap
	e.r.s.metrics.Bytes.Add(int64(bytes))
}

func (s *Shard) addSub(e *entry, l *link, loop int, ref uint64) {
	sb := &sub{e: e, link: l, loop: loop, ref: ref}
	e.subs.add(sb)
	s.metrics.Subscriptions.Add(1)
	s.wheel.Cancel(&e.idle)
	if l != nil {
		l.add()
	}
	if e.snap != nil {
		s.post(sb, state.Update{Kind: state.Loaded, Snapshot: e.snap})
	}
}

func (s *Shard) removeSub(sb *sub) {
	e := sb.e
	e.subs.remove(sb)
	s.forget(sb)
	if sb.link != nil {
		sb.link.drop()
	}
	if len(e.subs.list) == 0 {
		s.wheel.Schedule(&e.idle, s.now+s.opt.EvictAfter, e)
	}
}

// forget ends what the shard holds about a sub outside of its entry.
func (s *Shard) forget(sb *sub) {
	sb.e = nil
	s.setBehind(sb, false)
	s.metrics.Subscriptions.Add(-1)
}

// Expire evicts an entry that has had no subs for long enough.
func (e *entry) Expire(time.Duration) {
	e.r.s.doubt.r = e.r
	e.r.s.metrics.Evictions.Add(1)
	e.r.s.drop(e, true)
}

// drop forgets an entry with its links and subs. What is under way for it comes to nothing.
func (s *Shard) drop(e *entry, evicted bool) {
	r := e.r
	e.gone = true
	delete(r.entries, e.query)
	for l := range e.links {
		l.remove()
	}
	for _, sb := range e.subs.list {
		s.forget(sb)
	}
	e.subs = subs{}
	if e.fetch != nil {
		e.fetch.e = nil
		e.fetch = nil
	}
	e.set(nil)
	s.wheel.Cancel(&e.idle)
	s.wheel.Cancel(&e.retry)
	s.metrics.Entries.Add(-1)
	if len(r.entries) == 0 {
		r.vacant(evicted)
	}
}

// subs is an entry's set of subs. Usually it has one for each loop, so it is searched one by one; from manySubs on an index
// is kept.
type subs struct {
	list  []*sub
	index map[subKey]*sub
}

type subKey struct {
	loop int
	ref  uint64
}

const manySubs = 32

func (u *subs) add(sb *sub) {
	sb.pos = len(u.list)
	u.list = append(u.list, sb)
	switch {
	case u.index != nil:
		u.index[subKey{sb.loop, sb.ref}] = sb
	case len(u.list) > manySubs:
		u.index = make(map[subKey]*sub, 2*manySubs)
		for _, sb := range u.list {
			u.index[subKey{sb.loop, sb.ref}] = sb
		}
	}
}

func (u *subs) remove(sb *sub) {
	last := len(u.list) - 1
	u.list[sb.pos] = u.list[last]
	u.list[sb.pos].pos = sb.pos
	u.list[last] = nil
	u.list = u.list[:last]
	if u.index != nil {
		delete(u.index, subKey{sb.loop, sb.ref})
		if last <= manySubs/2 {
			u.index = nil
		}
	}
}

func (u *subs) find(loop int, ref uint64) *sub {
	if u.index != nil {
		return u.index[subKey{loop, ref}]
	}
	for _, sb := range u.list {
		if sb.ref == ref && sb.loop == loop {
			return sb
		}
	}
	return nil
}
