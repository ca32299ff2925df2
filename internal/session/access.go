package session

import (
	"time"

	"sluice/fanout"
	"sluice/internal/res"
)

// access is a service's answer to an access request.
type access struct {
	res.AccessResult
	err        *res.Error
	unanswered bool // err is not a service's word, but that none came
}

func (a *access) canGet() *res.Error {
	switch {
	case a.err != nil:
		return a.err
	case !a.Get:
		return res.ErrAccessDenied
	}
	return nil
}

func (a *access) canCall(method string) *res.Error {
	switch {
	case a.err != nil:
		return a.err
	case !a.CanCall(method):
		return res.ErrAccessDenied
	}
	return nil
}

// Answers that nearly all clients get, shared so that a subscription's kept
// answer costs no memory of its own.
var (
	accessGet    = &access{AccessResult: res.AccessResult{Get: true}}
	accessAll    = &access{AccessResult: res.AccessResult{Get: true, Call: "*"}}
	accessDenied = &access{err: res.ErrAccessDenied}
)

// parseAccess returns what a service, or the lack of one, says.
func (s *Session) parseAccess(name string, payload []byte, err *res.Error) (a *access, meta *res.Meta) {
	if err != nil {
		return &access{err: err, unanswered: true}, nil
	}
	result, meta, err := s.env.Parser.Access(payload)
	if err != nil && err.Invalid() {
		s.env.Invalid("access."+name, err)
	}
	switch {
	case err != nil && *err == *res.ErrAccessDenied:
		a = accessDenied
	case err != nil:
		a = &access{err: err}
	case result == accessGet.AccessResult:
		a = accessGet
	case result == accessAll.AccessResult:
		a = accessAll
	default:
		a = &access{AccessResult: result}
	}
	return a, meta
}

// accessRequest returns an access request, valid until the next one is made, and
// what takes what comes of it to answer.
func (s *Session) accessRequest(name, query string, answer func(*access, *res.Meta)) (subject string, payload []byte, done func([]byte, *res.Error)) {
	s.env.payload = res.AppendAccessRequest(s.env.payload[:0], s.cid, s.token, query, s.http)
	return "access." + name, s.env.payload, func(payload []byte, err *res.Error) {
		if !s.closed {
			answer(s.parseAccess(name, payload, err))
		}
	}
}

// askAccess asks for access to a resource without a subscription.
func (s *Session) askAccess(name, query string, answer func(*access, *res.Meta)) {
	subject, payload, done := s.accessRequest(name, query, answer)
	s.env.Bus.Request(name, subject, payload, done)
}

// askAccess asks for access to what b is subscribed to. A reaccess event that the
// service sends right after its answer must not be missed, so while the topic is
// not there the request follows the subscription on NATS. If b is to join its
// topic next, which joins says, and the hub has none, the request is sent by the
// function returned, to be given to want; else that is nil.
func (b *Sub) askAccess(joins bool, answer func(*access, *res.Meta)) (first func()) {
	bus := b.s.env.Bus
	name, query := b.name()
	subject, payload, done := b.s.accessRequest(name, query, answer)
	t := b.Topic()
	if joins && b.unjoined() {
		if t = b.s.env.Hub.Find(b.rid, name, query); t == nil {
			return bus.Ahead(name, subject, payload, done)
		}
	}
	if t != nil && !t.Alive() {
		bus.RequestSubscribed(name, subject, payload, done)
	} else {
		bus.Request(name, subject, payload, done)
	}
	return nil
}

// withAccess calls f with the answer kept for b, or asks for one. b must be
// pinned or held until f is called.
func (b *Sub) withAccess(f func(*access)) {
	if b.acc != nil {
		f(b.acc)
		return
	}
	w := b.busy()
	w.onAccess = append(w.onAccess, f)
	if !b.asking {
		b.asking, b.stale = true, false
		b.askAccess(false, b.answered)
	}
}

// ask sends an access request ahead of b's joining its topic, if it is known
// that one is needed: withAccess follows.
func (b *Sub) ask() (first func()) {
	if b.acc != nil || b.asking {
		return nil
	}
	b.asking, b.stale = true, false
	return b.askAccess(true, b.answered)
}

// answered hands an access answer to those who wait for it.
func (b *Sub) answered(a *access, _ *res.Meta) {
	b.asking = false
	if b.state == subDisposed {
		return
	}
	b.remember(a)
	w := b.busy()
	fs := w.onAccess
	w.onAccess = nil
	for _, f := range fs {
		f(a)
	}
	if b.state == subSent {
		b.resume() // access may have to be asked anew since
	}
}

// remember keeps an access answer for as long as b is subscribed in whichever
// way, if it grants or denies; other errors may pass. An answer that may be out
// of date already is not kept.
func (b *Sub) remember(a *access) {
	if (a.err == nil || a.err.Code == res.CodeAccessDenied) && b.Topic() != nil && !b.stale {
		b.acc = a
	}
}

// forget drops the kept answer, and with it one that is on its way.
func (b *Sub) forget() {
	b.acc = nil
	b.stale = b.asking
}

// lapse forgets that access is to be asked again if there is no direct
// subscription any more that it would be asked for: it is asked when it is needed.
func (b *Sub) lapse() {
	if b.held == 0 && b.pending == 0 {
		b.reaccess = false
	}
}

