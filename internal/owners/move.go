package owners

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"sluice/fanout"
	"sluice/internal/httpedge"
	"sluice/internal/limit"
	"sluice/internal/natsbus"
	"sluice/internal/overlap"
	"sluice/internal/session"
	"sluice/internal/state"
	"sluice/internal/upstream"
	"sluice/netpoll"
	"sluice/netpoll/tlskeys"
)

// WebSocket clients and streams go over to another process (docs/upgrade.md) in batches, each from
// one loop to one loop there. For each batch the other process first gets the resources that its
// clients have (plan), so that it has their events from then on. Then the clients that are at rest
// are taken out of this one (pack), and go on there (Guests.Move). Both keep what they have told
// clients of a resource meanwhile, and compare it (fanout.Seam).

// Resource is a resource as a client and as services name it.
type Resource struct{ RID, Name, Query string }

// batch is what goes over at a time, in JSON. Times are since the epoch of Unix, by the machine's
// clock.
type batch struct {
	At        time.Duration // when the clients were taken out
	Snapshots []numbered    // that the other process has yet to get
	Forget    []int         // numbers of snapshots that no client of this batch has
	Topics    []told        // by number of the resource in the plan
	Resets    told          // token resets
	Tokens    time.Duration // since when the token events of clients are kept
	Clients   []moved
}

// numbered is a snapshot, as JSON.
type numbered struct {
	Number int
	JSON   []byte // base64 in the batch: it must stay as it is, byte for byte
}

// told is what this process has handled.
type told struct {
	Since time.Duration
	Marks []overlap.Mark
}

// moved is a client.
type moved struct {
	Socket  netpoll.WebSocket
	Peer    httpedge.PeerState
	Session session.Moved
	Stream  *httpedge.StreamState // nil: a WebSocket
	Tokens  []overlap.Mark        // token events
}

// recall is what a loop has handled beside the events of topics, while clients go over to another
// process or come from one. Owned by the loop.
type recall struct {
	users  int // 0: nothing is kept
	since  time.Duration
	tokens []toldToken
	resets []toldReset
	ahead  map[string][]overlap.Mark // by connection ID: token events of guests that have yet to come here; may outlast users
}

type toldToken struct {
	cid string
	overlap.Mark
	data []byte // nil: the client has it
}

type toldReset struct {
	overlap.Mark
	tids    []string
	subject string
}

const mostTold = 1 << 16

// Remember has the loops keep what they tell clients, in order to compare it with another process;
// with false, not for this reason any more: each call with true is followed by one with false. It
// returns when all do, or with ctx's error.
func (s *Set) Remember(ctx context.Context, on bool) error {
	return s.Each(ctx, func(l *Loop) {
		r := &l.recall
		if on {
			r.users++
		} else {
			r.users--
		}
		if on && r.users == 1 || r.users == 0 {
			fanout.Remember(l.Env.Hub, on)
			*r = recall{users: r.users, since: l.Net.Now(), ahead: r.ahead}
		}
	})
}

// noteToken keeps that a client was given a token.
func (r *recall) noteToken(cid string, data []byte, now time.Duration) {
	r.keepToken(cid, data, nil, now)
}

// keepToken is noteToken; undelivered is data if the client does not have it.
func (r *recall) keepToken(cid string, data, undelivered []byte, now time.Duration) {
	if r.users > 0 {
		r.tokens = append(trim(r.tokens, func(t toldToken) time.Duration { return t.At }, now), toldToken{cid, overlap.Mark{Sum: natsbus.HashName(string(data)), At: now}, undelivered})
	}
}

// resetToken handles a system.tokenReset.
func (l *Loop) resetToken(tids []string, subject string) {
	if r := &l.recall; r.users > 0 {
		now := l.Net.Now()
		r.resets = append(trim(r.resets, func(t toldReset) time.Duration { return t.At }, now), toldReset{overlap.Mark{Sum: natsbus.HashName(fmt.Sprint(subject, tids)), At: now}, tids, subject})
	}
	l.Env.ResetToken(tids, subject)
}

