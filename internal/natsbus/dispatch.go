package natsbus

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/owner"
)

// dispatcher passes what arrives on a link to the Receiver. Its own goroutine owns it.
type dispatcher struct {
	*link

	counts    counts
	arrived   time.Duration // when the messages at hand had arrived, at the latest; read once for all that wait
	overrun   int           // messages until the Gap is signalled, at most; 0: none were dropped
	probation owner.Alarm   // pokes lasted; armed while a connection has yet to prove that it lasts
	onTrial   bool          // that is so
	lasted    chan struct{}
	connected bool             // as signalled last
	again     bool             // it has been connected before
	url       string           // of the newest connection
	routing   string           // subject of the message at hand; empty: a signal is
	doubt     <-chan time.Time // when a panic leads to a Gap; nil: there was none
}

func newDispatcher(l *link) *dispatcher {
	return &dispatcher{link: l, lasted: make(chan struct{}, 1)}
}

// dispatch is the dispatcher's loop. nats.go's read loop puts the messages of all subscriptions
// into one channel, which keeps their order.
//
// When the channel is full, nats.go drops the message. It reports only the first drop of each
// subscription, later and on another goroutine. State that is fetched after such a report may still
// be incomplete, so the dispatcher detects drops itself. It is the channel's only reader. Hence the
// channel was full at some time between two receives only if it holds at least capacity-1 messages
// right after the second. Then a Gap is signalled when seven eighths of the backlog are gone, so
// that the replies that the Gap causes find room. Under a load that persists, it is signalled after
// four times the channel's capacity. A channel that was full without a drop causes a needless Gap,
// which costs some requests and loses nothing.
func (d *dispatcher) dispatch() {
	defer close(d.dispatched)
	for !d.receive() {
	}
}

// receive dispatches until the link closes. It returns false after a panic, which loses the current
// message.
func (d *dispatcher) receive() (closed bool) {
	defer d.containDispatch()
	for {
		select {
		case m := <-d.msgs:
			d.takeAll(m)
		case c := <-d.changes:
			d.change(c)
		case <-d.lasted:
			d.endTrial()
		case <-d.doubt:
			d.doubt = nil
			d.signal(Gap)
		case <-d.stopping:
			d.arrived = d.opts.Clock.Now()
			for n := len(d.msgs); n > 0; n-- {
				d.take(<-d.msgs)
			}
			d.flushCounts()
			return true
		}
	}
}

// doubtFor is the delay between a panic and its Gap, so that a burst of panics causes one Gap.
const doubtFor = 500 * time.Millisecond

// containDispatch is deferred by receive. The lost message may have been an event, so a Gap
// follows, except after a reply, whose request times out.
func (d *dispatcher) containDispatch() {
	if !owner.Containing {
		return
	}
	value := recover()
	if value == nil {
		return
	}
	d.opts.Faults.Note(owner.Dispatcher, value, "connection", d.number, "subject", d.routing)
	if d.doubt == nil && !strings.HasPrefix(d.routing, d.inbox) {
		d.doubt = time.After(doubtFor)
	}
}

// takeAll takes m and the messages that wait behind it.
func (d *dispatcher) takeAll(m *nats.Msg) {
	d.arrived = d.opts.Clock.Now()
	d.take(m)
	if n := len(d.msgs); n > 0 {
		d.arrived = d.opts.Clock.Now() // by now all n have
		for ; n > 0; n-- {
			d.take(<-d.msgs) // does not block: only this goroutine receives
		}
	}
	d.flushCounts()
}

func (d *dispatcher) take(m *nats.Msg) {
	left, room := len(d.msgs), cap(d.msgs)
	if left >= room-1 && d.overrun == 0 {
		d.overrun = 4 * room
	}
	d.route(m)
	if d.overrun > 0 {
		if d.overrun--; left <= room/8 {
			d.overrun = 0
		}
		if d.overrun == 0 {
			d.signal(Gap)
		}
	}
}

// counts are added to the shared metrics once per batch of messages.
type counts struct {
	events, unwanted, system, bytes uint64
}

func (d *dispatcher) flushCounts() {
	m := d.opts.Metrics
	if d.counts.events > 0 {
		m.Events.Add(d.counts.events)
	}
	if d.counts.unwanted > 0 {
		m.Unwanted.Add(d.counts.unwanted)
	}
	if d.counts.system > 0 {
		m.SystemEvents.Add(d.counts.system)
	}
	m.BytesIn.Add(d.counts.bytes)
	d.counts = counts{}
}

