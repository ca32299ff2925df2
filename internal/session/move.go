package session

import (
	"errors"
	"slices"
	"time"

	"sluice/fanout"
	"sluice/internal/overlap"
	"sluice/internal/res"
	"sluice/internal/state"
)

// A session may go over to another process (docs/upgrade.md): Move takes it out of this one, and
// Arrive makes it in the other. In between, nothing of it exists but a Moved.

// Moved is a session on its way. A snapshot is a number, a topic an index: what they stand for goes
// beside the sessions that share it.
type Moved struct {
	CID        string
	Token, TID string
	TokenEnds  time.Duration // from now; 0: it has no end
	Protocol   string        // version
	Versioned  bool          // the client has named it
	TellLost   bool
	Lagging    bool
	Stream     bool // of server-sent events
	Subs       []MovedSub
}

// MovedSub is a subscription of such a session.
type MovedSub struct {
	RID      string
	State    string       // sent, deleted or failed: see substate.go
	Direct   int          // direct subscriptions
	Topic    int          // of a sent one
	Snapshot int          // what the client holds, unless it has failed
	Error    *res.Error   // of a failed one
	Access   *MovedAccess // nil: not known
	Held     []MovedEvent // custom events that are yet to be sent, in order
	Lost     int          // that came before these, and were dropped
}

// MovedAccess is the result of an access request.
type MovedAccess struct {
	Get   bool
	Call  string
	Error *res.Error
}

// MovedEvent is a custom event.
type MovedEvent struct {
	Name    string
	Payload string // raw JSON, "" for none
	Lost    int    // events that it stands for: see state.NewLost
}

// Topics calls f for the topic of each of a session's subscriptions that has one.
func Topics(s *Session, f func(*fanout.Topic)) {
	s.subs.each(func(b *Sub) {
		if t := b.Topic(); t != nil {
			f(t)
		}
	})
}

// Movable reports whether a session, of a WebSocket or a stream, can move now: no request of its
// is in progress, and nothing of what it has to send waits for anything but the client.
func Movable(s *Session) bool {
	if s.closed || s.faulty || s.http && s.ended == nil || s.oldest != nil || s.requests > 0 || s.items != nil || s.frozen > 0 || s.proceeding || s.places > 0 || len(s.candidates) > 0 {
		return false
	}
	ok := true
	s.subs.each(func(b *Sub) { ok = ok && movable(b) })
	return ok
}

func movable(b *Sub) bool {
	if b.asking || b.granted || b.reaccess || b.retryAccess || b.pending > 0 || b.pins > 0 || b.holds&^holdLag != 0 {
		return false
	}
	if w := b.work; w != nil && (w.blocked.event != nil || w.staleCopy != nil || len(w.waiters)+len(w.onAccess)+len(w.granted) > 0 || len(w.ahead) > 0) {
		return false
	}
	switch b.state {
	case subSent:
		return b.Topic() != nil && b.Topic().Alive()
	case subDeleted, subFailed:
		return true
	}
	return false
}

// Move takes a session that is Movable out of this process, with the numbers of its topics and
// snapshots. The caller closes it.
func Move(s *Session, topic func(*fanout.Topic) int, snapshot func(*state.Snapshot) int) Moved {
	m := Moved{CID: s.cid, Token: s.token, TID: s.tid(), Protocol: s.version.String(), Versioned: s.versioned, TellLost: s.tellLost, Lagging: s.lagging, Stream: s.http}
	if s.grant != nil && s.grant.ends > 0 {
		m.TokenEnds = max(s.grant.ends-s.env.Now(), 1)
	}
	s.subs.each(func(b *Sub) {
		sub := MovedSub{RID: b.rid, State: b.state.String(), Direct: int(b.direct)}
		if b.acc != nil {
			sub.Access = &MovedAccess{b.acc.Get, b.acc.Call, b.acc.err}
		}
		switch b.state {
		case subSent:
			sub.Topic = topic(b.Topic())
			fallthrough
		case subDeleted:
			sub.Snapshot = snapshot(b.snapshot())
		case subFailed:
			sub.Error = b.work.err
		}
		if w := b.work; w != nil && b.state == subSent {
			sub.Lost = w.lost
			for _, e := range w.queue { // the difference replaces the others
				if e.Kind == state.Custom {
					sub.Held = append(sub.Held, MovedEvent{e.Name, string(e.Payload), e.Lost})
				}
			}
		}
		m.Subs = append(m.Subs, sub)
	})
	return m
}

