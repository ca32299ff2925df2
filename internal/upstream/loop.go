package upstream

import (
	"bytes"

	"sluice/internal/invariants"
	"sluice/internal/limit"
	"sluice/internal/natsbus"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/tracing"
)

// Loop sends the requests of an event loop's sessions (session.Bus), and gets resources for it from
// the shards (fanout.Source). It belongs to the loop. All fields are required.
type Loop struct {
	Index  int
	Caller *natsbus.Caller
	Env    *session.Env
	Shard  func(name string) *Shard // the owner of a resource; any goroutine may call it
	Post   func(f func())           // runs f later on the loop; any goroutine may call it

	// Traced is called for each request of a session, nil for one that has none, and returns
	// what is called with the reply in place of done; nil: no trace is on. It must not keep the
	// payloads.
	Traced func(s *session.Session, name, subject string, payload []byte, done func([]byte, *res.Error)) func([]byte, *res.Error)

	// The requests in flight of each session that has any, if its Peer is neither Grouper nor
	// Keeper.
	groups map[*session.Session]*natsbus.Group

	unused []*pending
}

// pending is a request in flight. The Caller calls done once, whatever becomes of the request, so
// that the next request may have the same pending from then on.
type pending struct {
	l    *Loop
	s    *session.Session // that makes the request; nil: none
	to   func([]byte, *res.Error)
	done func(data []byte, err error) // the method reply; made once
}

// keepPending bounds how many a loop keeps.
const keepPending = 1024

// pend returns a pending for a request of s.
func (l *Loop) pend(s *session.Session, to func([]byte, *res.Error)) *pending {
	n := len(l.unused) - 1
	if n < 0 {
		p := &pending{l: l, s: s, to: to}
		p.done = p.reply
		return p
	}
	p := l.unused[n]
	l.unused = l.unused[:n]
	p.s, p.to = s, to
	return p
}

// reply passes on the reply to a request.
func (p *pending) reply(data []byte, err error) {
	l, s, to := p.l, p.s, p.to
	if invariants.Enabled {
		invariants.Check(to != nil, "a request has had its reply before")
	}
	p.s, p.to = nil, nil
	if len(l.unused) < keepPending {
		l.unused = append(l.unused, p)
	}
	l.over(s)
	before := l.Env.Enter(s)
	to(data, Error(err))
	l.Env.Enter(before)
}

// Grouper is a session.Peer that holds the group of its client's requests in flight. Those of other
// peers are in a map.
type Grouper interface{ InFlight() *natsbus.Group }

// Keeper is a session.Peer that keeps such a group without knowing what it is.
type Keeper interface{ Kept() *any }

// held returns the group that a peer holds or keeps; nil if it does neither.
func held(p session.Peer) *natsbus.Group {
	switch p := p.(type) {
	case Grouper:
		return p.InFlight()
	case Keeper:
		kept := p.Kept()
		g, ok := (*kept).(*natsbus.Group)
		if !ok {
			g = new(natsbus.Group)
			*kept = g
		}
		return g
	}
	return nil
}

// Request implements session.Bus, as RequestSubscribed and Ahead do.
func (l *Loop) Request(p limit.Priority, name, subject string, payload []byte, done func([]byte, *res.Error)) {
	trace, done := l.traced(name, subject, payload, done)
	l.request(p, name, subject, payload, trace, done)
}

// traced returns what is passed on in a request's message, nil for nothing, and the callback that
// replaces done.
func (l *Loop) traced(name, subject string, payload []byte, done func([]byte, *res.Error)) (*tracing.Context, func([]byte, *res.Error)) {
	if l.Traced != nil {
		done = l.Traced(l.Env.Current(), name, subject, payload, done)
	}
	span := l.Env.Span()
	if span == nil {
		return nil, done
	}
	return &span.Context, l.within(span, done)
}

// request is Request within a trace; nil: none.
func (l *Loop) request(p limit.Priority, name, subject string, payload []byte, trace *tracing.Context, done func([]byte, *res.Error)) {
	s := l.Env.Current()
	r := natsbus.Request{Name: name, Subject: subject, Payload: payload, Priority: p, Client: l.client(s), Group: l.group(s), Trace: trace}
	l.Caller.Request(r, l.pend(s, done).done)
}

