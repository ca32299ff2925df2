package natsbus

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// A server that refuses a subscription says so in an error among the messages, and goes on. nats.go hands
// errors to a goroutine of their own, so a reply that the server sent after the error may be dispatched
// before it. What keeps a refused resource from looking live is this:
//
//   - Every request says in its reply subject how many subscriptions were made before it. A server works
//     in order, so with the reply all of these are judged.
//   - Before the dispatcher hands on a reply that judges more than the one before, it asks nats.go for
//     the connection's last error, which the goroutine that reads the connection has noted before it
//     read the reply. If that is a refusal that has not been dealt with it waits for that.
//   - A refusal for lack of permission names the subject. One for the number of subscriptions does not:
//     the publisher then takes all back that are not judged, makes them again with nothing in between,
//     and counts the refusals: the last ones are refused, since there is room for none after the first.
//
// So the usual request costs no round trip of its own.

// interest is a subscription to the events of a resource.
type interest struct {
	sub    *nats.Subscription
	number uint32 // among all that the link has made
}

// room is what the publisher knows of the number of subscriptions that the server accepts.
type room struct {
	limit int       // so many names, 0: not known
	until time.Time // the limit counts
	tries int
}

const (
	refusalFirst = time.Second
	refusalMost  = 30 * time.Second
)

func refused(subject string) error { return fmt.Errorf("%w to %s", ErrRefused, subject) }

func eventSubject(name string) string { return "event." + name + ".*" }

// subscribe and unsubscribe work without a connection too: nats.go repeats all subscriptions of the
// moment when it reconnects, before anything else is published.
func (p *publisher) subscribe(name string) {
	if _, known := p.subs[name]; known {
		return
	}
	if r := &p.room; r.limit > 0 && len(p.subs) >= r.limit && time.Now().Before(r.until) {
		p.opts.Metrics.Refused.Inc()
		p.opts.Receiver.Refused(name, refused(eventSubject(name)))
		return
	}
	for {
		err := p.ask(p.nc.Load(), name)
		switch {
		case err == nil:
			p.opts.Metrics.Subscriptions.Inc()
			return
		case !errors.Is(err, nats.ErrConnectionClosed):
			p.opts.Log.Error("NATS subscription failed", "resource", name, "error", err)
			p.opts.Receiver.Refused(name, refused(eventSubject(name)))
			return
		}
		if !p.awaitConnection() {
			return
		}
	}
}

// ask subscribes to the events of a resource.
func (p *publisher) ask(nc *nats.Conn, name string) error {
	if line := subscribeLine(name); line > int(p.longest.Load()) {
		p.longest.Store(int32(line))
	}
	sub, err := nc.ChanSubscribe(eventSubject(name), p.msgs)
	if err == nil {
		p.subs[name] = interest{sub, p.made.Add(1)}
	}
	return err
}

func (p *publisher) unsubscribe(name string) {
	in, known := p.subs[name]
	if !known {
		return
	}
	delete(p.subs, name)
	p.opts.Metrics.Subscriptions.Dec()
	if err := in.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		p.opts.Log.Warn("NATS unsubscribe failed", "resource", name, "error", err)
	}
}

// confirm notes that the server has judged the first made subscriptions, once the refusals among them
// have been dealt with. Only the dispatcher calls it.
func (d *dispatcher) confirm(made uint32) {
	if int32(made-d.made.Load()) > 0 {
		return // forged
	}
	for !d.settled() {
		select {
		case <-d.verdict:
		case c := <-d.changes:
			d.change(c)
		case <-d.stopping:
			return
		}
	}
	d.advance(made)
}

// settled reports whether all that the server has refused until now has been dealt with.
func (d *dispatcher) settled() bool {
	done := true
	switch err := d.nc.Load().LastError(); {
	case errors.Is(err, nats.ErrMaxSubscriptionsExceeded):
		done = d.unresolved.Load()
	case errors.Is(err, nats.ErrPermissionViolation):
		judged := d.judged.Load()
		done = judged != nil && *judged == err
	case errors.Is(err, nats.ErrSlowConsumer):
		done = !d.marks.out.Load() // it may have come after a refusal
	}
	// In this order: with the last error, the callbacks of those before it have been called.
	return done && !d.resolving.Load()
}

// advance notes that the first made subscriptions have been judged.
func (l *link) advance(made uint32) {
	for {
		confirmed := l.confirmed.Load()
		if int32(made-confirmed) <= 0 || l.confirmed.CompareAndSwap(confirmed, made) {
			return
		}
	}
}

