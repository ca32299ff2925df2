package session

import (
	"bytes"
	"time"

	"sluice/fanout"
	"sluice/internal/invariants"
	"sluice/internal/limit"
	"sluice/internal/res"
)

// access is the result of an access request.
type access struct {
	res.AccessResult
	err        *res.Error
	unanswered bool // err is not from a service: there was no reply
}

// canGet returns why the client may not get the resource, nil if it may.
func (a *access) canGet() *res.Error {
	switch {
	case a.err != nil:
		return a.err
	case !a.Get:
		return res.ErrAccessDenied
	}
	return nil
}

// canCall returns why the client may not call a method, nil if it may.
func (a *access) canCall(method string) *res.Error {
	switch {
	case a.err != nil:
		return a.err
	case !a.CanCall(method):
		return res.ErrAccessDenied
	}
	return nil
}

// Results that nearly all clients get, shared so that a cached result costs no
// memory of its own.
var (
	accessGet    = &access{AccessResult: res.AccessResult{Get: true}}
	accessAll    = &access{AccessResult: res.AccessResult{Get: true, Call: "*"}}
	accessDenied = &access{err: res.ErrAccessDenied}
)

// usualReply is a reply to an access request and what it means. Services have few different ones.
type usualReply struct {
	text   []byte
	access *access
}

// maxUsual is the length, in bytes, up to which a reply is kept as a usual one.
const maxUsual = 64

// parseAccess returns the result of an access request.
func (env *Env) parseAccess(name string, payload []byte, err *res.Error) (a *access, meta *res.Meta) {
	if err != nil {
		return &access{err: err, unanswered: true}, nil
	}
	u := &env.usual[len(payload)%len(env.usual)]
	if u.access != nil && bytes.Equal(u.text, payload) {
		return u.access, nil
	}
	result, meta, err := env.Parser.Access(payload)
	if err != nil && err.Invalid() {
		env.Invalid("access."+name, err)
	}
	a = shared(result, err)
	if meta == nil && err == nil && len(payload) <= maxUsual {
		u.text, u.access = append(u.text[:0], payload...), a
	}
	return a, meta
}

// shared returns an access result without an allocation, if it is a usual one.
func shared(result res.AccessResult, err *res.Error) *access {
	switch {
	case err != nil && *err == *res.ErrAccessDenied:
		return accessDenied
	case err != nil:
		return &access{err: err}
	case result == accessGet.AccessResult:
		return accessGet
	case result == accessAll.AccessResult:
		return accessAll
	}
	return &access{AccessResult: result}
}

// maxCuts is how many times an access request is sent again because its connection
// to NATS was lost, as a shard's requests are.
const maxCuts = 3

// accessRequest is an access request in flight. If the connection to NATS is lost before the reply,
// it is sent again: access requests are idempotent. Bus calls done once, so that the next request
// may have the same accessRequest from then on.
type accessRequest struct {
	s           *Session
	b           *Sub // its subscription; nil: it has none
	priority    limit.Priority
	name, query string
	cuts        int                      // how often it may be sent again
	answer      func(*access, *res.Meta) // nil: b.onAccess
	done        func([]byte, *res.Error) // the method reply; made once
}

// accessRequest returns an access request, valid until the next one is built, and the callback for
// its reply, which calls answer, or b.onAccess if that is nil. b is its subscription, nil if it has
// none. It may be sent again cuts times.
func (s *Session) accessRequest(b *Sub, p limit.Priority, name, query string, cuts int, answer func(*access, *res.Meta)) (subject string, payload []byte, done func([]byte, *res.Error)) {
	env := s.env
	env.payload = append(append(env.payload[:0], "access."...), name...)
	subject = env.Parser.Interned.Of(env.payload)
	env.payload = res.AppendAccessRequest(env.payload[:0], s.cid, s.token(), query, s.http)
	r := env.takeRequest()
	r.s, r.b, r.priority, r.name, r.query, r.cuts, r.answer = s, b, p, name, query, cuts, answer
	return subject, env.payload, r.done
}

// reply handles the reply to the request, or the error that replaces it.
func (r *accessRequest) reply(payload []byte, err *res.Error) {
	s, b, p, name, query, cuts, answer := r.s, r.b, r.priority, r.name, r.query, r.cuts, r.answer
	if invariants.Enabled {
		invariants.Check(s != nil, "an access request has had its reply before")
	}
	s.env.endRequest(r)
	switch {
	case s.closed:
	case err != res.ErrCut || cuts == 0:
		a, meta := s.env.parseAccess(name, payload, err)
		if answer == nil {
			b.onAccess(a, meta)
		} else {
			answer(a, meta)
		}
	case b != nil:
		b.sendAccess(false, p, cuts-1, answer)
	default:
		s.askAccess(name, query, cuts-1, answer)
	}
}

// askAccess requests access to a resource without a subscription, for a call. cuts is maxCuts but
// for a request that is sent again.
func (s *Session) askAccess(name, query string, cuts int, answer func(*access, *res.Meta)) {
	subject, payload, done := s.accessRequest(nil, limit.Call, name, query, cuts, answer)
	s.env.Bus.Request(limit.Call, name, subject, payload, done)
}