// RequestSubscribed sends the request through the resource's shard. The loop's subscription is in
// the shard's mailbox before it, so the shard has subscribed on NATS when it sends the request.
func (l *Loop) RequestSubscribed(name, subject string, payload []byte, done func([]byte, *res.Error)) {
	l.Caller.Flush() // the shard's request must not overtake this loop's earlier ones
	l.Shard(name).Cache.Run(l.byShard(limit.Access, name, subject, payload, done))
}

// Ahead returns a function that sends the request, for the goroutine of the resource's shard. The
// request has the priority of the get that follows it.
func (l *Loop) Ahead(name, subject string, payload []byte, done func([]byte, *res.Error)) (send func()) {
	return l.byShard(limit.Load, name, subject, payload, done)
}

// within returns done, within a span.
func (l *Loop) within(span *tracing.Span, done func([]byte, *res.Error)) func([]byte, *res.Error) {
	return func(payload []byte, err *res.Error) {
		before := l.Env.Within(span)
		done(payload, err)
		l.Env.Within(before)
	}
}

func (l *Loop) byShard(p limit.Priority, name, subject string, payload []byte, done func([]byte, *res.Error)) (send func()) {
	trace, done := l.traced(name, subject, payload, done)
	return l.askShard(p, name, subject, payload, trace, done)
}

// askShard is byShard within a trace; nil: none.
func (l *Loop) askShard(p limit.Priority, name, subject string, payload []byte, trace *tracing.Context, done func([]byte, *res.Error)) (send func()) {
	shard, s := l.Shard(name), l.Env.Current()
	r := natsbus.Request{Name: name, Subject: subject, Payload: bytes.Clone(payload), Priority: p, Client: l.client(s), Trace: trace}
	return func() {
		shard.Caller.Request(r, func(data []byte, err error) {
			l.Post(func() {
				before := l.Env.Enter(s)
				done(data, Error(err))
				l.Env.Enter(before)
			})
		})
	}
}

// client returns a number by which the requests of a session are told from those of others.
func (l *Loop) client(s *session.Session) uint64 {
	if s == nil {
		return 0
	}
	return natsbus.HashName(s.CID())
}

// group returns the group of a session's requests; nil if there is no session, or it has ended.
func (l *Loop) group(s *session.Session) *natsbus.Group {
	if s == nil || s.Closed() {
		return nil
	}
	if g := held(s.Peer()); g != nil {
		return g
	}
	g := l.groups[s]
	if g == nil {
		if l.groups == nil {
			l.groups = make(map[*session.Session]*natsbus.Group)
		}
		g = new(natsbus.Group)
		l.groups[s] = g
	}
	return g
}

// over removes the group of s from the map, if its last request has ended.
func (l *Loop) over(s *session.Session) {
	if len(l.groups) == 0 {
		return
	}
	if g := l.groups[s]; g != nil && g.Empty() {
		delete(l.groups, s)
	}
}

// Abandon gives up the requests in flight of a session that has ended.
func (l *Loop) Abandon(s *session.Session) {
	if g := held(s.Peer()); g != nil {
		l.Caller.Abandon(g)
		return
	}
	if g := l.groups[s]; g != nil {
		delete(l.groups, s)
		l.Caller.Abandon(g)
	}
}

// Subscribe implements fanout.Source, as Refetch and Unsubscribe do.
func (l *Loop) Subscribe(ref uint64, name, query string, first func()) {
	if first != nil {
		l.Caller.Flush() // the shard's request must not overtake this loop's earlier ones
	}
	shard, client := l.Shard(name), l.client(l.Env.Current())
	ahead := func() {
		if first != nil {
			first()
		}
		shard.client = client
	}
	if l.Env.Recorder != nil {
		var trace *tracing.Context
		if span := l.Env.Span(); span != nil {
			trace = &span.Context
		}
		shard.Cache.Subscribe(l.Index, ref, name, query, func() { ahead(); shard.trace = trace })
		return
	}
	shard.Cache.Subscribe(l.Index, ref, name, query, ahead)
}

// Refetch makes the resource's shard bring the loop up to date.
func (l *Loop) Refetch(name string) { l.Shard(name).Cache.Refetch(name) }

// Unsubscribe ends Subscribe.
func (l *Loop) Unsubscribe(ref uint64, name, query string) {
	l.Shard(name).Cache.Unsubscribe(l.Index, ref, name, query)
}
