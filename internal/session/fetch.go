package session

import (
	"sluice/fanout"
	"sluice/internal/limit"
	"sluice/internal/res"
)

// fetch is a request in progress that needs a resource: it asks for access,
// waits until the resource and its references are loaded, and then responds.
type fetch struct {
	s      *Session
	id     string // of the client's request
	rid    string
	b      *Sub                         // set by claim
	keep   bool                         // the client gets a direct subscription
	topic  *fanout.Topic                // of b when access was asked for
	denied *res.Error                   // why access is denied; nil: it is granted, or not known
	answer func(b *Sub, err *res.Error) // called once in place of respond; nil: none
}

// respond responds with the resource set, or with the error.
func (f *fetch) respond(b *Sub, err *res.Error) {
	switch {
	case f.answer != nil:
		f.answer(b, err)
	case err != nil:
		f.s.fail(f.id, err)
	default:
		f.s.resultSet(f.id, f.s.setOf(b), nil)
	}
}

// fetch starts a fetch when the turn of the request has come. A request that may
// be answered before earlier ones runs alone: one subscription too many, or one
// that is denied after an earlier one was granted. answer may be nil: the
// response is the resource set, or the error.
func (s *Session) fetch(id, rid string, keep bool, answer func(b *Sub, err *res.Error)) {
	f := s.env.takeFetch()
	f.s, f.id, f.rid, f.keep, f.answer = s, id, rid, keep, answer
	b := s.subs.Get(rid)
	alone := b != nil && (b.granted && (b.acc == nil || b.acc.canGet() != nil) ||
		keep && int(b.direct)+int(b.pending) >= s.env.Limits.DirectPerRID)
	if s.mustQueue(rid, alone) {
		s.waits(id, rid, waitOrder)
		s.ensureItems(&s.env.spare).enqueue(rid, queuedRequest{alone: alone, run: s.env.keep(f.start)})
		return
	}
	f.start()
}

func (f *fetch) start() {
	s := f.s
	b := s.subs.Get(f.rid)
	if b == nil {
		if max := s.env.Limits.Subscriptions; max > 0 && s.subs.Len() >= max {
			f.refuse()
			return
		}
	} else if f.keep && int(b.direct)+int(b.pending) >= s.env.Limits.DirectPerRID {
		f.refuse()
		return
	}
	s.waits(f.id, f.rid, waitAccess)
	f.claim((*Sub).requestAccess)
	f.b.withAccess(limit.Access, f)
}

// refuse ends a fetch beyond a limit, before claim.
func (f *fetch) refuse() {
	env := f.s.env
	env.Metrics.Refused.Add(1)
	f.respond(nil, res.ErrSubscriptionLimit)
	env.endFetch(f)
}

// claim takes the subscription that the fetch needs; done releases it. ask sends the access
// request, if needed, or returns a function that sends it before the get. Services handle requests
// about a resource in order, and a get may take long.
func (f *fetch) claim(ask func(b *Sub) (first func())) {
	s := f.s
	s.freeze()
	defer s.thaw()
	b := s.sub(f.rid)
	f.b = b
	b.pins++
	b.fetches++
	if f.keep {
		b.pending++
	}
	s.want(b, nil, ask(b))
	f.topic = b.Topic()
}

func (f *fetch) onAccess(a *access) {
	f.judge(a)
	if f.b.granted {
		w := f.b.ensureWork()
		w.judged = append(w.judged, f)
		return
	}
	f.load()
}

// judge notes an access result.
func (f *fetch) judge(a *access) {
	if f.denied = a.canGet(); f.denied == nil {
		f.s.waits(f.id, f.rid, waitLoad)
	}
}

// load finishes the fetch: if access is granted, when the resource and its references are loaded.
// Then it finishes those that have got their access results in the meantime, one by one: each
// response changes what the next one includes.
func (f *fetch) load() {
	for f != nil {
		b := f.b
		b.granted = true
		switch {
		case f.denied != nil:
		case f.outdated():
			f.askAgain()
			return
		case b.state != subSent && b.s.incomplete(b):
			f.await()
			return
		}
		f = f.finish()
	}
}

// await has the fetch go on when what is loading has loaded.
func (f *fetch) await() {
	newWaiter(f.s, []*Sub{f.b}, func() {
		if f.outdated() {
			f.askAgain()
			return
		}
		f.finish().load()
	})
}

// outdated reports whether the resource has ended since access to it was asked for: another message
// has sent it meanwhile, and its end, or another request has it loaded again. Access to what loads
// again may have been revoked in between.
func (f *fetch) outdated() bool {
	return f.b.state != subFailed && f.b.Topic() != f.topic
}

// askAgain has a fetch that is outdated start again. Those that follow it wait.
func (f *fetch) askAgain() {
	s, b := f.s, f.b
	s.waits(f.id, f.rid, waitAccess)
	s.freeze()
	s.want(b, nil, b.requestAccess())
	f.topic = b.Topic()
	s.thaw()
	b.withAccess(limit.Access, accessFunc(func(a *access) {
		f.judge(a)
		f.load()
	}))
}

// finish responds and returns the next fetch to finish, nil if there is none.
func (f *fetch) finish() (next *fetch) {
	b, err := f.b, f.denied
	more := b.work != nil && len(b.work.judged) > 0
	b.granted = more
	// If f is the last one, done may start the next request, which sets granted.
	if err == nil && b.state == subFailed {
		err = b.work.err
	}
	f.respond(b, err)
	f.done(err == nil)
	if !more || b.s.closed {
		return nil
	}
	w := b.work
	next, w.judged[0] = w.judged[0], nil
	w.judged = w.judged[1:]
	return next
}

// done releases the subscription, and the fetch; ok says whether the response has the resource.
func (f *fetch) done(ok bool) {
	s, b, keep := f.s, f.b, f.keep
	s.env.endFetch(f)
	b.pins--
	b.fetches--
	if keep {
		b.pending--
	}
	switch {
	case !ok:
	case keep:
		b.direct++
		var few [4]*Sub
		sent, loose := s.markSent(few[:0], b)
		s.collect(loose...) // before events: the client has dropped what the old copy referred to
		resumeAll(sent)
		b.resume()
	default: // a get: the client keeps what it has a reference to, and drops the rest
		if held := s.referred(b); len(held) > 0 {
			sent, loose := s.markSent(nil, held...)
			s.collect(loose...)
			resumeAll(sent)
		}
	}
	b.cancelReaccess()
	s.collect(b)
	if b.fetches == 0 {
		s.answered(b.rid)
		s.proceed()
	}
}
