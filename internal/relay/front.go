package relay

import (
	"encoding/json"
	"log/slog"
	"time"

	"sluice/cache"
	"sluice/internal/downlink"
	"sluice/internal/loglimit"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
	"sluice/internal/upstream"
)

// downstream is what the front needs of a downlink.Link.
type downstream interface {
	Send(subject string, data []byte)
	NoResponders(reply string)
	ListenLater(group, subject string)
	Queued() (messages, bytes int)
}

const (
	// topicBytes is what a topic takes up beside its snapshot.
	topicBytes = 512
	// maxAliases bounds how many ways to write a topic's query are remembered.
	maxAliases = 64
	// maxWaiting bounds the get requests that wait for home.
	maxWaiting = 1 << 17
	// maxQueued bounds the bytes queued for publishing at which get requests are still answered.
	maxQueued = 128 << 20
	// queuedUnit is how many queued bytes count as one message of backlog.
	queuedUnit = 4 << 10
	// maxSteps is the number of events up to which a difference is published as events.
	maxSteps = 256
)

// front is what edges are served from. It belongs to the shard's goroutine; the shard calls Post,
// Backlog and endTurn.
type front struct {
	// Fixed.
	shard   *upstream.Shard
	limit   int           // of the topics' bytes
	rest    time.Duration // Options.Rest
	id      string
	log     *slog.Logger
	metrics *Metrics
	faults  *owner.Faults

	down downstream // nil while another relay is active

	names   map[string]*name
	topics  map[uint64]*topic // by ref
	ref     uint64
	waiting int // get requests that wait for home
	rounds  rounds
	recency recency
	owed    owed
	resets  resets
	heard   map[string]bool // subjects of token resets that are listened to

	turn    uint64
	pressed loglimit.Limiter
	unheard loglimit.Limiter // of lines about subjects of token resets beyond maxHeard
}

// name is a resource name that edges have asked for.
type name struct {
	name   string
	topics map[string]*topic // by normalised query, and by other queries of edges
	count  int               // of topics

	round   *round // not yet published
	fullTo  uint64 // rounds up to this number are answered with the whole state
	rechoed uint64 // the turn in which a reaccess event was last published

	before, after *name         // in recency
	asked         time.Duration // when an edge asked last
	bytes         int
}

// topic is one value that edges may hold: the plain resource, or one normalised query of a name.
type topic struct {
	n       *name
	ref     uint64 // names the shard's subscription
	first   string // the query that it was subscribed with
	query   string // normalised, from when it is loaded
	aliases []string
	snap    *state.Snapshot // nil while it loads
	waiting []string        // reply subjects of get requests
	bytes   int
}

func newFront(shard *upstream.Shard, o *Options, id string) *front {
	f := &front{
		shard: shard, limit: o.CacheBytes, rest: o.Rest, id: id, log: o.Log, metrics: o.Metrics, faults: o.Faults,
		names: make(map[string]*name), topics: make(map[uint64]*topic), heard: make(map[string]bool), turn: 1,
	}
	f.rounds.init(id)
	f.owed.f, f.resets.f = f, f
	return f
}

func (f *front) now() time.Duration { return f.shard.Cache.Now() }

// contain recovers from a panic: whatever edges hold may be wrong then, so they ask again.
func (f *front) contain() {
	if !owner.Containing {
		return
	}
	if v := recover(); v != nil {
		f.faults.Note(owner.Shard, v)
		f.startOver()
	}
}

// startOver forgets all topics, and makes edges ask again.
func (f *front) startOver() {
	for _, t := range f.topics {
		f.shard.Cache.Unsubscribe(0, t.ref, t.n.name, t.first)
	}
	f.names, f.topics = make(map[string]*name), make(map[uint64]*topic)
	f.waiting, f.recency = 0, recency{}
	f.rounds.init(f.id)
	f.metrics.Topics.Set(0)
	f.metrics.Bytes.Set(0)
	f.resets.all()
}

// send publishes at edge. While another relay is active, or edge is away, the message is lost: a
// reset follows.
func (f *front) send(subject string, data []byte) {
	if f.down != nil {
		f.down.Send(subject, data)
	}
}

// get answers a get request, now or when the resource is loaded. The request home that several may
// wait for is part of the first one's trace.
func (f *front) get(resource string, m downlink.Message) {
	f.metrics.Gets.Inc()
	reply := m.Reply
	query, ok := queryOf(m.Data)
	if !ok {
		f.fail(reply, res.InternalError("malformed get request"))
		return
	}
	n := f.names[resource]
	if n != nil {
		n.asked = f.now()
		f.recency.use(n)
		if t := n.topics[query]; t != nil {
			switch {
			case t.snap == nil:
				f.await(t, reply)
			case f.full():
				f.refuse(resource, reply)
			default:
				f.metrics.Hits.Inc()
				f.answer(t, reply)
			}
			return
		}
	}
	if f.full() || f.recency.bytes > 2*f.limit {
		f.refuse(resource, reply)
		return
	}
	if n == nil {
		n = &name{name: resource, topics: make(map[string]*topic, 1), asked: f.now(), fullTo: f.rounds.number}
		f.names[resource] = n
		f.recency.use(n)
	}
	f.ref++
	t := &topic{n: n, ref: f.ref, first: query}
	n.topics[query] = t
	n.count++
	f.topics[t.ref] = t
	f.metrics.Topics.Inc()
	f.weigh(t)
	f.await(t, reply)
	f.shard.Cache.Subscribe(0, t.ref, resource, query, func() { f.shard.Within(m.Trace) })
}

