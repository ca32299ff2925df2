package gateway

import (
	"bytes"
	"time"

	"sluice/fanout"
	"sluice/internal/connid"
	"sluice/internal/framing"
	"sluice/internal/httpedge"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/state"
	"sluice/netpoll"
)

// turnBudget is how many messages from other owners a loop handles before it
// looks at its sockets again.
const turnBudget = 4096

// loop is what an event loop owns beside its connections: topics, sessions, and
// its requests to services. Everything but the mailbox belongs to the loop.
type loop struct {
	g       *Gateway
	net     *netpoll.Loop
	index   int
	mailbox *owner.Mailbox[loopMessage]
	caller  *natsbus.Caller
	env     session.Env
	http    *httpedge.Loop
	asking  []*netpoll.Conn // their clients' requests of this turn wait for services

	// The requests in flight of each session that has any. They are given up when the session ends.
	inFlight map[*session.Session]*natsbus.Group
}

// loopMessage is what other owners put into a loop's mailbox: f if it is set,
// else an answer if it has an owner, else an update of a shard.
type loopMessage struct {
	f      func()
	reply  natsbus.Reply
	update state.Update
}

// newLoop makes the loop's state when its first connection comes.
func newLoop(g *Gateway, n *netpoll.Loop) *loop {
	l := &loop{g: g, net: n, index: n.Index()}
	l.inFlight = make(map[*session.Session]*natsbus.Group)
	l.mailbox = owner.NewMailbox[loopMessage](n.Wake)
	l.caller = g.bus.NewCaller(g.callerOfLoop(l.index), n.Wheel(), n.Now)
	c := &g.config
	l.env = session.Env{
		Hub:    fanout.NewHub(source{l}, framing.Framers(c.CompressionThreshold, &g.compressions), n.Arena(), &g.fanoutMetrics),
		Bus:    loopBus{l},
		Parser: new(res.Parser),
		Post:   l.post,
		After:  l.after,
		Limits: session.Limits{
			DirectPerRID:  c.MaxSubscriptions,
			Subscriptions: c.MaxResources,
			Requests:      c.MaxPending,
			HeldEvents:    c.HeldEvents,
			References:    c.ReferenceThrottle,
		},
		Metrics: &g.sessionMetrics,
		Log:     g.log,
		Warn:    g.services.LegacyNew,
		Relieved: func(p session.Peer) {
			if cl, ok := p.(*client); ok {
				cl.Conn().Resume()
			}
		},
		Invalid: g.services.InvalidReply,
		Ended:   l.abandon,
		Faults:  g.faults,
	}
	framing.Share(l.env.Hub, c.CompressionThreshold)
	if c.ResetThrottle > 0 {
		l.env.Reset = g.resets
	}
	l.http = g.http.NewLoop(n, &l.env, l.post, g.trace.Events)
	return l
}

// pendingLimit is how many requests may be in flight for a loop, all clients together, and
// pendingReserve is how many of those are kept for clients that have no other.
const (
	pendingLimit   = 1 << 18
	pendingReserve = pendingLimit / 16
)

// allowance returns how many requests a client may have in flight before its next ones wait:
// maxPending, but no more than a quarter of what is left of the loop's limit. So some is left for
// the others, however many clients take all that they get.
func (l *loop) allowance() int {
	left := pendingLimit - pendingReserve - max(l.env.Requests(), l.caller.Pending())
	return min(l.g.config.MaxPending, max(left/4, 1))
}

// post runs f on the loop. Any goroutine may call it.
func (l *loop) post(f func()) { l.mailbox.Put(loopMessage{f: f}) }

// after runs f on the loop when d has passed.
func (l *loop) after(d time.Duration, f func()) {
	s := l.env.Current()
	l.net.Wheel().Schedule(new(owner.Timer), l.net.Now()+d, owner.Func(func(time.Duration) {
		before := l.env.Enter(s)
		f()
		l.env.Enter(before)
	}))
}

// mend makes the loop's state sound after a panic: the client that was worked for
// is closed, what was being handed out goes on in the turn that follows.
func (l *loop) mend() {
	l.net.Wake() // should the turn leave messages behind
	l.env.Mend()
}

