package cache

import (
	"math/rand/v2"
	"sync"
	"testing"

	"sluice/internal/limit"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/state"
)

// city is a shard, loops and a service, each with a goroutine of its own.
type city struct {
	t        *testing.T
	s        *Shard
	loops    []*cityLoop
	activity chan struct{} // holds something if anything has happened

	mu    sync.Mutex
	asked []*asked
}

type cityLoop struct {
	c      *city
	index  int
	mail   *owner.Mailbox[func()]
	wake   chan struct{}
	folded map[subKey]*state.Snapshot
	live   map[uint64]rid
	next   uint64
}

func (c *city) stir() {
	select {
	case c.activity <- struct{}{}:
	default:
	}
}

func (c *city) Subscribe(string)   {}
func (c *city) Unsubscribe(string) {}
func (c *city) Flush()             {}

func (c *city) Request(_ limit.Priority, name, subject string, payload []byte, done func([]byte, *res.Error)) {
	c.mu.Lock()
	c.asked = append(c.asked, &asked{name, subject, string(payload), done})
	c.mu.Unlock()
	c.stir()
}

func (c *city) Backlog(loop int) int { return c.loops[loop].mail.Len() }

func (c *city) Post(loop int, u state.Update) {
	l := c.loops[loop]
	l.mail.Put(func() { l.apply(u) })
}

func (l *cityLoop) apply(u state.Update) {
	if _, known := l.live[u.Ref]; !known {
		return
	}
	key := subKey{l.index, u.Ref}
	if err := fold(l.folded, key, u); err != nil {
		l.c.t.Errorf("%v: %v", key, err)
	}
	if u.Kind == state.Failed || u.Kind == state.Applied && u.Event.Kind == state.Delete {
		delete(l.live, u.Ref)
		delete(l.folded, key)
	}
}

func (l *cityLoop) run() {
	for range l.wake {
		l.mail.Drain(64, func(f func()) { f() })
		l.c.stir()
	}
}

// act subscribes to or unsubscribes from a random resource.
func (l *cityLoop) act(rnd *rand.Rand, at rid) {
	if rnd.IntN(5) > 1 {
		l.next++
		l.live[l.next] = at
		l.c.s.Subscribe(l.index, l.next, at.name, at.query, nil)
		return
	}
	for ref, at := range l.live {
		delete(l.live, ref)
		delete(l.folded, subKey{l.index, ref})
		l.c.s.Unsubscribe(l.index, ref, at.name, at.query)
		return
	}
}

// serve replies to the pending requests and reports whether there were any.
func (c *city) serve(v *service) bool {
	c.mu.Lock()
	list := c.asked
	c.asked = nil
	c.mu.Unlock()
	for _, a := range list {
		text := v.answer(a.name, a.subject, a.payload)
		c.s.Run(func() { a.reply(text, nil) })
	}
	return len(list) > 0
}

// do runs f on the loop's goroutine and waits for it.
func (l *cityLoop) do(f func()) {
	done := make(chan struct{})
	l.mail.Put(func() {
		f()
		close(done)
	})
	<-done
}

func TestConvergenceWithGoroutines(t *testing.T) {
	rounds, steps := 10, 3000
	if testing.Short() {
		rounds = 4
	}
	rnd := rand.New(rand.NewPCG(1, 9))
	c := &city{t: t, activity: make(chan struct{}, 1)}
	for i := range 3 {
		l := &cityLoop{c: c, index: i, wake: make(chan struct{}, 1), folded: map[subKey]*state.Snapshot{}, live: map[uint64]rid{}}
		l.mail = owner.NewMailbox[func()](func() {
			select {
			case l.wake <- struct{}{}:
			default:
			}
		})
		c.loops = append(c.loops, l)
		go l.run()
	}
	c.s = NewShard(Options{Loops: 3, BacklogLimit: 40, ResetThrottle: owner.NewThrottle(3)}, c, c)
	c.s.Start()
	c.s.Start() // harmless

	v := newService(rnd)
	v.emit = func(name, event string, payload []byte) { c.s.Event(name, event, payload, 0) }
	v.reset = func(pattern string) {
		p, _ := res.ParsePattern(pattern)
		c.s.Reset([]res.Pattern{p})
	}
	for range rounds {
		for range steps {
			switch rnd.IntN(3) {
			case 0:
				l, at, seed := c.loops[rnd.IntN(3)], rid{v.names[rnd.IntN(len(v.names))], v.clientQuery()}, rnd.Uint64()
				l.mail.Put(func() { l.act(rand.New(rand.NewPCG(seed, 0)), at) })
			case 1:
				v.act()
			default:
				c.serve(v)
			}
		}
		// Until nothing is requested, in flight or behind.
		for {
			for _, l := range c.loops {
				l.do(func() {})
			}
			handled := make(chan struct{})
			c.s.Run(func() { close(handled) })
			<-handled
			if c.s.Pending() > 0 || c.serve(v) {
				continue
			}
			if c.s.metrics.Behind.Load() > 0 {
				<-c.activity // a timer sees to them
				continue
			}
			break
		}
		for _, l := range c.loops {
			l.do(func() {
				for ref, at := range l.live {
					want, got := v.truth[at.name][normal(at.name, at.query)], l.folded[subKey{l.index, ref}]
					if want == nil || got == nil || !got.Equal(want) {
						t.Errorf("loop %d: %v differs", l.index, at)
					}
				}
			})
		}
		if t.Failed() {
			break
		}
	}
	if c.s.metrics.EventsApplied.Load() == 0 || c.s.metrics.Regets.Load() == 0 || c.s.metrics.QueryRequests.Load() == 0 {
		t.Error("too few updates for a meaningful test")
	}
	c.s.Stop()
	c.s.Stop() // harmless
	for _, l := range c.loops {
		close(l.wake) // no goroutine puts any more
	}
}

func TestStopWithoutStart(t *testing.T) {
	h := newHarness(t, Options{})
	h.s.Stop()
	h.s.Start()
}

func TestPendingCoversTheMessageBeingHandled(t *testing.T) {
	h := newHarness(t, Options{})
	seen := -1
	h.s.Run(func() { seen = h.s.Pending() })
	if h.s.Pending() != 1 {
		t.Fatal("a message that was put is not pending")
	}
	h.turns()
	if seen != 1 || h.s.Pending() != 0 {
		t.Fatalf("%d while handled, %d after", seen, h.s.Pending())
	}
}
