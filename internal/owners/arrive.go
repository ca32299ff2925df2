package owners

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"sluice/fanout"
	"sluice/internal/connid"
	"sluice/internal/httpedge"
	"sluice/internal/memory"
	"sluice/internal/overlap"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/internal/state"
	"sluice/netpoll"
	"sluice/netpoll/tlskeys"
	"sluice/wsproto"
)

// Guests takes the WebSocket clients and streams of another process over: the other side of
// Set.Move. One goroutine uses it.
type Guests struct {
	set       *Set
	engine    *netpoll.Engine
	snapshots map[int]*state.Snapshot
	parser    res.Parser

	// Of the batch that is expected.
	loop    *Loop
	topics  []string // the resource IDs, by number
	keepers []*keeper
	held    *arrival // see Hold
	fds     []int    // of its clients
	turn    int      // of the loops

	releaseAt int    // so many clients give memory back that is not used
	endLean   func() // see memory.Lean

	Moved   int           // clients that have arrived
	Longest time.Duration // from where a client was taken out of the other process to where it went on
}

// NewGuests returns a Guests. Remember has been called before, and from now on token events of
// foreign clients are kept, until Done.
func (s *Set) NewGuests(e *netpoll.Engine) *Guests {
	s.guests.expect(1)
	return &Guests{set: s, engine: e, snapshots: make(map[int]*state.Snapshot), releaseAt: fewClients, endLean: memory.Lean()}
}

// Done is called when no more clients come.
func (g *Guests) Done(ctx context.Context) error {
	g.endLean()
	g.release()
	g.set.guests.expect(-1)
	return g.set.Remember(ctx, false)
}

// keeper holds a topic until the clients that have it are there. Owned by its loop.
type keeper struct {
	fanout.Member
	topic  *fanout.Topic
	loaded func(err *res.Error) // nil after it was called
}

var _ fanout.Subscriber = (*keeper)(nil)

// Loaded implements fanout.Subscriber.
func (k *keeper) Loaded() {
	if f := k.loaded; f != nil {
		k.loaded = nil
		f(k.topic.Error())
	}
}

// Event implements fanout.Subscriber, as Script and Reaccess do: the topic keeps what happens.
func (k *keeper) Event(*state.Event, *state.Snapshot)    {}
func (k *keeper) Script(*fanout.Script, *state.Snapshot) {}
func (k *keeper) Reaccess(fanout.Reason)                 {}

// keep has a keeper join a topic of a loop. It runs on the loop. loaded is called when the topic
// has its state, or failed to; nil: it has it.
func keep(l *Loop, r Resource, loaded func(*res.Error)) *keeper {
	k := &keeper{loaded: loaded}
	if k.topic = l.Env.Hub.Join(k, nil, fanout.VariantOf(fanout.Message, false), r.RID, r.Name, r.Query, nil); k.topic.Settled() {
		k.Loaded()
	}
	return k
}

// release has keepers of a loop leave their topics.
func release(l *Loop, keepers []*keeper) {
	l.Post(func() {
		for _, k := range keepers {
			if k != nil {
				k.loaded = nil
				l.Env.Hub.Leave(&k.Member)
			}
		}
	})
}

// prepareWait bounds the wait for the state of resources. Clients whose resources have not come
// stay where they are, and are tried again.
const prepareWait = 20 * time.Second

// Prepare has a loop subscribe to the resources of a batch. done gets the numbers of those that
// cannot be had, on any goroutine.
func (g *Guests) Prepare(resources []Resource, done func(failed []int)) {
	g.release()
	for range g.set.loops {
		if g.loop = g.set.loop(g.turn % len(g.set.loops)); g.loop != nil {
			break
		}
		g.turn++
	}
	g.turn++
	l := g.loop
	keepers := make([]*keeper, len(resources))
	g.keepers, g.topics = keepers, make([]string, len(resources))
	for i, r := range resources {
		g.topics[i] = r.RID
	}
	if len(resources) == 0 {
		done(nil)
		return
	}
	l.Post(func() {
		left := len(resources)
		var failed []int
		for i, r := range resources {
			keepers[i] = keep(l, r, func(err *res.Error) {
				if err != nil {
					failed = append(failed, i)
				}
				if left--; left == 0 {
					done(failed)
				}
			})
		}
		l.after(prepareWait, func() {
			late := false
			for i, k := range keepers {
				if k.loaded != nil {
					k.loaded, late = nil, true
					failed = append(failed, i)
				}
			}
			if late {
				done(failed)
			}
		})
	})
}