// Arrival is what the sessions of a batch share.
type Arrival struct {
	Snapshots map[int]*state.Snapshot
	Seams     []*fanout.Seam // by number of the topic
}

var (
	errMoved     = errors.New("session: the description of a session contradicts itself")
	errForeign   = errors.New("session: the description of a session names a snapshot or topic that does not exist")
	errMovedText = errors.New("session: the description of a session has an unknown version or state")
)

// check reports what is wrong with a description; nil: nothing.
func (m *Moved) check(a *Arrival) error {
	known := make(map[string]bool, len(m.Subs))
	for i := range m.Subs {
		if known[m.Subs[i].RID] {
			return errMoved
		}
		known[m.Subs[i].RID] = true
	}
	for i := range m.Subs {
		sub := &m.Subs[i]
		snap := a.Snapshots[sub.Snapshot]
		switch {
		case sub.Direct < 0 || sub.Lost < 0:
			return errMoved
		case sub.State == subFailed.String() && sub.Error != nil:
			continue
		case sub.State != subSent.String() && sub.State != subDeleted.String():
			return errMovedText
		case snap == nil, sub.State == subSent.String() && (sub.Topic < 0 || sub.Topic >= len(a.Seams) || a.Seams[sub.Topic] == nil):
			return errForeign
		}
		for rid := range snap.Refs() {
			if !known[rid] {
				return errMoved
			}
		}
	}
	return nil
}

// Arrive goes on with a session of another process. ready is called when the session is complete,
// before it sends anything. Its client is sent what has happened since; nothing is asked of
// services for what it holds.
// That of a stream calls ended as in Session.Stream.
func Arrive(env *Env, peer Peer, out fanout.Outbox, form fanout.Form, m *Moved, a *Arrival, ready func(*Session), ended func()) error {
	version, bad := res.ParseVersion(m.Protocol)
	if bad != nil {
		return errMovedText
	}
	if err := m.check(a); err != nil {
		return err
	}
	s := New(env, peer, out, form, m.CID)
	defer env.Enter(env.Enter(s))
	if m.Stream {
		s.http, s.ended = true, ended
	}
	s.version, s.versioned, s.tellLost, s.lagging, s.token = version, m.Versioned, m.TellLost, m.Lagging, m.Token
	env.setGrant(s, m.TID, m.TokenEnds)
	subs := make([]*Sub, len(m.Subs))
	for i := range m.Subs {
		subs[i] = arrive(s, &m.Subs[i], a)
	}
	for _, b := range subs {
		s.targets(b, true, func(c *Sub) {
			c.in++
			c.inSent++
		})
	}
	ready(s)
	if w := env.Watcher; w != nil {
		s.watched = true
		w.Arrived(s)
	}
	for i, b := range subs {
		if b.state == subSent && !s.closed {
			newcomer{b}.catchUp(a.Seams[m.Subs[i].Topic], a.Snapshots[m.Subs[i].Snapshot])
		}
	}
	return nil
}

// arrive makes a subscription as it was, before anything that has happened since.
func arrive(s *Session, m *MovedSub, a *Arrival) *Sub {
	b := s.sub(m.RID)
	b.direct = int32(m.Direct)
	if x := m.Access; x != nil {
		b.acc = &access{AccessResult: res.AccessResult{Get: x.Get, Call: x.Call}, err: x.Error}
	}
	w := b.ensureWork()
	switch w.snap = a.Snapshots[m.Snapshot]; m.State {
	case subFailed.String():
		b.to(subFailed)
		w.err = m.Error
		return b
	case subDeleted.String():
		b.to(subReady)
		b.to(subDeleted)
		return b
	}
	b.to(subReady)
	b.to(subSent)
	w.lost = m.Lost
	for _, e := range m.Held {
		ev := state.NewCustom(e.Name, nil, w.snap)
		if ev.Lost = e.Lost; e.Payload != "" {
			ev.Payload = []byte(e.Payload)
		}
		w.queue = append(w.queue, ev)
		w.hold(ev, s.env.Metrics)
	}
	a.Seams[m.Topic].Topic.Join(b, &b.Member, s.out, s.variant())
	return b
}

// newcomer is the role of a subscription that has come from another process, while the client may
// have had events there that have yet to come here.
type newcomer struct{ *Sub }

