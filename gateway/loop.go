package gateway

import (
	"bytes"
	"log/slog"
	"time"

	"sluice/fanout"
	"sluice/internal/connid"
	"sluice/internal/framing"
	"sluice/internal/httpedge"
	"sluice/internal/limit"
	"sluice/internal/loglimit"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/state"
	"sluice/netpoll"
)

// turnBudget is how many messages from other owners a loop handles before it reads its sockets
// again.
const turnBudget = 4096

// loop is the state of an event loop beside its connections: topics, sessions, and requests to
// services. The loop owns everything but the mailbox.
type loop struct {
	g        *Gateway
	net      *netpoll.Loop
	index    int
	mailbox  *owner.Mailbox[loopMessage]
	caller   *natsbus.Caller
	env      session.Env
	http     *httpedge.Loop
	badToken loglimit.Limiter // of lines about malformed token events
	asking   []*netpoll.Conn  // whose clients sent requests in this turn that wait for services

	maxPending int // Config.MaxPending

	// The in-flight requests of each session of an HTTP client that has any; a WebSocket client
	// holds its own. They are abandoned when the session ends.
	inFlight map[*session.Session]*natsbus.Group
}

// loopMessage is a message of another owner in a loop's mailbox: f if it is set, otherwise a reply
// if its Owner is set, otherwise a shard's update.
type loopMessage struct {
	f      func()
	reply  natsbus.Reply
	update state.Update
}

// newLoop returns the state of a loop that starts.
func newLoop(g *Gateway, n *netpoll.Loop) *loop {
	l := &loop{g: g, net: n, index: n.Index()}
	l.inFlight = make(map[*session.Session]*natsbus.Group)
	l.mailbox = owner.NewMailbox[loopMessage](n.Wake)
	l.caller = g.bus.NewCaller(g.callerOfLoop(l.index), n.Wheel(), n.Now)
	c := &g.config
	l.env = session.Env{
		Hub:     fanout.NewHub(source{l}, framing.Framers(c.CompressionThreshold, &g.compressions), n.Arena(), &g.fanoutMetrics),
		Bus:     loopBus{l},
		Parser:  new(res.Parser),
		Post:    l.post,
		After:   l.after,
		Limits:  sessionLimits(c),
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
	l.adjust(c)
	l.http = g.http.NewLoop(n, &l.env, l.post, g.trace.Events)
	return l
}

// pendingLimit is how many requests may be in flight for a loop, all clients together.
// pendingReserve is how many of those are reserved for clients without another request in flight.
const (
	pendingLimit   = 1 << 18
	pendingReserve = pendingLimit / 16
)

// allowance returns how many requests a client may have in flight before it is no longer read:
// maxPending, but at most a quarter of what remains of the loop's limit. So other clients get a
// share however many clients use theirs up.
func (l *loop) allowance() int {
	left := pendingLimit - pendingReserve - max(l.env.Requests(), l.caller.Pending())
	return min(l.maxPending, max(left/4, 1))
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

// mend repairs the loop's state after a panic: the client whose work has panicked is closed, and an
// interrupted fan-out continues in the next turn.
func (l *loop) mend() {
	l.net.Wake() // the interrupted turn may have left messages in the mailbox
	l.env.Mend()
}

// turn handles what other owners have put into the mailbox.
func (l *loop) turn() {
	l.env.Hub.Resume() // continues a fan-out that a panic has interrupted
	if l.mailbox.Drain(turnBudget, l.handle) {
		l.net.Behind()
	}
	l.endTurn()
}

// endTurn flushes the requests made in this turn.
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

// token sets the token of a client, if it is still connected. A service may send a made-up ID,
// which names another connection or none.
func (l *loop) token(who connid.ID, data []byte) {
	s := l.session(who)
	if s == nil {
		return
	}
	token, tid, err := l.env.Parser.Token(data)
	if err != nil {
		l.badToken.Log(l.g.log, slog.LevelError, l.net.Now(), logEvery, "token event dropped: malformed", "err", err)
		return
	}
	s.SetToken(token, tid)
}

// session returns the session that a connection ID names, nil if there is none.
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
		s.l.caller.Flush() // the shard's request must not overtake this loop's earlier ones
	}
	shard, client := s.l.g.shardOf(name), s.l.client(s.l.env.Current())
	shard.cache.Subscribe(s.l.index, ref, name, query, func() {
		if first != nil {
			first()
		}
		shard.client = client
	})
}