// trim drops what is too old, or too much, from the beginning of a list in order of time.
func trim[T any](list []T, at func(T) time.Duration, now time.Duration) []T {
	for len(list) > 0 && (at(list[0]) < now-2*overlap.Apart || len(list) >= mostTold) {
		list = list[1:]
	}
	return list
}

// epoch returns what turns a loop's time into that of a batch.
func (l *Loop) epoch() time.Duration {
	return time.Duration(time.Now().UnixNano()) - l.Net.Clock().Now()
}

// mover moves a gateway's WebSocket clients to another process. One goroutine uses it.
type mover struct {
	set     *Set
	engine  *netpoll.Engine
	numbers map[*state.Snapshot]int // those that the other process has
	next    int

	prepared map[Resource]struct{} // those that the other process was asked for
	released int                   // calls of release that have had an effect
	still    stillness
	late     bool // the latest batch has gone back

	blind bool // NATS does not tell when a process has got all that was sent before: see barrier
}

// plan is the clients of one loop that may move next, and their resources.
type plan struct {
	resources []Resource
	clients   int
	busy      int            // clients that wait for something here
	why       map[string]int // for what, and how many of them
	next      int            // where the loop's next plan begins; -1: this is its last
	loop      *Loop
	handles   []netpoll.Handle
	// index has their topics. If a resource has ended and began anew since, it has another: what
	// the other process has of it may be from before.
	index map[*fanout.Topic]int
	// keepers hold the topics of the clients that were taken out, by number, in case they come
	// back.
	keepers []*keeper

	deferring map[string]bool // names with events that its clients have yet to get: see Loop.deferring
}

// walk is how many connections of a loop a plan looks at.
const walk = 1024

// plan returns the next clients of a loop, from a place of its table on, of which the first is 0.
// At most so many are taken.
func (m *mover) plan(ctx context.Context, loop, from, most int) (*plan, error) {
	l := m.set.loop(loop)
	p := &plan{next: -1, loop: l, index: make(map[*fanout.Topic]int), why: make(map[string]int)}
	if l == nil {
		return p, nil
	}
	done := make(chan *plan, 1)
	m.on(l, func() {
		for i := 0; i < walk && p.clients < most && from >= 0; i++ {
			from = l.Net.Walk(from, 1, func(c *netpoll.Conn) {
				switch s, _, _ := traveller(c); {
				case s == nil || c.Closing() || s.Closed():
				case netpoll.Movable(c):
					p.add(c, s)
				case netpoll.Stays(c):
				default:
					p.busy++
					p.why[connectionWaits]++
				}
			})
		}
		p.next = from
		done <- p
	})
	select {
	case p := <-done:
		return p, nil
	case <-ctx.Done():
		return &plan{next: -1}, ctx.Err()
	}
}

// What clients wait for, beside what session.Waits says.
const (
	connectionWaits = "the connection"
	roomWaits       = "room in a batch"
	resourceWaits   = "a resource in the new process"
	queryWaits      = "the replies to a query event"
	descriptorWaits = "a descriptor"
)

func (p *plan) add(c *netpoll.Conn, s *session.Session) {
	p.clients++
	p.handles = append(p.handles, c.Handle())
	session.Topics(s, func(t *fanout.Topic) {
		if _, ok := p.index[t]; !ok {
			rid, name, query := t.Key()
			p.index[t] = len(p.resources)
			p.resources = append(p.resources, Resource{rid, name, query})
		}
	})
}

// traveller returns the session, the client and the stream of a connection; nil: it is no
// WebSocket, and no stream that has begun.
func traveller(c *netpoll.Conn) (*session.Session, *httpedge.Peer, *httpedge.StreamState) {
	if cl, ok := c.Session.(*client); ok {
		return &cl.session, &cl.Peer, nil
	}
	return httpedge.MovableStream(c)
}

// on runs f on a loop, behind what the shards have yet to deliver there.
func (m *mover) on(l *Loop, f func()) { m.set.inOrder(func() { l.Post(f) }) }

// packed is a batch as it goes to the other process.
type packed struct {
	batch   *batch
	used    map[*state.Snapshot]int
	body    []byte
	keys    []byte // of those with TLS, in order; the sender overwrites them
	fds     []int  // of the clients, in order; the receiver closes them
	was     []netpoll.Progress
	moved   int
	streams int // of these
}

