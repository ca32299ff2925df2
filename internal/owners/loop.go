package owners

import (
	"log/slog"
	"time"

	"sluice/fanout"
	"sluice/internal/config"
	"sluice/internal/connid"
	"sluice/internal/framing"
	"sluice/internal/httpedge"
	"sluice/internal/intern"
	"sluice/internal/loglimit"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/state"
	"sluice/internal/upstream"
	"sluice/netpoll"
	"sluice/wsproto"
)

// logEvery is how often malformed token events are logged by a loop.
const logEvery = time.Second

// turnBudget is how many messages from other owners a loop handles before it reads its sockets
// again.
const turnBudget = 4096

// Loop is the state of an event loop beside its connections: topics, sessions, and requests to
// services. Everything belongs to the loop, but the mailbox.
type Loop struct {
	Net      *netpoll.Loop
	Env      session.Env
	Upstream *upstream.Loop

	set      *Set
	index    int
	mailbox  *owner.Mailbox[loopMessage]
	http     *httpedge.Loop
	badToken loglimit.Limiter // of lines about malformed token events
	recall   recall
	asking   []*netpoll.Conn // whose clients sent requests in this turn that wait for services
	follower *follower       // presence.go; nil: off
}

// loopMessage is a message of another owner in a loop's mailbox: f if it is set, otherwise a reply
// if its Owner is set, otherwise a shard's update.
type loopMessage struct {
	f      func()
	reply  natsbus.Reply
	update state.Update
}

// newLoop returns the state of a loop that starts.
func newLoop(s *Set, n *netpoll.Loop) *Loop {
	l := &Loop{set: s, Net: n, index: n.Index()}
	l.mailbox = owner.NewMailbox[loopMessage](n.Wake)
	l.Upstream = &upstream.Loop{
		Index:  l.index,
		Caller: s.bus.NewCaller(s.callerOfLoop(l.index), n.Wheel(), n.Now),
		Env:    &l.Env,
		Shard:  s.ShardOf,
		Post:   l.Post,
	}
	c := s.o.Config
	l.Env = session.Env{
		Hub:     fanout.NewHub(l.Upstream, framing.Framers(c.CompressionThreshold, s.o.Compressions), n.Arena(), s.o.Fanout),
		Bus:     l.Upstream,
		Parser:  &res.Parser{Interned: new(intern.Cache)},
		Post:    l.Post,
		After:   l.after,
		Limits:  c.SessionLimits(),
		Metrics: s.o.Session,
		Log:     s.o.Log,
		Warn:    s.o.Services.LegacyNew,
		Relieved: func(p session.Peer) {
			if cl, ok := p.(*client); ok {
				cl.Conn().Resume()
			}
		},
		Invalid: s.o.Services.InvalidReply,
		Ended:   l.Upstream.Abandon,
		Faults:  s.o.Faults,

		Recorder: l.Upstream.Caller.Recorder(),
	}
	l.Env.Hub.Now = n.Now
	framing.Share(l.Env.Hub, c.CompressionThreshold)
	l.follow(s.o.Presence)
	l.adjust(c)
	l.http = s.o.HTTP.NewLoop(n, &l.Env, l.Post, s.o.Trace.Events)
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
func (l *Loop) allowance() int {
	left := pendingLimit - pendingReserve - max(l.Env.Requests(), l.Upstream.Caller.Pending())
	return min(l.Env.Limits.Requests, max(left/4, 1))
}

// Post runs f on the loop. Any goroutine may call it.
func (l *Loop) Post(f func()) { l.mailbox.Put(loopMessage{f: f}) }

// Waiting returns how many messages are in the mailbox. Any goroutine may call it.
func (l *Loop) Waiting() int { return l.mailbox.Len() }

// adjust gives the loop the settings that a reload may change.
func (l *Loop) adjust(c *config.Config) {
	l.Env.Limits = c.SessionLimits()
	if c.ResetThrottle > 0 {
		l.Env.Reset = l.set.o.Resets // and it stays: sessions release their places there
	}
}

// after runs f on the loop when d has passed.
func (l *Loop) after(d time.Duration, f func()) {
	s := l.Env.Current()
	l.Net.Wheel().Schedule(new(owner.Timer), l.Net.Now()+d, owner.Func(func(time.Duration) {
		before := l.Env.Enter(s)
		f()
		l.Env.Enter(before)
	}))
}

// mend repairs the loop's state after a panic: the client whose work has panicked is closed, and an
// interrupted fan-out continues in the next turn.
func (l *Loop) mend() {
	l.Net.Wake() // the interrupted turn may have left messages in the mailbox
	l.Env.Mend()
}

// turn handles what other owners have put into the mailbox.
func (l *Loop) turn() {
	l.Env.Hub.Resume() // continues a fan-out that a panic has interrupted
	part, more := 16, true
	if l.Net.Full() {
		part = 1 // the writes of earlier turns go first
	}
	for n := 0; more && n < turnBudget && (n == 0 || !l.Net.Full()); n += part {
		more = l.mailbox.Drain(part, l.handle)
	}
	if more {
		l.Net.Behind()
	}
	l.endTurn()
}

// endTurn flushes the requests made in this turn.
func (l *Loop) endTurn() {
	l.Env.Hub.EndTurn()
	if l.follower != nil {
		l.follower.endTurn()
	}
	l.Upstream.Caller.Flush()
}

func (l *Loop) handle(m loopMessage) {
	switch {
	case m.f != nil:
		m.f()
	case m.reply.Owner != 0:
		l.Upstream.Caller.Deliver(m.reply)
	default:
		before := l.Net.Sent()
		l.Env.Hub.Apply(m.update)
		l.Net.Time(m.update.At, before)
	}
}

// token sets the token of a client, if it is still connected. A service may send a made-up ID,
// which names another connection or none.
func (l *Loop) token(who connid.ID, cid string, data []byte) {
	s := l.Session(who)
	if s == nil || s.CID() != cid {
		if s = l.returned(cid); s == nil {
			l.recall.keepToken(cid, data, data, l.Net.Now())
			return
		}
	}
	if l.recall.hadToken(cid, data, l.Net.Now()) {
		return
	}
	l.recall.noteToken(cid, data, l.Net.Now())
	token, tid, err := l.Env.Parser.Token(data)
	if err != nil {
		l.badToken.Log(l.set.o.Log, slog.LevelError, l.Net.Now(), logEvery, "token event dropped: malformed", "cid", s.CID(), "error", err)
		return
	}
	s.SetToken(token, tid)
}

// returned returns the session of a client that was on its way to another process, and has come
// back, after it was named by where it was before.
func (l *Loop) returned(cid string) *session.Session {
	who, ok := l.set.guests.find(cid)
	if !ok || who.Loop != l.index {
		return nil
	}
	if s := l.Session(who); s != nil && s.CID() == cid {
		return s
	}
	return nil
}

// Session returns the session that a connection ID names, nil if there is none.
func (l *Loop) Session(who connid.ID) *session.Session {
	if who.Number > 0 {
		return l.http.Session(who.Number)
	}
	c := l.Net.Conn(who.Conn)
	if c == nil {
		return nil
	}
	return httpedge.SessionOf(c)
}

// closeClients closes the loop's WebSocket clients because NATS is unreachable.
func (l *Loop) closeClients() {
	l.Net.CloseAll(netpoll.CauseNATS, wsproto.CloseServiceRestart, "NATS is not reachable")
}
