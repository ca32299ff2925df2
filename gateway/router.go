package gateway

import (
	"log/slog"
	"time"

	"sluice/fanout"
	"sluice/internal/connid"
	"sluice/internal/loglimit"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/upstream"
)

// router passes messages from NATS to their owners (natsbus.Receiver). It runs on the dispatchers'
// goroutines.
//
// A client must receive an event before a reply that the service sent after it. The event takes two
// steps (shard, loop), the reply only one (loop), so it could overtake. Therefore a message for a
// loop first passes every shard that has messages queued. Each shard handles these before, and the
// last one posts the message. A shard with an empty queue is skipped, since it has posted
// everything already.
//
// Two messages for loops keep their order as well: every shard that still delays the first delays
// the second.
type router struct {
	*owners
	ids   connid.Maker
	log   *slog.Logger
	clock owner.Clock

	badReset, badTokenReset, badPattern loglimit.Limiter
}

// logEvery is how often a kind of malformed message from services is logged.
const logEvery = time.Second

// logBad logs a malformed message, which any service can send.
func (r *router) logBad(kind *loglimit.Limiter, msg string, attrs ...any) {
	kind.Log(r.log, slog.LevelError, r.clock.Now(), logEvery, msg, attrs...)
}

// Event posts an event to the shard of its resource.
func (r *router) Event(name, event string, data []byte) {
	r.shardOf(name).Cache.Event(name, event, data)
}

// Token posts a connection's new token to its loop.
func (r *router) Token(cid string, data []byte) {
	who, ok := r.ids.Parse(cid)
	if !ok {
		return // another gateway's client
	}
	l := r.loop(who.Loop)
	if l == nil {
		return // the ID is forged: this gateway made none for such a loop
	}
	r.inOrder(func() {
		l.post(func() { l.token(who, data) })
	})
}

// System passes a system event to all owners that it concerns: resource resets to the shards,
// access resets and token resets to the loops.
func (r *router) System(event string, data []byte) {
	p := new(res.Parser)
	switch event {
	case "reset":
		resources, access, err := p.SystemReset(data)
		if err != nil {
			r.logBad(&r.badReset, "system.reset dropped: malformed", "err", err)
			return
		}
		if patterns := r.patterns("resources", resources); len(patterns) > 0 {
			for _, s := range r.shards {
				s.Cache.Reset(patterns)
			}
		}
		if patterns := r.patterns("access", access); len(patterns) > 0 {
			r.resetAccess(fanout.Reset, func(name string) bool {
				for _, p := range patterns {
					if p.Match(name) {
						return true
					}
				}
				return false
			})
		}
	case "tokenReset":
		tids, subject, err := p.TokenReset(data)
		if err != nil {
			r.logBad(&r.badTokenReset, "system.tokenReset dropped: malformed", "err", err)
			return
		}
		r.inOrder(func() {
			r.eachLoop(func(l *loop) {
				l.post(func() { l.env.ResetToken(tids, subject) })
			})
		})
	}
}

// Reply posts a reply to the owner of its request. The owner's number comes from the reply's
// subject, which any client of NATS can forge.
func (r *router) Reply(reply natsbus.Reply) {
	s, l := r.caller(reply.Owner)
	switch {
	case s != nil:
		s.Cache.Run(func() { s.Caller.Deliver(reply) })
	case l != nil:
		r.inOrder(func() { l.mailbox.Put(loopMessage{reply: reply}) })
	}
}

// Refused notifies a resource's shard that NATS has refused the subscription to its events.
func (r *router) Refused(name string, err error) {
	r.shardOf(name).Cache.Refused(name, upstream.Error(err))
}

// Missed notifies a resource's shard that it may have missed events.
func (r *router) Missed(name string) { r.shardOf(name).Cache.Missed(name) }

// patterns parses a reset's patterns. It logs and omits invalid ones.
func (r *router) patterns(what string, texts []string) []res.Pattern {
	patterns := make([]res.Pattern, 0, len(texts))
	for _, t := range texts {
		p, ok := res.ParsePattern(t)
		if !ok {
			r.logBad(&r.badPattern, "system.reset: invalid pattern ignored", "list", what, "pattern", t)
			continue
		}
		patterns = append(patterns, p)
	}
	return patterns
}

// resetAccess requests access again for every direct subscription whose resource matches.
func (o *owners) resetAccess(why fanout.Reason, match func(name string) bool) {
	o.inOrder(func() {
		o.eachLoop(func(l *loop) {
			l.post(func() { l.env.Hub.ResetAccess(why, match) })
		})
	})
}