// maxBatch bounds what goes over at a time, in bytes of the clients' own state; snapshots may come
// on top.
const maxBatch = 4 << 20

// pack takes the clients of a plan out of this process that are at rest now, and have no resource
// beside those of the plan that the other process has: failed are the numbers of those that it has
// not. The other clients stay. It does not end before that is done: clients that are out must get
// to the other process, or come back.
func (m *mover) pack(p *plan, failed []int) (to packed, err error) {
	b := batch{Topics: make([]told, len(p.resources))}
	if m.set.o.Config.TLS {
		to.keys = make([]byte, 0, len(p.handles)*tlskeys.MaxLen) // it never grows, which would leave copies
	}
	without := make(map[int]bool)
	for _, i := range failed {
		without[i] = true
	}
	used := make(map[*state.Snapshot]int)
	done := make(chan struct{})
	take := func(blind bool) {
		m.blind = blind
		p.loop.deferring(p.resources, func(names map[string]bool) {
			defer close(done) // also after a panic
			p.deferring = names
			m.take(p, without, &b, used, &to)
		})
	}
	m.on(p.loop, func() {
		if m.blind {
			take(true)
			return
		}
		p.loop.barrier(take)
	})
	<-done
	if to.moved == 0 {
		return to, nil
	}
	for snap, n := range used {
		if _, known := m.numbers[snap]; !known {
			b.Snapshots = append(b.Snapshots, numbered{n, snap.JSON(false)})
		}
	}
	for snap, n := range m.numbers {
		if _, ok := used[snap]; !ok {
			b.Forget = append(b.Forget, n)
		}
	}
	m.numbers = used
	to.batch, to.used = &b, used
	to.body, err = json.Marshal(&b)
	return to, err
}

// take runs on the loop.
func (m *mover) take(p *plan, without map[int]bool, b *batch, used map[*state.Snapshot]int, to *packed) {
	l := p.loop
	epoch := l.epoch()
	p.keepers = make([]*keeper, len(p.resources))
	b.At, b.Tokens = l.Net.Clock().Now()+epoch, l.recall.since+epoch
	topic := func(t *fanout.Topic) int {
		i, ok := p.index[t]
		if !ok || without[i] {
			return -1
		}
		return i
	}
	number := func(s *state.Snapshot) int {
		n, ok := used[s]
		if !ok {
			if n, ok = m.numbers[s]; !ok {
				m.next++
				n = m.next
			}
			used[s] = n
		}
		return n
	}
	for size := 0; len(p.handles) > 0 && size < maxBatch; p.handles = p.handles[1:] {
		c := l.Net.Conn(p.handles[0])
		if c == nil {
			continue
		}
		s, peer, stream := traveller(c)
		if s == nil {
			continue
		}
		if why := p.waits(c, s, topic); why != "" {
			p.why[why]++
			continue
		}
		fd, socket, err := netpoll.Move(c)
		if err != nil {
			p.why[descriptorWaits]++
			continue // it stays
		}
		if socket.TLS != nil {
			to.keys = socket.Keys.Append(to.keys)
			socket.Keys.Wipe()
		}
		v := moved{Socket: socket, Peer: peer.State(), Session: session.Move(s, topic, number), Stream: stream}
		for _, t := range l.recall.tokens {
			if t.cid == v.Session.CID && t.data == nil {
				v.Tokens = append(v.Tokens, overlap.Mark{Sum: t.Sum, At: t.At + epoch})
			}
		}
		session.Topics(s, func(t *fanout.Topic) {
			if i := topic(t); b.Topics[i].Since == 0 {
				b.Topics[i].Marks, b.Topics[i].Since = t.Marks(nil, epoch), t.Since()+epoch
				p.keepers[i] = keep(l, p.resources[i], nil)
			}
		})
		session.CloseMoved(s)
		if t := socket.TLS; t != nil {
			size += len(t.In) + len(t.Out)
		}
		size += len(socket.In) + len(socket.Out) + len(v.Peer.Header) + 64*len(v.Session.Subs) + 512
		b.Clients = append(b.Clients, v)
		to.fds, to.was = append(to.fds, fd), append(to.was, netpoll.ProgressOf(fd))
		to.moved++
		if stream != nil {
			to.streams++
		}
	}
	if n := len(p.handles); n > 0 {
		p.why[roomWaits] += n
	}
	for _, r := range l.recall.resets {
		b.Resets.Marks = append(b.Resets.Marks, overlap.Mark{Sum: r.Sum, At: r.At + epoch})
	}
	b.Resets.Since = l.recall.since + epoch
}

