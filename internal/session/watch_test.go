package session

import "testing"

// Without connection events, what would be told of a client costs nothing.
func TestAllocUnwatched(t *testing.T) {
	s := &Session{responder: responder{env: new(Env)}}
	if n := testing.AllocsPerRun(100, func() {
		Announce(s)
		changed(s)
	}); n != 0 || s.watched {
		t.Errorf("%v allocations, watched: %v", n, s.watched)
	}
}
