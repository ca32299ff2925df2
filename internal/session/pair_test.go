package session

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/fanout"
	"sluice/internal/overlap"
	"sluice/internal/owner"
	"sluice/internal/state"
)

// pair is two processes that get the same events, each in its own time. Clients go over from the
// first to the second. Their services, clients, clock and log are the same.
type pair struct {
	worlds [2]*world
	at     [2]int // how many of the events each has handled
	events []func(w *world)
	now    time.Duration
	timers []pairTimer
	trips  []*trip
	moves  int                   // of clients that have arrived
	last   map[*testClient]Moved // the newest description of each
	slow   int                   // the process that gets its events later; 2: none
}

type pairTimer struct {
	at time.Duration
	f  func()
}

// trip is a client's way to the other process, which gets the resources first.
type trip struct {
	c       *testClient
	index   map[*fanout.Topic]int
	keepers []*keeper
	barrier int // so many events the first process has handled before the client goes; 0: not known yet
}

// keeper holds a topic for clients that are to come.
type keeper struct {
	fanout.Member
	topic *fanout.Topic
}

func (k *keeper) Loaded()                                {}
func (k *keeper) Event(*state.Event, *state.Snapshot)    {}
func (k *keeper) Script(*fanout.Script, *state.Snapshot) {}
func (k *keeper) Reaccess(fanout.Reason)                 {}

func newPair(t *testing.T, seed uint64, limits Limits) *pair {
	p := &pair{events: []func(*world){func(*world) {}}, last: map[*testClient]Moved{}}
	p.worlds[0] = newWorld(t, seed, limits)
	p.follow(p.worlds[0])
	p.start()
	return p
}

// start starts the second process.
func (p *pair) start() {
	a := p.worlds[0]
	b := newWorld(a.t, 1, a.env.Limits)
	for _, c := range b.clients {
		c.s.Close()
	}
	b.rng, b.service, b.denied, b.known, b.outdate, b.ended = a.rng, a.service, a.denied, a.known, a.outdate, a.ended
	b.pings, b.log, b.clients = a.pings, a.log, a.clients
	b.env.Hub.Portion = a.env.Hub.Portion
	p.worlds[1], p.at[1], p.slow = b, p.at[0], a.rng.IntN(3)
	p.follow(b)
}

// follow has a process get the events of both, and the time.
func (p *pair) follow(w *world) {
	w.pair, w.view, w.pinged = p, maps.Clone(w.service), maps.Clone(w.pings)
	w.env.Now = func() time.Duration { return p.now }
	w.env.Hub.Now = w.env.Now
	w.env.Wheel = owner.NewWheel(time.Millisecond, 0)
	w.env.After = func(d time.Duration, f func()) { p.timers = append(p.timers, pairTimer{p.now + d, f}) }
	fanout.Remember(w.env.Hub, true)
}

// upgrade has all clients go over, which are at rest, and another process take the place of the
// second.
func (p *pair) upgrade() error {
	for _, c := range p.worlds[0].clients {
		if c.w != p.worlds[0] {
			continue
		}
		p.begin(c)
		if p.rest(); c.w == p.worlds[0] {
			return fmt.Errorf("%s, which is at rest, cannot move", c.name)
		}
	}
	if err := p.worlds[0].left(); err != nil {
		return err
	}
	p.worlds[0], p.at[0] = p.worlds[1], p.at[1]
	p.start()
	return nil
}

// left returns an error if there is anything of a client that has left the process.
func (w *world) left() error {
	m := w.env.Metrics
	if n := m.HeldShares.Load(); n != 0 || m.Sessions.Load() != 0 || m.Subscriptions.Load() != 0 || w.env.Requests() != 0 {
		return fmt.Errorf("of all clients %d sessions, %d subscriptions, %d requests and %d bytes of events are left", m.Sessions.Load(), m.Subscriptions.Load(), w.env.Requests(), n)
	}
	if n, topics := w.fanout.VersionBytes.Load(), w.env.Hub.Len(); n != 0 || topics != 0 {
		return fmt.Errorf("%d bytes of old states and %d topics are left", n, topics)
	}
	return nil
}

