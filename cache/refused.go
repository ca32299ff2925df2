package cache

import (
	"time"

	"sluice/internal/res"
	"sluice/internal/state"
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
}

// find returns why a name is rejected, nil if it may be tried.
func (m refusals) find(name string, now time.Duration) *res.Error {
	if f, known := m[name]; known && now < f.until {
		return f.err
	}
	return nil
}

// Refused ends a resource whose event subscription NATS rejects: without events it would never
// change. Its subs get err. The next Subscribe after a pause, which grows, tries again.
func (s *Shard) Refused(name string, err *res.Error) {
	s.Run(func() { s.refuse(name, err) })
}

func (s *Shard) refuse(name string, err *res.Error) {
	r := s.resources[name]
	if r == nil {
		return
	}
	s.metrics.Refused.Add(1)
	if s.refusals == nil || len(s.refusals) >= maxRefusals {
		s.refusals = make(refusals)
	}
	f := s.refusals[name]
	f.err, f.until = err, s.now+min(retryFirst<<min(f.tries, 10), retryMost)
	f.tries++
	s.refusals[name] = f
	for _, e := range r.sorted() {
		if e.snap != nil {
			s.deliver(e, state.NewEnd(e.snap, err))
		} else {
			s.metrics.GetFailures.Add(1)
			s.deliverFailure(e, err)
		}
		e.drop(false)
	}
	if s.resources[name] == r {
		r.remove() // the next Subscribe tries again
	}
}

// Missed refetches a resource whose events may not have reached the gateway.
func (s *Shard) Missed(name string) {
	s.Run(func() {
		if r := s.resources[name]; r != nil {
			r.missed()
		}
	})
}