// full reports whether too much is queued for edge to add answers.
func (f *front) full() bool {
	if f.down == nil {
		return false
	}
	_, bytes := f.down.Queued()
	return bytes > maxQueued
}

// refuse rejects a get request for lack of memory. An edge that holds the resource would keep an
// old state, so the name is reset when there is room.
func (f *front) refuse(resource, reply string) {
	f.metrics.Refused.Inc()
	f.pressed.Log(f.log, slog.LevelWarn, f.now(), time.Second, "get requests are rejected for lack of memory; raise cacheBytes",
		"cached", f.recency.bytes, "cacheBytes", f.limit)
	f.fail(reply, res.ErrOverloaded)
	f.owed.add(resource)
}

func (f *front) await(t *topic, reply string) {
	if f.waiting >= maxWaiting {
		f.refuse(t.n.name, reply)
		return
	}
	f.waiting++
	t.waiting = append(t.waiting, reply)
}

// fail replies with an error.
func (f *front) fail(reply string, err *res.Error) {
	if reply != "" {
		f.send(reply, append(err.AppendJSON([]byte(`{"error":`)), '}'))
	}
}

// answer replies to a get request with a topic's state. Changes that it includes are published
// before it.
func (f *front) answer(t *topic, reply string) {
	if reply == "" {
		return
	}
	f.publishRound(t.n)
	text := t.snap.JSON(false)
	b := make([]byte, 0, len(text)+len(t.query)+64)
	b = append(b, `{"result":`...)
	b = appendState(b, t.snap)
	b = b[:len(b)-1]
	if t.query != "" {
		b = append(b, `,"query":`...)
		b = res.AppendString(b, t.query)
	}
	b = append(b, '}', '}')
	f.send(reply, b)
	f.weigh(t) // the text stays with the snapshot
}

// appendState appends {"model":…} or {"collection":…}.
func appendState(b []byte, s *state.Snapshot) []byte {
	if s.IsModel() {
		b = append(b, `{"model":`...)
	} else {
		b = append(b, `{"collection":`...)
	}
	return append(append(b, s.JSON(false)...), '}')
}

// Backlog implements cache.Loops.
func (f *front) Backlog(int) int {
	if f.down == nil {
		return 0
	}
	messages, bytes := f.down.Queued()
	return max(messages, bytes/queuedUnit)
}

// Post implements cache.Loops. The shard is in the middle of a step: only its mailbox may be used.
func (f *front) Post(_ int, u state.Update) {
	defer f.contain()
	t := f.topics[u.Ref]
	if t == nil {
		return // dropped before
	}
	switch u.Kind {
	case state.Loaded:
		f.loaded(t, u.Snapshot, u.Query)
	case state.Failed:
		f.failed(t, u.Err)
	case state.Applied:
		if t.snap != nil {
			f.apply(t, u.Event)
		}
	case state.Synced:
		f.synced(t, u)
	case state.Reaccess:
		f.reaccess(t.n.name)
	}
}

func (f *front) loaded(t *topic, snap *state.Snapshot, query string) {
	n := t.n
	if t.snap != nil { // loaded together with another query
		f.set(t, snap)
		return
	}
	if query != t.first {
		if to := n.topics[query]; to != nil && to != t {
			f.merge(t, to, snap, query)
			return
		}
		f.alias(t, t.first)
		n.topics[query] = t
	}
	t.query = query
	f.set(t, snap)
	if f.recency.bytes > 2*f.limit {
		f.evict()
		if f.recency.bytes > 2*f.limit {
			f.reject(t)
			return
		}
	}
	f.answerAll(t)
}

// reject drops a topic for which there is no memory.
func (f *front) reject(t *topic) {
	waiting, resource := t.waiting, t.n.name
	f.shard.Cache.Unsubscribe(0, t.ref, resource, t.first)
	f.drop(t)
	for _, reply := range waiting {
		f.refuse(resource, reply)
	}
}

func (f *front) answerAll(t *topic) {
	waiting := t.waiting
	t.waiting = nil
	f.waiting -= len(waiting)
	for _, reply := range waiting {
		f.answer(t, reply)
	}
}

