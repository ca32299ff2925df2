package cache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sluice/internal/owner"
	"sluice/internal/res"
)

// world is a shard with loops that subscribe and unsubscribe, a service whose resources change, and
// messages that are delayed.
type world struct {
	*harness
	rnd     *rand.Rand
	service *service
	nats    []func() // in flight to the shard, in order
	live    map[subKey]rid
	keys    []subKey // of live, in order of creation
	nextRef uint64
	faults  bool
	limit   *owner.Throttle
}

type rid struct{ name, query string }

func newWorld(t *testing.T, seed uint64, faults bool) *world {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := &world{rnd: rnd, service: newService(rnd), live: map[subKey]rid{}, faults: faults, limit: owner.NewThrottle(1 + rnd.IntN(4))}
	opt := Options{BacklogLimit: 10, ResetThrottle: w.limit}
	if rnd.IntN(2) == 0 {
		opt.ResetThrottle = nil
	}
	if rnd.IntN(2) == 0 {
		opt.UnusedBytes = 1 + rnd.IntN(3000)
	}
	if faults {
		opt.LockedLimit = 1 + rnd.IntN(5)
	}
	w.harness = newHarness(t, opt)
	w.harness.ended = func(key subKey) {
		if _, ok := w.live[key]; !ok {
			t.Errorf("seed %d: update for an ended sub", seed)
		}
		w.forget(key)
	}
	w.service.emit = func(name, event string, payload []byte) {
		if w.faults && rnd.IntN(30) == 0 {
			w.nats = append(w.nats, w.s.ResetAll) // lost, and noticed
			return
		}
		w.nats = append(w.nats, func() { w.s.Event(name, event, payload, 0) })
	}
	w.service.reset = func(pattern string) {
		p, ok := res.ParsePattern(pattern)
		if !ok {
			t.Fatalf("bad pattern %s", pattern)
		}
		w.nats = append(w.nats, func() { w.s.Reset([]res.Pattern{p}) })
	}
	return w
}

func (w *world) forget(key subKey) {
	delete(w.live, key)
	w.keys = slices.DeleteFunc(w.keys, func(k subKey) bool { return k == key })
}

func (w *world) step() {
	switch n := w.rnd.IntN(100); {
	case n < 12:
		w.nextRef++
		loop := w.rnd.IntN(len(w.load))
		at := rid{w.service.names[w.rnd.IntN(len(w.service.names))], w.service.clientQuery()}
		key := subKey{loop, w.nextRef}
		w.live[key] = at
		w.keys = append(w.keys, key)
		w.s.Subscribe(loop, w.nextRef, at.name, at.query, nil)
	case n < 22:
		w.unsubscribe()
	case n < 45:
		w.service.act()
	case n < 68:
		w.serve()
	case n < 95:
		w.deliver()
	case n < 97:
		w.load[w.rnd.IntN(len(w.load))] = w.rnd.IntN(20)
	default:
		w.advance(time.Duration(w.rnd.IntN(3000)) * time.Millisecond)
	}
	// Now and then several messages are handled in one turn.
	if w.rnd.IntN(3) > 0 {
		w.turns()
	}
	w.out.Reset()
}

func (w *world) unsubscribe() {
	if len(w.keys) == 0 {
		return
	}
	w.turns() // an end in flight must not cross this one
	if len(w.keys) == 0 {
		return
	}
	key := w.keys[w.rnd.IntN(len(w.keys))]
	at := w.live[key]
	w.forget(key)
	w.s.Unsubscribe(key.loop, key.ref, at.name, at.query)
	w.turns()
	delete(w.folded, key)
}

// serve makes the service reply to its oldest request.
func (w *world) serve() {
	if len(w.asked) == 0 {
		return
	}
	a := w.asked[0]
	w.asked = w.asked[1:]
	if w.faults && w.rnd.IntN(8) == 0 {
		err := []*res.Error{res.ErrTimeout, res.ErrNotFound}[w.rnd.IntN(2)]
		w.nats = append(w.nats, func() { w.s.Run(func() { a.reply(nil, err) }) })
		return
	}
	text := w.service.answer(a.name, a.subject, a.payload)
	w.nats = append(w.nats, func() { w.s.Run(func() { a.reply(text, nil) }) })
}

func (w *world) deliver() {
	if len(w.nats) > 0 {
		f := w.nats[0]
		w.nats = w.nats[1:]
		f()
	}
}

// settle delivers everything in flight.
func (w *world) settle() {
	for i := range w.load {
		w.load[i] = 0
	}
	for range 3 {
		for w.turns(); len(w.asked) > 0 || len(w.nats) > 0; w.turns() {
			w.serve()
			w.deliver()
		}
		w.advance(time.Second)
	}
	w.out.Reset()
}

func (w *world) compare(what string) {
	for key, at := range w.live {
		want := w.service.truth[at.name][normal(at.name, at.query)]
		got := w.folded[key]
		switch {
		case got == nil:
			w.t.Errorf("%s: %v of %v is neither loaded nor failed", what, key, at)
		case want == nil:
			w.t.Errorf("%s: %v of %v outlives the resource", what, key, at)
		case !got.Equal(want):
			w.t.Errorf("%s: %v of %v is %s, want %s", what, key, at, got.JSON(false), want.JSON(false))
		}
	}
	if n := int(w.s.metrics.Subscriptions.Load()); n != len(w.live) {
		w.t.Errorf("%s: %d subscriptions counted, want %d", what, n, len(w.live))
	}
}

// finish unsubscribes all loops and checks that the shard is empty afterwards.
func (w *world) finish(what string) {
	for len(w.keys) > 0 {
		w.unsubscribe()
	}
	w.settle()
	w.advance(time.Minute)
	m := w.s.metrics
	for name, n := range map[string]int64{
		"resources": m.Resources.Load(), "entries": m.Entries.Load(), "bytes": m.Bytes.Load(),
		"subscriptions": m.Subscriptions.Load(), "behind": m.Behind.Load(), "names": int64(w.s.resources.Len()),
		"pending": int64(w.s.Pending()), "bytes in the mailbox": w.s.queued.Load(), "throttled": int64(w.limit.Waiting()),
	} {
		if n != 0 {
			w.t.Errorf("%s: %d %s left", what, n, name)
		}
	}
	if !w.s.index.root.empty() {
		w.t.Errorf("%s: the index is not empty", what)
	}
	if _, armed := w.clock.Next(); armed {
		w.advance(time.Hour)
		if at, armed := w.s.wheel.Next(); armed {
			w.t.Errorf("%s: a timer is left for %v", what, at)
		}
	}
}

// TestConvergence: after random changes and events, loops have the service's state, and apply each
// event to the state that it is meant for.
func TestConvergence(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		w := newWorld(t, seed, false)
		for round := range 6 {
			for range 250 {
				w.step()
			}
			w.settle()
			w.compare(fmt.Sprintf("seed %d, round %d", seed, round))
		}
		w.finish(fmt.Sprintf("seed %d", seed))
		if t.Failed() {
			return
		}
	}
}

// The same with lost events, failing requests and full queues, followed by a reset.
func TestConvergenceAfterFaults(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		w := newWorld(t, seed, true)
		for round := range 6 {
			w.faults = true
			for range 250 {
				w.step()
			}
			w.faults = false
			w.nats = append(w.nats, w.s.ResetAll)
			w.settle()
			w.compare(fmt.Sprintf("seed %d, round %d", seed, round))
		}
		w.finish(fmt.Sprintf("seed %d", seed))
		if t.Failed() {
			return
		}
	}
}
