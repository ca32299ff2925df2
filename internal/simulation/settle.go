package simulation

import (
	"fmt"
	"strings"
	"time"

	"sluice/internal/owner"
)

// settle lets everything come to rest, and checks what must hold then: first with the clients, then
// without them.
func (w *world) settle() {
	w.settling = true
	w.logf("-- settle")
	left := false
	for _, s := range w.services {
		if s.away {
			s.come()
		}
		left = left || s.left
	}
	for _, l := range w.net.links {
		w.drain()
		if !l.up {
			w.pass(100 * time.Millisecond)
			w.net.restore(l)
		}
	}
	for _, c := range w.clients {
		c.stalled = false
	}
	for _, b := range w.browsers {
		b.stalled = false
	}
	for _, s := range w.streams {
		s.stalled = false
	}
	w.drain()
	if n := w.busMetrics.Pending.Load(); n > 0 && !w.lossy && !left {
		w.failf("%d requests wait although services have answered all that they got", n)
	}
	if w.busMetrics.Timeouts.Load() > 0 && w.cacheMetrics.RegetFailures.Load() > 0 {
		for _, s := range w.services {
			s.repeat()
		}
	}
	w.rest("the clients", w.exact)
	w.look()
	w.rest("the clients after requests by HTTP", w.exact)
	for _, s := range w.services {
		for _, rid := range s.store.RIDs() {
			s.tick(rid)
		}
	}
	w.rest("the last custom events", w.ticked)
	for _, c := range w.clients {
		if c.conn != nil {
			c.leave()
		}
	}
	for _, b := range w.browsers {
		if b.conn != nil {
			b.leave()
		}
	}
	for _, s := range w.streams {
		if s.conn != nil {
			s.leave()
		}
	}
	w.rest("what clients leave behind", w.empty)
}

// drain has all act that have something to do, until nobody has.
func (w *world) drain() {
	for idle, turns := false, 0; !idle; turns++ {
		if turns > 20_000 {
			w.failf("the owners do not come to rest")
		}
		idle = true
		for _, kind := range []int{machine, answers} {
			for _, i := range w.weighed[kind] {
				if w.actors[i].ready() {
					idle = false
					w.act(i)
				}
			}
		}
	}
}

// most is how long a world may take to come to rest: lost requests, retries with back-off.
const most = 3 * time.Minute

// rest lets time pass until check is content.
func (w *world) rest(what string, check func() error) {
	for end := w.clock.Now() + most; ; {
		w.drain()
		err := check()
		if err == nil {
			return
		}
		at, ok := w.clock.Next()
		if !ok || at > end {
			w.failf("%s: %v", what, err)
		}
		w.clock.Advance(max(at-w.clock.Now(), 5*time.Millisecond))
	}
}

func (w *world) exact() error {
	for _, c := range w.clients {
		if c.conn == nil {
			continue
		}
		if err := c.check(); err != nil {
			return err
		}
	}
	for _, s := range w.streams {
		if err := s.check(); err != nil {
			return err
		}
	}
	for _, b := range w.browsers {
		if len(b.asked) > 0 {
			return fmt.Errorf("%s: requests without a response: %v", b.name, b.asked)
		}
	}
	return nil
}

// ticked checks that each client has the last custom event of what it holds.
func (w *world) ticked() error {
	for _, c := range w.clients {
		if c.conn == nil {
			continue
		}
		if err := c.ticked(); err != nil {
			return err
		}
	}
	for _, s := range w.streams {
		if s.conn != nil {
			if err := s.ticked(); err != nil {
				return err
			}
		}
	}
	return w.exact()
}

// empty checks that the gateway has nothing left of its clients.
func (w *world) empty() error {
	g := &w.gateway
	var found leftovers
	zero := func(name string, n int64) {
		if n != 0 {
			found = append(found, leftover{name, n})
		}
	}
	zero("open connections", g.netMetrics.OpenAll.Load())
	zero("WebSockets", g.netMetrics.Open.Load())
	zero("slow connections", g.netMetrics.Lagging.Load())
	zero("paused connections", g.netMetrics.Paused.Load())
	zero("bytes of backlogs", g.netMetrics.BacklogBytes.Load())
	zero("bytes of responses", g.netMetrics.ResponseBytes.Load())
	zero("sessions", g.sessionMetrics.Sessions.Load())
	zero("subscriptions", g.sessionMetrics.Subscriptions.Load())
	zero("held bytes", g.sessionMetrics.HeldBytes.Load())
	zero("shares of held bytes", g.sessionMetrics.HeldShares.Load())
	zero("bytes of old states", g.fanoutMetrics.VersionBytes.Load())
	zero("shares of old states", g.fanoutMetrics.VersionShares.Load())
	zero("topics", g.fanoutMetrics.Topics.Load())
	zero("members of topics", g.fanoutMetrics.Members.Load())
	zero("cached names", g.cacheMetrics.Resources.Load())
	zero("cached entries", g.cacheMetrics.Entries.Load())
	zero("cached bytes", g.cacheMetrics.Bytes.Load())
	zero("unused bytes", g.cacheMetrics.UnusedBytes.Load())
	zero("subscriptions of loops", g.cacheMetrics.Subscriptions.Load())
	zero("requests in flight", g.busMetrics.Pending.Load())
	zero("operations for publishers", g.busMetrics.Queue.Load())
	zero("subscriptions at NATS", g.busMetrics.Subscriptions.Load())
	zero("throttled grants", int64(g.resets.Waiting()))
	for i, l := range w.net.links {
		operations, bytes := l.driven.Queued()
		zero("queued operations", operations)
		zero("queued bytes", bytes)
		for s := range l.subs {
			if len(s) > 6 && s[:6] == "event." {
				found = append(found, leftover{fmt.Sprintf("link %d, subscriptions to %s", i, s), 1})
			}
		}
	}
	for p := range owner.Parts {
		if n := g.faults.Count(p); n > 0 {
			zero("panics of "+p.String(), int64(n))
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found
}

// leftovers are what is not 0 although all clients have left. They are made a text only if that is
// the world's failure: most worlds have some at first.
type leftovers []leftover

type leftover struct {
	name string
	n    int64
}

// Error implements error.
func (l leftovers) Error() string {
	var lines []string
	for _, o := range l {
		lines = append(lines, fmt.Sprintf("%s: %d", o.name, o.n))
	}
	return strings.Join(lines, "\n")
}