// Reaccess implements fanout.Subscriber. Access is asked anew at once if
// nothing holds b's events back, else as soon as nothing does.
func (b *Sub) Reaccess(why fanout.Reason) {
	before := b.s.env.Enter(b.s)
	b.revisit(why)
	b.s.env.Enter(before)
}

func (b *Sub) revisit(why fanout.Reason) {
	b.forget()
	if b.held == 0 && b.pending == 0 {
		return // no direct subscription relies on it: asked when it is needed
	}
	b.patient = b.patient || why == fanout.Gap
	if why == fanout.Gap && b.tries > 0 && b.hold&holdAccess != 0 && b.state == subSent && !b.asking {
		// retry pauses. After a gap services are back: the new gap is a better moment than the end of the pause.
		b.acc = nil
		b.withAccess(b.judge)
		return
	}
	if b.state != subSent || b.hold != 0 || b.asking || b.held == 0 {
		b.reaccess = true
		return
	}
	b.reask(why != fanout.Changed)
}

// reask holds b's events, asks for access, unless that has been answered since,
// and ends the direct subscriptions if it is denied. limited says that the request waits for its turn among those
// that a reset causes.
func (b *Sub) reask(limited bool) {
	s := b.s
	b.reaccess = false
	b.pin(b.Topic().Snapshot())
	b.hold |= holdAccess
	if !limited || s.env.Reset == nil {
		b.withAccess(b.judge)
		return
	}
	env := s.env
	env.Reset.Acquire(func() {
		env.Post(func() {
			defer env.Enter(env.Enter(s))
			if s.closed || b.hold&holdAccess == 0 || b.state == subDisposed {
				env.Reset.Release()
				return
			}
			if b.acc != nil || b.asking {
				env.Reset.Release()
				b.withAccess(b.judge)
				return
			}
			name, query := b.name()
			b.asking, b.stale = true, false
			b.busy().onAccess = append(b.busy().onAccess, b.judge)
			subject, payload, done := s.accessRequest(name, query, b.answered)
			env.Bus.Request(name, subject, payload, func(payload []byte, err *res.Error) {
				env.Reset.Release()
				done(payload, err)
			})
		})
	})
}

// judge acts on the answer to reask.
func (b *Sub) judge(a *access) {
	if b.hold&holdAccess == 0 {
		return // not held any more when the answer came
	}
	if a.unanswered && b.patient && b.held > 0 {
		b.retry()
		return
	}
	b.patient, b.tries = false, 0
	b.hold &^= holdAccess
	if err := a.canGet(); err != nil && b.held > 0 {
		b.revoke(err)
	}
	b.resume()
}

// Pauses between tries to ask a service that does not answer after a gap.
const (
	retryFirst = 500 * time.Millisecond
	retryMost  = 30 * time.Second
)

// retry asks again after a while. After a gap, services come back when they
// can: that one is not there yet is no reason to take away what a client was
// granted. Its events stay held meanwhile, so it learns nothing new.
func (b *Sub) retry() {
	wait := min(retryFirst<<min(b.tries, 10), retryMost)
	b.tries++
	b.s.env.After(wait, func() {
		if !b.s.closed && b.state == subSent && b.hold&holdAccess != 0 && !b.asking {
			b.acc = nil
			b.withAccess(b.judge)
		}
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
	b.held = 0
	s.collect(b)
	if s.ended != nil {
		s.ended()
	}
}

// SetToken gives the client a token, raw JSON, or takes it away with "". If it
// had one before, access to all it is subscribed to directly is asked anew.
func (s *Session) SetToken(token, tid string) {
	before := s.env.Enter(s)
	s.setToken(token, tid)
	s.env.Enter(before)
}

func (s *Session) setToken(token, tid string) {
	if s.closed {
		return
	}
	had := s.token != ""
	s.token = token
	s.setTID(tid)
	if !had {
		return
	}
	for _, b := range s.subs.all() {
		if b.state != subDisposed {
			b.Reaccess(fanout.Changed)
		}
	}
}

// ResetToken sends an auth request to subject for each session of the loop
// whose token ID is among tids (system.tokenReset). What comes of it arrives
// as token events.
func (env *Env) ResetToken(tids []string, subject string) {
	for _, tid := range tids {
		for s := range env.tids[tid] {
			before := env.Enter(s)
			s.renewToken(subject)
			env.Enter(before)
		}
	}
}

func (s *Session) renewToken(subject string) {
	r := res.AuthRequest{CallRequest: res.CallRequest{CID: s.cid, Token: s.token}, NoParams: true}
	s.peer.Describe(&r)
	s.env.payload = res.AppendAuthRequest(s.env.payload[:0], r)
	s.env.Bus.Request(subject, subject, s.env.payload, func(_ []byte, err *res.Error) {
		if err != nil {
			s.env.Log.Error("token reset: auth request failed; see that a service answers its subject", "subject", subject, "cid", s.cid, "err", err)
		}
	})
}

// setTID files the session under its token ID.
func (s *Session) setTID(tid string) {
	if tid == s.tid {
		return
	}
	if s.tid != "" {
		delete(s.env.tids[s.tid], s)
		if len(s.env.tids[s.tid]) == 0 {
			delete(s.env.tids, s.tid)
		}
	}
	s.tid = tid
	if tid == "" {
		return
	}
	if s.env.tids == nil {
		s.env.tids = make(map[string]map[*Session]struct{})
	}
	if s.env.tids[tid] == nil {
		s.env.tids[tid] = make(map[*Session]struct{})
	}
	s.env.tids[tid][s] = struct{}{}
}