// release ends what Prepare has begun.
func (g *Guests) release() {
	if g.loop != nil {
		release(g.loop, g.keepers)
	}
	g.loop, g.keepers, g.topics = nil, nil, nil
}

// errBatch is why clients cannot be taken over.
var errBatch = errors.New("the description of the clients contradicts itself")

// Hold keeps the clients of a batch, of which some may have keys of TLS, or returns why it cannot
// go on with them; then it has closed the descriptors, which are its own. Another process may still
// go on with the clients: their sockets are not touched. Serve or Drop follows.
func (g *Guests) Hold(body, keys []byte, fds []int) error {
	b, err := g.decode(body)
	if err == nil {
		g.held = &arrival{l: g.loop, b: b, keepers: g.keepers, arrival: session.Arrival{Snapshots: g.snapshots}}
		err = b.addKeys(keys)
	}
	if err == nil && (len(b.Clients) != len(fds) || g.loop == nil || len(b.Topics) != len(g.keepers) || !b.agrees()) {
		err = errBatch
	}
	for i := 0; err == nil && i < len(b.Clients); i++ {
		if err = b.Clients[i].Session.Check(&g.parser, g.snapshots, g.topics); err != nil {
			err = fmt.Errorf("the description of client %d is malformed: %w", i, err)
		}
	}
	g.fds = fds
	if err != nil {
		g.Drop()
		return err
	}
	return nil
}

// Drop closes the descriptors of Hold, and forgets the keys.
func (g *Guests) Drop() {
	for _, fd := range g.fds {
		netpoll.CloseFD(fd)
	}
	g.end()
}

// end forgets the batch.
func (g *Guests) end() {
	if g.held != nil {
		g.held.b.wipe()
	}
	g.held, g.fds = nil, nil
	g.release()
}

// Serve goes on with the clients of Hold. It returns when they are served, or with the reason why
// not all are: those are closed.
func (g *Guests) Serve() error {
	a := g.held
	a.catchUp()
	err := a.join(g.engine, g.fds)
	g.Longest = max(g.Longest, time.Duration(time.Now().UnixNano())-a.b.At)
	g.Moved += len(g.fds) - int(a.failed.Load())
	g.end()
	if g.Moved >= g.releaseAt { // see Set.Move
		g.releaseAt = g.Moved + g.Moved/moveReleases
		debug.FreeOSMemory()
	}
	return err
}

// catchUp waits until the loop has handled what NATS had sent before. This process may have been
// stopped, or without CPU: what comes much later than to the other process would be taken for new,
// and clients would get it twice.
func (a *arrival) catchUp() {
	done := make(chan struct{})
	a.l.Post(func() {
		a.l.barrier(func(bool) { a.l.set.inOrder(func() { a.l.Post(func() { close(done) }) }) })
	})
	<-done
}

// addKeys gives the clients with TLS their keys.
func (b *batch) addKeys(keys []byte) (err error) {
	for i := range b.Clients {
		if s := &b.Clients[i].Socket; s.TLS != nil {
			if s.Keys, keys, err = tlskeys.Parse(keys); err != nil {
				return err
			}
		}
	}
	if len(keys) > 0 {
		return errBatch
	}
	return nil
}

// agrees reports whether what is said of each client is of one kind.
func (b *batch) agrees() bool {
	for i := range b.Clients {
		c := &b.Clients[i]
		if stream := c.Stream != nil; c.Socket.Stream != stream || c.Session.Stream != stream || stream && c.Socket.Deflate {
			return false
		}
	}
	return true
}

