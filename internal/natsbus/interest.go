package natsbus

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/owner"
)

// A server reports a denied subscription by an error among the messages, and keeps the connection.
// nats.go passes errors to a goroutine of their own, so a reply that follows the error may be
// dispatched before it. Three rules keep a denied resource from appearing live:
//
//   - The reply subject of a request holds how many subscriptions were made before it. A server
//     works in order, so its reply implies a verdict on all of them.
//   - Before the dispatcher passes on a reply that implies further verdicts, it reads the last
//     error of nats.go, whose read loop has stored it before it read the reply. If that is a denial
//     that has not been handled, the dispatcher waits until it is.
//   - A denial for lack of permission names its subject. One for the number of subscriptions does
//     not. The publisher then unsubscribes all without a verdict, subscribes to them again in one
//     batch, and counts the denials: the last ones are denied, as there is no room after the first.
//
// So the usual request needs no round trip of its own.

// interest is a subscription to the events of a resource.
type interest struct {
	sub    *nats.Subscription
	number uint32 // counts the link's subscriptions
}

// Key implements keyed.Item: the name of the resource.
func (in interest) Key() string { return in.sub.Subject[len("event.") : len(in.sub.Subject)-len(".*")] }

// room is the publisher's estimate of how many subscriptions the server accepts.
type room struct {
	limit int       // of names; 0: not known
	until time.Time // when limit expires
	tries int
}

const (
	refusalFirst = time.Second
	refusalMost  = 30 * time.Second
)

func refused(subject string) error { return fmt.Errorf("%w to %s", ErrRefused, subject) }

func eventSubject(name string) string { return "event." + name + ".*" }

// subscribe and unsubscribe work without a connection too: nats.go repeats all subscriptions when
// it reconnects, before anything else is published.
func (p *publisher) subscribe(name string) {
	if subject := p.wild.subject(name); subject != "" {
		p.subscribeWild(name, subject)
		return
	}
	if p.subs.Get(name).sub != nil {
		return
	}
	if r := &p.room; r.limit > 0 && p.subs.Len() >= r.limit && time.Now().Before(r.until) {
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
			p.failures.Log(p.opts.Log, slog.LevelError, systemClock.Now(), denialsEvery, "NATS subscription failed", "connection", p.number, "resource", name, "error", err)
			p.opts.Receiver.Refused(name, refused(eventSubject(name)))
			return
		}
		if !p.awaitConnection() {
			return
		}
	}
}

// ask subscribes to the events of a resource.
func (p *publisher) ask(nc Conn, name string) error {
	if line := subscribeLine(name); line > int(p.longest.Load()) {
		p.longest.Store(int32(line))
	}
	sub, err := nc.ChanSubscribe(eventSubject(name), p.msgs)
	if err == nil {
		if old := p.subs.Get(name); old.sub != nil {
			p.subs.Remove(old) // of the connection before, or without a verdict
		}
		p.subs.Put(interest{sub, p.made.Add(1)})
		p.opts.Metrics.Subscribes.Inc()
	}
	return err
}

func (p *publisher) unsubscribe(name string) {
	if p.wild.subject(name) != "" {
		if p.wild.want(name, false) {
			p.opts.Metrics.Subscriptions.Dec()
		}
		return
	}
	in := p.subs.Get(name)
	if in.sub == nil {
		return
	}
	p.subs.Remove(in)
	p.opts.Metrics.Subscriptions.Dec()
	p.opts.Metrics.Unsubscribes.Inc()
	if err := p.nc.Load().Unsubscribe(in.sub); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		p.failures.Log(p.opts.Log, slog.LevelWarn, systemClock.Now(), denialsEvery, "NATS unsubscribe failed", "connection", p.number, "resource", name, "error", err)
	}
}

// confirm records that the server has judged the first made subscriptions. It first waits until the
// denials among them are handled. Only the dispatcher calls it.
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

// settled reports whether every denial so far has been handled.
func (d *dispatcher) settled() bool {
	done := true
	switch err := d.nc.Load().LastError(); {
	case errors.Is(err, nats.ErrMaxSubscriptionsExceeded):
		done = d.unresolved.Load()
	case errors.Is(err, nats.ErrPermissionViolation):
		judged := d.judged.Load()
		done = judged != nil && *judged == err
	case errors.Is(err, nats.ErrSlowConsumer):
		done = !d.marks.out.Load() // it may hide a denial before it
	}
	// In this order: when the last error is set, the callbacks of earlier errors have run.
	return done && !d.resolving.Load()
}

// advance records that the first made subscriptions have been judged.
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

// violation handles a denial for lack of permission. It runs in nats.go's callbacks.
func (l *link) violation(err error) {
	defer func() {
		l.judged.Store(&err)
		poke(l.verdict)
	}()
	text := err.Error()
	if subject, ok := quotedAfter(text, "Subscription to "); ok {
		l.opts.Metrics.Refused.Inc()
		l.logDenial("NATS refuses a subscription; permit it in the server's configuration", subject, err)
		if l.wild.refuse(subject) {
			l.post(opRefuseWildcards, "") // before the owner can subscribe again
		}
		if l.base.refuse(subject) {
			l.marks.giveUp()
			return
		}
		if name, ok := strings.CutPrefix(subject, "event."); ok {
			if name, ok = strings.CutSuffix(name, ".*"); ok {
				l.post(opForget, name) // before the owner can subscribe again
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
	l.logDenial("NATS does not let a request pass; permit it in the server's configuration", subject, err)
}

// denialsEvery is how often denials and other errors of a connection are logged.
const denialsEvery = time.Second

var systemClock = owner.SystemClock()

// logDenial logs a denial for lack of permission, which services and clients can cause.
func (l *link) logDenial(message, subject string, err error) {
	l.denials.Log(l.opts.Log, slog.LevelError, systemClock.Now(), denialsEvery, message,
		"connection", l.number, "subject", subject, "error", err)
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

// resolve determines which subscriptions the server has denied for their number. Its last mark
// replaces the connection's last error, unless the mark does not return.
func (p *publisher) resolve() {
	p.unresolved.Store(false)
	defer func() {
		p.resolving.Store(false)
		p.unresolved.Store(errors.Is(p.nc.Load().LastError(), nats.ErrMaxSubscriptionsExceeded))
		poke(p.verdict)
	}()
	if poked(p.back) {
		poke(p.base.doubt) // probe later, so that two marks are not confused
	}
	nc, confirmed, renewed := p.nc.Load(), p.confirmed.Load(), p.renewed.Load()
	var names []string
	for _, in := range p.subs.List() {
		if int32(in.number-confirmed) > 0 || int32(renewed-confirmed) > 0 {
			names = append(names, in.Key())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(int32(p.subs.Get(a).number-p.subs.Get(b).number), 0) })
	for _, name := range names {
		p.opts.Metrics.Unsubscribes.Inc()
		_ = nc.Unsubscribe(p.subs.Get(name).sub) // fails if the connection is closed: reopen subscribes again
	}
	base := int32(renewed-confirmed) > 0
	if base {
		p.unsubscribeBase()
	}
	if p.mark() == markLost {
		return // the next connection judges all of them
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
	r.limit, r.until = p.subs.Len(), time.Now().Add(min(refusalFirst<<min(r.tries-1, 10), refusalMost))
	p.opts.Log.Error("NATS denies further subscriptions; raise max_subscriptions in the server's configuration",
		"connection", p.number, "subject", eventSubject(names[len(names)-1]), "refused", lost, "limit", r.limit, "pause", time.Until(r.until))
}

// poked takes a token from c if there is one, and reports whether there was.
func poked(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