// turn handles what other owners have put into the mailbox.
func (l *loop) turn() {
	l.env.Hub.Resume() // does nothing but after a panic
	if l.mailbox.Drain(turnBudget, l.handle) {
		l.net.Behind()
	}
	l.endTurn()
}

// endTurn sends off the requests that were made since the last one.
func (l *loop) endTurn() {
	l.env.Hub.EndTurn()
	l.caller.Flush()
}

func (l *loop) handle(m loopMessage) {
	switch {
	case m.f != nil:
		m.f()
	case m.reply.Owner != 0:
		l.caller.Deliver(m.reply)
	default:
		l.env.Hub.Apply(m.update)
	}
}

// token sets the token of a client that is still there. The ID may be forged: a
// handle then names whatever connection has the slot.
func (l *loop) token(who connid.ID, data []byte) {
	s := l.session(who)
	if s == nil {
		return
	}
	token, tid, err := l.env.Parser.Token(data)
	if err != nil {
		l.g.log.Error("token event dropped: malformed", "err", err)
		return
	}
	s.SetToken(token, tid)
}

// session returns the session that a connection ID names, nil if there is none
// any more.
func (l *loop) session(who connid.ID) *session.Session {
	if who.Number > 0 {
		return l.http.Session(who.Number)
	}
	c := l.net.Conn(who.Conn)
	if c == nil {
		return nil
	}
	if a, ok := c.Session.(attached); ok {
		return a.Session()
	}
	return nil
}

// source gets resources from the shards (fanout.Source).
type source struct{ l *loop }

func (s source) Subscribe(ref uint64, name, query string, first func()) {
	if first != nil {
		s.l.caller.Flush() // it must not overtake what this loop has asked for before
	}
	s.l.g.shardOf(name).cache.Subscribe(s.l.index, ref, name, query, first)
}

func (s source) Refetch(name string) { s.l.g.shardOf(name).cache.Refetch(name) }

func (s source) Unsubscribe(ref uint64, name, query string) {
	s.l.g.shardOf(name).cache.Unsubscribe(s.l.index, ref, name, query)
}

// loopBus sends requests of sessions (session.Bus).
type loopBus struct{ l *loop }

func (b loopBus) Request(name, subject string, payload []byte, done func([]byte, *res.Error)) {
	env := &b.l.env
	s := env.Current()
	b.l.caller.RequestIn(b.l.group(s), name, subject, payload, func(data []byte, err error) {
		b.l.over(s)
		before := env.Enter(s)
		done(data, busError(err))
		env.Enter(before)
	})
}

// group returns the group of a session's requests; nil for requests of none, or of one that has
// ended.
func (l *loop) group(s *session.Session) *natsbus.Group {
	if s == nil || s.Closed() {
		return nil
	}
	g := l.inFlight[s]
	if g == nil {
		g = new(natsbus.Group)
		l.inFlight[s] = g
	}
	return g
}

// over is called when a request of s has ended.
func (l *loop) over(s *session.Session) {
	if g := l.inFlight[s]; g != nil && g.Empty() {
		delete(l.inFlight, s)
	}
}

// abandon gives up the requests of a session that has ended.
func (l *loop) abandon(s *session.Session) {
	if g := l.inFlight[s]; g != nil {
		delete(l.inFlight, s)
		l.caller.Abandon(g)
	}
}

// RequestSubscribed sends the request by the resource's shard. The loop has put
// its subscription into the shard's mailbox before, so the shard has subscribed
// on NATS when it comes to the request.
func (b loopBus) RequestSubscribed(name, subject string, payload []byte, done func([]byte, *res.Error)) {
	b.l.caller.Flush() // it must not overtake what this loop has asked for before
	b.l.g.shardOf(name).cache.Run(b.Ahead(name, subject, payload, done))
}

// Ahead returns what sends the request on the goroutine of the resource's shard.
func (b loopBus) Ahead(name, subject string, payload []byte, done func([]byte, *res.Error)) (send func()) {
	s := b.l.g.shardOf(name)
	env := &b.l.env
	client := env.Current()
	payload = bytes.Clone(payload)
	return func() {
		s.caller.Request(name, subject, payload, func(data []byte, err error) {
			b.l.post(func() {
				before := env.Enter(client)
				done(data, busError(err))
				env.Enter(before)
			})
		})
	}
}
