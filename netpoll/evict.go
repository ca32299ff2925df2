package netpoll

import (
	"cmp"
	"slices"
	"time"
)

// When descriptors or Limits.MaxConns are used up, a connection that has yet to say what it wants
// makes room for a new one: the one that has been silent longest, as TLS handshakes do
// (tls_handshake.go). So connections that send nothing, half a head or half a PROXY header keep
// nobody out. They are looked for when there is need, many at a time, so that they cost no list and
// the search is shared by as many new connections.

const (
	// evictIdleMin is how long such a connection may be silent all the same: longer than most
	// take.
	evictIdleMin = 100 * time.Millisecond
	// evictBatch is how many are found in one search of the connections.
	evictBatch = 256
)

// evictions are a loop's candidates.
type evictions struct {
	found []Handle      // silent longest last
	next  time.Duration // before this a search would find nothing new
}

// undecided reports whether the request head of c, or the proxy's header before it, is incomplete.
func (c *Conn) undecided() bool {
	return c.state == stateProxy || c.state == stateHead && c.flags&(flagIdle|flagBody) == 0
}

// evict closes the undecided connection that has been silent longest, and reports whether there was
// one.
func (l *Loop) evict() bool {
	v := &l.evictions
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
		l.findIdle()
	}
}

// findIdle finds those that evict may close.
func (l *Loop) findIdle() {
	var silent []*Conn
	for i := range l.table.slots {
		if c := l.table.slots[i].conn; c != nil && c.undecided() && l.now-c.activeAt >= evictIdleMin {
			silent = append(silent, c)
		}
	}
	slices.SortFunc(silent, func(a, b *Conn) int { return cmp.Compare(a.activeAt, b.activeAt) })
	silent = silent[:min(len(silent), evictBatch)]
	v := &l.evictions
	if v.found = v.found[:0]; len(silent) == 0 {
		v.next = l.now + evictIdleMin
	}
	for i := len(silent) - 1; i >= 0; i-- {
		v.found = append(v.found, silent[i].Handle())
	}
}
