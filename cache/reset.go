package cache

import (
	"cmp"
	"slices"

	"sluice/internal/res"
)

// reset fetches anew what matches any of the patterns, each resource once.
func (s *Shard) reset(patterns []res.Pattern) {
	found := make(map[*resource]struct{})
	for _, p := range patterns {
		s.index.match(p.String(), func(r *resource) { found[r] = struct{}{} })
	}
	s.doubt.sweep = true
	for _, r := range byName(found) {
		s.doubt.r = r
		for _, e := range r.sorted() {
			s.reget(e)
		}
	}
	s.doubt.sweep = false
}

// resetAll fetches everything anew.
func (s *Shard) resetAll() {
	s.refusals = nil // NATS may judge otherwise by now
	all := make(map[*resource]struct{}, len(s.resources))
	for _, r := range s.resources {
		all[r] = struct{}{}
	}
	s.doubt.sweep = true
	for _, r := range byName(all) {
		s.outdated(r)
	}
	s.doubt.sweep = false
}

// outdated fetches a resource anew of which events may be missing.
func (s *Shard) outdated(r *resource) {
	s.doubt.r = r
	for _, e := range r.sorted() {
		e.lost = e.snap != nil
		s.reget(e)
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
