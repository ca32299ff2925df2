package session

import (
	"cmp"
	"errors"
	"fmt"
	"math"
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
	Snapshot int          // what the client holds; of a failed one 0 if it holds nothing
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

// Topics calls f for the topic of each resource that the client holds.
func Topics(s *Session, f func(*fanout.Topic)) {
	s.subs.each(func(b *Sub) {
		if b.state == subSent {
			f(b.Topic())
		}
	})
}

// Waits returns what a session, of a WebSocket or a stream, waits for before it can move; "" says
// that it can. It can move if no request of its is in progress, and nothing of what it has to send
// waits for anything but the client.
func Waits(s *Session) (why string) {
	switch {
	case s.closed || s.faulty || s.http && !s.streams():
		return "its end"
	case s.oldest != nil || s.requests > 0:
		return "a request"
	case s.items != nil || s.frozen > 0 || s.proceeding:
		return "work that is due"
	case s.places > 0:
		return "access, after a reset"
	case len(s.env.ahead[s]) > 0:
		return "events that an earlier process has had"
	}
	s.subs.each(func(b *Sub) {
		if why == "" {
			why = waits(b)
		}
	})
	return why
}

// waits returns what b has its session wait for; "": nothing.
func waits(b *Sub) string {
	switch {
	case b.asking || b.direct > 0 && (b.reaccess || b.retryAccess) || b.holds&holdAccess != 0:
		return "access"
	case b.granted || b.pending > 0 || b.pins > 0:
		return "a request"
	case b.holds&holdReferences != 0:
		return "references"
	case b.holds&holdPace != 0:
		return "a long difference"
	case b.holds&holdAhead != 0:
		return "events that an earlier process has had"
	}
	if w := b.work; w != nil {
		switch {
		case w.blocked.event != nil || len(w.waiters) > 0:
			return "references"
		case w.onAccess.len() > 0:
			return "access"
		case len(w.judged) > 0:
			return "a request"
		}
	}
	switch b.state {
	case subSent:
		if b.Topic() == nil || !b.Topic().Alive() {
			return "the end of a resource"
		}
		return ""
	case subReady, subDeleted, subFailed:
		return ""
	}
	return "a resource"
}

// travels reports whether a subscription at rest goes over. One that the client has not been sent,
// and that nothing it was sent refers to, has served its purpose.
func travels(b *Sub) bool { return b.seen() || b.inSent > 0 }

// Move takes a session that can move (Waits) out of this process, with the numbers of its topics
// and snapshots. The caller closes it.
func Move(s *Session, topic func(*fanout.Topic) int, snapshot func(*state.Snapshot) int) Moved {
	m := Moved{CID: s.cid, Token: s.token(), TID: s.tid(), Protocol: s.version.String(), Versioned: s.versioned, TellLost: s.tellLost, Lagging: s.lagging, Stream: s.http}
	if g := s.grant(); g != nil && g.ends > 0 {
		m.TokenEnds = max(g.ends-s.env.Now(), 1)
	}
	s.subs.each(func(b *Sub) {
		if !travels(b) {
			return
		}
		sub := MovedSub{RID: b.rid, State: b.state.String(), Direct: int(b.direct)}
		if b.state == subReady { // to the client it has failed: it has loaded again since
			sub.State, sub.Error = subFailed.String(), cmp.Or(b.work.err, res.ErrNotFound)
			if b.work.staleCopy != nil {
				sub.Snapshot = snapshot(b.work.staleCopy)
			}
			m.Subs = append(m.Subs, sub)
			return
		}
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
			if sub.Error = b.work.err; b.work.staleCopy != nil {
				sub.Snapshot = snapshot(b.work.staleCopy)
			}
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
	Seams     []*fanout.Seam // by number of the topic; nil: its resource is not there
}

// most bounds the counts of a description: a session has them in 32 bits.
const most = math.MaxInt32

// Check returns what is wrong with a description that another process has sent, nil if Arrive can
// go on with it. topics are the resource IDs of the batch's topics, by number. The error names a
// subscription by its place: a resource ID may have a secret.
func (m *Moved) Check(p *res.Parser, snapshots map[int]*state.Snapshot, topics []string) error {
	_, version := res.ParseVersion(m.Protocol)
	switch {
	case !res.ValidPart(m.CID):
		return errors.New("the connection ID of a client is none")
	case version != nil:
		return errors.New("the protocol version of a client is none")
	case m.Token != "" && !isJSON(p, m.Token):
		return errors.New("the token of a client is not JSON")
	case m.TokenEnds < 0 || m.TokenEnds > math.MaxInt64/2:
		return errors.New("the end of a client's token is out of range")
	}
	known := make(map[string]bool, len(m.Subs))
	for i := range m.Subs {
		rid := m.Subs[i].RID
		switch {
		case !res.ValidRID(rid):
			return fmt.Errorf("the resource ID of subscription %d is none", i)
		case known[rid]:
			return fmt.Errorf("subscription %d is there twice", i)
		}
		known[rid] = true
	}
	for i := range m.Subs {
		sub := &m.Subs[i]
		if err := sub.check(p, snapshots, topics); err != nil {
			return fmt.Errorf("subscription %d: %w", i, err)
		}
		if snap := snapshots[sub.Snapshot]; snap != nil {
			for rid := range snap.Refs() {
				if !known[rid] {
					return fmt.Errorf("subscription %d refers to a resource that the client does not have", i)
				}
			}
		}
	}
	return nil
}

// check is Moved.Check for what a subscription says by itself.
func (m *MovedSub) check(p *res.Parser, snapshots map[int]*state.Snapshot, topics []string) error {
	sent := m.State == subSent.String()
	switch m.State {
	case subSent.String(), subDeleted.String():
		if snapshots[m.Snapshot] == nil {
			return fmt.Errorf("there is no snapshot %d", m.Snapshot)
		}
	case subFailed.String():
		switch {
		case m.Snapshot != 0 && snapshots[m.Snapshot] == nil:
			return fmt.Errorf("there is no snapshot %d", m.Snapshot)
		case m.Error == nil || m.Error.Code == "" || m.Error.Data != "" && !isJSON(p, m.Error.Data):
			return errors.New("it has failed without a valid error")
		}
	default:
		return errors.New("its state is none of a client at rest")
	}
	switch {
	case m.Direct < 0 || m.Direct > most || m.Lost < 0 || m.Lost > most:
		return errors.New("a count is out of range")
	case !sent && (m.Access != nil || len(m.Held) > 0 || m.Lost > 0):
		return errors.New("it has access or events, and no topic")
	case sent && (m.Topic < 0 || m.Topic >= len(topics)):
		return fmt.Errorf("there is no topic %d", m.Topic)
	case sent && topics[m.Topic] != m.RID:
		return fmt.Errorf("topic %d is of another resource", m.Topic)
	case m.Access != nil && m.Access.Error != nil && m.Access.Error.Code != res.CodeAccessDenied:
		return errors.New("its access is an error that does not last")
	}
	for i := range m.Held {
		if e := &m.Held[i]; !isCustom(e.Name) || e.Payload != "" && !isJSON(p, e.Payload) || e.Lost < 0 || e.Lost > most {
			return fmt.Errorf("its event %d is not valid", i)
		}
	}
	return nil
}

func isJSON(p *res.Parser, text string) bool {
	_, err := p.Custom([]byte(text))
	return err == nil
}

// isCustom reports whether a client may get a custom event of this name.
func isCustom(name string) bool {
	switch name {
	case state.Change.String(), state.Add.String(), state.Remove.String(), state.Delete.String(), "unsubscribe":
		return false
	}
	return res.ValidPart(name)
}

var (
	errVersion = errors.New("session: a client from another process has an unknown version")
	errTopic   = errors.New("session: a client from another process has a resource that is not there")
)

// Arrive goes on with a session of another process, which has passed Check. ready is called when
// the session is complete, before it sends anything. Its client is sent what has happened since;
// nothing is asked of services for what it holds. That of a stream calls ended as in
// Session.Stream. The session is made in s, which is the zero value.
func Arrive(s *Session, env *Env, peer Peer, out fanout.Outbox, form fanout.Form, m *Moved, a *Arrival, ready func(*Session), ended func()) error {
	version, bad := res.ParseVersion(m.Protocol)
	if bad != nil {
		return errVersion
	}
	for i := range m.Subs {
		if sub := &m.Subs[i]; sub.State == subSent.String() && a.Seams[sub.Topic] == nil {
			return errTopic
		}
	}
	Init(s, env, peer, out, form, m.CID)
	defer env.Enter(env.Enter(s))
	if m.Stream {
		s.http, s.ensureRare().ended = true, ended
	}
	if m.Token != "" {
		s.ensureRare().token = m.Token
	}
	s.version, s.versioned, s.tellLost, s.lagging = version, m.Versioned, m.TellLost, m.Lagging
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
	var sent []int
	for i, b := range subs {
		if b.state == subSent {
			sent = append(sent, i)
			_, ahead := a.Seams[m.Subs[i].Topic].Compare()
			newcomer{b}.expect(ahead) // before the client loses it by an event of another resource
		}
	}
	for _, i := range sent {
		if !s.closed {
			newcomer{subs[i]}.catchUp(a.Seams[m.Subs[i].Topic], a.Snapshots[m.Subs[i].Snapshot])
		}
	}
	return nil
}

// arrive makes a subscription as it was, before anything that has happened since.
func arrive(s *Session, m *MovedSub, a *Arrival) *Sub {
	b := s.sub(m.RID)
	b.direct = int32(m.Direct)
	if x := m.Access; x != nil {
		b.acc = shared(res.AccessResult{Get: x.Get, Call: x.Call}, x.Error)
	}
	w := b.ensureWork()
	if m.State == subFailed.String() {
		b.to(subFailed)
		w.err, w.staleCopy = m.Error, a.Snapshots[m.Snapshot]
		return b
	}
	w.snap = a.Snapshots[m.Snapshot]
	if m.State == subDeleted.String() {
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
	a.Seams[m.Topic].Topic.Join(b, s.out, s.variant())
	if !notified(b) {
		b.dropAccess() // the resource has ended here: its events do not reach b
	}
	return b
}

// newcomer is the role of a subscription that has come from another process, while the client may
// have had events there that have yet to come here.
type newcomer struct{ *Sub }

// catchUp sends what the topic's subscribers were told here and not there, and keeps what was told
// there from being told again. had is what the client holds.
func (b newcomer) catchUp(seam *fanout.Seam, had *state.Snapshot) {
	s, w, t := b.s, b.work, seam.Topic
	missed, _ := seam.Compare()
	var reaccess bool
	var why fanout.Reason
	for _, h := range missed {
		if h.Event == nil && why != fanout.Gap {
			reaccess, why = true, h.Why
		}
	}
	if b.state != subSent || w == nil || w.snap != had {
		// An event of another resource has ended it, and perhaps brought it anew.
		if reaccess && b.state != subDisposed {
			b.invalidateAccess(why)
		}
		return
	}
	newest := t.Snapshot()
	singly := false // the missed events lead from the client's state to the newest
	switch {
	case seam.Same(w.snap, newest):
		b.dropStateAhead() // a get has brought them here
		if w.lost == 0 && len(w.queue) == 0 {
			w.snap = nil // as the topic
		}
	case seam.Leads(w.snap):
		b.dropStateAhead()
		singly = true
	case b.stateAhead() && seam.Steps == 0:
		b.holds |= holdAhead // until the events that the client has come here, too
	default:
		b.dropStateAhead()
		w.latest, w.conflated = newest, true
		w.keepBase(t)
	}
	for _, h := range missed {
		switch {
		case h.Event == nil, h.Event.Kind < state.Delete && !singly:
			continue
		case w.snap == nil:
			w.snap = newest
		}
		w.push(h.Event, s.env.Limits.HeldEvents, s.env.Metrics)
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

// aheads are the events that clients have had from the process that they were at, and that have
// yet to come here: by session and resource ID, since the client may lose a resource and get it
// again meanwhile. nil: there are none.
type aheads map[*Session]map[string][]overlap.Mark

// expect notes events that the client has had, and that have yet to come here.
func (b newcomer) expect(events []overlap.Mark) {
	if len(events) == 0 {
		return
	}
	s := b.s
	if s.env.ahead == nil {
		s.env.ahead = make(aheads)
	}
	all := s.env.ahead[s]
	if all == nil {
		all = make(map[string][]overlap.Mark)
		s.env.ahead[s] = all
		s.env.After(overlap.Apart, func() { EndAhead(s, nil) })
	}
	all[b.rid] = slices.Clone(events)
}

// expected returns what expect has noted of the resource, and has not come yet.
func (b newcomer) expected() []overlap.Mark { return b.s.env.ahead[b.s][b.rid] }

// setExpected changes what expected returns.
func (b newcomer) setExpected(events []overlap.Mark) {
	if len(events) > 0 {
		b.s.env.ahead[b.s][b.rid] = events
		return
	}
	if delete(b.s.env.ahead[b.s], b.rid); len(b.s.env.ahead[b.s]) == 0 {
		b.s.env.forgetAhead(b.s)
	}
}

// forgetAhead ends what expect has begun.
func (env *Env) forgetAhead(s *Session) {
	if delete(env.ahead, s); len(env.ahead) == 0 {
		env.ahead = nil
	}
}

// dropStateAhead forgets what the client has had of events that change the state: its copy is not
// the one that they have led to.
func (b newcomer) dropStateAhead() {
	if all := b.expected(); len(all) > 0 {
		b.setExpected(slices.DeleteFunc(all, func(m overlap.Mark) bool { return m.Sum&1 != 0 }))
	}
}

// stateAhead reports whether an event that the client has and the topic has not changes the state.
func (b newcomer) stateAhead() bool {
	return slices.ContainsFunc(b.expected(), func(m overlap.Mark) bool { return m.Sum&1 != 0 })
}

// had reports whether the client got an event, by its sum, from the process that it was at. It is
// counted.
func (b newcomer) had(sum uint64) bool {
	all := b.expected()
	i := slices.IndexFunc(all, func(m overlap.Mark) bool { return m.Sum == sum })
	if i < 0 {
		return false
	}
	b.setExpected(slices.Delete(all, i, i+1))
	return true
}

// rest returns b to the hub's fast path if nothing is left that is to be compared, or sent.
func (b newcomer) rest() {
	if len(b.expected()) == 0 && b.state == subSent && b.holds == 0 && (b.work == nil || !b.work.pending()) {
		b.idle()
	}
}

// skip reports whether the client has had an event, which is then dropped. It is called for each
// event while there may be such.
func (b newcomer) skip(e *state.Event) bool {
	if b.holds&holdAhead != 0 && e.Kind < state.Delete && e.Next.Equal(b.work.snap) {
		b.had(e.Sum())
		b.aheadOver() // the topic is where the client is
		return true
	}
	if !b.had(e.Sum()) {
		return false
	}
	b.rest()
	return true
}

// aheadOver has b go on when the topic is as the client has it, or does not get there.
func (b newcomer) aheadOver() {
	w, t := b.work, b.Topic()
	b.dropStateAhead()
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
	if !b.s.closed && b.state == subSent && b.holds&holdAhead != 0 {
		b.aheadOver()
	}
}

// EndAhead has a session that has come from another process not wait any more for what its client
// has had there, and has not come here, but for the resource IDs of later. It reports whether it
// still waits for something.
func EndAhead(s *Session, later map[string]bool) (waits bool) {
	missing := s.env.ahead[s]
	if missing == nil {
		return false
	}
	before := s.env.Enter(s)
	ended := make(map[string]bool)
	for rid := range missing {
		if !later[rid] {
			ended[rid] = true
			delete(missing, rid)
		}
	}
	if len(missing) == 0 {
		s.env.forgetAhead(s)
	}
	for _, b := range s.subs.all() {
		switch b := (newcomer{b}); {
		case !ended[b.rid] || b.state != subSent:
		case b.holds&holdAhead != 0:
			b.aheadOver()
		default:
			b.rest()
		}
	}
	s.env.Enter(before)
	return len(s.env.ahead[s]) > 0
}
