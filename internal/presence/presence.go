// Package presence tells services over NATS which clients are connected to this gateway: events
// when they come and go, heartbeats of the gateway, and the list of those who are there.
// docs/presence.md has the messages.
//
// A Tracker owns the table of announced clients and the queue of events that are not published yet.
// Event loops pass their changes to it by message. It publishes on its own goroutine, and on the
// publisher's of the first NATS connection when requests follow that must not overtake an event. It
// never calls an event loop, and knows nothing of sessions and sockets.
package presence

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/loglimit"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
)

// Kind is what a Change is about.
type Kind uint8

const (
	// Opened: a client has connected.
	Opened Kind = iota
	// Changed: its protocol version or token ID has changed, which makes no event.
	Changed
	// Closed: it has disconnected.
	Closed
	// Arrived: it has come from another process, which had announced it.
	Arrived
	// Left: another process goes on with it, and has it in its list.
	Left
)

// Change is what an event loop reports of a client. A connection that another process goes on with
// is neither opened there nor closed here: it has Left here and Arrived there.
type Change struct {
	Kind       Kind
	CID        string
	RemoteAddr string // of the client, as trusted proxies name it; not needed for Closed and Left
	Stream     bool   // server-sent events, not WebSocket
	Protocol   string // version of RES; empty: the client has not named it
	TokenID    string // empty: none

	// Of Closed.
	Reason string
	Code   uint16 // close code of a WebSocket; 0: none
}

// Options are fixed when New is called. All but TakesOver and Queue are required.
type Options struct {
	GID       string        // the gateway's ID, a single token of a NATS subject
	Instance  string        // unique to the process
	Version   string        // of the gateway
	Interval  time.Duration // of heartbeats
	TakesOver bool          // another process with the same ID hands its clients over
	Queue     int           // events that wait for NATS at most; 0: 65,536
}

// Env is what a Tracker works with. All are required.
type Env struct {
	Clock    owner.Clock
	Wall     func() time.Time
	Draining func() bool // reports whether the gateway is being stopped or replaced
	Metrics  *Metrics
	Faults   *owner.Faults
	Log      *slog.Logger
}

// Bus is the connection to NATS.
type Bus interface {
	// Publish publishes a message. The error is natsbus.ErrDisconnected if that has to wait.
	Publish(subject string, payload []byte) error
	// Ask makes a request. The error is natsbus.ErrNoResponders if no client subscribes to it.
	Ask(ctx context.Context, subject string, payload []byte) ([]byte, error)
	// Listen has Tracker.Message called for Tracker.Subjects from now on.
	Listen()
	// Do calls f after all changes that loops have passed on.
	Do(f func())
}

// Metrics are the counters of a Tracker. Any goroutine may read them.
type Metrics struct {
	Connects    metrics.Counter // connect events published
	Disconnects metrics.Counter // disconnect events published
	Coalesced   metrics.Counter // clients that came and went before their connect event was published
	Dropped     metrics.Counter // events dropped because too many waited for NATS, or because NATS takes no such message
	Queued      metrics.Gauge   // events that wait for NATS
	Conflicts   metrics.Counter // messages of another gateway with the same ID
	Conflict    metrics.Gauge   // 1 while there is one
}

const (
	defaultQueue = 1 << 16
	// missedBeats is how many intervals without a heartbeat end an instance, for others.
	missedBeats = 3
	// claimTimeout bounds what a start waits for replies to claims. Usually NATS itself replies to
	// the first one, that there is no holder of the ID.
	claimTimeout = 2 * time.Second
	// stopTimeout bounds the wait for NATS at the stop.
	stopTimeout = 2 * time.Second
	// askedEvery is the least time between heartbeats that services ask for.
	askedEvery = 100 * time.Millisecond
	// maxTokenID is the longest token ID that is published, in bytes: anything may be in a token.
	maxTokenID = 1024
	// maxQuestions bounds the messages that wait for the Tracker's goroutine.
	maxQuestions = 256
	// conflictsEvery is how often a conflict is logged.
	conflictsEvery = 10 * time.Second
)