// emit has both processes get what has become of a resource.
func (p *pair) emit(name string, u state.Update) {
	now := p.worlds[0].service[name]
	p.events = append(p.events, func(w *world) {
		if u.Kind == state.Applied {
			w.logf("process %d at %v: %s on %s", slices.Index(p.worlds[:], w), p.now, u.Event.Kind, name)
		}
		w.view[name] = now
		if u.Kind == state.Applied && u.Event.Kind == state.Custom {
			w.pinged[name]++
		}
		w.apply(name, u)
	})
}

// handle has a process handle its next event. It returns false if there is none.
func (p *pair) handle(i int) bool {
	if p.at[i] == len(p.events) {
		return false
	}
	f := p.events[p.at[i]]
	p.at[i]++
	f(p.worlds[i])
	p.worlds[i].env.Hub.EndTurn()
	return true
}

// pass lets time pass.
func (p *pair) pass(d time.Duration) {
	p.now += d
	for _, w := range p.worlds {
		w.env.Wheel.Advance(p.now)
	}
	for {
		i := slices.IndexFunc(p.timers, func(t pairTimer) bool { return t.at <= p.now })
		if i < 0 {
			return
		}
		f := p.timers[i].f
		p.timers = slices.Delete(p.timers, i, i+1)
		f()
	}
}

// step runs one random step.
func (p *pair) step() {
	rng := p.worlds[0].rng
	p.pass(time.Duration(rng.IntN(20)) * time.Millisecond)
	i := rng.IntN(2)
	w := p.worlds[i]
	switch n := rng.IntN(24); {
	case n < 5:
		p.change(rng.IntN(resources))
	case n < 6:
		name := rid(rng.IntN(resources))
		w.denied[name] = !w.denied[name] && rng.IntN(3) == 0
		p.events = append(p.events, func(w *world) {
			for _, c := range w.clients {
				w.again(accessKey{c.name, name})
			}
			w.logf("process %d: reaccess on %s", slices.Index(p.worlds[:], w), name)
			w.apply(name, state.Update{Kind: state.Reaccess})
		})
	case n < 12:
		if i != p.slow || rng.IntN(4) == 0 {
			p.handle(i)
		}
	case n < 14:
		if c := w.clients[rng.IntN(len(w.clients))]; c.w == p.worlds[0] && !slices.ContainsFunc(p.trips, func(t *trip) bool { return t.c == c }) {
			p.begin(c)
		}
	case n < 16:
		if len(p.trips) > 0 {
			p.end(p.trips[rng.IntN(len(p.trips))])
		}
	case n < 18:
		if len(w.updates) > 0 {
			w.deliver(rng.IntN(len(w.updates)))
		}
	case n < 20:
		if len(w.answers) > 0 {
			w.answer(rng.IntN(len(w.answers)))
		}
	default:
		p.ask(w.clients[rng.IntN(len(w.clients))])
	}
	w.env.Hub.EndTurn()
}

// ask has a client do something.
func (p *pair) ask(c *testClient) {
	w := c.w
	name := rid(w.rng.IntN(resources))
	switch n := w.rng.IntN(12); {
	case n < 5:
		c.request("subscribe", name)
	case n < 7:
		if c.holds.direct[name] > 0 || len(c.inOrder[name]) > 0 {
			c.request("unsubscribe", name)
		}
	case n < 8:
		c.request("get", name)
	case n < 9:
		c.request("call", name+".pick")
	case n < 10:
		for i := range resources {
			w.again(accessKey{c.name, rid(i)})
		}
		w.logf("%s gets a token", c.name)
		c.s.SetToken([]string{"", `"one"`, `"two"`}[w.rng.IntN(3)], "")
	default:
		c.s.Lag(w.rng.IntN(2) == 0)
	}
}

// change changes a resource, which may be made by that.
func (p *pair) change(i int) {
	w, name := p.worlds[0], rid(i)
	before := w.service[name]
	if before == nil && (p.at[0] < len(p.events) || p.at[1] < len(p.events)) {
		return // a service takes longer to make a resource anew than a message from one process to the other
	}
	if w.change(i); before == nil {
		now := w.service[name]
		p.events = append(p.events, func(w *world) { w.view[name] = now })
	}
}

