package gateway

import (
	"sync/atomic"

	"sluice/fanout"
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
type router Gateway

// Event takes an event to the shard of its resource.
func (r *router) Event(name, event string, data []byte) {
	(*Gateway)(r).shardOf(name).cache.Event(name, event, data)
}

// Token takes a connection's new token to its loop.
func (r *router) Token(cid string, data []byte) {
	g := (*Gateway)(r)
	h, loop, number, ok := g.cids.parse(cid)
	if !ok || loop >= len(g.loops) {
		return // another gateway's client
	}
	g.inOrder(func() {
		l := g.loops[loop].Load()
		l.post(func() { l.token(h, number, data) })
	})
}

// System takes a system event to whom it concerns: resources to their shards,
// access and tokens to the loops.
func (r *router) System(event string, data []byte) {
	g := (*Gateway)(r)
	p := new(res.Parser)
	switch event {
	case "reset":
		resources, access, err := p.SystemReset(data)
		if err != nil {
			g.log.Error("system.reset dropped: malformed", "err", err)
			return
		}
		if patterns := g.patterns("resources", resources); len(patterns) > 0 {
			for _, s := range g.shards {
				s.cache.Reset(patterns)
			}
		}
		if patterns := g.patterns("access", access); len(patterns) > 0 {
			g.resetAccess(fanout.Reset, func(name string) bool {
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
			g.log.Error("system.tokenReset dropped: malformed", "err", err)
			return
		}
		g.inOrder(func() {
			g.eachLoop(func(l *loop) {
				l.post(func() { l.env.ResetToken(tids, subject) })
			})
		})
	}
}

// Reply takes an answer to the owner that asked.
func (r *router) Reply(reply natsbus.Reply) {
	g := (*Gateway)(r)
	if i := int(reply.Owner); i < len(g.shards) {
		s := g.shards[i]
		s.cache.Run(func() { s.caller.Deliver(reply) })
		return
	}
	g.inOrder(func() {
		if l := g.loops[int(reply.Owner)-len(g.shards)].Load(); l != nil {
			l.mailbox.Put(loopMessage{reply: reply})
		}
	})
}

// patterns parses a reset's patterns; bad ones are logged and left out.
func (g *Gateway) patterns(what string, texts []string) []res.Pattern {
	patterns := make([]res.Pattern, 0, len(texts))
	for _, t := range texts {
		p, ok := res.ParsePattern(t)
		if !ok {
			g.log.Error("system.reset: invalid pattern ignored", "list", what, "pattern", t)
			continue
		}
		patterns = append(patterns, p)
	}
	return patterns
}

// resetAccess has access asked anew for every direct subscription of the
// resources that match.
func (g *Gateway) resetAccess(why fanout.Reason, match func(name string) bool) {
	g.inOrder(func() {
		g.eachLoop(func(l *loop) {
			l.post(func() { l.env.Hub.ResetAccess(why, match) })
		})
	})
}

// inOrder calls post once all that has reached the shards before has been
// handed on by them. post may run on any shard's goroutine or at once.
func (g *Gateway) inOrder(post func()) {
	var busy []*shard
	for _, s := range g.shards {
		if s.cache.Pending() > 0 {
			busy = append(busy, s)
		}
	}
	switch len(busy) {
	case 0:
		post()
	case 1:
		busy[0].cache.Run(post)
	default:
		left := new(atomic.Int32)
		left.Store(int32(len(busy)))
		for _, s := range busy {
			s.cache.Run(func() {
				if left.Add(-1) == 0 {
					post()
				}
			})
		}
	}
}

func (g *Gateway) eachLoop(f func(*loop)) {
	for i := range g.loops {
		if l := g.loops[i].Load(); l != nil {
			f(l)
		}
	}
}
