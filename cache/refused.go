package cache

import (
	"time"

	"sluice/internal/res"
	"sluice/internal/state"
)

// maxRefusals bounds how many names with a refusal are remembered. Beyond it all are forgotten, and asked
// for again.
const maxRefusals = 4096

// refusals are the names whose events NATS refuses, so that not every client that asks makes the shard
// ask NATS.
type refusals map[string]refusal

type refusal struct {
	err   *res.Error
	until time.Duration // it stands that long
	tries int
}

// stands returns why a name is refused, nil if it may be asked for.
func (m refusals) stands(name string, now time.Duration) *res.Error {
	if f, known := m[name]; known && now < f.until {
		return f.err
	}
	return nil
}

// Refused ends a resource whose events NATS refuses to send: without them it would look live and never change. Those who
// wait for it or follow it get err. It is asked for again when a client wants it, with growing pauses.
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
			for _, sb := range e.subs.list {
				s.post(sb, state.Update{Kind: state.Failed, Err: err})
			}
		}
		s.drop(e, false)
	}
	if s.resources[name] == r {
		r.remove() // the next one to ask has NATS asked again
	}
}

// Missed has a resource fetched again of which events may not have reached the gateway.
func (s *Shard) Missed(name string) {
	s.Run(func() {
		if r := s.resources[name]; r != nil {
			s.missed(r)
		}
	})
}
