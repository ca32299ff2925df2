package owners

import (
	"time"

	"sluice/fanout"
	"sluice/internal/natsbus"
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
type router struct{ *Set }

// Event posts an event to the shard of its resource.
func (r router) Event(name, event string, data []byte, at time.Duration) {
	r.ShardOf(name).Cache.Event(name, event, data, at)
}

// Token posts a connection's new token to its loop.
func (r router) Token(cid string, data []byte) {
	who, ok := r.Parse(cid)
	if !ok {
		if who, ok = r.guests.token(cid, data, r.o.Clock.Now()); !ok {
			return // another gateway's client
		}
	}
	l := r.loop(who.Loop)
	if l == nil {
		return // the ID is forged: this gateway made none for such a loop
	}
	r.inOrder(func() {
		l.Post(func() { l.token(who, cid, data) })
	})
}

// System passes a system event to all owners that it concerns: resource resets to the shards,
// access resets and token resets to the loops.
func (r router) System(event string, data []byte) {
	switch event {
	case "reset":
		resources, access := r.system.Reset(data)
		if len(resources) > 0 {
			for _, s := range r.shards {
				s.Cache.Reset(resources)
			}
		}
		if len(access) > 0 {
			r.resetAccess(fanout.Reset, upstream.MatchAny(access))
		}
	case "tokenReset":
		tids, subject, ok := r.system.TokenReset(data)
		if !ok {
			return
		}
		r.inOrder(func() {
			r.EachLoop(func(l *Loop) {
				l.Post(func() { l.resetToken(tids, subject) })
			})
		})
	}
}

// Reply posts a reply to the owner of its request. The owner's number comes from the reply's
// subject, which any client of NATS can forge.
func (r router) Reply(reply natsbus.Reply) {
	s, l := r.caller(reply.Owner)
	switch {
	case s != nil:
		s.Cache.Run(func() { s.Caller.Deliver(reply) })
	case l != nil && r.idle(): // the usual case, which needs no closure
		l.mailbox.Put(loopMessage{reply: reply})
	case l != nil:
		r.inOrder(func() { l.mailbox.Put(loopMessage{reply: reply}) })
	}
}

// Refused notifies a resource's shard that NATS has refused the subscription to its events.
func (r router) Refused(name string, err error) {
	r.ShardOf(name).Cache.Refused(name, upstream.Error(err))
}

// Missed notifies a resource's shard that it may have missed events.
func (r router) Missed(name string) { r.ShardOf(name).Cache.Missed(name) }

// resetAccess requests access again for every direct subscription whose resource matches.
func (s *Set) resetAccess(why fanout.Reason, match func(name string) bool) {
	s.inOrder(func() {
		s.EachLoop(func(l *Loop) {
			l.Post(func() { l.Env.Hub.ResetAccess(why, match) })
		})
	})
}