// catchUp sends what the topic's subscribers were told here and not there, and keeps what was told
// there from being told again. had is what the client holds.
func (b newcomer) catchUp(seam *fanout.Seam, had *state.Snapshot) {
	s, w, t := b.s, b.work, seam.Topic
	if b.state != subSent || w == nil || w.snap != had {
		return // an event of another resource has ended it, and perhaps brought it anew
	}
	missed, ahead := seam.Compare()
	w.ahead = append([]overlap.Mark(nil), ahead...)
	newest := t.Snapshot()
	singly := false // the missed events lead from the client's state to the newest
	switch {
	case seam.Same(w.snap, newest):
		w.dropStateAhead() // a get has brought them here
		if w.lost == 0 && len(w.queue) == 0 {
			w.snap = nil // as the topic
		}
	case seam.Leads(w.snap):
		w.dropStateAhead()
		singly = true
	case w.stateAhead() && seam.Steps == 0:
		b.holds |= holdAhead // until the events that the client has come here, too
	default:
		w.dropStateAhead()
		w.latest, w.conflated = newest, true
		w.keepBase(t)
	}
	var reaccess bool
	var why fanout.Reason
	for _, h := range missed {
		switch {
		case h.Event == nil:
			reaccess, why = true, h.Why
			continue
		case h.Event.Kind < state.Delete && !singly:
			continue
		case w.snap == nil:
			w.snap = newest
		}
		w.push(h.Event, s.env.Limits.HeldEvents, s.env.Metrics)
	}
	if len(w.ahead) > 0 {
		s.env.After(overlap.Apart, b.endAhead)
	}
	if b.holds&holdAhead != 0 {
		s.env.After(aheadHold, b.endStateAhead)
	}
	b.resume()
	if reaccess && b.state != subDisposed {
		b.invalidateAccess(why)
	}
}

// aheadHold bounds how long a client's events are held because it has events that have yet to come
// here. They come with the next messages of NATS, or not at all.
const aheadHold = 2 * time.Second

// dropStateAhead forgets what the client has had of events that change the state.
func (w *work) dropStateAhead() {
	w.ahead = slices.DeleteFunc(w.ahead, func(m overlap.Mark) bool { return m.Sum&1 != 0 })
}

// stateAhead reports whether an event that the client has and the topic has not changes the state.
func (w *work) stateAhead() bool {
	for _, m := range w.ahead {
		if m.Sum&1 != 0 {
			return true
		}
	}
	return false
}

// had reports whether the client got an event, by its sum, from the process that it was at. It is
// counted.
func (b newcomer) had(sum uint64) bool {
	w := b.work
	if w == nil || len(w.ahead) == 0 {
		return false
	}
	for i, m := range w.ahead {
		if m.Sum == sum {
			w.ahead = append(w.ahead[:i], w.ahead[i+1:]...)
			return true
		}
	}
	return false
}

// skip reports whether the client has had an event, which is then dropped. It is called for each
// event while there may be such.
func (b newcomer) skip(e *state.Event) bool {
	w := b.work
	if b.holds&holdAhead != 0 && e.Kind < state.Delete && e.Next.Equal(w.snap) {
		b.had(e.Sum())
		b.aheadOver() // the topic is where the client is
		return true
	}
	if !b.had(e.Sum()) {
		return false
	}
	if len(w.ahead) == 0 && b.state == subSent && b.holds == 0 && !w.pending() {
		b.idle()
	}
	return true
}

// aheadOver has b go on when the topic is as the client has it, or does not get there.
func (b newcomer) aheadOver() {
	w, t := b.work, b.Topic()
	w.dropStateAhead()
	b.holds &^= holdAhead
	w.latest = t.Snapshot()
	w.conflate(b.s.env.Metrics)
	if w.conflated = !w.snap.Equal(w.latest); w.conflated {
		w.keepBase(t)
	}
	w.settleBase()
	b.resume()
}

// endStateAhead is called when aheadHold has passed. The client gets the difference.
func (b newcomer) endStateAhead() {
	if !b.s.closed && b.work != nil && b.holds&holdAhead != 0 {
		b.aheadOver()
	}
}

// EndAhead has a session that has come from another process not wait any more for what its client
// has had there.
func EndAhead(s *Session) {
	before := s.env.Enter(s)
	for _, b := range s.subs.all() {
		if b.state != subDisposed {
			newcomer{b}.endAhead()
		}
	}
	s.env.Enter(before)
}

// endAhead is called when what the client had from the other process, and has not come here, does
// not come any more.
func (b newcomer) endAhead() {
	if b.s.closed || b.work == nil || len(b.work.ahead) == 0 {
		return
	}
	b.work.ahead = nil
	switch {
	case b.holds&holdAhead != 0:
		b.aheadOver()
	case b.state == subSent && b.holds == 0 && !b.work.pending():
		b.idle()
	}
}