func (b *batch) wipe() {
	for i := range b.Clients {
		b.Clients[i].Socket.Keys.Wipe()
	}
}

// decode reads a batch and its snapshots.
func (g *Guests) decode(body []byte) (*batch, error) {
	var b batch
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return nil, fmt.Errorf("the description of the clients is malformed: %w", err)
	}
	for _, n := range b.Forget {
		delete(g.snapshots, n)
	}
	for _, s := range b.Snapshots {
		snap, err := g.snapshot(s.JSON)
		if err != nil {
			return nil, err
		}
		g.snapshots[s.Number] = snap
	}
	return &b, nil
}

// snapshot reads a snapshot.
func (g *Guests) snapshot(text []byte) (*state.Snapshot, error) {
	kind := `{"result":{"collection":`
	if text = bytes.TrimSpace(text); len(text) > 0 && text[0] == '{' {
		kind = `{"result":{"model":`
	}
	got, err := g.parser.Get(append(append([]byte(kind), text...), "}}"...))
	switch {
	case err != nil:
		return nil, fmt.Errorf("a resource is malformed: %w", err)
	case got.IsModel:
		return state.NewModel(got.Props), nil
	}
	return state.NewCollection(got.Values), nil
}

// arrival is a batch that arrives on a loop.
type arrival struct {
	l       *Loop
	b       *batch
	keepers []*keeper  // nil: no client has the resource
	topics  []Resource // of the keepers
	returns bool       // the clients have been nowhere else
	arrival session.Arrival
	clients []*session.Session
	ready   bool
	taken   time.Duration // when the other process had told the clients what the batch says
	err     atomic.Pointer[error]
	failed  atomic.Int64
}

// join goes on with the clients, whose descriptors are its own. It returns when all are served, or
// with the reason why not all are: those are closed.
func (a *arrival) join(e *netpoll.Engine, fds []int) (err error) {
	l := a.l
	results := make(chan error, len(fds))
	for i := range a.b.Clients {
		go func() {
			defer l.set.o.Faults.Contain(owner.Loop)
			results <- netpoll.Join(e, l.index, fds[i], &a.b.Clients[i].Socket, func(c *netpoll.Conn) { a.open(c, &a.b.Clients[i]) })
		}()
	}
	for range a.b.Clients {
		if e := <-results; e != nil {
			err = e
			a.failed.Add(1)
		}
	}
	if e := a.err.Load(); e != nil {
		err = *e
	}
	l.Post(a.settle)
	return err
}

// prepare makes what the clients share. It runs on the loop.
func (a *arrival) prepare() {
	a.ready = true
	epoch := a.l.epoch()
	a.b.localize(epoch)
	a.taken = a.b.At - epoch
	for i, k := range a.keepers {
		var s *fanout.Seam
		if k != nil && k.topic.Snapshot() != nil {
			rid, name, query := k.topic.Key()
			a.topics = append(a.topics, Resource{rid, name, query})
			s = &fanout.Seam{Topic: k.topic, Theirs: a.b.Topics[i].Marks, Began: a.b.Topics[i].Since, Taken: a.taken}
		}
		a.arrival.Seams = append(a.arrival.Seams, s)
	}
}

// localize turns the times of a batch into those of a loop.
func (b *batch) localize(epoch time.Duration) {
	b.Tokens -= epoch
	all := []*told{&b.Resets}
	for i := range b.Topics {
		all = append(all, &b.Topics[i])
	}
	for _, t := range all {
		t.Since -= epoch
		for i := range t.Marks {
			t.Marks[i].At -= epoch
		}
	}
	for i := range b.Clients {
		for k := range b.Clients[i].Tokens {
			b.Clients[i].Tokens[k].At -= epoch
		}
	}
}

