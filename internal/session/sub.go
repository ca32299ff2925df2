package session

import (
	"sluice/fanout"
	"sluice/internal/res"
	"sluice/internal/state"
)

type subState uint8

const (
	subLoading  subState = iota // waits for its topic, or its references are not followed yet
	subReady                    // loaded; the client does not hold it
	subSent                     // the client holds it and gets its events
	subDeleted                  // the client holds it, but the resource is gone
	subFailed                   // it could not be loaded
	subDisposed                 // not part of the session any more
)

// Reasons why the events of a sent subscription are kept back.
const (
	holdReferences uint8 = 1 << iota // an event's new references are loading
	holdAccess                       // access is being asked anew
	holdLag                          // the client does not read what it is sent
	holdPace                         // the next portion of a script is to be sent in a later turn
)

// Sub is a session's interest in one resource ID. Two graphs run over the
// session's subscriptions. Both have an edge for every non-soft reference in
// the snapshot that a subscription stands at (see snapshot):
//
//   - the gateway's: all loaded subscriptions. One is alive if it is a root
//     (held directly, or pinned by a request) or reachable from one.
//   - the client's: only subscriptions that were sent. The client library
//     forgets what it cannot reach from a direct subscription, so one that
//     becomes unreachable there but stays alive here is no longer "sent", and
//     will be sent again, in full, when it is reachable again.
//
// Counts of incoming edges answer the usual cases; graph.go settles cycles.
type Sub struct {
	fanout.Member
	s    *Session
	rid  string  // as the client writes it
	work *work   // nil while nothing is in progress
	acc  *access // kept answer, nil if unknown

	in     int32 // edges from loaded subscriptions
	inSent int32 // edges from sent subscriptions
	visit  uint32
	tally  int32 // edges found by the current visit

	held    int32 // direct subscriptions that the client was told of
	pending int32 // subscribe requests in progress
	fetches int32 // requests in progress that fetch it, pending ones included
	pins    int32 // requests in progress that need it, fetches included

	state    subState
	hold     uint8
	asking   bool // an access request is under way
	stale    bool // the answer to it may be out of date when it comes
	granted  bool // a fetch was granted access and waits for the load
	reaccess bool // ask access again as soon as nothing is held
	patient  bool // and go on asking while nobody answers
	tries    uint8
}

// work is the part of a subscription that exists only while it is busy.
type work struct {
	snap      *state.Snapshot // where the client's view stands; nil: at the topic's newest
	queue     []*state.Event  // not sent yet, in order
	latest    *state.Snapshot // newest state of a conflated queue
	script    *fanout.Script  // comes before the queue and the difference to latest
	at        int             // events of script that have been sent
	stale     *state.Snapshot // the deleted copy that the client has while a new one is on its way
	current   *state.Event    // its new references are loading
	waiting   *waiter         // for current
	waiters   []*waiter       // wait for this subscription to load
	onAccess  []func(*access)
	granted   []func()  // fetches that were granted access, behind the one that waits for the load
	loads     *throttle // limits the loads of the references it leads to
	slot      slot      // its own place in the throttle of whoever refers to it
	err       *res.Error
	conflated bool // events were dropped; the difference to latest takes their place
}

// busy returns b's work, making it if needed.
func (b *Sub) busy() *work {
	if b.work == nil {
		b.work = &work{}
	}
	return b.work
}

// snapshot returns the state that b's edges come from: for a sent
// subscription what the client has, else what it will be sent. It is nil while
// there is nothing to follow.
func (b *Sub) snapshot() *state.Snapshot {
	switch b.state {
	case subReady, subSent, subDeleted:
		if b.work != nil && b.work.snap != nil {
			return b.work.snap
		}
		return b.Topic().Snapshot()
	}
	return nil
}

// pin keeps b's view where it is, at snap, until its events move it on.
func (b *Sub) pin(snap *state.Snapshot) {
	if w := b.busy(); w.snap == nil {
		w.snap = snap
		b.SetReady(false)
	}
}

// name returns the resource name and query that services know b by.
func (b *Sub) name() (name, query string) {
	return res.SplitRID(res.ExpandCID(b.rid, b.s.cid))
}

// need returns the subscription of rid, made and loading if there was none or
// if it had come to an end. loads, if not nil, limits the load and those that
// follow from it. The graph is frozen, or being proceeded with, until the caller
// has counted what it needs the subscription for.
func (s *Session) need(rid string, loads *throttle) *Sub {
	b := s.sub(rid)
	s.want(b, loads, nil)
	return b
}

// sub returns the subscription of rid, made if there was none: want has it load.
func (s *Session) sub(rid string) *Sub {
	b := s.subs.get(rid)
	if b == nil {
		b = &Sub{s: s, rid: rid}
		s.subs.put(b)
		s.env.Metrics.Subscriptions.Add(1)
	}
	return b
}

// unjoined reports whether b has to join its topic to load.
func (b *Sub) unjoined() bool {
	return b.state == subFailed || b.state == subDeleted || b.state == subLoading && b.Topic() == nil
}

// want has a subscription load, see need. first is what its topic's source is to
// do first; it may be given only if b is unjoined and the hub has no such topic.
func (s *Session) want(b *Sub, loads *throttle, first func()) {
	switch {
	case !b.unjoined():
	case b.state != subLoading:
		s.reload(b, loads, first)
	case b.work == nil || !b.work.slot.queued:
		s.load(b, loads, first)
	case loads == nil:
		b.work.slot = slot{} // wanted now, not when its turn has come
		name, query := b.name()
		s.join(b, name, query, first)
	}
}

