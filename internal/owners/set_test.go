package owners

import (
	"sync/atomic"
	"testing"

	"sluice/internal/upstream"
)

// Every number in a subject gives an owner or none.
func TestOwnersOfNumbers(t *testing.T) {
	o := &Set{shards: []*upstream.Shard{{}, {}}, loops: make([]atomic.Pointer[Loop], 3)}
	started := &Loop{index: 1}
	o.loops[1].Store(started)
	for number, want := range map[uint32]struct {
		s *upstream.Shard
		l *Loop
	}{
		0: {s: o.shards[0]}, 1: {s: o.shards[1]}, o.callerOfLoop(0): {}, o.callerOfLoop(1): {l: started}, o.callerOfLoop(2): {}, 5: {}, 1 << 31: {}, 1<<32 - 1: {},
	} {
		if s, l := o.caller(number); s != want.s || l != want.l {
			t.Errorf("%d gives %p, %p", number, s, l)
		}
	}
	for i, want := range map[int]*Loop{-1: nil, 0: nil, 1: started, 2: nil, 3: nil, 1 << 20: nil} {
		if l := o.loop(i); l != want {
			t.Errorf("loop %d is %p", i, l)
		}
	}
	if m := (mailboxes{o}); m.Backlog(0) != 0 {
		t.Error("a loop that has not started has a backlog")
	}
}
