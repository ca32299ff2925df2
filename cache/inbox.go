package cache

import (
	"sync/atomic"
	"time"

	"sluice/internal/owner"
)

// inbox is the mailbox of a shard with its bounds. Any goroutine may put messages into it; the
// shard's goroutine handles them in order. It knows no Shard.
type inbox struct {
	opt     *Options // fixed after construction
	metrics *Metrics // likewise
	mail    *owner.Mailbox[message]
	signal  func() // wakes the shard's goroutine

	pending atomic.Int64 // messages put and not completely handled
	queued  atomic.Int64 // bytes of event payloads in the mailbox
	lost    lossLog
}

type messageKind uint8

const (
	msgSubscribe messageKind = iota
	msgUnsubscribe
	msgEvent
	msgDo
)

// message is an element of the mailbox. name2 is a sub's query or an event's name.
type message struct {
	kind    messageKind
	loop    int32
	ref     uint64
	name    string
	name2   string
	payload []byte
	do      func()
	at      time.Duration // when an event arrived
}

func (b *inbox) init(opt *Options, signal func()) {
	b.opt, b.metrics, b.signal = opt, opt.Metrics, signal
	b.mail = owner.NewMailbox[message](signal)
}

func (b *inbox) put(m message) {
	b.pending.Add(1)
	b.mail.Put(m)
}

// Pending returns how many messages were put and are not completely handled. At 0, all that the
// caller knows to have been put has taken effect, including the updates posted to loops.
func (b *inbox) Pending() int { return int(b.pending.Load()) }

// Subscribe subscribes a loop to the resource <name>?<query>, under the name ref: it gets one
// update Loaded or Failed, and then the resource's updates. The loop must never have used ref
// before. first, if not nil, is called on the shard's goroutine: its requests follow the NATS
// subscription of the name and precede the get (RES.md 3.3).
func (b *inbox) Subscribe(loop int, ref uint64, name, query string, first func()) {
	b.put(message{kind: msgSubscribe, loop: int32(loop), ref: ref, name: name, name2: query, do: first})
}

// Unsubscribe ends what Subscribe with the same arguments began, at any time after it. Updates that
// were already posted may still reach the loop.
func (b *inbox) Unsubscribe(loop int, ref uint64, name, query string) {
	b.put(message{kind: msgUnsubscribe, loop: int32(loop), ref: ref, name: name, name2: query})
}

// Event delivers an event received on event.<name>.<event>, which arrived at the time at of the
// gateway's clock; 0: unknown. The shard owns payload from then on. If the mailbox is full, the
// event is dropped; the shard then refetches the resource and has access rechecked.
func (b *inbox) Event(name, event string, payload []byte, at time.Duration) {
	size := int64(len(payload))
	full := b.mail.Len() >= b.opt.MailboxLimit || b.queued.Load()+size > int64(b.opt.MailboxBytes)
	if b.lost.drop(name, full) {
		b.metrics.EventsLost.Add(1)
		b.signal()
		return
	}
	b.queued.Add(size)
	b.put(message{kind: msgEvent, name: name, name2: event, payload: payload, at: at})
}

// Run runs f on the shard's goroutine, in order with all other messages: replies, for example.
func (b *inbox) Run(f func()) { b.put(message{kind: msgDo, do: f}) }

// relieved reports whether the mailbox has room again after events were dropped.
func (b *inbox) relieved() bool {
	return b.mail.Len() <= b.opt.MailboxLimit/2 && b.queued.Load() <= int64(b.opt.MailboxBytes)/2
}
