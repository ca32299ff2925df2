package session

import "sluice/internal/owner"

// Faulter is a Peer that can be closed after a panic in its session. It tells its client why.
type Faulter interface{ Fault() }

// Enter records that the loop works for s, until Enter is called with the session that this call
// returned. A panic in between makes the state of s doubtful. nil means no single session.
func (env *Env) Enter(s *Session) (before *Session) {
	before, env.current = env.current, s
	return before
}

// Current returns the session that the loop works for, nil if for no single one.
func (env *Env) Current() *Session { return env.current }

// Mend is called after a panic on the loop. It closes the current session, whose state is doubtful,
// and its client. The caller then continues an interrupted fan-out with Hub.Resume.
func (env *Env) Mend() {
	s := env.current
	env.current, env.span = nil, nil
	sub := env.Hub.Mend()
	if b, ok := sub.(*Sub); ok && s == nil {
		s = b.s
	}
	env.blame(s)
}

// Attempt does f and returns false if that panicked: for work on behalf of a client
// that has no session yet, and for each of several clients' part of some work. The
// panic is contained; the session that Enter has named since is to blame.
func (env *Env) Attempt(f func()) bool {
	before, span := env.current, env.span
	env.current = nil
	if env.contained(f) {
		env.current = before
		return true
	}
	s := env.current
	env.current, env.span = before, span
	env.blame(s)
	return false
}

func (env *Env) contained(f func()) (done bool) {
	defer env.Faults.Contain(owner.Loop)
	f()
	return true
}

// blame closes a session that a panic has left in doubt, and its client; nil: none.
func (env *Env) blame(s *Session) {
	if s == nil || s.faulty {
		return
	}
	s.faulty = true
	if f, ok := s.peer.(Faulter); ok {
		f.Fault()
	}
	s.Close()
}
