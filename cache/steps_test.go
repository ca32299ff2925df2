package cache

import (
	"fmt"
	"testing"

	"sluice/internal/res"
	"sluice/internal/state"
)

// steps is Loops with settable backlogs; it records all updates.
type steps struct {
	*sink
	backlog []int
	got     [][]state.Update
}

func (l *steps) Backlog(loop int) int          { return l.backlog[loop] }
func (l *steps) Post(loop int, u state.Update) { l.got[loop] = append(l.got[loop], u) }

// TestLongDifferenceIsOneMessage: a loop gets the steps of a long difference as one update. An
// overloaded loop gets the newest state once its backlog has fallen.
func TestLongDifferenceIsOneMessage(t *testing.T) {
	from := 0
	k := &sink{answer: func(string) []byte {
		text := []byte(`{"result":{"collection":[`)
		for i := range manySteps {
			text = fmt.Appendf(text, "%d,", from+i)
		}
		return append(text, "-1]}}"...)
	}}
	l := &steps{sink: k, backlog: make([]int, 2), got: make([][]state.Update, 2)}
	s := NewShard(k.options(2), k, l)
	s.Subscribe(0, 1, "test.list", "", nil)
	s.Subscribe(1, 2, "test.list", "", nil)
	s.turn()
	k.reply()
	s.turn()
	old := l.got[0][0].Snapshot
	l.got = make([][]state.Update, 2)

	from = 1_000_000
	pattern, _ := res.ParsePattern("test.>")
	l.backlog[1] = s.opt.BacklogLimit + 1
	s.Reset([]res.Pattern{pattern})
	s.turn()
	k.reply()
	s.turn()
	if len(l.got[0]) != 1 || len(l.got[1]) != 0 {
		t.Fatalf("%d and %d messages", len(l.got[0]), len(l.got[1]))
	}
	u := l.got[0][0]
	if u.Kind != state.Synced || len(u.Steps) != 2*manySteps || u.Steps[len(u.Steps)-1].Next != u.Snapshot {
		t.Fatalf("%v with %d steps", u.Kind, len(u.Steps))
	}
	now := old
	for _, e := range u.Steps[:manySteps] {
		next, err := now.Remove(e.Index)
		if err != nil {
			t.Fatal(err)
		}
		now = next.Next
	}
	if now.Len() != 1 {
		t.Errorf("%d values are left", now.Len())
	}
	// Another long difference finds the loop in order again: the newest state, and nothing of the
	// way there.
	l.backlog[1] = 0
	from = 0
	s.Reset([]res.Pattern{pattern})
	s.turn()
	k.reply()
	s.turn()
	if len(l.got[1]) != 1 || l.got[1][0].Kind != state.Synced || l.got[1][0].Steps != nil || !l.got[1][0].Snapshot.Equal(old) {
		t.Errorf("the overloaded loop got %d messages", len(l.got[1]))
	}
}
