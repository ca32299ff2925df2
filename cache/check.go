package cache

import "sluice/internal/invariants"

// check asserts what holds between turns. It reads the whole state, so it is for builds with
// assertions only.
func (s *Shard) check() {
	for _, r := range s.resources.List() {
		name := r.name
		invariants.Check(s.resources.Get(name) == r, "resource %s is not found", name)
		invariants.Check(r.linger.armed() == (r.entries.len() == 0), "%s has %d entries, lingers: %v", name, r.entries.len(), r.linger.armed())
		invariants.Check((r.lock != nil) == r.lock.held(), "%s is not locked, but may have deferred events", name)
		links := 0
		for query, e := range r.entries.all() {
			e.check(r, query)
			links += len(e.links)
		}
		invariants.Check(links == len(r.links), "%s has %d links, its entries %d", name, len(r.links), links)
	}
	s.unused.check()
	for loop := range s.laggards {
		for _, sb := range s.laggards[loop].list {
			invariants.Check(sb.listed && int(sb.loop) == loop, "a sub of loop %d is listed for %d", sb.loop, loop)
			invariants.Check(!sb.behind || sb.e != nil, "a removed sub is behind")
		}
	}
}

func (e *entry) check(r *resource, query string) {
	invariants.Check(e.r == r && e.query == query && !e.gone, "%s: entry %q is filed as %q", r.name, e.query, query)
	invariants.Check(e.snap != nil || e.fetch != nil, "%s: entry %q is neither loaded nor loading", r.name, query)
	invariants.Check(e.fetch == nil || e.fetch.e == e, "%s: entry %q has a fetch of another entry", r.name, query)
	invariants.Check(!e.retry.armed() || e.lost && e.snap != nil && e.fetch == nil, "%s: entry %q has a re-get scheduled, lost: %v", r.name, query, e.lost)
	invariants.Check((e.unused != nil) == (len(e.subs.list) == 0), "%s: entry %q has %d subs, unused: %v", r.name, query, len(e.subs.list), e.unused != nil)
	invariants.Check(e.unused == nil || e.unused.idle.Armed(), "%s: entry %q is unused, but will not be evicted", r.name, query)
	through := make(map[*link]int)
	for i, sb := range e.subs.list {
		invariants.Check(sb.e == e && int(sb.pos) == i, "%s: sub %d of entry %q belongs elsewhere", r.name, sb.ref, query)
		invariants.Check(!sb.behind || sb.listed && e.snap != nil, "%s: sub %d is behind, but not listed to catch up", r.name, sb.ref)
		if sb.link != nil {
			through[sb.link]++
		}
	}
	for l := range e.links {
		invariants.Check(l.e == e && r.links[l.query] == l, "%s: link %q leads elsewhere", r.name, l.query)
		invariants.Check(l.subs == through[l], "%s: link %q counts %d subs, has %d", r.name, l.query, l.subs, through[l])
		invariants.Check(l.idle.Armed() == (l.subs == 0), "%s: link %q has %d subs, idle: %v", r.name, l.query, l.subs, l.idle.Armed())
		delete(through, l)
	}
	invariants.Check(len(through) == 0, "%s: subs of entry %q came through links that are gone", r.name, query)
}

// check asserts that the list of unused entries is intact and counts their memory.
func (u *unused) check() {
	bytes, prev := 0, (*entry)(nil)
	for e := u.first; e != nil; prev, e = e, e.unused.next {
		invariants.Check(!e.gone && e.unused.prev == prev, "%s: entry %q is in the list of unused entries by mistake", e.r.name, e.query)
		bytes += e.unused.weight
	}
	invariants.Check(u.last == prev, "the list of unused entries ends early")
	invariants.Check(bytes == u.bytes, "unused entries have %d bytes, counted are %d", bytes, u.bytes)
}
