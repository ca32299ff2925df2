package natsbus

import (
	"slices"
	"strings"
	"sync/atomic"

	"sluice/internal/res"
)

// wildcards are the patterns of names whose events come by one subscription each, which is one of
// the base subscriptions. Events of names that no owner has subscribed to arrive, too; the
// dispatcher drops them.
//
// Subscriptions may overlap: of a wildcard and of a name beside its pattern (event.a.> and
// event.a.*), and of two wildcards. NATS then sends an event once for each. The dispatcher passes
// it on from one of them: from the first pattern that matches the name, else from the name's own
// subscription.
type wildcards struct {
	patterns []res.Pattern
	subjects []string // of the patterns
	conn     int      // number of the link
	conns    int

	refused []atomic.Bool // NATS denies the subject

	names map[string]struct{} // subscribed names that a pattern matches; owned by the publisher
	// wanted counts names by a part of their hash; 0: no name with this hash is subscribed. Written
	// by the publisher, read by the dispatcher.
	wanted []atomic.Int32
}

// wantedSlots is a power of two. With 100,000 names a tenth of the unwanted events pass to a shard,
// which drops them. The slots take 4 MiB.
const wantedSlots = 1 << 20

// newWildcards returns nil if there are no patterns. Malformed ones are not used.
func newWildcards(patterns []string, conn, conns int) *wildcards {
	w := &wildcards{conn: conn, conns: conns, names: make(map[string]struct{})}
	for _, s := range patterns {
		if p, ok := res.ParsePattern(s); ok {
			subject := "event." + s
			if !strings.HasSuffix(s, ">") {
				subject += ".*"
			}
			w.patterns, w.subjects = append(w.patterns, p), append(w.subjects, subject)
		}
	}
	if len(w.patterns) == 0 {
		return nil
	}
	w.refused = make([]atomic.Bool, len(w.patterns))
	w.wanted = make([]atomic.Int32, wantedSlots)
	return w
}

// subject returns the subject that name's events come by; empty: its own.
func (w *wildcards) subject(name string) string {
	if w == nil {
		return ""
	}
	for i := range w.patterns {
		if w.patterns[i].Match(name) {
			return w.subjects[i]
		}
	}
	return ""
}

// refuse records that NATS denies a subject, and reports whether it is one of a pattern.
func (w *wildcards) refuse(subject string) bool {
	if w == nil {
		return false
	}
	i := slices.Index(w.subjects, subject)
	if i >= 0 {
		w.refused[i].Store(true)
	}
	return i >= 0
}

// renew forgets what NATS has denied, because it is asked again.
func (w *wildcards) renew() {
	if w != nil {
		for i := range w.refused {
			w.refused[i].Store(false)
		}
	}
}

// want adds or removes a name that a pattern matches. It reports whether that is a change. Only the
// publisher calls it.
func (w *wildcards) want(name string, want bool) bool {
	if _, wanted := w.names[name]; wanted == want {
		return false
	}
	slot := &w.wanted[HashName(name)%wantedSlots]
	if want {
		w.names[name] = struct{}{}
		slot.Add(1)
	} else {
		delete(w.names, name)
		slot.Add(-1)
	}
	return true
}

// passes reports whether an event of name that has come by a subscription to subject is passed on.
// Only the dispatcher calls it.
func (w *wildcards) passes(name, subject string) bool {
	by := w.subject(name)
	if by == "" {
		return !slices.Contains(w.subjects, subject)
	}
	if by != subject {
		return false
	}
	hash := HashName(name)
	return w.wanted[hash%wantedSlots].Load() > 0 && (w.conns == 1 || connOf(hash, w.conns) == w.conn)
}

// refuseWildcards rejects the names whose wildcard NATS refuses.
func (p *publisher) refuseWildcards() {
	for name := range p.wild.names {
		p.subscribeWild(name, p.wild.subject(name))
	}
}

// subscribeWild subscribes to a name whose events come by the wildcard subject.
func (p *publisher) subscribeWild(name, subject string) {
	if p.wild.refused[slices.Index(p.wild.subjects, subject)].Load() {
		if p.wild.want(name, false) {
			p.opts.Metrics.Subscriptions.Dec()
		}
		p.opts.Receiver.Refused(name, refused(subject))
		return
	}
	if p.wild.want(name, true) {
		p.opts.Metrics.Subscriptions.Inc()
	}
}