// open goes on with a client. It runs on the loop.
func (a *arrival) open(c *netpoll.Conn, m *moved) {
	if !a.ready {
		a.prepare()
	}
	l := a.l
	set := l.set
	var peer session.Peer
	var p *httpedge.Peer
	var s *session.Session
	var begin func(*session.Session)
	var ended func()
	form, out := fanout.Message, set.o.Trace.Frames(c, m.Session.CID)
	if m.Stream != nil {
		form, out = fanout.Stream, set.o.Trace.Events(c)
		s = new(session.Session)
		peer, p, begin, ended = l.http.JoinStream(c, m.Peer, m.Stream, func() { l.guestLeft(m.Session.CID) })
	} else {
		if m.Socket.Deflate {
			form = fanout.Deflated
		}
		cl := &client{guest: true, Peer: l.http.Join(c, m.Peer)}
		peer, p, s = cl, &cl.Peer, &cl.session
		begin = func(*session.Session) { c.Session = cl }
	}
	err := session.Arrive(s, &l.Env, peer, out, form, &m.Session, &a.arrival, func(s *session.Session) {
		begin(s)
		a.clients = append(a.clients, s)
	}, ended)
	if err != nil {
		a.err.Store(&err)
		a.failed.Add(1)
		l.http.Leave(p)
		c.Close(wsproto.CloseServiceRestart, "the gateway has been replaced")
		return
	}
	id := connid.ID{Loop: l.index, Conn: c.Handle()}
	tokens := set.guests.join(m.Session.CID, id)
	for _, t := range l.recall.tokens {
		if a.returns && t.cid == m.Session.CID {
			tokens = append(tokens, t)
		}
	}
	ours := make([]overlap.Mark, len(tokens))
	for i, t := range tokens {
		ours[i] = t.Mark
	}
	missed, ahead := overlap.Compare(m.Tokens, ours, a.b.Tokens, nil)
	for _, i := range ahead {
		if l.recall.ahead == nil {
			l.recall.ahead = make(map[string][]overlap.Mark)
		}
		l.recall.ahead[m.Session.CID] = append(l.recall.ahead[m.Session.CID], m.Tokens[i])
	}
	for _, i := range missed {
		if tokens[i].data != nil {
			l.token(id, m.Session.CID, tokens[i].data)
		}
	}
	ours = ours[:0]
	for _, r := range l.recall.resets {
		ours = append(ours, r.Mark)
	}
	missed, _ = overlap.Compare(a.b.Resets.Marks, ours, a.b.Resets.Since, nil)
	for _, i := range overlap.Again(missed, ours, a.taken, func(uint64) bool { return true }) {
		l.Env.RenewToken(s, l.recall.resets[i].tids, l.recall.resets[i].subject)
	}
	if m.Socket.Lagging && !c.Lagging() {
		s.Lag(false)
	}
}

// aheadFor is how long a message of NATS that one process has got may take to another, beyond what
// NATS had sent to that before.
const aheadFor = time.Second

// stillAhead is the pause before the loop looks again whether such messages wait in a shard.
const stillAhead = 200 * time.Millisecond

// settle ends the wait for events that the clients have had, and that will not come here: NATS had
// sent them before this process subscribed. It runs on the loop, after all clients have come.
func (a *arrival) settle() {
	a.l.barrier(func(blind bool) {
		if blind {
			return // each ends after overlap.Apart
		}
		a.l.after(aheadFor, a.endAhead)
	})
}

// endAhead is settle for what does not wait in a shard. The rest ends when that comes, or after
// overlap.Apart.
func (a *arrival) endAhead() {
	a.l.deferring(a.topics, func(names map[string]bool) {
		later := make(map[string]bool) // by resource ID
		a.topics = slices.DeleteFunc(a.topics, func(r Resource) bool { return !names[r.Name] })
		for _, r := range a.topics {
			later[r.RID] = true
		}
		left := false
		for _, s := range a.clients {
			left = session.EndAhead(s, later) || left
		}
		if left {
			a.l.after(stillAhead, a.endAhead)
		}
	})
}
