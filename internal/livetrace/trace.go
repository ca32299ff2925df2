// Package livetrace shows the messages of one connection, or about some resources, while they pass:
// sampled, cut, and without secrets.
//
// Owners call a Trace where a message passes: a bounded copy goes into a bounded queue. All that
// costs time, such as inflating, redacting and encoding, happens on the goroutine that reads the
// queue. A reader that is too slow loses lines, which are counted: it never delays an owner.
package livetrace

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/owner"
	"sluice/internal/res"
)

// Options configure a Trace. Clock is required; the bounds are positive, but Bytes may be 0.
type Options struct {
	Target Target
	For    time.Duration // how long it runs
	Rate   int           // lines per second; more are omitted and counted
	Bytes  int           // of a payload that is shown; 0: payloads are not shown
	Clock  owner.Clock
}

// Target is what a trace follows: one connection, or the resources that a pattern matches.
type Target struct {
	CID       string
	Resources res.Pattern // if CID is ""
}

// Match reports whether a message is followed that belongs to the client cid, "" for none, and is
// about a resource name.
func (t *Target) Match(cid, name string) bool {
	if t.CID != "" {
		return t.CID == cid
	}
	return t.Resources.Match(name)
}

const (
	queueLength = 256  // lines that wait for the reader; at a higher rate those of a second
	maxText     = 1024 // bytes of a resource ID, subject or error
)

// Trace collects the lines of one trace. Any goroutine may use it, but for Run, which is for one.
type Trace struct {
	// Fixed after New.
	o     Options
	begin time.Duration // by the clock, at the wall clock's wall
	wall  time.Time
	every time.Duration // between lines at the rate
	queue chan record

	paid    atomic.Int64  // time up to which the lines so far have used the rate up
	shown   atomic.Uint64 // lines put into the queue
	omitted atomic.Uint64 // lines that the rate did not allow
	lost    atomic.Uint64 // lines that the full queue did not take
}

// New returns a trace that begins now; wall is the time of day.
func New(o Options, wall time.Time) *Trace {
	return &Trace{o: o, begin: o.Clock.Now(), wall: wall, every: time.Second / time.Duration(o.Rate), queue: make(chan record, max(queueLength, o.Rate))}
}

// Target returns what the trace follows.
func (t *Trace) Target() *Target { return &t.o.Target }

// record is what an owner notes of a message. Its strings and bytes are copies.
type record struct {
	Line
	at      time.Duration
	payload []byte
	form    form
}

// form is how a payload is to be read.
type form uint8

const (
	plainText form = iota
	deflated       // a compressed message to a client
)

// put queues a line with a copy of its payload, if the rate allows it.
func (t *Trace) put(l Line, payload []byte, f form) {
	now := t.o.Clock.Now()
	if !t.allow(now) {
		t.omitted.Add(1)
		return
	}
	l.RID, l.Subject, l.Error, l.Event = cutText(l.RID), cutText(l.Subject), cutText(l.Error), cutText(l.Event)
	r := record{Line: l, at: now, form: f}
	if !l.Hidden {
		r.Cut = len(payload) > t.o.Bytes
		r.payload = append(r.payload, payload[:min(len(payload), t.o.Bytes)]...)
	}
	select {
	case t.queue <- r:
		t.shown.Add(1)
	default:
		t.lost.Add(1)
	}
}

// allow reports whether the rate allows another line: the lines of a second at once, then one after
// the other.
func (t *Trace) allow(now time.Duration) bool {
	for {
		old := t.paid.Load()
		next := max(old, int64(now)) + int64(t.every)
		if next > int64(now+time.Second) {
			return false
		}
		if t.paid.CompareAndSwap(old, next) {
			return true
		}
	}
}

// cutText returns a copy of a text, of bounded length.
func cutText(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return strings.Clone(s)
}

// beat is how often Run emits a line of kind Status at least, so that it notices a reader that has
// gone. changed is how often it does if lines were omitted or lost.
const (
	beat    = 10 * time.Second
	changed = time.Second
)

// Run emits the lines until the trace's time is over, ctx ends, or emit returns an error, which it
// returns. check is called about once a second; the text that it returns ends the trace, "" does
// not. The first line has kind Status; the last has kind End and says why.
func (t *Trace) Run(ctx context.Context, check func() string, emit func(*Line) error) error {
	alarm := make(chan struct{}, 1)
	ring := t.o.Clock.AfterFunc(changed, func() {
		select {
		case alarm <- struct{}{}:
		default:
		}
	})
	defer ring.Stop()
	last := t.status(Status)
	if err := emit(last); err != nil {
		return err
	}
	told := t.begin
	for {
		select {
		case r := <-t.queue:
			if err := emit(t.line(&r)); err != nil {
				return err
			}
		case <-alarm:
			now := t.o.Clock.Now()
			why := check()
			if now-t.begin >= t.o.For {
				why = "its time is over"
			}
			if why != "" {
				return t.end(why, emit)
			}
			s := t.status(Status)
			if s.Omitted != last.Omitted || s.Lost != last.Lost || now-told >= beat {
				last, told = s, now
				if err := emit(s); err != nil {
					return err
				}
			}
			ring.Reset(min(changed, t.o.For-(now-t.begin)))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end emits the lines that are queued, and the last one.
func (t *Trace) end(why string, emit func(*Line) error) error {
	for {
		select {
		case r := <-t.queue:
			if err := emit(t.line(&r)); err != nil {
				return err
			}
		default:
			l := t.status(End)
			l.Reason = why
			return emit(l)
		}
	}
}

// status returns a line of the trace itself.
func (t *Trace) status(kind string) *Line {
	now := t.o.Clock.Now()
	return &Line{
		Kind: kind, Time: t.when(now), Lines: t.shown.Load(), Omitted: t.omitted.Load(), Lost: t.lost.Load(),
		LeftMs: max(t.o.For-(now-t.begin), 0).Milliseconds(),
	}
}

// when returns the time of day of a time of the clock.
func (t *Trace) when(at time.Duration) string {
	return t.wall.Add(at - t.begin).UTC().Format("2006-01-02T15:04:05.000000Z")
}