// Tracker follows the clients of a gateway. Its methods may be called from any goroutine.
type Tracker struct {
	// Fixed after New, bus after Start.
	o       Options
	env     Env
	started int64 // Unix time in milliseconds
	names   subjects
	bus     Bus

	changes   *owner.Mailbox[Change] // read with mu
	work      chan struct{}
	beats     chan struct{}
	questions chan question
	alarm     owner.Alarm // pokes beats; set by Start
	stop      chan struct{}
	ended     sync.WaitGroup
	running   atomic.Bool // bus is set
	down      atomic.Bool // NATS is away
	stopping  atomic.Bool // Stop was called

	due atomic.Bool // the publisher is about to call publishDue

	conflicting         atomic.Pointer[conflict]
	conflicts, refusals loglimit.Limiter

	// mu orders what is published: it is held to publish, and never by an event loop.
	mu      sync.Mutex
	clients map[string]*client
	order   []*client  // by number; gone ones stay until they are many
	gone    int        // of order
	last    uint64     // number of the newest client
	queue   *list.List // of event, oldest first
	seq     uint64     // of the event published last
	skip    bool       // events were dropped: the next number is skipped
	beat    time.Duration
	buf     []byte
}

// client is a client that is connected.
type client struct {
	Change
	number  uint64 // in order of arrival
	since   int64  // Unix time in milliseconds
	gone    bool
	connect *list.Element // its connect event that is not published; nil: it is
}

// event is a connect or disconnect event in the queue.
type event struct {
	*client
	closed *Change // nil: connect
}

