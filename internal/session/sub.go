package session

import (
	"sluice/fanout"
	"sluice/internal/res"
	"sluice/internal/state"
)

// Reasons why a sent subscription's events are queued.
const (
	holdReferences uint8 = 1 << iota // an event's new references are loading
	holdAccess                       // an access recheck is in progress
	holdLag                          // the client is a slow consumer
	holdPace                         // the script's next portion is due in a later loop iteration
	holdAhead                        // the client has events that the topic has yet to get, see Moved
)

// Sub is a session's subscription of one resource ID, direct or indirect. Two
// graphs run over the session's subscriptions. Both have an edge for every
// non-soft reference in a subscription's snapshot:
//
//   - the gateway's has all loaded subscriptions. A subscription is alive if it
//     is a root (see demand) or reachable from one.
//   - the client's has only those that were sent. The client library drops a
//     resource that it cannot reach from a direct subscription. If the gateway
//     still needs it, it is no longer "sent", and is sent again in full when it
//     becomes reachable again.
//
// Counts of incoming edges decide the usual cases; Session.collect settles cycles.
type Sub struct {
	fanout.Member
	named
	s    *Session
	work *work   // nil while nothing is in progress
	acc  *access // cached access result; nil if unknown

	in     int32  // edges from loaded subscriptions
	inSent int32  // edges from sent subscriptions
	visit  uint32 // number of the newest search that found it
	inner  int32  // edges from within the group that the newest search found

	demand

	state    subState
	holds    uint8
	asking   bool // an access request is in flight
	outdated bool // its result may be outdated when it arrives
	granted  bool // a fetch was granted access and waits for the load, or for access to be granted again
	reaccess bool // an access recheck is due when nothing holds the events
	// retryAccess: after a NATS gap, retry with back-off until a service replies.
	retryAccess bool
	tries       uint8
}

// demand counts what keeps a subscription alive whatever refers to it.
type demand struct {
	direct  int32 // direct subscriptions that the client holds
	pending int32 // subscribe requests in progress
	fetches int32 // requests in progress that fetch it, pending ones included
	pins    int32 // requests in progress that need it, fetches included
}

// root reports whether the subscription is alive without references to it.
func (d *demand) root() bool { return d.direct > 0 || d.pins > 0 }

// wanted reports whether the client has subscribed directly, or is about to.
func (d *demand) wanted() bool { return d.direct > 0 || d.pending > 0 }

// work is the part of a subscription that exists only while it is busy.
type work struct {
	backlog
	blocked   blocked         // the event that waits for its references
	staleCopy *state.Snapshot // the deleted copy that the client has while a new one loads
	waiters   []*waiter       // wait for this subscription to load
	onAccess  accessUsers
	judged    []*fetch  // have their access results, and follow the fetch that waits for the load
	loads     *throttle // limits the loads of its references
	slot      slot      // its own place in the throttle of the subscription that refers to it
	err       *res.Error
}

// ensureWork returns b's work, making it if needed.
func (b *Sub) ensureWork() *work {
	if b.work == nil {
		b.work = b.s.env.takeWork()
	}
	return b.work
}

// snapshot returns the state that b's edges come from: what the client has if b
// is sent, else what it will be sent. It is nil while b is not loaded.
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

// fix keeps b's snapshot at snap until its events advance it.
func (b *Sub) fix(snap *state.Snapshot) {
	if w := b.ensureWork(); w.snap == nil {
		w.snap = snap
		b.SetReady(false)
	}
}

// unjoined reports whether b has to join its topic to load.
func (b *Sub) unjoined() bool {
	return b.state == subFailed || b.state == subDeleted || b.state == subLoading && b.Topic() == nil
}

// leave ends b's membership of its topic. From now on b receives no reaccess
// events, so it drops its access result.
func (b *Sub) leave() {
	b.s.env.Hub.Leave(&b.Member)
	b.dropAccess()
}

// Loaded implements fanout.Subscriber: b's topic is loaded or has failed.
func (b *Sub) Loaded() {
	before := b.s.env.Enter(b.s)
	b.topicSettled()
	b.s.env.Enter(before)
}

func (b *Sub) topicSettled() {
	if s := b.s; b.state == subLoading && !s.closed {
		a := s.ensureItems(&s.env.spare)
		a.loaded = append(a.loaded, b)
		s.proceed()
	}
}

// settle handles the result of b's load: it subscribes to the references, frees
// the place in the throttle, and steps the waiters.
func (b *Sub) settle() {
	s, w := b.s, b.ensureWork()
	if s.env.Recorder != nil {
		defer s.env.Within(s.env.Within(s.env.loader(b))) // for the references
	}
	w.slot.free()
	if err := b.Topic().Error(); err != nil {
		w.err = err
		b.to(subFailed)
		b.leave()
	} else {
		w.snap = b.Topic().Snapshot()
		b.to(subReady)
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