// reload starts over with a subscription that failed or whose resource was
// deleted. The client keeps what it has of it, with the edges of that, until
// the new copy is sent.
func (s *Session) reload(b *Sub, loads *throttle, first func()) {
	w := b.busy()
	stale := w.stale
	if b.state == subDeleted {
		stale = w.snap
	}
	*w = work{onAccess: w.onAccess, granted: w.granted, err: w.err, stale: stale}
	s.load(b, loads, first)
}

// retire undoes a reload whose result nobody waits for any more: to the client
// b is what it was before.
func (s *Session) retire(b *Sub, loose []*Sub) []*Sub {
	if b.state == subReady {
		loose = s.unlink(b.snapshot(), false, loose)
	}
	w := b.busy()
	w.slot.free()
	b.leave()
	if w.stale != nil {
		b.state = subDeleted
		*w = work{onAccess: w.onAccess, snap: w.stale}
		return loose
	}
	b.state = subFailed
	if w.err == nil {
		w.err = res.ErrNotFound
	}
	*w = work{onAccess: w.onAccess, err: w.err}
	return loose
}

// load joins b's topic, at once or when the throttle allows it.
func (s *Session) load(b *Sub, loads *throttle, first func()) {
	b.state = subLoading
	name, query := b.name()
	if loads != nil {
		b.busy().loads = loads
		if t := s.env.Hub.Find(b.rid, name, query); (t == nil || !t.Alive()) && !loads.enter(b) {
			return
		}
	}
	s.join(b, name, query, first)
}

func (s *Session) join(b *Sub, name, query string, first func()) {
	t := s.env.Hub.Join(b, &b.Member, s.out, s.variant(), b.rid, name, query, first)
	if t.Settled() {
		b.Loaded()
	}
}

// leave ends b's membership. From now on b does not learn of reasons to ask for
// access again, so it keeps no answer, nor one that is on its way.
func (b *Sub) leave() {
	b.s.env.Hub.Leave(&b.Member)
	b.forget()
}

// Loaded implements fanout.Subscriber: b's topic is loaded or has failed.
func (b *Sub) Loaded() {
	before := b.s.env.Enter(b.s)
	b.topicSettled()
	b.s.env.Enter(before)
}

func (b *Sub) topicSettled() {
	if s := b.s; b.state == subLoading && !s.closed {
		s.loaded = append(s.loaded, b)
		s.proceed()
	}
}

// settle has a subscription whose topic is settled do what it can: its
// references become subscriptions of their own, the next load gets its place in
// the throttle, and those who waited for it go on.
func (b *Sub) settle() {
	s, w := b.s, b.busy()
	w.slot.free()
	if err := b.Topic().Error(); err != nil {
		w.err = err
		b.state = subFailed
		b.leave()
	} else {
		w.snap = b.Topic().Snapshot()
		b.state = subReady
		if w.snap.HasRefs() {
			loads := w.loads
			if loads == nil {
				loads = s.newThrottle()
			}
			for rid := range w.snap.Refs() {
				s.need(rid, loads).in++
			}
		}
		w.loads = nil
	}
	waiters := w.waiters
	w.waiters = nil
	for _, waiter := range waiters {
		waiter.step(b)
	}
}

// dispose takes b out of the session. The subscriptions it referred to are
// appended to loose: they may have lost what kept them alive.
func (s *Session) dispose(b *Sub, loose []*Sub) []*Sub {
	if b.state == subDisposed {
		return loose
	}
	sent := b.state == subSent || b.state == subDeleted
	snap := b.snapshot()
	b.state = subDisposed
	loose = s.unlink(snap, sent, loose)
	if w := b.work; w != nil {
		loose = s.dropCurrent(b, loose)
		loose = s.dropStale(b, loose)
		w.slot.free()
	}
	s.env.Hub.Leave(&b.Member)
	s.subs.remove(b)
	b.work = nil
	s.env.Metrics.Subscriptions.Add(-1)
	return loose
}

// unlink takes back the edges that come from snap; sent says whether the
// client had them too.
func (s *Session) unlink(snap *state.Snapshot, sent bool, loose []*Sub) []*Sub {
	if snap == nil || !snap.HasRefs() {
		return loose
	}
	for rid := range snap.Refs() {
		if c := s.subs.get(rid); c != nil {
			c.in--
			if sent {
				c.inSent--
			}
			loose = append(loose, c)
		}
	}
	return loose
}

// dropCurrent gives up the event whose references b waits for.
func (s *Session) dropCurrent(b *Sub, loose []*Sub) []*Sub {
	w := b.work
	if w == nil || w.current == nil {
		return loose
	}
	for _, rid := range w.current.AddedRefs {
		if c := s.subs.get(rid); c != nil {
			c.in--
			loose = append(loose, c)
		}
	}
	w.current = nil
	w.waiting.cancel()
	w.waiting = nil
	b.hold &^= holdReferences
	return loose
}

// dropStale takes back the edges of the copy that the client had before.
func (s *Session) dropStale(b *Sub, loose []*Sub) []*Sub {
	stale := b.work.stale
	b.work.stale = nil
	return s.unlink(stale, true, loose)
}
