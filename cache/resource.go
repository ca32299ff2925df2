package cache

import (
	"slices"
	"strings"
	"time"

	"sluice/internal/owner"
)

// resource is a name: its entries, and what it takes to keep their events in order.
type resource struct {
	s       *Shard
	name    string
	entries map[string]*entry // by normalised query; while loading, by the client's
	links   map[string]*link  // by the client's query
	lock    lock
	linger  owner.Timer // armed while there are no entries

	faults  int           // panics, none long after the one before
	faulted time.Duration // when the last one was
}

// link leads from a client's query to the entry of the query's normal form. It goes when it has had no subs for as
// long as a resource stays cached without: there may be any number of ways to write one query.
type link struct {
	r     *resource
	query string
	e     *entry
	subs  int
	idle  owner.Timer // armed while subs is 0
}

func (s *Shard) addResource(name string) *resource {
	r := &resource{s: s, name: name, entries: make(map[string]*entry, 1)}
	s.doubt.r = r
	s.resources[name] = r
	s.index.add(name, r)
	s.metrics.Resources.Add(1)
	s.bus.Subscribe(name)
	return r
}

// find returns the entry that a client's query leads to, and the link if it leads through one.
func (r *resource) find(query string) (*entry, *link) {
	if l := r.links[query]; l != nil {
		return l.e, l
	}
	return r.entries[query], nil
}

// sorted lists the entries in the order of their queries, so that what happens to all happens in an order.
func (r *resource) sorted() []*entry {
	list := make([]*entry, 0, len(r.entries))
	for _, e := range r.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *entry) int { return strings.Compare(a.query, b.query) })
	return list
}

func (r *resource) addEntry(query string) *entry {
	r.s.wheel.Cancel(&r.linger)
	e := &entry{r: r, query: query}
	r.entries[query] = e
	r.s.metrics.Entries.Add(1)
	return e
}

// vacant is called when the last entry has gone. The NATS subscription is kept for a while if the entry had been in use
// until now: a client that is told of a failure or a deletion is likely to ask again.
func (r *resource) vacant(now bool) {
	if now && !r.lock.held() {
		r.remove()
		return
	}
	r.s.wheel.Schedule(&r.linger, r.s.now+r.s.opt.EvictAfter, r)
}

// Expire ends the lingering.
func (r *resource) Expire(time.Duration) {
	r.s.doubt.r = r
	if r.lock.held() {
		r.vacant(false)
		return
	}
	r.remove()
}

func (r *resource) remove() {
	s := r.s
	s.wheel.Cancel(&r.linger)
	delete(s.resources, r.name)
	s.index.remove(r.name)
	s.metrics.Resources.Add(-1)
	s.bus.Unsubscribe(r.name)
}

// link makes query lead to e.
func (r *resource) link(query string, e *entry) *link {
	l := &link{r: r, query: query, e: e}
	if r.links == nil {
		r.links = make(map[string]*link)
	}
	r.links[query] = l
	if e.links == nil {
		e.links = make(map[*link]struct{})
	}
	e.links[l] = struct{}{}
	return l
}

func (l *link) add() {
	l.subs++
	l.r.s.wheel.Cancel(&l.idle)
}

func (l *link) drop() {
	if l.subs--; l.subs == 0 {
		l.r.s.wheel.Schedule(&l.idle, l.r.s.now+l.r.s.opt.EvictAfter, l)
	}
}

// Expire removes a link without subs.
func (l *link) Expire(time.Duration) {
	l.r.s.doubt.r = l.r
	l.remove()
}

func (l *link) remove() {
	l.r.s.wheel.Cancel(&l.idle)
	delete(l.r.links, l.query)
	delete(l.e.links, l)
}
