package cache

import (
	"slices"
	"time"

	"sluice/internal/res"
)

// maxRefusals bounds the names whose rejection is remembered. Beyond it, all are forgotten and
// tried again.
const maxRefusals = 4096

// refusals are the names whose event subscription NATS rejects, so that not every subscribe request
// is a request to NATS.
type refusals map[string]refusal

type refusal struct {
	err   *res.Error
	until time.Duration // when to try again
	tries int
	large bool // the resource exceeds MaxResource
}

// find returns why a name is rejected, nil if it may be tried.
func (m refusals) find(name string, now time.Duration) *res.Error {
	if f, known := m[name]; known && now < f.until {
		return f.err
	}
	return nil
}

// add records the refusal f of a key. The pause before the next try grows.
func (m *refusals) add(key string, f refusal, s *Shard) {
	if *m == nil || len(*m) >= maxRefusals {
		*m = make(refusals)
	}
	f.tries = (*m)[key].tries
	f.until = s.now + min(retryFirst<<min(f.tries, 10), retryMost)
	f.tries++
	(*m)[key] = f
}

// retryLarge forgets the resources that were too large and whose name matches.
func (m refusals) retryLarge(patterns []res.Pattern) {
	for key, f := range m {
		name, _ := res.SplitRID(key)
		if f.large && slices.ContainsFunc(patterns, func(p res.Pattern) bool { return p.Match(name) }) {
			delete(m, key)
		}
	}
}

// Refused ends a resource whose event subscription NATS rejects: without events it would never
// change. Its subs get err. The next Subscribe after a pause, which grows, tries again.
func (s *Shard) Refused(name string, err *res.Error) {
	s.Run(func() { s.refuse(name, err) })
}

func (s *Shard) refuse(name string, err *res.Error) {
	r := s.resources.Get(name)
	if r == nil {
		return
	}
	s.metrics.Refused.Add(1)
	s.refusals.add(name, refusal{err: err}, s)
	for _, e := range r.sorted() {
		if e.snap != nil {
			e.end(err)
		} else {
			s.metrics.GetFailures.Add(1)
			e.fail(err)
		}
	}
	if s.resources.Get(name) == r {
		r.remove() // the next Subscribe tries again
	}
}

// Missed refetches a resource whose events may not have reached the gateway.
func (s *Shard) Missed(name string) {
	s.Run(func() {
		if r := s.resources.Get(name); r != nil {
			r.missed()
		}
	})
}
