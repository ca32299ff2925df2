package cache

import (
	"time"

	"sluice/internal/res"
	"sluice/internal/state"
)

// entry is one value: the plain resource, or a name with one normalised query. Its fields give its
// state:
//
//   - loading: fetch is the first get, snap is nil. Its end is current or gone.
//   - current: snap is set, fetch is nil; events are applied. A reset or lost events end it:
//     refetching; so does a delete: gone.
//   - refetching: snap is set, fetch is the re-get; state events are dropped, since the reply
//     includes them. A reply ends it: current, or gone if there is no such resource.
//   - waiting: like current, but lost is set and retry is armed: the re-get failed. Its end is
//     refetching.
//   - gone: no longer in resource.entries. It is final; callbacks check for it.
//
// An entry is also gone after a time without subs (see returns.go), or earlier if memory is needed.
//
// There may be a million entries, so what most never need is apart from them.
type entry struct {
	r     *resource
	query string
	links map[*link]struct{}
	subs  subs

	snap  *state.Snapshot
	fetch *fetch // in flight, or queued for a place in the reset throttle

	retry  rareTimer // for the next re-get
	unused *idleList // nil while there are subs
	seen   *seen     // nil: no events yet

	retries int32
	gone    bool // evicted, deleted, failed or merged
	used    bool // there are subs
	lost    bool // events may be missing from snap; only the reply to a get can restore it
}

// sub is one loop's subscription of an entry.
type sub struct {
	e    *entry // nil once forgotten
	link *link  // the link that it came through; nil without one
	ref  uint64
	loop int32
	pos  int32 // index in the entry's list

	lost   int32 // custom events dropped while it was behind
	behind bool  // it has missed events of state
	listed bool  // it is in its loop's list of laggards
}

// set replaces the entry's snapshot.
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
	if e.unused != nil {
		e.r.s.unused.weigh(e)
	}
}

func (e *entry) addSub(l *link, loop int, ref uint64) {
	s := e.r.s
	sb := &sub{e: e, link: l, loop: int32(loop), ref: ref}
	e.subs.add(sb)
	e.enter()
	s.metrics.Subscriptions.Add(1)
	e.use()
	if l != nil {
		l.add()
	}
	if e.snap != nil {
		s.post(sb, state.Update{Kind: state.Loaded, Snapshot: e.snap, Query: e.query})
	}
}

// remove ends a subscription.
func (sb *sub) remove() {
	e := sb.e
	s := e.r.s
	e.subs.remove(sb)
	s.forget(sb)
	if sb.link != nil {
		sb.link.drop()
	}
	if len(e.subs.list) == 0 {
		e.leave()
		e.rest()
	}
}

// enter notes that the entry has subs, leave that it has none.
func (e *entry) enter() {
	if !e.used {
		e.used = true
		e.r.came()
	}
}

func (e *entry) leave() {
	if e.used {
		e.used = false
		e.r.went()
	}
}

// forget ends what is kept of a sub outside of its entry.
func (b *broadcast) forget(sb *sub) {
	sb.e = nil
	b.setBehind(sb, false)
	b.metrics.Subscriptions.Add(-1)
}

// Expire evicts an entry that has had no subs for long enough.
func (e *entry) Expire(time.Duration) {
	e.r.s.doubt.r = e.r
	e.r.s.metrics.Evictions.Add(1)
	e.drop(true)
}

// drop removes an entry with its links and subs. Replies to its requests in flight are ignored.
func (e *entry) drop(evicted bool) {
	r := e.r
	s := r.s
	e.gone = true
	r.entries.remove(e.query)
	for l := range e.links {
		l.remove()
	}
	for _, sb := range e.subs.list {
		s.forget(sb)
	}
	e.subs = subs{}
	e.leave()
	if e.fetch != nil {
		e.fetch.e = nil
		e.fetch = nil
	}
	e.use()
	e.set(nil)
	e.retry.cancel(s.wheel)
	s.metrics.Entries.Add(-1)
	if r.entries.len() == 0 {
		r.vacant(evicted)
	}
}

// fail drops an entry that cannot be loaded or followed, and sends its subs the error.
func (e *entry) fail(err *res.Error) {
	e.r.s.deliverFailure(e, err)
	e.drop(false)
}

// deleted drops an entry that its service has deleted, and sends its subs the delete event.
func (e *entry) deleted() {
	e.r.s.metrics.Deletes.Add(1)
	e.r.s.deliver(e, state.NewDelete(e.snap))
	e.drop(false)
}

// subs is an entry's set of subs. There is usually one for each loop, so a search is linear; beyond
// manySubs there is an index.
type subs struct {
	list  []*sub
	index map[subKey]*sub
}

type subKey struct {
	loop int
	ref  uint64
}

func (sb *sub) key() subKey { return subKey{int(sb.loop), sb.ref} }

const manySubs = 32

func (u *subs) add(sb *sub) {
	sb.pos = int32(len(u.list))
	u.list = append(u.list, sb)
	switch {
	case u.index != nil:
		u.index[sb.key()] = sb
	case len(u.list) > manySubs:
		u.index = make(map[subKey]*sub, 2*manySubs)
		for _, sb := range u.list {
			u.index[sb.key()] = sb
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
		delete(u.index, sb.key())
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
		if sb.ref == ref && int(sb.loop) == loop {
			return sb
		}
	}
	return nil
}
