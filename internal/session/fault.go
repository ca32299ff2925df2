package session

// Faulter is a Peer that can be closed when a panic has left its session in
// doubt. It says so to its client.
type Faulter interface{ Fault() }

// Enter notes for whom the loop works until Enter is called with what this call
// returned: if that panics, the session is in doubt. nil: for no single client.
func (env *Env) Enter(s *Session) (before *Session) {
	before, env.current = env.current, s
	return before
}

// Current returns for whom the loop works, nil if for no single client.
func (env *Env) Current() *Session { return env.current }

// Mend is called after a panic on the loop. The session that was worked for is
// closed, since no one knows what holds in it, and so is its client. What the hub
// was handing out goes on with Hub.Resume.
func (env *Env) Mend() {
	s := env.current
	env.current = nil
	sub := env.Hub.Mend()
	if b, ok := sub.(*Sub); ok && s == nil {
		s = b.s
	}
	if s == nil || s.faulty {
		return
	}
	s.faulty = true
	if f, ok := s.peer.(Faulter); ok {
		f.Fault()
	}
	s.Close()
}
