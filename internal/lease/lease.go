// Package lease decides which of several processes is active, by messages that all of them
// receive: the state machine, as pure functions of messages and time.
//
// The holder sends renewals. It counts the lease from when it sent a renewal that it received
// itself, which proves that the others could receive it, too; and it stops at three fifths of the
// lease. The others count from when they received a renewal, which is never earlier, and wait for
// the whole lease. So the holder has stopped before another one claims the lease, whether it was
// cut off, paused or stopped, provided that the clocks run at about the same rate. A claim is open
// for a fifth of the lease, in which another claimant or a holder can object.
//
// Messages that are delayed by more than a tenth of the lease, or a partition of the messaging
// system, can make two holders. When they hear each other, the one with the lower term ends, and
// the other one learns that there was another.
//
// It does no I/O, reads no clock and starts no goroutine.
package lease

import (
	"encoding/json"
	"errors"
	"time"
)

// Kind is what a message says.
type Kind string

// Kinds of messages.
const (
	Renewal Kind = "renewal" // the sender holds the lease
	Claim   Kind = "claim"   // the sender takes the lease if nobody objects
	Release Kind = "release" // the sender has stopped
)

// Message is sent to all, and is received by its sender as well.
type Message struct {
	Kind   Kind   `json:"kind"`
	ID     string `json:"id"`
	Term   uint64 `json:"term"`
	Number uint64 `json:"n"` // of the sender's messages
}

// maxMessage bounds the length of an encoded message.
const maxMessage = 1024

// Encode returns the message as it is sent.
func (m Message) Encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and numbers can be encoded
	}
	return b
}

// Decode reads a message that was received. The error says why it is none.
func Decode(data []byte) (m Message, err error) {
	if len(data) > maxMessage {
		return m, errors.New("lease: message too long")
	}
	if err = json.Unmarshal(data, &m); err != nil {
		return m, err
	}
	switch {
	case m.Kind != Renewal && m.Kind != Claim && m.Kind != Release:
		err = errors.New("lease: unknown kind of message")
	case m.ID == "":
		err = errors.New("lease: message without an id")
	}
	return m, err
}

// State is what a process is with regard to the lease.
type State uint8

// States. Each but Lost ends as the next one, or as Waiting when another process objects.
const (
	Waiting  State = iota // another process may hold the lease
	Claiming              // the claim is sent; it may be objected to
	Holding               // the lease is held until Until
	Lost                  // it was held and is over; final
)

// String returns the state's name for logs.
func (s State) String() string { return [...]string{"waiting", "claiming", "holding", "lost"}[s] }

// Lease is the state of one process. It belongs to one goroutine. All times are of one monotonic
// clock.
type Lease struct {
	id   string
	ttl  time.Duration
	send func(Message)

	state State
	term  uint64        // the highest known; the own one while claiming or holding
	heard time.Duration // of Waiting: when another process was heard last
	from  time.Duration // of Claiming: when the claim was sent
	next  time.Duration // of Holding: when the next renewal is due
	until time.Duration // of Claiming and Holding: how long the own messages that came back count

	number uint64 // of the newest own message
	sent   map[uint64]time.Duration
	rival  bool // another holder was heard, and gave way
}

// New returns a process that waits for the lease. Another process may hold it, so it waits for the
// whole ttl from now. send must not call back. id must be unique.
func New(id string, ttl, now time.Duration, send func(Message)) *Lease {
	return &Lease{id: id, ttl: ttl, send: send, heard: now, sent: make(map[uint64]time.Duration)}
}

// The parts of the lease, of ttl: see the package comment.
func (l *Lease) renewal() time.Duration  { return l.ttl / 10 }
func (l *Lease) validity() time.Duration { return l.ttl * 3 / 5 }
func (l *Lease) window() time.Duration   { return l.ttl / 5 }

// State returns the present state. Until may have passed.
func (l *Lease) State() State { return l.state }

// Until returns the time up to which a holder may act; 0 if the lease is not held.
func (l *Lease) Until() time.Duration {
	if l.state != Holding {
		return 0
	}
	return l.until
}

// TakeRival reports, once, whether another holder was heard that had to give way. What it did
// overlaps with what this one did.
func (l *Lease) TakeRival() bool {
	r := l.rival
	l.rival = false
	return r
}

func (l *Lease) say(kind Kind, now time.Duration) {
	l.number++
	l.sent[l.number] = now
	for n, at := range l.sent {
		if now-at > l.ttl {
			delete(l.sent, n)
		}
	}
	l.send(Message{Kind: kind, ID: l.id, Term: l.term, Number: l.number})
}

// Tick handles the passing of time. It returns when to call it again, at the latest.
func (l *Lease) Tick(now time.Duration) time.Duration {
	switch l.state {
	case Waiting:
		if now < l.heard+l.ttl {
			return l.heard + l.ttl
		}
		l.state, l.from, l.until = Claiming, now, 0
		l.term++
		l.say(Claim, now)
		return now + l.window()
	case Claiming:
		switch {
		case now < l.from+l.window():
			return l.from + l.window()
		case now >= l.until || now > l.from+l.window()+l.renewal():
			// The claim has not come back, or the process has not run: an objection may be unread.
			l.state, l.heard = Waiting, now-l.ttl+l.window()
			return l.heard + l.ttl
		}
		l.state, l.next = Holding, now
		return l.Tick(now)
	case Holding:
		if now >= l.until {
			l.state = Lost
			return now + l.ttl
		}
		if now >= l.next {
			l.next = now + l.renewal()
			l.say(Renewal, now)
		}
		return min(l.next, l.until)
	default:
		return now + l.ttl
	}
}

// Hear handles a message. Tick follows it.
func (l *Lease) Hear(m Message, now time.Duration) {
	if m.ID == l.id {
		if at, known := l.sent[m.Number]; known && m.Term == l.term && (l.state == Claiming || l.state == Holding) {
			l.until = max(l.until, at+l.validity())
		}
		return
	}
	switch l.state {
	case Waiting:
		l.term = max(l.term, m.Term)
		l.heard = now
		if m.Kind == Release {
			l.heard = now - l.ttl
		}
	case Claiming:
		if m.Kind == Release || m.Kind == Claim && l.precedes(m) {
			return
		}
		l.state, l.heard = Waiting, now
		l.term = max(l.term, m.Term)
	case Holding:
		switch {
		case m.Kind == Claim:
			l.term = max(l.term, m.Term) // so that the claimant cannot outrank a later renewal
			l.next = now                 // objects at once
		case m.Kind == Renewal && l.precedes(m):
			l.rival = true
			l.next = now // tells it
		case m.Kind == Renewal:
			l.state = Lost
		}
	}
}

// precedes reports whether this process prevails over the sender of m.
func (l *Lease) precedes(m Message) bool {
	return l.term > m.Term || l.term == m.Term && l.id < m.ID
}

// Stop releases the lease: the caller has stopped to act, so that another process may start
// immediately.
func (l *Lease) Stop(now time.Duration) {
	if l.state == Holding {
		l.say(Release, now)
	}
	l.state = Lost
}