// route passes a message to the Receiver by its subject alone.
func (d *dispatcher) route(m *nats.Msg) {
	d.counts.bytes += uint64(len(m.Data))
	subject := m.Subject
	d.routing = subject
	if m.Sub == nil {
		d.expired(subject)
		return
	}
	if rest, ok := strings.CutPrefix(subject, "event."); ok {
		dot := strings.LastIndexByte(rest, '.')
		if dot > 0 {
			if d.wild != nil && !d.wild.passes(rest[:dot], m.Sub.Subject) {
				d.counts.unwanted++
				return
			}
			d.counts.events++
			d.opts.Receiver.Event(rest[:dot], rest[dot+1:], m.Data, d.arrived)
		}
		return
	}
	if token, ok := strings.CutPrefix(subject, d.inbox); ok {
		if r, ok := parseReplyToken(token); ok {
			if int32(r.made-d.confirmed.Load()) > 0 {
				d.confirm(r.made)
			}
			r.Data, r.at = m.Data, d.arrived
			if len(m.Data) == 0 && isNoResponders(m) {
				r.Err = ErrNoResponders
			}
			d.opts.Receiver.Reply(r)
			return
		}
		d.beat(token, m.Data)
		return
	}
	if rest, ok := strings.CutPrefix(subject, "system."); ok {
		d.counts.system++
		d.opts.Receiver.System(rest, m.Data)
		return
	}
	if rest, ok := strings.CutPrefix(subject, "conn."); ok {
		if cid, ok := strings.CutSuffix(rest, ".token"); ok {
			d.counts.system++
			d.opts.Receiver.Token(cid, m.Data)
		}
		return
	}
	if d.opts.Message != nil {
		d.opts.Message(subject, m.Reply, m.Data)
	}
}

// expire queues the timeout of s after everything that was received, for the dispatcher. It reports
// false if the queue is full. Owner only.
func (l *link) expire(s *slot) bool {
	token := appendReplyToken(nil, s.caller.owner, 0, s.index, s.gen())
	select {
	case l.msgs <- &nats.Msg{Subject: string(token)}:
		return true
	default:
		return false
	}
}

// expired passes on a timeout that expire has queued: the one kind of message that belongs to no
// subscription.
func (d *dispatcher) expired(token string) {
	if r, ok := parseReplyToken(token); ok {
		r.expired, r.Err = true, ErrTimeout
		if !d.up.Load() {
			r.Err = ErrDisconnected
		}
		d.opts.Receiver.Reply(r)
	}
}

// isNoResponders reports whether the server itself has replied, because no service subscribes to
// the request's subject.
func isNoResponders(m *nats.Msg) bool {
	return len(m.Header) > 0 && m.Header.Get("Status") == "503"
}

// change handles a change of the connection.
func (d *dispatcher) change(c change) {
	d.onTrial = false
	switch {
	case c.to == Gap:
		d.signal(Gap)
	case c.to == Disconnected:
		d.up.Store(false)
		if d.connected {
			d.connected = false
			d.signal(Disconnected)
		}
	case c.hold > 0:
		d.opts.Log.Info("NATS connection on probation because the server is unstable", "connection", d.number, "hold", c.hold)
		d.try(c.hold)
		d.url = c.url
	default:
		d.url = c.url
		d.restored()
	}
}

// try has the connection count as restored after hold, unless it is lost before.
func (d *dispatcher) try(hold time.Duration) {
	d.onTrial = true
	poked(d.lasted) // of an earlier connection
	if d.probation == nil {
		d.probation = d.age.AfterFunc(hold, func() { poke(d.lasted) })
	} else {
		d.probation.Reset(hold)
	}
}

// endTrial ends the probation of a connection that has lasted.
func (d *dispatcher) endTrial() {
	if d.onTrial {
		d.onTrial = false
		d.restored()
	}
}

// restored signals that the connection is up.
func (d *dispatcher) restored() {
	d.up.Store(true)
	d.connected = true
	d.signal(Connected)
	if d.again {
		d.signal(Gap)
		return
	}
	d.again = true
	close(d.first)
}

func (d *dispatcher) signal(s Signal) {
	d.routing = ""
	switch s {
	case Gap:
		d.opts.Metrics.Gaps.Inc()
		d.opts.Log.Warn("NATS messages may have been lost", "connection", d.number)
	case Connected:
		d.opts.Log.Info("NATS connected", "connection", d.number, "url", d.url)
	case Disconnected:
		d.opts.Log.Warn("NATS disconnected", "connection", d.number)
	}
	d.opts.Signal(d.number, s)
}