// askAccess requests access to b's resource. A service may send a reaccess event
// right after its reply. So while the topic is not loaded, the request is sent
// after the NATS subscription of the resource's events. If joins is true, b is
// about to join its topic. If the hub has no such topic, then askAccess sends
// nothing and returns a function for want that sends the request; else nil. answer
// gets the result, or b.onAccess if it is nil.
func (b *Sub) askAccess(joins bool, p limit.Priority, answer func(*access, *res.Meta)) (first func()) {
	return b.sendAccess(joins, p, maxCuts, answer)
}

func (b *Sub) sendAccess(joins bool, p limit.Priority, cuts int, answer func(*access, *res.Meta)) (first func()) {
	bus := b.s.env.Bus
	name, query := b.s.resolve(b.rid)
	subject, payload, done := b.s.accessRequest(b, p, name, query, cuts, answer)
	t := b.Topic()
	if joins && b.unjoined() {
		if t = b.s.env.Hub.Find(b.rid, name, query); t == nil {
			return bus.Ahead(name, subject, payload, done)
		}
	}
	if t != nil && !t.Alive() {
		bus.RequestSubscribed(name, subject, payload, done)
	} else {
		bus.Request(p, name, subject, payload, done)
	}
	return nil
}

// An access result holds as long as its resource's events reach b without a gap since the request
// was sent: a service that revokes access says so in an event. Where b leaves its topic, or the
// topic ends, there is a gap. What is asked later, or for another topic, does not get the result.

// notified reports whether the events of b's resource, reaccess included, reach b.
func notified(b *Sub) bool {
	t := b.Topic()
	return t != nil && (t.Alive() || !t.Settled())
}

// withAccess calls f with b's access result: the cached one, or that of a new
// request of priority p. b must be a root until f is called. Of a request in
// flight that is outdated, f does not get the result, but of one that follows.
func (b *Sub) withAccess(p limit.Priority, f accessUser) {
	if b.acc != nil {
		f.onAccess(b.acc)
		return
	}
	b.ensureWork().onAccess.add(f)
	if !b.asking {
		b.asking, b.outdated = true, false
		b.askAccess(false, p, nil)
	}
}

// accessUser waits for an access result.
type accessUser interface{ onAccess(*access) }

// accessFunc is a function as an accessUser.
type accessFunc func(*access)

func (f accessFunc) onAccess(a *access) { f(a) }

// rechecked is a subscription whose access is checked again, as an accessUser.
type rechecked struct{ b *Sub }

func (r rechecked) onAccess(a *access) { r.b.applyAccess(a) }

// accessUsers are those that wait for one result, of which there is usually one: that needs no
// memory.
type accessUsers struct {
	first accessUser
	more  []accessUser // after first
	early int          // once the result is outdated: how many of them get it all the same
}

func (u *accessUsers) add(f accessUser) {
	if u.first == nil {
		u.first = f
	} else {
		u.more = append(u.more, f)
	}
}

func (u *accessUsers) len() int {
	if u.first == nil {
		return 0
	}
	return 1 + len(u.more)
}

// at returns the i-th of them.
func (u *accessUsers) at(i int) accessUser {
	if i == 0 {
		return u.first
	}
	return u.more[i-1]
}

// requestAccess requests access, if needed, before b joins its topic. A call of
// withAccess follows.
func (b *Sub) requestAccess() (first func()) {
	if b.acc != nil || b.asking {
		return nil
	}
	b.asking, b.outdated = true, false
	return b.askAccess(true, limit.Access, nil)
}

// onAccess passes an access result to the callers of withAccess.
func (b *Sub) onAccess(a *access, _ *res.Meta) {
	b.asking = false
	if b.state == subDisposed {
		return
	}
	b.cacheAccess(a)
	w := b.ensureWork()
	users := w.onAccess
	w.onAccess = accessUsers{}
	n := users.len()
	if b.outdated {
		n = users.early
	}
	for i := range users.len() {
		if f := users.at(i); i < n {
			f.onAccess(a)
		} else {
			b.withAccess(limit.Access, f)
		}
	}
	if b.state == subSent {
		b.resume() // a recheck may be due since
	}
}

// cacheAccess caches an access result while b is notified of changes, if it
// grants or denies; other errors may pass. An outdated result is not cached.
func (b *Sub) cacheAccess(a *access) {
	if (a.err == nil || a.err.Code == res.CodeAccessDenied) && notified(b) && !b.outdated {
		b.acc = a
	}
}

// dropAccess drops the cached access result. That of a request in flight is only
// for those that wait for it already.
func (b *Sub) dropAccess() {
	b.acc = nil
	if b.asking && !b.outdated && b.work != nil {
		b.work.onAccess.early = b.work.onAccess.len()
	}
	b.outdated = b.asking
}

