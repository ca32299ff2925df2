package natsbus

import (
	"sync/atomic"
	"time"

	"sluice/internal/limit"
	"sluice/internal/owner"
	"sluice/internal/tracing"
)

// slot holds one request. Its generation is part of the reply subject and changes when the request
// ends, so a late reply does not match the slot's next request.
type slot struct {
	// Fixed when the page is made.
	caller *Caller
	index  uint32

	// The generation in the high half, how far the request is in the low one. The owner starts and
	// ends requests, the publisher moves them from unsent to claimed to the link's epoch. Both use
	// atomic swaps, so either the publisher takes a place in the service's limit for the request,
	// or the request ends before it has one.
	word atomic.Uint64

	sentAt atomic.Int64 // written by the publisher before it claims: a time.Duration

	// Owned by the caller's owner.
	timer owner.Timer
	done  func(data []byte, err error) // nil while the slot is free, or its request lost
	more  func(data []byte)            // of the request; nil: none
	link  *link
	line  int32 // length of the request's protocol line
	size  int32 // of its payload
	once  bool  // it must not be sent twice: calls and auth requests
	next  *slot // free list
	made  time.Duration

	subject string        // while it is in flight
	client  uint64        // of the request
	span    *tracing.Span // the same; nil: it is not traced

	expiring bool // timed out; the timeout is queued for the dispatcher

	service  *limit.Service // whose place the request holds when it is sent; nil: none
	kind     limit.Kind
	priority limit.Priority
	extended bool // its service has asked for more time
	lost     bool // timed out or abandoned, but the service may still work on it

	group         *Group // nil: none
	before, after *slot  // of the same group
}

// How far a request is: the low half of slot.word. Epochs, from 1, are less than claimed.
const (
	unsent  uint32 = 0
	claimed uint32 = 1 << 30 // the publisher is about to send it
	gone    uint32 = 1 << 31 // lost
)

func word(gen, stage uint32) uint64 { return uint64(gen)<<32 | uint64(stage) }

func (s *slot) gen() uint32   { return uint32(s.word.Load() >> 32) }
func (s *slot) stage() uint32 { return uint32(s.word.Load()) }

// epoch returns the epoch of the connection that request gen was sent on, 0 if it was not sent.
func (s *slot) epoch(gen uint32) uint32 {
	if w := s.word.Load(); uint32(w>>32) == gen && uint32(w) < claimed {
		return uint32(w)
	}
	return 0
}

// claim marks request gen as about to be sent. It fails if the request has ended. Publisher only.
func (s *slot) claim(gen uint32, now time.Duration) bool {
	if s.word.Load() != word(gen, unsent) {
		return false
	}
	s.sentAt.Store(int64(now))
	return s.word.CompareAndSwap(word(gen, unsent), word(gen, claimed))
}

// resent sets the time of request gen, which is claimed and could not be sent before. Publisher
// only.
func (s *slot) resent(gen uint32, now time.Duration) {
	if s.word.Load() == word(gen, claimed) {
		s.sentAt.Store(int64(now))
	}
}

// Expire implements owner.Expirer: a deadline of the request has passed. Its reply may have been
// received and wait in the dispatcher's queue. So the timeout is queued after it, and counts when
// it is dispatched.
func (s *slot) Expire(now time.Duration) {
	c := s.caller
	if s.lost {
		c.recheckLost(s, now)
		return
	}
	if c.postpone(s, now) {
		return
	}
	if s.expiring = s.link.expire(s); !s.expiring {
		c.wheel.Schedule(&s.timer, now+expiryRetry, s)
	}
}

// expiryRetry is when a timeout is queued again after it found the dispatcher's queue full.
const expiryRetry = 10 * time.Millisecond

// refreshPatience is how much longer a request may wait to be sent that no client waits for, such
// as those after a reset.
const refreshPatience = 10

// postpone arms the timer of a request again if it does not time out yet. It reports false if it
// does.
func (c *Caller) postpone(s *slot, now time.Duration) bool {
	due, queued := c.due(s)
	if due <= now {
		return false
	}
	if queued { // once it is sent, its timeout is another one, and not before this
		due = min(due, now+c.timeouts.RequestTimeout)
	}
	c.wheel.Expect(&s.timer, due, s)
	return true
}

// due returns when a request times out, and whether it waits for its service's limit. The timeout
// counts from when the request is sent. One that waits has a longer one; NATS's return is awaited
// no longer than a reply.
func (c *Caller) due(s *slot) (at time.Duration, queued bool) {
	o := &c.timeouts
	switch stage := s.stage(); {
	case s.extended:
		return 0, false // the deadline was set by the service
	case (stage == unsent || stage == claimed) && !s.link.up.Load():
		return s.made + o.RequestTimeout, false
	case stage != unsent:
		return time.Duration(s.sentAt.Load()) + o.RequestTimeout, false
	case s.service == nil:
		return s.made + o.RequestTimeout, false
	case s.priority == limit.Refresh:
		return s.made + refreshPatience*o.QueueTimeout, true
	}
	return s.made + o.QueueTimeout, true
}

// free makes a slot available for the next request.
func (c *Caller) free(s *slot) {
	old := s.word.Load()
	for !s.word.CompareAndSwap(old, word(uint32(old>>32)+1, unsent)) {
		old = s.word.Load()
	}
	c.leave(s, uint32(old) != unsent)
	s.link, s.extended, s.lost, s.subject = nil, false, false, ""
	s.next, c.unused = c.unused, s
}

// leave ends what a request has of its service's limit. sent says that it holds a place.
func (c *Caller) leave(s *slot, sent bool) {
	v := s.service
	if v == nil {
		return
	}
	s.service = nil
	if sent {
		if s.extended {
			v.Extend(-1)
		}
		if s.lost {
			v.Lose(-1)
		}
		v.Release()
		c.freed |= v.Waiting()
	}
	v.Drop()
}

// lostRetry and lostMost bound the intervals in which a lost request's place is checked, and
// lostFor how many request timeouts it is kept if nothing is heard of the service.
const (
	lostRetry = 50 * time.Millisecond
	lostMost  = time.Second
	lostFor   = 5
)

// lose ends a request whose service may still work on it: it keeps its place in the service's limit
// until its reply arrives, or the reply to a later request. It reports false if there is no such
// place, or if the connection that it was sent on is lost.
func (c *Caller) lose(s *slot) bool {
	v := s.service
	if v == nil || s.extended {
		return false
	}
	for {
		old := s.word.Load()
		// A connection carries requests before the dispatcher counts it as up.
		if stage := uint32(old); stage != s.link.epoch.Load() && (stage != claimed || !s.link.up.Load()) {
			return false
		}
		if s.word.CompareAndSwap(old, word(uint32(old>>32), gone)) {
			break
		}
	}
	s.lost = true
	v.Lose(1)
	c.freed |= v.Waiting() // if all are lost, one may be sent
	c.wheel.Schedule(&s.timer, c.now()+lostRetry, s)
	return true
}

// recheckLost frees a lost request's place if it is not at its service any more.
func (c *Caller) recheckLost(s *slot, now time.Duration) {
	sent := time.Duration(s.sentAt.Load())
	age := now - sent
	if s.service.Passed(sent) || age > lostFor*c.timeouts.RequestTimeout {
		c.free(s)
		c.wake()
		return
	}
	c.wheel.Schedule(&s.timer, now+min(max(age/8, lostRetry), lostMost), s)
}

// wake tells the publishers whose requests wait for a place that one may be free.
func (c *Caller) wake() {
	freed := c.freed
	c.freed = 0
	limit.Each(freed, func(i int) { poke(c.bus.links[i].work) })
}
