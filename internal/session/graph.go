package session

import (
	"iter"

	"sluice/fanout"
	"sluice/internal/state"
)

// graph has a client's subscriptions and the references between them: two
// directed graphs over the same nodes (see Sub). It counts edges and searches;
// it loads nothing, and of a Session it uses only the memory of searches.
type graph struct {
	subs table
	mark uint32 // number of the newest search
}

// search is the memory of graph.unsent, which the sessions of a loop share. It is in use by one
// search at a time.
type search struct{ found []*Sub }

// keepFound bounds how many subscriptions the memory that is kept for the next
// search has room for.
const keepFound = 1024

// seen reports whether the client has a copy of b, perhaps an outdated one.
func (b *Sub) seen() bool {
	return b.state == subSent || b.state == subDeleted ||
		b.state != subDisposed && b.work != nil && b.work.staleCopy != nil
}

// edges calls f for each set of references that b's edges come from: those
// that the client has (sent), or all.
func (b *Sub) edges(sent bool, f func(rids iter.Seq[string])) {
	if !sent || b.state == subSent || b.state == subDeleted {
		if snap := b.snapshot(); snap != nil && snap.HasRefs() {
			f(snap.Refs())
		}
	}
	if w := b.work; w != nil {
		if w.staleCopy != nil && w.staleCopy.HasRefs() {
			f(w.staleCopy.Refs())
		}
		if !sent && w.blocked.event != nil {
			f(w.blocked.refs())
		}
	}
}

// refers reports whether b has edges.
func (b *Sub) refers(sent bool) bool {
	found := false
	b.edges(sent, func(iter.Seq[string]) { found = true })
	return found
}

// fetching reports whether requests that fetch rid are in progress.
func (g *graph) fetching(rid string) bool {
	b := g.subs.Get(rid)
	return b != nil && b.fetches > 0
}

// targets calls f for the subscription at the end of each edge of b.
func (g *graph) targets(b *Sub, sent bool, f func(*Sub)) {
	b.edges(sent, func(rids iter.Seq[string]) {
		for rid := range rids {
			if c := g.subs.Get(rid); c != nil {
				f(c)
			}
		}
	})
}

// unreachable returns which of b and the subscriptions reachable from it have no path from a root
// or from outside of this group. It searches the client's graph if sent, else the gateway's.
func (g *graph) unreachable(b *Sub, sent bool) []*Sub {
	group := g.reach([]*Sub{b}, sent)
	for _, m := range group {
		m.inner = 0
	}
	for _, m := range group {
		g.targets(m, sent, func(c *Sub) { c.inner++ })
	}
	var kept []*Sub
	for _, m := range group {
		edges, root := m.in, m.root()
		if sent {
			edges, root = m.inSent, m.direct > 0
		}
		if root || edges > m.inner {
			kept = append(kept, m)
		}
	}
	if len(kept) == len(group) {
		return nil
	}
	g.reach(kept, sent) // marks them again, with a newer number
	var lost []*Sub
	for _, m := range group {
		if m.visit != g.mark {
			lost = append(lost, m)
		}
	}
	return lost
}

// reach returns the subscriptions reachable from those given, themselves
// included, and marks them with the number of a new search.
func (g *graph) reach(from []*Sub, sent bool) []*Sub {
	g.mark++
	var found []*Sub
	add := func(c *Sub) {
		if c.visit != g.mark {
			c.visit = g.mark
			found = append(found, c)
		}
	}
	for _, b := range from {
		add(b)
	}
	for i := 0; i < len(found); i++ {
		g.targets(found[i], sent, add)
	}
	return found
}

// unlink removes the edges that come from snap; sent says whether the client
// had them too. It appends the former targets to loose and returns that.
func (g *graph) unlink(snap *state.Snapshot, sent bool, loose []*Sub) []*Sub {
	if snap == nil || !snap.HasRefs() {
		return loose
	}
	for rid := range snap.Refs() {
		if c := g.subs.Get(rid); c != nil {
			c.in--
			if sent {
				c.inSent--
			}
			loose = append(loose, c)
		}
	}
	return loose
}

