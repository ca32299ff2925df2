package natsbus

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// inboxName stands for the subjects of replies in messages.
const inboxName = "_INBOX.>"

// base are the subscriptions that a link cannot do without.
type base struct {
	subjects []string
	later    []string             // Options.Subjects
	subs     []*nats.Subscription // owned by the publisher

	refused atomic.Pointer[string] // the subject of one that the server refuses, nil if it does not
	problem atomic.Pointer[string] // why requests get no replies, nil if they do
	doubt   chan struct{}          // a probe is due

	// Owned by the publisher.
	retry     *time.Timer // armed while there is a problem
	tries     int
	listening bool // to later, too
}

func (b *base) init(l *link) {
	b.subjects = []string{l.inbox + "*"}
	if l.number == 0 {
		b.subjects = append(b.subjects, "system.>", "conn.*.token")
		b.later = l.opts.Subjects
	}
	if l.wild != nil {
		b.subjects = append(b.subjects, l.wild.subjects...)
	}
	b.doubt = make(chan struct{}, 1)
	b.retry = time.NewTimer(0)
	b.retry.Stop()
	untried := "no reply to a first request to NATS yet"
	b.problem.Store(&untried)
}

// refuse records that the server denies a subject, and reports whether it is one of base's.
func (b *base) refuse(subject string) bool {
	if slices.Contains(b.subjects, subject) || slices.Contains(b.later, subject) {
		if strings.HasPrefix(subject, "_INBOX.") {
			subject = inboxName
		}
		b.refused.Store(&subject)
		poke(b.doubt)
		return true
	}
	return strings.HasPrefix(subject, "_INBOX.") // of marks
}

// subscribeBase subscribes to the base subjects. It fails only if the connection is closed.
func (p *publisher) subscribeBase(nc Conn) error {
	p.base.subs = p.base.subs[:0]
	p.wild.renew()
	for _, s := range p.base.subjects {
		sub, err := nc.ChanSubscribe(s, p.msgs)
		if err != nil {
			return err
		}
		p.base.subs = append(p.base.subs, sub)
	}
	sub, err := nc.ChanSubscribe(p.marks.prefix+"*", p.marks.msgs)
	if err != nil {
		return err
	}
	p.base.subs = append(p.base.subs, sub)
	p.made.Add(uint32(len(p.base.subs)))
	p.opts.Metrics.Subscribes.Add(uint64(len(p.base.subs)))
	if p.base.listening {
		p.subscribeTo(nc, p.base.later)
	}
	return nil
}

func (p *publisher) unsubscribeBase() {
	p.opts.Metrics.Unsubscribes.Add(uint64(len(p.base.subs)))
	for _, sub := range p.base.subs {
		_ = p.nc.Load().Unsubscribe(sub) // fails if the connection is closed: reopen subscribes again
	}
}

// probe checks whether requests get replies, by a request to the link itself.
func (p *publisher) probe() {
	b := &p.base
	made := p.made.Load()
	result := p.mark()
	if result == markBack && !p.resolving.Load() {
		p.advance(made)
	}
	if result == markLost {
		return // the next connection is probed again
	}
	problem := ""
	switch subject := b.refused.Load(); {
	case subject != nil:
		problem = refused(*subject).Error()
	case result == markSilent:
		problem = fmt.Sprintf("no reply from NATS within %v", time.Duration(p.patience.Load()))
	}
	before := b.problem.Load()
	if problem == "" {
		b.problem.Store(nil)
		if b.tries > 0 {
			b.tries = 0
			b.retry.Stop()
			p.opts.Log.Info("NATS is usable again", "connection", p.number)
			p.emit(change{to: Gap})
		}
		return
	}
	b.problem.Store(&problem)
	if before == nil || *before != problem {
		p.opts.Log.Error("NATS cannot be used; permit the gateway to subscribe to _INBOX.>, event.>, system.> and conn.*.token",
			"connection", p.number, "reason", problem)
	}
	b.tries++
	b.retry.Reset(min(refusalFirst<<min(b.tries-1, 10), refusalMost))
}

// renewBase repeats the base subscriptions and probes them.
func (p *publisher) renewBase() {
	p.unsubscribeBase()
	p.base.refused.Store(nil)
	if err := p.subscribeBase(p.nc.Load()); err == nil {
		p.probe()
	}
}

// Ready returns nil if requests get replies and events arrive, else why not.
func (b *Bus) Ready() error {
	for _, l := range b.links {
		if !l.up.Load() {
			return errors.New("NATS is not connected")
		}
		if p := l.base.problem.Load(); p != nil {
			return errors.New(*p)
		}
	}
	return nil
}

// marks are messages from the publisher to itself. A mark passes the server, nats.go's read loop
// and its callback goroutine. So when a mark has returned, every callback for what the server sent
// before it has returned, too. The step to the callback goroutine is an error: the one that nats.go
// reports for a full channel, or the server's denial of publishing the mark.
type marks struct {
	prefix string
	msgs   chan *nats.Msg // room for one
	number atomic.Uint32  // of the newest
	back   chan struct{}
	out    atomic.Bool // one is in flight
}

func (m *marks) init() {
	m.prefix = "_INBOX." + rand.Text() + "."
	m.msgs = make(chan *nats.Msg, 1)
	m.back = make(chan struct{}, 1)
}

// returned takes the subject of a subscription whose channel is full.
func (m *marks) returned(subject string) bool {
	if subject != m.prefix+"*" {
		return false
	}
	poke(m.back)
	return true
}

// refused takes the subject of a message that may not be published.
func (m *marks) refused(subject string) bool {
	number, ok := strings.CutPrefix(subject, m.prefix)
	if ok && number == strconv.FormatUint(uint64(m.number.Load()), 10) {
		poke(m.back)
	}
	return ok
}

// giveUp ends the wait for a mark, which may never return now.
func (m *marks) giveUp() { poke(m.back) }

type markResult uint8

const (
	markBack   markResult = iota
	markSilent            // it has not returned in time
	markLost              // the connection was lost first
)

// mark sends a mark and waits for it. Only the publisher calls it.
func (p *publisher) mark() markResult {
	m := &p.marks
	select {
	case <-m.msgs:
	default:
	}
	poked(m.back)
	if subject := p.base.refused.Load(); subject != nil && *subject == inboxName {
		return markSilent // if it is denied later, giveUp ends the wait
	}
	m.out.Store(true)
	defer func() {
		m.out.Store(false)
		poke(p.verdict)
	}()
	number := strconv.FormatUint(uint64(m.number.Add(1)), 10)
	nc := p.nc.Load()
	for _, token := range []string{"first", number} { // the first one fills the channel
		if nc.Publish(m.prefix+token, nil) != nil {
			return markLost
		}
	}
	p.uncork()
	if poked(m.back) {
		return markBack
	}
	timeout := time.NewTimer(time.Duration(p.patience.Load()))
	defer timeout.Stop()
	select {
	case <-m.back:
		return markBack
	case <-timeout.C:
		return markSilent
	case <-p.back:
		poke(p.back)
	case <-p.lost:
		poke(p.lost)
	case <-p.closing:
	}
	return markLost
}