// merge ends a topic whose normalised query has one already.
func (f *front) merge(t, to *topic, snap *state.Snapshot, query string) {
	if to.snap == nil {
		to.query = query
		f.set(to, snap)
		f.answerAll(to)
	}
	to.waiting, t.waiting = t.waiting, nil
	f.shard.Cache.Unsubscribe(0, t.ref, t.n.name, t.first)
	f.drop(t)
	f.alias(to, t.first)
	f.answerAll(to)
}

// alias makes a topic found by another way to write its query, if it has few of them.
func (f *front) alias(t *topic, query string) {
	if len(t.aliases) < maxAliases {
		t.n.topics[query] = t
		t.aliases = append(t.aliases, query)
	} else {
		delete(t.n.topics, query)
	}
	f.weigh(t)
}

// set replaces a topic's state.
func (f *front) set(t *topic, snap *state.Snapshot) {
	t.snap = snap
	f.weigh(t)
}

// drop forgets a topic; the shard has, or will.
func (f *front) drop(t *topic) {
	n := t.n
	delete(f.topics, t.ref)
	for _, q := range append(t.aliases, t.first, t.query) {
		if n.topics[q] == t {
			delete(n.topics, q)
		}
	}
	f.waiting -= len(t.waiting)
	t.waiting = nil
	n.bytes -= t.bytes
	f.recency.bytes -= t.bytes
	f.metrics.Bytes.Add(-int64(t.bytes))
	f.metrics.Topics.Dec()
	if n.count--; n.count == 0 {
		f.publishRound(n)
		delete(f.names, n.name)
		f.recency.remove(n)
	}
}

// failed answers get requests that found no resource.
func (f *front) failed(t *topic, err *res.Error) {
	f.metrics.Failures.Inc()
	n, waiting := t.n, t.waiting
	resource := n.name
	unanswered := err == res.ErrNotFound || err == res.ErrTimeout || err == res.ErrCut || err == res.ErrOverloaded || err == res.ErrStopping
	doubtful := unanswered && f.owed.doubtful(resource, f.now())
	f.drop(t)
	if doubtful {
		f.owed.add(resource)
	}
	for _, reply := range waiting {
		switch {
		case doubtful:
			f.fail(reply, res.ErrTimeout)
		case err == res.ErrNotFound:
			if f.down != nil && reply != "" {
				f.down.NoResponders(reply)
			}
		default:
			f.fail(reply, err)
		}
	}
}

// apply publishes an event that the shard has applied.
func (f *front) apply(t *topic, ev *state.Event) {
	f.metrics.Events.Inc()
	if ev.Kind != state.Delete {
		f.set(t, ev.Next)
	}
	if t.query != "" {
		f.record(t, ev)
	} else {
		f.send("event."+t.n.name+"."+eventName(ev), eventData(ev))
	}
	if ev.Kind == state.Delete {
		f.drop(t)
	}
}

func eventName(ev *state.Event) string {
	if ev.Kind == state.Custom {
		return ev.Name
	}
	return ev.Kind.String()
}

// eventData returns the payload of an event, nil if it has none.
func eventData(ev *state.Event) []byte {
	b := ev.AppendData(nil, false)
	if ev.Kind == state.Change || ev.Kind == state.Add || ev.Kind == state.Remove {
		b = append(b, '}')
	}
	return b
}

// synced publishes the difference to the newest state.
func (f *front) synced(t *topic, u state.Update) {
	if t.snap == nil {
		return
	}
	if u.Lost > 0 {
		f.metrics.CustomLost.Add(uint64(u.Lost))
	}
	steps := u.Steps
	if steps == nil {
		var err error
		if steps, err = state.Diff(t.snap, u.Snapshot); err != nil {
			steps = nil // it cannot be: the shard keeps a resource's type
		}
	}
	if len(steps) <= maxSteps {
		for _, ev := range steps {
			f.apply(t, ev)
		}
		f.set(t, u.Snapshot)
		return
	}
	f.set(t, u.Snapshot)
	if t.query != "" {
		f.recordAll(t)
	} else {
		f.resets.names([]string{t.n.name}, false)
	}
}

// reaccess has edges request access again, once in a turn.
func (f *front) reaccess(resource string) {
	defer f.contain()
	n := f.names[resource]
	if n != nil && n.rechoed == f.turn {
		return
	}
	if n != nil {
		n.rechoed = f.turn
	}
	f.send("event."+resource+".reaccess", nil)
}

// endTurn ends a turn of the shard.
func (f *front) endTurn() {
	defer f.contain()
	f.publishRounds()
	f.evict()
	f.turn++
}

// queryOf reads the payload of a get or query request.
func queryOf(payload []byte) (query string, ok bool) {
	if len(payload) == 0 {
		return "", true
	}
	var p struct{ Query string }
	if err := json.Unmarshal(payload, &p); err != nil {
		return "", false
	}
	return p.Query, true
}

var _ cache.Loops = (*front)(nil)

// hash is for clients and gateways that take turns at a limited service.
func hash(s string) uint64 { return natsbus.HashName(s) }
