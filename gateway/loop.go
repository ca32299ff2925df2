package gateway

import (
	"log/slog"
	"time"

	"sluice/fanout"
	"sluice/internal/connid"
	"sluice/internal/framing"
	"sluice/internal/httpedge"
	"sluice/internal/loglimit"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/state"
	"sluice/internal/upstream"
	"sluice/netpoll"
)

// logEvery is how often malformed token events are logged by a loop.
const logEvery = time.Second

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
	upstream *upstream.Loop
	env      session.Env
	http     *httpedge.Loop
	badToken loglimit.Limiter // of lines about malformed token events
	asking   []*netpoll.Conn  // whose clients sent requests in this turn that wait for services

	maxPending int // Config.MaxPending
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
	l.mailbox = owner.NewMailbox[loopMessage](n.Wake)
	l.upstream = &upstream.Loop{
		Index:  l.index,
		Caller: g.bus.NewCaller(g.callerOfLoop(l.index), n.Wheel(), n.Now),
		Env:    &l.env,
		Shard:  g.shardOf,
		Post:   l.post,
	}
	c := &g.config
	l.env = session.Env{
		Hub:     fanout.NewHub(l.upstream, framing.Framers(c.CompressionThreshold, &g.compressions), n.Arena(), &g.fanoutMetrics),
		Bus:     l.upstream,
		Parser:  new(res.Parser),
		Post:    l.post,
		After:   l.after,
		Limits:  c.SessionLimits(),
		Metrics: &g.sessionMetrics,
		Log:     g.log,
		Warn:    g.services.LegacyNew,
		Relieved: func(p session.Peer) {
			if cl, ok := p.(*client); ok {
				cl.Conn().Resume()
			}
		},
		Invalid: g.services.InvalidReply,
		Ended:   l.upstream.Abandon,
		Faults:  g.faults,
	}
	l.env.Hub.Now = n.Now
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
	left := pendingLimit - pendingReserve - max(l.env.Requests(), l.upstream.Caller.Pending())
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
	part, more := 16, true
	if l.net.Full() {
		part = 1 // the writes of earlier turns go first
	}
	for n := 0; more && n < turnBudget && (n == 0 || !l.net.Full()); n += part {
		more = l.mailbox.Drain(part, l.handle)
	}
	if more {
		l.net.Behind()
	}
	l.endTurn()
}

// endTurn flushes the requests made in this turn.
func (l *loop) endTurn() {
	l.env.Hub.EndTurn()
	l.upstream.Caller.Flush()
}

func (l *loop) handle(m loopMessage) {
	switch {
	case m.f != nil:
		m.f()
	case m.reply.Owner != 0:
		l.upstream.Caller.Deliver(m.reply)
	default:
		before := l.net.Sent()
		l.env.Hub.Apply(m.update)
		l.net.Time(m.update.At, before)
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
	return httpedge.SessionOf(c)
}