func (s source) Refetch(name string) { s.l.g.shardOf(name).cache.Refetch(name) }

func (s source) Unsubscribe(ref uint64, name, query string) {
	s.l.g.shardOf(name).cache.Unsubscribe(s.l.index, ref, name, query)
}

// loopBus sends requests of sessions (session.Bus).
type loopBus struct{ l *loop }

func (b loopBus) Request(p limit.Priority, name, subject string, payload []byte, done func([]byte, *res.Error)) {
	env := &b.l.env
	s := env.Current()
	r := natsbus.Request{Name: name, Subject: subject, Payload: payload, Priority: p, Client: b.l.client(s), Group: b.l.group(s)}
	b.l.caller.Request(r, func(data []byte, err error) {
		b.l.over(s)
		before := env.Enter(s)
		done(data, busError(err))
		env.Enter(before)
	})
}

// group returns the group of a session's requests; nil if there is no session, or it has ended.
func (l *loop) group(s *session.Session) *natsbus.Group {
	if s == nil || s.Closed() {
		return nil
	}
	if c, ok := s.Peer().(*client); ok {
		return &c.inFlight
	}
	g := l.inFlight[s]
	if g == nil {
		g = new(natsbus.Group)
		l.inFlight[s] = g
	}
	return g
}

// client returns a number by which the requests of a session are told from those of others.
func (l *loop) client(s *session.Session) uint64 {
	if s == nil {
		return 0
	}
	return natsbus.HashName(s.CID())
}

// over removes the group of s, if its last request has ended.
func (l *loop) over(s *session.Session) {
	if len(l.inFlight) == 0 {
		return
	}
	if g := l.inFlight[s]; g != nil && g.Empty() {
		delete(l.inFlight, s)
	}
}

// abandon releases the in-flight requests of a session that has ended.
func (l *loop) abandon(s *session.Session) {
	if c, ok := s.Peer().(*client); ok {
		l.caller.Abandon(&c.inFlight)
		return
	}
	if g := l.inFlight[s]; g != nil {
		delete(l.inFlight, s)
		l.caller.Abandon(g)
	}
}

// RequestSubscribed sends the request through the resource's shard. The loop's subscription is in
// the shard's mailbox before it, so the shard has subscribed on NATS when it sends the request.
func (b loopBus) RequestSubscribed(name, subject string, payload []byte, done func([]byte, *res.Error)) {
	b.l.caller.Flush() // the shard's request must not overtake this loop's earlier ones
	b.l.g.shardOf(name).cache.Run(b.byShard(limit.Access, name, subject, payload, done))
}

// Ahead returns a function that sends the request, for the goroutine of the resource's shard. The
// request has the priority of the get that follows it.
func (b loopBus) Ahead(name, subject string, payload []byte, done func([]byte, *res.Error)) (send func()) {
	return b.byShard(limit.Load, name, subject, payload, done)
}

func (b loopBus) byShard(p limit.Priority, name, subject string, payload []byte, done func([]byte, *res.Error)) (send func()) {
	s := b.l.g.shardOf(name)
	env := &b.l.env
	client := env.Current()
	r := natsbus.Request{Name: name, Subject: subject, Payload: bytes.Clone(payload), Priority: p, Client: b.l.client(client)}
	return func() {
		s.caller.Request(r, func(data []byte, err error) {
			b.l.post(func() {
				before := env.Enter(client)
				done(data, busError(err))
				env.Enter(before)
			})
		})
	}
}
