package gateway

import (
	"log/slog"

	"sluice/fanout"
	"sluice/internal/connid"
	"sluice/internal/natsbus"
	"sluice/internal/res"
)

// router takes what arrives from NATS to its owner (natsbus.Receiver). It runs
// on the dispatchers' goroutines.
//
// A service that sends an event and then an answer means them in this order.
// The event takes two steps (shard, then loop), an answer for a client only one
// (loop), so it could overtake. Therefore whatever is meant for a loop first
// goes through every shard that has work waiting: each of them hands on the
// work that was there before, and the last one posts the message. A shard with
// nothing waiting has posted all its work already and is left out; an idle
// gateway pays nothing.
//
// Two messages for loops keep their order, too: the second is held up by every
// shard that still holds up the first.
type router struct {
	*owners
	ids connid.Maker
	log *slog.Logger
}

// Event takes an event to the shard of its resource.
func (r *router) Event(name, event string, data []byte) {
	r.shardOf(name).cache.Event(name, event, data)
}

// Token takes a connection's new token to its loop.
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

// System takes a system event to whom it concerns: resources to their shards,
// access and tokens to the loops.
func (r *router) System(event string, data []byte) {
	p := new(res.Parser)
	switch event {
	case "reset":
		resources, access, err := p.SystemReset(data)
		if err != nil {
			r.log.Error("system.reset dropped: malformed", "err", err)
			return
		}
		if patterns := r.patterns("resources", resources); len(patterns) > 0 {
			for _, s := range r.shards {
				s.cache.Reset(patterns)
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
			r.log.Error("system.tokenReset dropped: malformed", "err", err)
			return
		}
		r.inOrder(func() {
			r.eachLoop(func(l *loop) {
				l.post(func() { l.env.ResetToken(tids, subject) })
			})
		})
	}
}

// Reply takes an answer to the owner that asked. The owner's number comes from
// the reply's subject, which anyone on NATS can write.
func (r *router) Reply(reply natsbus.Reply) {
	s, l := r.caller(reply.Owner)
	switch {
	case s != nil:
		s.cache.Run(func() { s.caller.Deliver(reply) })
	case l != nil:
		r.inOrder(func() { l.mailbox.Put(loopMessage{reply: reply}) })
	}
}

// Refused takes NATS's refusal of a resource's events to its shard.
func (r *router) Refused(name string, err error) { r.shardOf(name).cache.Refused(name, busError(err)) }

// Missed says to a resource's shard that it may have missed events.
func (r *router) Missed(name string) { r.shardOf(name).cache.Missed(name) }

// patterns parses a reset's patterns; bad ones are logged and left out.
func (r *router) patterns(what string, texts []string) []res.Pattern {
	patterns := make([]res.Pattern, 0, len(texts))
	for _, t := range texts {
		p, ok := res.ParsePattern(t)
		if !ok {
			r.log.Error("system.reset: invalid pattern ignored", "list", what, "pattern", t)
			continue
		}
		patterns = append(patterns, p)
	}
	return patterns
}

// resetAccess rechecks access for every direct subscription of the resources that match.
func (o *owners) resetAccess(why fanout.Reason, match func(name string) bool) {
	o.inOrder(func() {
		o.eachLoop(func(l *loop) {
			l.post(func() { l.env.Hub.ResetAccess(why, match) })
		})
	})
}
