package cache

import (
	"slices"
	"strings"
	"time"

	"sluice/internal/owner"
)

// resource is a name: its NATS subscription, its entries, and the lock that keeps their events in
// order.
type resource struct {
	s       *Shard
	name    string
	entries entries          // by normalised query; loading ones by the client's query
	links   map[string]*link // by the client's query
	lock    *lock            // nil: it is not held
	linger  rareTimer        // armed while there are no entries
	stay    stay

	faults  int32         // successive panics, each within faultsApart of the previous one
	faulted time.Duration // time of the last one
}

// link leads from a client's query to the entry of its normalised query. It is removed after
// Options.EvictAfter without subs: one query can be written in any number of ways.
type link struct {
	r     *resource
	query string
	e     *entry
	subs  int
	idle  owner.Timer // armed while subs is 0
}

// Key implements keyed.Item.
func (r *resource) Key() string { return r.name }

func (s *Shard) addResource(name string) *resource {
	r := &resource{s: s, name: name, stay: s.remembered(name)}
	s.doubt.r = r
	s.resources.Put(r)
	s.index.add(r)
	s.metrics.Resources.Add(1)
	s.bus.Subscribe(name)
	return r
}

// has reports whether a client's query has an entry. r may be nil.
func (r *resource) has(query string) bool {
	if r == nil {
		return false
	}
	e, _ := r.find(query)
	return e != nil
}

// find returns the entry of a client's query, and the link that leads to it, if any.
func (r *resource) find(query string) (*entry, *link) {
	if l := r.links[query]; l != nil {
		return l.e, l
	}
	return r.entries.get(query), nil
}

// sorted returns the entries ordered by query, for a deterministic order of effects.
func (r *resource) sorted() []*entry {
	list := make([]*entry, 0, r.entries.len())
	for _, e := range r.entries.all() {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *entry) int { return strings.Compare(a.query, b.query) })
	return list
}

func (r *resource) addEntry(query string) *entry {
	r.linger.cancel(r.s.wheel)
	e := &entry{r: r, query: query}
	r.entries.put(e)
	r.s.metrics.Entries.Add(1)
	return e
}

// vacant handles the end of the last entry. An evicted one ends the resource. After a failure or a
// delete, the NATS subscription is kept for a while: clients are likely to subscribe again.
func (r *resource) vacant(evicted bool) {
	if evicted && !r.lock.held() {
		r.remove()
		return
	}
	r.linger.schedule(r.s.wheel, r.s.now+r.remains(), r)
}

// Expire removes a resource that has had no entries for a while.
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
	r.linger.cancel(s.wheel)
	r.remember()
	s.resources.Remove(r)
	s.index.remove(r.name)
	s.metrics.Resources.Add(-1)
	s.bus.Unsubscribe(r.name)
}

// link adds a link from query to e.
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