// unlinkBlocked drops the event whose references b waits for, with its edges.
func (g *graph) unlinkBlocked(b *Sub, loose []*Sub) []*Sub {
	w := b.work
	if w == nil || w.blocked.event == nil {
		return loose
	}
	for rid := range w.blocked.refs() {
		if c := g.subs.Get(rid); c != nil {
			c.in--
			loose = append(loose, c)
		}
	}
	w.blocked.waiter.cancel()
	w.blocked = blocked{}
	b.holds &^= holdReferences
	return loose
}

// unlinkStale removes the edges of the outdated copy that the client had.
func (g *graph) unlinkStale(b *Sub, loose []*Sub) []*Sub {
	stale := b.work.staleCopy
	b.work.staleCopy = nil
	return g.unlink(stale, true, loose)
}

// unsent calls f for each subscription reachable from roots, themselves
// included, without passing through one that the client holds. f must not
// start another such search.
func (g *graph) unsent(roots []*Sub, f func(*Sub)) {
	if len(roots) == 0 {
		return
	}
	g.mark++
	memory := &roots[0].s.env.search
	found := memory.found[:0]
	add := func(b *Sub) {
		if b.visit != g.mark && b.state != subSent && b.state != subDeleted && b.state != subDisposed {
			b.visit = g.mark
			found = append(found, b)
		}
	}
	for _, b := range roots {
		add(b)
	}
	for i := 0; i < len(found); i++ {
		if b := found[i]; b.state == subReady && b.snapshot().HasRefs() {
			for rid := range b.snapshot().Refs() {
				if c := g.subs.Get(rid); c != nil {
					add(c)
				}
			}
		}
	}
	for _, b := range found {
		f(b)
	}
	clear(found)
	if memory.found = found[:0]; cap(found) > keepFound {
		memory.found = nil
	}
}

// incomplete reports whether b, or what the client lacks of what it refers to, is loading.
func (g *graph) incomplete(b *Sub) bool {
	loading := false
	g.unsent([]*Sub{b}, func(c *Sub) { loading = loading || c.state == subLoading })
	return loading
}

// collectSet appends to set the resources that the client needs to hold roots.
func (g *graph) collectSet(set []fanout.Resource, roots ...*Sub) []fanout.Resource {
	g.unsent(roots, func(b *Sub) {
		switch b.state {
		case subReady:
			set = append(set, fanout.Resource{RID: b.rid, Snapshot: b.snapshot()})
		case subFailed:
			set = append(set, fanout.Resource{RID: b.rid, Err: b.work.err})
		}
	})
	return set
}

// referred returns those resources of the set for roots that the client holds a reference to. It
// has an error or a deleted copy of each, which the one in the set replaces.
func (g *graph) referred(roots ...*Sub) []*Sub {
	var found []*Sub
	g.unsent(roots, func(b *Sub) {
		if b.state == subReady && b.inSent > 0 {
			found = append(found, b)
		}
	})
	return found
}

// markSent records that the client was sent roots with their resource set. It returns the
// subscriptions that are sent now and may have queued events, in memory, which is empty. The caller
// resumes them after it has sent the message and counted the edge or root that leads to them. loose
// have lost an edge, for Session.collect.
func (g *graph) markSent(memory []*Sub, roots ...*Sub) (sent, loose []*Sub) {
	sent = memory
	g.unsent(roots, func(b *Sub) {
		if b.state == subReady {
			sent = append(sent, b)
		}
	})
	for _, b := range sent {
		b.to(subSent)
	}
	for _, b := range sent {
		stale := b.work.staleCopy
		b.work.staleCopy = nil
		g.targets(b, true, func(c *Sub) { c.inSent++ })
		loose = g.unlink(stale, true, loose)
	}
	return sent, loose
}
