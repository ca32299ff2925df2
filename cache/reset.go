package cache

import (
	"cmp"
	"slices"

	"sluice/internal/res"
)

// reset refetches each resource that matches any of the patterns, once.
func (s *Shard) reset(patterns []res.Pattern) {
	found := make(map[*resource]struct{})
	for _, p := range patterns {
		s.index.match(p.String(), func(r *resource) { found[r] = struct{}{} })
	}
	s.refusals.retryLarge(patterns)
	s.doubt.sweep = true
	for _, r := range byName(found) {
		s.doubt.r = r
		for _, e := range r.sorted() {
			e.reget()
		}
	}
	s.doubt.sweep = false
}

// resetAll refetches all resources.
func (s *Shard) resetAll() {
	s.refusals = nil // permissions in NATS may have changed
	all := make(map[*resource]struct{}, s.resources.Len())
	for _, r := range s.resources.List() {
		all[r] = struct{}{}
	}
	s.doubt.sweep = true
	for _, r := range byName(all) {
		r.outdated()
	}
	s.doubt.sweep = false
}

// outdated refetches a resource that may have missed events.
func (r *resource) outdated() {
	r.s.doubt.r = r
	for _, e := range r.sorted() {
		e.lost = e.snap != nil
		e.reget()
	}
}

func byName(set map[*resource]struct{}) []*resource {
	list := make([]*resource, 0, len(set))
	for r := range set {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *resource) int { return cmp.Compare(a.name, b.name) })
	return list
}