// New returns a tracker. It does nothing but collect changes before Start.
func New(o Options, env Env) *Tracker {
	if o.Queue == 0 {
		o.Queue = defaultQueue
	}
	if env.Log == nil {
		env.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	t := &Tracker{
		o: o, env: env, started: env.Wall().UnixMilli(), names: subjectsOf(o.GID),
		work: make(chan struct{}, 1), beats: make(chan struct{}, 1), questions: make(chan question, maxQuestions), stop: make(chan struct{}),
		clients: make(map[string]*client), queue: list.New(),
	}
	t.changes = owner.NewMailbox[Change](func() { poke(t.work) })
	return t
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Subjects returns what Message takes.
func (t *Tracker) Subjects() []string { return t.names.all() }

// Put passes a change on, in the order of the client's changes. It does not block.
func (t *Tracker) Put(c Change) { t.changes.Put(c) }

// Open is Put for a client that has connected. Requests that are enqueued for the first NATS
// connection from now on follow its event, while NATS is there.
func (t *Tracker) Open(c Change) {
	t.changes.Put(c)
	if t.running.Load() && !t.down.Load() && !t.due.Swap(true) {
		t.bus.Do(t.publishDue)
	}
}

// publishDue is called by the publisher of the first NATS connection. The flag is cleared first:
// what is put from then on is due again.
func (t *Tracker) publishDue() {
	t.due.Store(false)
	t.Flush()
}

// Down reports whether NATS is away. Changes should then not wait for it.
func (t *Tracker) Down() bool { return t.down.Load() }

// Link notes that NATS has come back or gone away.
func (t *Tracker) Link(up bool) {
	t.down.Store(!up)
	if up {
		poke(t.work)
		poke(t.beats)
	}
}

// Start claims the ID, subscribes, and begins with a heartbeat. It follows the first connection to
// NATS, and precedes the first client. The error says that another gateway has the ID.
func (t *Tracker) Start(ctx context.Context, bus Bus) error {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	chosen := t.o.GID != t.o.Instance // no other gateway has one that is not
	if chosen && !t.o.TakesOver {
		if err := t.claim(ctx, bus); err != nil {
			return err
		}
	}
	t.bus = bus
	t.running.Store(true)
	bus.Listen()
	t.alarm = t.env.Clock.AfterFunc(t.o.Interval, func() { poke(t.beats) })
	poke(t.beats)
	t.ended.Go(t.run)
	if chosen {
		t.confirm(ctx)
	}
	return nil
}

// confirm waits until the NATS server has the subscriptions: any gateway that claims the ID from
// then on gets a reply. NATS passes on its own claim only after them. If that takes too long,
// heartbeats will tell.
func (t *Tracker) confirm(ctx context.Context) {
	passed := make(chan struct{})
	t.bus.Do(func() { close(passed) })
	select {
	case <-passed:
	case <-ctx.Done():
		return
	}
	t.mu.Lock()
	own := t.appendHeartbeat(nil, false)
	t.mu.Unlock()
	_, _ = t.bus.Ask(ctx, t.names.claim, own)
}

// claim asks whether another gateway has the ID.
func (t *Tracker) claim(ctx context.Context, bus Bus) error {
	data, err := bus.Ask(ctx, t.names.claim, t.appendHeartbeat(nil, false))
	if err != nil {
		if !errors.Is(err, natsbus.ErrNoResponders) {
			t.env.Log.Warn("it is not known whether another gateway has the same gatewayId: NATS did not say", "gid", t.o.GID, "error", err)
		}
		return nil
	}
	if other, ok := parseHeartbeat(data); ok && other.Instance != t.o.Instance && !other.Draining {
		t.env.Metrics.Conflicts.Inc()
		return fmt.Errorf("gatewayId %q is that of another gateway (version %s, started %s): give each gateway its own, or stop that one first",
			t.o.GID, other.Version, time.UnixMilli(other.Started).UTC().Format(time.RFC3339))
	}
	return nil
}

// Stop publishes what is left, and that the gateway has stopped. All clients have gone, and their
// changes were passed on. It may be called again.
func (t *Tracker) Stop(ctx context.Context) error {
	if !t.running.Load() || t.stopping.Swap(true) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	passed := make(chan struct{})
	t.bus.Do(func() { close(passed) })
	select {
	case <-passed:
	case <-ctx.Done(): // NATS is away: there is nothing more to tell it
	}
	t.alarm.Stop()
	close(t.stop)
	t.ended.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flush()
	if !t.down.Load() {
		t.buf = t.appendHeartbeat(t.buf[:0], true)
		_ = t.bus.Publish(t.names.heartbeat, t.buf) // NATS is gone if it fails: services find out by time
	}
	return nil
}

// run is the tracker's goroutine.
func (t *Tracker) run() {
	for {
		var step func()
		select {
		case <-t.work:
			step = t.Flush
		case <-t.beats:
			step = t.heartbeat
		case q := <-t.questions:
			step = func() { t.answer(q) }
		case <-t.stop:
			return
		}
		t.try(step)
	}
}

func (t *Tracker) try(step func()) {
	defer t.env.Faults.Contain(owner.Alarms)
	step()
}

// Flush publishes the events of all changes that were put before, unless NATS is away.
func (t *Tracker) Flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flush()
}

// flush is Flush with mu held.
func (t *Tracker) flush() {
	t.absorb()
	for t.queue.Len() > 0 && t.running.Load() && !t.down.Load() {
		front := t.queue.Front()
		t.skipNumber()
		e := front.Value.(event)
		subject := "conn." + e.CID + ".connect"
		counter := &t.env.Metrics.Connects
		if e.closed != nil {
			subject = "conn." + e.CID + ".disconnect"
			counter = &t.env.Metrics.Disconnects
		}
		t.buf = t.appendEvent(t.buf[:0], &e)
		err := t.bus.Publish(subject, t.buf)
		if errors.Is(err, natsbus.ErrDisconnected) {
			break // Link follows
		}
		t.seq++ // also of an event that NATS does not take: it is missing
		if err == nil {
			counter.Inc()
		} else {
			t.env.Metrics.Dropped.Inc()
		}
		if e.closed == nil {
			e.client.connect = nil
		}
		t.queue.Remove(front)
		t.absorb()
	}
	t.env.Metrics.Queued.Set(int64(t.queue.Len()))
}

// absorb applies the changes that were put before. A writer that is in the middle of a Put cuts the
// mailbox for a moment; what it cuts off is waited for. An empty mailbox is drained, too: a wake-up
// may be for what an earlier call has taken, and the next one needs a Drain before it.
func (t *Tracker) absorb() {
	n := t.changes.Len()
	for {
		t.changes.Drain(max(n, 1), func(c Change) {
			n--
			t.apply(&c)
		})
		if n <= 0 {
			return
		}
		runtime.Gosched()
	}
}

// apply applies a change to the table, and queues its event.
func (t *Tracker) apply(c *Change) {
	if len(c.TokenID) > maxTokenID {
		c.TokenID = ""
	}
	switch known := t.clients[c.CID]; {
	case c.Kind == Opened:
		new := t.add(c)
		new.connect = t.enqueue(event{client: new})
	case c.Kind == Arrived:
		t.add(c)
		if !t.skip { // no event tells of it: services read the list
			t.skip = true
			t.Message(wake, "", nil)
		}
	case known == nil: // of a client that was not announced
	case c.Kind == Changed:
		known.Protocol, known.TokenID = c.Protocol, c.TokenID
	case c.Kind == Left:
		t.remove(known)
		if known.connect != nil {
			t.queue.Remove(known.connect)
		}
	default:
		t.remove(known)
		c.RemoteAddr = known.RemoteAddr // the socket has gone
		if known.connect != nil {
			t.queue.Remove(known.connect)
			t.env.Metrics.Coalesced.Inc()
			return
		}
		t.enqueue(event{client: known, closed: c})
	}
}

// add adds a client to the table.
func (t *Tracker) add(c *Change) *client {
	t.last++
	new := &client{Change: *c, number: t.last, since: t.env.Wall().UnixMilli()}
	t.clients[c.CID] = new
	t.order = append(t.order, new)
	return new
}

// enqueue adds an event to the queue, and returns its place there; nil: it was dropped. When the
// queue is full, all events are dropped: a number is skipped, so services read the list again,
// which tells them more than a part of the events.
func (t *Tracker) enqueue(e event) *list.Element {
	if t.queue.Len() < t.o.Queue {
		return t.queue.PushBack(e)
	}
	for at := t.queue.Front(); at != nil; at = at.Next() {
		at.Value.(event).client.connect = nil
	}
	t.env.Metrics.Dropped.Add(uint64(t.queue.Len()) + 1)
	t.queue.Init()
	t.skip = true
	return nil
}

// skipNumber tells services that events are missing.
func (t *Tracker) skipNumber() {
	if t.skip {
		t.seq++
		t.skip = false
	}
}

// remove takes a client out of the table.
func (t *Tracker) remove(c *client) {
	delete(t.clients, c.CID)
	c.gone = true
	if t.gone++; t.gone <= 64 || t.gone <= len(t.order)/2 {
		return
	}
	kept := t.order[:0]
	for _, c := range t.order {
		if !c.gone {
			kept = append(kept, c)
		}
	}
	clear(t.order[len(kept):])
	t.order, t.gone = kept, 0
}

// heartbeat publishes the events that are due, and a heartbeat after them.
func (t *Tracker) heartbeat() {
	t.alarm.Reset(t.o.Interval)
	t.expire()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flush()
	if t.down.Load() {
		return // Link follows
	}
	t.skipNumber()
	t.beat = t.env.Clock.Now()
	t.buf = t.appendHeartbeat(t.buf[:0], false)
	_ = t.bus.Publish(t.names.heartbeat, t.buf) // the next one follows in any case
}