// cancelReaccess cancels a due recheck if there is no direct subscription left
// that it could end. The next request asks for access anyway.
func (b *Sub) cancelReaccess() {
	if b.wanted() {
		return
	}
	b.reaccess = false
	if b.holds&holdAccess == 0 { // else the recheck in progress ends it
		b.retryAccess, b.tries = false, 0
	}
}

// Reaccess implements fanout.Subscriber. Access is rechecked immediately, or as
// soon as nothing holds b's events.
func (b *Sub) Reaccess(why fanout.Reason) {
	before := b.s.env.Enter(b.s)
	b.invalidateAccess(why)
	b.s.env.Enter(before)
}

func (b *Sub) invalidateAccess(why fanout.Reason) {
	b.dropAccess()
	if !b.wanted() {
		return // no direct subscription relies on it; the next request asks
	}
	b.retryAccess = b.retryAccess || why == fanout.Gap
	if why == fanout.Gap && b.tries > 0 && b.holds&holdAccess != 0 && b.state == subSent && !b.asking {
		// retry is backing off. A new gap means that services are back: ask now.
		b.acc = nil
		b.withAccess(limit.Refresh, rechecked{b})
		return
	}
	if b.state != subSent || b.holds != 0 || b.asking || b.direct == 0 {
		b.reaccess = true
		return
	}
	b.recheck(why != fanout.Changed)
}

// recheck holds b's events, and asks for access unless there is a newer result. If access is
// denied, it ends the direct subscriptions. limited says that the request needs a place in the
// reset throttle.
func (b *Sub) recheck(limited bool) {
	s := b.s
	b.reaccess = false
	b.fix(b.Topic().Snapshot())
	b.holds |= holdAccess
	if !limited {
		b.withAccess(limit.Access, rechecked{b})
		return
	}
	if s.env.Reset == nil {
		b.withAccess(limit.Refresh, rechecked{b})
		return
	}
	env := s.env
	env.Reset.Acquire(func() {
		env.Post(func() {
			before := env.Enter(s)
			b.recheckGranted()
			env.Enter(before)
		})
	})
}

// recheckGranted sends the request of recheck; it has a place in the reset throttle. The place is
// released once: when the reply arrives, the session ends, or a panic interrupts this.
func (b *Sub) recheckGranted() {
	s, env := b.s, b.s.env
	s.places++
	sent := false
	defer func() {
		if !sent {
			s.releasePlace()
		}
	}()
	if s.closed || b.holds&holdAccess == 0 || b.state == subDisposed {
		return
	}
	if b.acc != nil || b.asking {
		b.withAccess(limit.Refresh, rechecked{b})
		return
	}
	name, query := s.resolve(b.rid)
	b.asking, b.outdated = true, false
	b.ensureWork().onAccess.add(rechecked{b})
	subject, payload, done := s.accessRequest(b, limit.Refresh, name, query, 0, nil) // retry repeats it
	env.Bus.Request(limit.Refresh, name, subject, payload, func(payload []byte, err *res.Error) {
		s.releasePlace()
		done(payload, err)
	})
	sent = true
}

// releasePlace releases a place in the reset throttle, unless Close has released it.
func (s *Session) releasePlace() {
	if s.places > 0 {
		s.places--
		s.env.Reset.Release()
	}
}

// applyAccess applies the result of a recheck.
func (b *Sub) applyAccess(a *access) {
	if b.holds&holdAccess == 0 {
		return // the hold ended before the reply
	}
	if a.unanswered && b.retryAccess && b.direct > 0 {
		b.retry()
		return
	}
	b.retryAccess, b.tries = false, 0
	b.holds &^= holdAccess
	if err := a.canGet(); err != nil && b.direct > 0 {
		b.revoke(err)
	}
	b.resume()
}

// Back-off between access requests that no service answers after a gap.
const (
	retryFirst = 500 * time.Millisecond
	retryMost  = 30 * time.Second
)

// retry asks for access again after a pause. After a gap, services need time to
// come back: a missing reply does not revoke what a client was granted. Its
// events stay held, so it learns nothing new.
func (b *Sub) retry() {
	wait := min(retryFirst<<min(b.tries, 10), retryMost)
	b.tries++
	try := b.tries
	b.s.env.After(wait, func() {
		if b.s.closed || b.state != subSent || b.holds&holdAccess == 0 || b.tries != try {
			return // it is over, or a later retry follows
		}
		if !b.asking { // else the reply to another request serves as well
			b.acc = nil
		}
		b.withAccess(limit.Refresh, rechecked{b})
	})
}

// revoke ends b's direct subscriptions and tells the client why.
func (b *Sub) revoke(reason *res.Error) {
	s := b.s
	s.env.Metrics.Revoked.Add(1)
	data := append(s.env.buf[:0], `{"reason":`...)
	data = append(reason.AppendJSON(data), '}')
	s.env.buf = data
	s.event(b.rid, "unsubscribe", data)
	b.direct = 0
	b.cancelReaccess()
	s.collect(b)
	if s.streams() {
		s.rare.ended()
	}
}