// waits returns what keeps a client from moving now; "": nothing.
func (p *plan) waits(c *netpoll.Conn, s *session.Session, topic func(*fanout.Topic) int) string {
	if !netpoll.Movable(c) {
		return connectionWaits
	}
	if why := session.Waits(s); why != "" {
		return why
	}
	if cl, ok := c.Session.(*client); ok && !cl.inFlight.Empty() {
		return "a service"
	}
	why := ""
	session.Topics(s, func(t *fanout.Topic) {
		switch _, name, _ := t.Key(); {
		case topic(t) < 0:
			why = resourceWaits
		case p.deferring[name]:
			why = queryWaits
		}
	})
	return why
}

// back goes on, in this process, with clients that were taken out of it, unless touched says of
// their descriptors that another one may have used them: those are cut. The descriptors are its
// own. It returns how many clients are back.
func (m *mover) back(p *plan, from *packed, touched func(i int) bool) int {
	b := *from.batch
	b.Clients = nil
	if err := from.batch.addKeys(from.keys); err != nil { // cannot be: they are its own
		touched = func(int) bool { return true }
	}
	defer from.batch.wipe()
	var fds []int
	for i, fd := range from.fds {
		if touched(i) {
			netpoll.CloseFD(fd)
			continue
		}
		c := from.batch.Clients[i]
		c.Socket.Shared = true
		b.Clients, fds = append(b.Clients, c), append(fds, fd)
	}
	a := &arrival{l: p.loop, b: &b, keepers: p.keepers, returns: true}
	a.arrival.Snapshots = make(map[int]*state.Snapshot, len(from.used))
	for snap, n := range from.used {
		a.arrival.Snapshots[n] = snap
	}
	_ = a.join(m.engine, fds) // what is lost is counted
	return len(fds) - int(a.failed.Load())
}

// deferring calls then on the loop with the names of those resources that have events which wait in
// their shards for the replies to a query event. What the shards had for the loop before is
// handled. A process that has subscribed since these events came does not get them.
func (l *Loop) deferring(resources []Resource, then func(names map[string]bool)) {
	byShard := make(map[*upstream.Shard]map[string]bool)
	for _, r := range resources {
		shard := l.set.ShardOf(r.Name)
		if byShard[shard] == nil {
			byShard[shard] = make(map[string]bool)
		}
		byShard[shard][r.Name] = true
	}
	found := make(map[string]bool)
	left := len(byShard)
	if left == 0 {
		then(found)
	}
	for shard, names := range byShard {
		shard.Cache.Run(func() {
			maps.DeleteFunc(names, func(name string, _ bool) bool { return !shard.Cache.Defers(name) })
			l.Post(func() {
				maps.Copy(found, names)
				if left--; left == 0 {
					then(found)
				}
			})
		})
	}
}

// barrierSubject has no subscribers: NATS replies itself.
const barrierSubject = "sluice.upgrade.barrier"

// barrier calls then on the loop when the loop has handled all that the NATS server had sent to
// this process before now. blind reports that the server did not answer, so nobody knows.
func (l *Loop) barrier(then func(blind bool)) {
	left, blind := 0, false
	for _, name := range l.set.bus.Spread() {
		left++
		l.Upstream.Caller.Request(natsbus.Request{Name: name, Subject: barrierSubject, Priority: limit.Refresh}, func(_ []byte, err error) {
			blind = blind || err != nil && !errors.Is(err, natsbus.ErrNoResponders)
			if left--; left == 0 {
				then(blind)
			}
		})
	}
}