// begin has the other process get the resources of a client.
func (p *pair) begin(c *testClient) {
	t := &trip{c: c, index: map[*fanout.Topic]int{}}
	Topics(c.s, func(topic *fanout.Topic) {
		k := new(keeper)
		rid, name, query := topic.Key()
		k.topic = p.worlds[1].env.Hub.Join(k, nil, fanout.VariantOf(fanout.Message, false), rid, name, query, nil)
		t.index[topic] = len(t.keepers)
		t.keepers = append(t.keepers, k)
	})
	p.trips = append(p.trips, t)
}

// end has a client go over if it can, and ends the trip, when the resources are there. The first
// process handles before what was sent until then, and perhaps no more.
func (p *pair) end(t *trip) {
	to := p.worlds[1]
	if t.barrier == 0 {
		for len(to.updates) > 0 {
			to.deliver(0)
		}
		t.barrier = len(p.events)
		return
	}
	defer func() {
		for _, k := range t.keepers {
			to.env.Hub.Leave(&k.Member)
		}
		p.trips = slices.DeleteFunc(p.trips, func(o *trip) bool { return o == t })
	}()
	c, from := t.c, t.c.w
	for p.at[0] < t.barrier {
		p.handle(0)
	}
	for len(from.updates) > 0 {
		from.deliver(0)
	}
	topics := make([]string, len(t.keepers))
	for i, k := range t.keepers {
		topics[i], _, _ = k.topic.Key()
	}
	ok := movable(c.s)
	Topics(c.s, func(topic *fanout.Topic) {
		i, has := t.index[topic]
		ok = ok && has && t.keepers[i].topic.Snapshot() != nil
	})
	if !ok {
		return
	}
	a := Arrival{Snapshots: map[int]*state.Snapshot{}, Seams: make([]*fanout.Seam, len(t.keepers))}
	numbers := map[*state.Snapshot]int{}
	m := Move(c.s, func(topic *fanout.Topic) int {
		i := t.index[topic]
		a.Seams[i] = &fanout.Seam{Topic: t.keepers[i].topic, Theirs: topic.Marks([]overlap.Mark{}, 0), Began: topic.Since()}
		return i
	}, func(s *state.Snapshot) int {
		if numbers[s] == 0 {
			numbers[s] = len(numbers) + 1
		}
		return numbers[s]
	})
	for s, n := range numbers {
		a.Snapshots[n] = from.copied(s)
	}
	CloseMoved(c.s)
	text, err := json.Marshal(m)
	if err != nil {
		from.t.Fatal(err)
	}
	m = Moved{}
	if err := json.Unmarshal(text, &m); err != nil {
		from.t.Fatal(err)
	}
	from.logf("%s goes over with %s", c.name, text)
	for _, seam := range a.Seams {
		if seam == nil {
			continue
		}
		missed, _ := seam.Compare()
		if slices.ContainsFunc(missed, func(h fanout.Happened) bool { return h.Event == nil }) {
			rid, _, _ := seam.Topic.Key()
			from.again(accessKey{c.name, rid})
		}
	}
	if err := m.Check(to.env.Parser, a.Snapshots, topics); err != nil {
		c.fail(fmt.Errorf("%w: %s", err, text))
		return
	}
	c.w, c.behind = to, make(map[string]int)
	for rid := range c.holds.resources {
		c.behind[rid] = to.pinged[rid]
	}
	if err := Arrive(new(Session), to.env, c, c, fanout.Message, &m, &a, func(s *Session) { c.s = s }, nil); err != nil {
		c.fail(fmt.Errorf("%w: %s", err, text))
		return
	}
	p.moves++
	p.last[c] = m
	p.settled(c.s, len(p.events))
}

