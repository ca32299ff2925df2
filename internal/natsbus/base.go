package natsbus

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// inboxName is what users call the subjects of replies.
const inboxName = "_INBOX.>"

// base are the subscriptions that a link cannot do without.
type base struct {
	subjects []string
	subs     []*nats.Subscription // owned by the publisher

	refused atomic.Pointer[string] // the subject of one that the server refuses, nil if it does not
	problem atomic.Pointer[string] // why the link is of no use, nil if it is
	doubt   chan struct{}          // a probe is due

	// Owned by the publisher.
	retry *time.Timer // armed while there is a problem
	tries int
}

func (b *base) init(l *link) {
	b.subjects = []string{l.inbox + "*"}
	if l.number == 0 {
		b.subjects = append(b.subjects, "system.>", "conn.*.token")
	}
	b.doubt = make(chan struct{}, 1)
	b.retry = time.NewTimer(0)
	b.retry.Stop()
	untried := "NATS has not replied to a first request yet"
	b.problem.Store(&untried)
}

// refuse notes that a subject is refused; false if it is none of these.
func (b *base) refuse(subject string) bool {
	for _, s := range b.subjects {
		if s == subject {
			if strings.HasPrefix(subject, "_INBOX.") {
				subject = inboxName
			}
			b.refused.Store(&subject)
			poke(b.doubt)
			return true
		}
	}
	return strings.HasPrefix(subject, "_INBOX.") // of marks
}

// subscribeBase subscribes to what the link cannot do without. Its error is that the connection is closed.
func (p *publisher) subscribeBase(nc *nats.Conn) error {
	p.base.subs = p.base.subs[:0]
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
	return nil
}

func (p *publisher) unsubscribeBase() {
	for _, sub := range p.base.subs {
		_ = sub.Unsubscribe() // an error means that the connection is closed: reopen makes them again
	}
}

// probe finds out whether requests get replies, by one to the link itself.
func (p *publisher) probe() {
	b := &p.base
	made := p.made.Load()
	result := p.mark()
	if result == markBack && !p.resolving.Load() {
		p.advance(made)
	}
	if result == markLost {
		return // there will be another probe
	}
	problem := ""
	switch subject := b.refused.Load(); {
	case subject != nil:
		problem = refused(*subject).Error()
	case result == markSilent:
		problem = fmt.Sprintf("NATS has not replied to a request within %v", p.opts.RequestTimeout)
	}
	before := b.problem.Load()
	if problem == "" {
		b.problem.Store(nil)
		if b.tries > 0 {
			b.tries = 0
			b.retry.Stop()
			p.opts.Log.Info("NATS accepts what the gateway needs", "connection", p.number)
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

// renewBase makes the subscriptions again that the link cannot do without, and probes.
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

// marks are messages from the publisher to itself. When one has come back, all that the server had said
// before it has been handed to nats.go's callbacks, and by these to whom it concerns: a mark goes through
// the server, the goroutine that reads the connection, and the one that calls back. The last step is
// taken by an error that nats.go reports for a channel that is full, or by the server's word that the
// mark may not be published.
type marks struct {
	prefix string
	msgs   chan *nats.Msg // room for one
	number atomic.Uint32  // of the newest
	back   chan struct{}
	out    atomic.Bool // one is on its way
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

// giveUp ends the wait for a mark, which may not come back now.
func (m *marks) giveUp() { poke(m.back) }

type markResult uint8

const (
	markBack   markResult = iota
	markSilent            // it has not come back in time
	markLost              // the connection was lost meanwhile
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
		return markSilent // and if it is refused later, giveUp ends the wait
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
	timeout := time.NewTimer(p.opts.RequestTimeout)
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