// post enqueues a single operation; any goroutine.
func (l *link) post(kind opKind, name string) {
	b := takeBatch()
	b.ops = append(b.ops, op{kind: kind, subject: name})
	l.enqueue(b)
}

// violation takes an error that says what the server does not permit. It is one of nats.go's callbacks.
func (l *link) violation(err error) {
	defer func() {
		l.judged.Store(&err)
		poke(l.verdict)
	}()
	text := err.Error()
	if subject, ok := quotedAfter(text, "Subscription to "); ok {
		l.opts.Metrics.Refused.Inc()
		l.tell("NATS refuses a subscription; permit it in the server's configuration", subject, err)
		if l.base.refuse(subject) {
			l.marks.giveUp()
			return
		}
		if name, ok := strings.CutPrefix(subject, "event."); ok {
			if name, ok = strings.CutSuffix(name, ".*"); ok {
				l.post(opForget, name) // before the owner can ask for it again
				l.opts.Receiver.Refused(name, refused(subject))
			}
		}
		return
	}
	subject, _ := quotedAfter(text, "Publish to ")
	if l.marks.refused(subject) {
		return
	}
	l.opts.Metrics.Forbidden.Inc()
	l.tell("NATS does not let a request pass; permit it in the server's configuration", subject, err)
}

// tell logs a refusal, one a second.
func (l *link) tell(message, subject string, err error) {
	if time.Since(l.told) < time.Second {
		l.quiet++
		return
	}
	l.opts.Log.Error(message, "connection", l.number, "subject", subject, "error", err, "more", l.quiet)
	l.told, l.quiet = time.Now(), 0
}

// quotedAfter returns the quoted text that follows prefix.
func quotedAfter(text, prefix string) (string, bool) {
	_, rest, found := strings.Cut(text, prefix)
	if !found {
		return "", false
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return "", false
	}
	subject, err := strconv.Unquote(quoted)
	return subject, err == nil
}

// resolve finds out which subscriptions the server has refused for their number. With its last mark the
// connection has another last error, unless the mark has not come back.
func (p *publisher) resolve() {
	p.unresolved.Store(false)
	defer func() {
		p.resolving.Store(false)
		p.unresolved.Store(errors.Is(p.nc.Load().LastError(), nats.ErrMaxSubscriptionsExceeded))
		poke(p.verdict)
	}()
	if poked(p.back) {
		poke(p.base.doubt) // probe later: the mark must not be taken for one that was overtaken
	}
	nc, confirmed, renewed := p.nc.Load(), p.confirmed.Load(), p.renewed.Load()
	var names []string
	for name, in := range p.subs {
		if int32(in.number-confirmed) > 0 || int32(renewed-confirmed) > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(int32(p.subs[a].number-p.subs[b].number), 0) })
	for _, name := range names {
		_ = p.subs[name].sub.Unsubscribe() // an error means that the connection is closed: reopen makes them again
	}
	base := int32(renewed-confirmed) > 0
	if base {
		p.unsubscribeBase()
	}
	if p.mark() == markLost {
		return // the connection is lost: the next one judges them all
	}
	p.tooMany.Store(0)
	if base && p.subscribeBase(nc) != nil {
		return
	}
	for _, name := range names {
		if p.ask(nc, name) != nil {
			return
		}
	}
	result := p.mark()
	if result == markLost {
		return
	}
	lost := int(p.tooMany.Swap(0))
	if lost > len(names) || result == markSilent {
		if lost > len(names) {
			p.base.refuse(p.base.subjects[0])
		}
		lost = len(names)
	}
	for _, name := range names[:len(names)-lost] {
		p.opts.Receiver.Missed(name)
	}
	for _, name := range names[len(names)-lost:] {
		p.opts.Metrics.Refused.Inc()
		p.unsubscribe(name)
		p.opts.Receiver.Refused(name, refused(eventSubject(name)))
	}
	r := &p.room
	if lost == 0 {
		*r = room{}
		return
	}
	r.tries++
	r.limit, r.until = len(p.subs), time.Now().Add(min(refusalFirst<<min(r.tries-1, 10), refusalMost))
	p.opts.Log.Error("NATS accepts no more subscriptions; raise max_subscriptions in the server's configuration",
		"connection", p.number, "subject", eventSubject(names[len(names)-1]), "refused", lost, "limit", r.limit, "pause", time.Until(r.until))
}

// poked reports whether c had a token, and takes it.
func poked(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