// pinged checks the number of a custom event: no event comes twice or late, and none is missing
// unless a full queue has dropped it.
func (c *testClient) pinged(rid string, data json.RawMessage) error {
	var ping struct{ N int }
	if err := json.Unmarshal(data, &ping); err != nil {
		return err
	}
	last, ok := c.pings[rid]
	if at, came := c.behind[rid]; ok && came && ping.N <= c.before[rid] && at < last {
		return nil // docs/upgrade.md: a process that is behind cannot know that this was before
	}
	c.pings[rid] = ping.N
	if ok && (ping.N <= last || ping.N > last+1 && c.w.env.Limits.HeldEvents == 0) {
		return fmt.Errorf("custom event %d of %s follows %d", ping.N, rid, last)
	}
	return nil
}

// settled ends the wait for what the client has had, some time after its process has handled what
// was sent before.
func (p *pair) settled(s *Session, events int) {
	p.timers = append(p.timers, pairTimer{p.now + time.Second, func() {
		if p.worlds[1].env == s.env && p.at[1] < events {
			p.settled(s, events)
			return
		}
		EndAhead(s, nil)
	}})
}

// copied returns a snapshot as another process reads it.
func (w *world) copied(s *state.Snapshot) *state.Snapshot {
	kind := "collection"
	if s.IsModel() {
		kind = "model"
	}
	got, err := w.env.Parser.Get(fmt.Appendf(nil, `{"result":{"%s":%s}}`, kind, s.JSON(false)))
	switch {
	case err != nil:
		w.t.Fatal(err)
	case got.IsModel:
		return state.NewModel(got.Props)
	}
	return state.NewCollection(got.Values)
}

// settle has slow consumers read, delivers everything in flight, and compares all clients with the
// services.
func (p *pair) settle() error {
	clients := p.worlds[0].clients
	for _, c := range clients {
		c.s.Lag(false)
	}
	p.rest()
	for _, c := range clients {
		if err := c.check(); err != nil {
			return err
		}
	}
	return nil
}

// rest ends all trips and delivers everything in flight.
func (p *pair) rest() {
	for busy := true; busy; {
		busy = false
		for i, w := range p.worlds {
			for p.handle(i) {
				busy = true
			}
			for len(w.updates) > 0 {
				busy = true
				w.deliver(0)
			}
			for len(w.answers) > 0 {
				busy = true
				w.answer(0)
			}
			w.env.Hub.EndTurn()
		}
		if len(p.trips) > 0 {
			busy = true
			p.end(p.trips[0])
		}
		if !busy && len(p.timers) > 0 {
			busy = true
			next := slices.MinFunc(p.timers, func(a, b pairTimer) int { return int(a.at - b.at) })
			p.pass(next.at - p.now)
		}
	}
}

// TestRandomMoves: a client that goes over between processes notices nothing, whatever each of the
// two has handled: it gets no event twice, misses none, and ends with the newest state. Services
// are asked for nothing that is known.
func TestRandomMoves(t *testing.T) {
	moves := 0
	run := func(seed uint64) {
		p := newPair(t, seed, Limits{DirectPerRID: 3, HeldEvents: []int{0, 1, 3}[seed%3]})
		if seed/3%2 == 0 {
			p.worlds[0].env.Reset, p.worlds[1].env.Reset = owner.NewThrottle(1), owner.NewThrottle(1)
		}
		fail := func(err error) {
			lines := strings.Split(p.worlds[0].log.String(), "\n")
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(lines[max(len(lines)-300, 0):], "\n"))
		}
		for range 6 {
			for range 100 {
				p.step()
				for _, c := range p.worlds[0].clients {
					if c.err != nil {
						fail(c.err)
					}
				}
			}
			err := p.settle()
			if err == nil {
				err = p.upgrade()
			}
			if err != nil {
				fail(err)
			}
		}
		moves += p.moves
		for _, c := range p.worlds[0].clients {
			c.s.Close()
		}
		for _, w := range p.worlds {
			if err := w.left(); err != nil {
				fail(err)
			}
		}
	}
	if *seed != 0 {
		run(*seed)
		return
	}
	for i := range *rounds / 20 { // a seed costs ten times what one of TestRandom does
		run(uint64(i + 1))
	}
	t.Logf("%d moves", moves)
}
