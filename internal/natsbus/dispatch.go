package natsbus

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/owner"
)

// dispatch is the dispatcher's loop. nats.go's read loop puts the messages of all subscriptions into one
// channel, which keeps their order.
//
// When the channel is full, nats.go drops the message and says so only for the first one of each
// subscription, later and on another goroutine. That is not enough to know that state fetched after a
// report is whole, so the dispatcher finds out by itself: it is the channel's only reader, hence the
// channel was full at some time between two receives only if it holds at least capacity-1 messages
// right after the second. Then a Gap is signalled when the backlog is gone but for an eighth, so that
// the answers to what the Gap causes find room; under a load that does not let up, after as many
// messages as the channel holds four times. A channel that became full without a drop gives a needless
// Gap, which costs some requests and loses nothing.
func (l *link) dispatch() {
	defer close(l.dispatched)
	for !l.receive() {
	}
}

// receive dispatches until the link closes. It returns false after a panic, which has cost the message at hand.
func (l *link) receive() (closed bool) {
	defer l.containDispatch()
	for {
		select {
		case m := <-l.msgs:
			l.take(m)
			// Only this goroutine receives, so these do not wait.
			for n := len(l.msgs); n > 0; n-- {
				l.take(<-l.msgs)
			}
			l.flushCounts()
		case c := <-l.changes:
			l.change(c)
		case <-l.probation.C:
			l.restored()
		case <-l.doubt:
			l.doubt = nil
			l.signal(Gap)
		case <-l.stopping:
			for n := len(l.msgs); n > 0; n-- {
				l.take(<-l.msgs)
			}
			l.flushCounts()
			return true
		}
	}
}

// doubtFor is how long after a panic a Gap is signalled, so that many panics make one.
const doubtFor = 500 * time.Millisecond

// containDispatch is deferred by receive. What was lost with the panic may have been anything, so a Gap follows; but not
// for a reply: its request times out.
func (l *link) containDispatch() {
	if !owner.Containing {
		return
	}
	value := recover()
	if value == nil {
		return
	}
	l.opts.Faults.Note(owner.Dispatcher, value, "connection", l.number, "subject", l.routing)
	if l.doubt == nil && !strings.HasPrefix(l.routing, l.inbox) {
		l.doubt = time.After(doubtFor)
	}
}

func (l *link) take(m *nats.Msg) {
	left, room := len(l.msgs), cap(l.msgs)
	if left >= room-1 && l.overrun == 0 {
		l.overrun = 4 * room
	}
	l.route(m)
	if l.overrun > 0 {
		if l.overrun--; left <= room/8 {
			l.overrun = 0
		}
		if l.overrun == 0 {
			l.signal(Gap)
		}
	}
}

// counts are the dispatcher's own, added to the shared metrics once per run of messages.
type counts struct {
	events, system, bytes uint64
}

func (l *link) flushCounts() {
	m := l.opts.Metrics
	if l.counts.events > 0 {
		m.Events.Add(l.counts.events)
	}
	if l.counts.system > 0 {
		m.SystemEvents.Add(l.counts.system)
	}
	m.BytesIn.Add(l.counts.bytes)
	l.counts = counts{}
}

// route hands a message on by its subject alone.
func (l *link) route(m *nats.Msg) {
	l.counts.bytes += uint64(len(m.Data))
	subject := m.Subject
	l.routing = subject
	if m.Sub == nil {
		l.expired(subject)
		return
	}
	if rest, ok := strings.CutPrefix(subject, "event."); ok {
		dot := strings.LastIndexByte(rest, '.')
		if dot > 0 {
			l.counts.events++
			l.opts.Receiver.Event(rest[:dot], rest[dot+1:], m.Data)
		}
		return
	}
	if token, ok := strings.CutPrefix(subject, l.inbox); ok {
		if r, ok := parseReplyToken(token); ok {
			if int32(r.made-l.confirmed.Load()) > 0 {
				l.confirm(r.made)
			}
			r.Data = m.Data
			if len(m.Data) == 0 && isNoResponders(m) {
				r.Err = ErrNoResponders
			}
			l.opts.Receiver.Reply(r)
		}
		return
	}
	if rest, ok := strings.CutPrefix(subject, "system."); ok {
		l.counts.system++
		l.opts.Receiver.System(rest, m.Data)
		return
	}
	if rest, ok := strings.CutPrefix(subject, "conn."); ok {
		if cid, ok := strings.CutSuffix(rest, ".token"); ok {
			l.counts.system++
			l.opts.Receiver.Token(cid, m.Data)
		}
	}
}

// expire has the dispatcher say that the time of s is over behind all that has been received; false: there is no room for
// that. Owner only.
func (l *link) expire(s *slot) bool {
	token := appendReplyToken(nil, s.caller.owner, 0, s.index, s.gen.Load())
	select {
	case l.msgs <- &nats.Msg{Subject: string(token)}:
		return true
	default:
		return false
	}
}

// expired hands on what expire has put into the channel: the one kind of message there that belongs to no subscription.
func (l *link) expired(token string) {
	if r, ok := parseReplyToken(token); ok {
		r.expired, r.Err = true, ErrTimeout
		if !l.up.Load() {
			r.Err = ErrDisconnected
		}
		l.opts.Receiver.Reply(r)
	}
}

// isNoResponders: the server answers itself, with an empty message and this status, when nobody listens.
func isNoResponders(m *nats.Msg) bool {
	return len(m.Header) > 0 && m.Header.Get("Status") == "503"
}

// change takes what has become of the connection.
func (l *link) change(c change) {
	l.probation.Stop()
	switch {
	case c.to == Gap:
		l.signal(Gap)
	case c.to == Disconnected:
		l.up.Store(false)
		if l.connected {
			l.connected = false
			l.signal(Disconnected)
		}
	case c.hold > 0:
		l.opts.Log.Info("NATS connection has to last before it counts", "connection", l.number, "hold", c.hold)
		l.probation.Reset(c.hold)
		l.url = c.url
	default:
		l.url = c.url
		l.restored()
	}
}

// restored signals that the connection can be relied on.
func (l *link) restored() {
	l.up.Store(true)
	l.connected = true
	l.signal(Connected)
	if l.again {
		l.signal(Gap)
		return
	}
	l.again = true
	close(l.first)
}

func (l *link) signal(s Signal) {
	l.routing = ""
	switch s {
	case Gap:
		l.opts.Metrics.Gaps.Inc()
		l.opts.Log.Warn("NATS messages may have been missed", "connection", l.number)
	case Connected:
		l.opts.Log.Info("NATS connected", "connection", l.number, "url", l.url)
	case Disconnected:
		l.opts.Log.Warn("NATS disconnected", "connection", l.number)
	}
	l.opts.Signal(l.number, s)
}
