package netpoll

import (
	"cmp"
	"slices"
	"time"
)

// When descriptors or Limits.MaxConns are used up, a new connection takes the place of one whose
// request head is incomplete: the one that has been idle longest. (tls_handshake.go does the same
// for TLS handshakes.) So connections that send nothing, half a head or half a PROXY header cannot
// shut out others. Candidates are searched on demand, and many in one pass: connections need not
// be kept in a list, and many evictions share the cost of a pass.

const (
	// evictIdleMin is how long a connection must have been idle to be evicted: longer than most
	// clients take for their request.
	evictIdleMin = 100 * time.Millisecond
	// evictBatch is how many candidates one pass keeps.
	evictBatch = 256
)

// evictor finds the connections of a loop that may be evicted. Owned by the loop.
type evictor struct {
	loop  *Loop         // fixed
	found []Handle      // candidates, idle longest last
	next  time.Duration // a pass before this time would find none
}

// undecided reports whether the request head of c, or the proxy's header before it, is incomplete.
func (c *Conn) undecided() bool {
	return c.state == stateProxy || c.state == stateHead && c.flags&(flagIdle|flagBody) == 0
}

// evict closes the undecided connection that has been idle longest, and reports whether there was
// one.
func (v *evictor) evict() bool {
	l := v.loop
	for searched := false; ; searched = true {
		for len(v.found) > 0 {
			c := l.table.get(v.found[len(v.found)-1])
			v.found = v.found[:len(v.found)-1]
			if c != nil && c.undecided() && l.now-c.activeAt >= evictIdleMin {
				l.engine.metrics.Evicted.Add(1)
				c.scheduleClose()
				return true
			}
		}
		if searched || l.now < v.next {
			return false
		}
		v.search()
	}
}

// search finds new candidates.
func (v *evictor) search() {
	l := v.loop
	var idle []*Conn
	for i := range l.table.slots {
		if c := l.table.slots[i].conn; c != nil && c.undecided() && l.now-c.activeAt >= evictIdleMin {
			idle = append(idle, c)
		}
	}
	slices.SortFunc(idle, func(a, b *Conn) int { return cmp.Compare(a.activeAt, b.activeAt) })
	idle = idle[:min(len(idle), evictBatch)]
	if v.found = v.found[:0]; len(idle) == 0 {
		v.next = l.now + evictIdleMin
	}
	for i := len(idle) - 1; i >= 0; i-- {
		v.found = append(v.found, idle[i].Handle())
	}
}
