package session

import (
	"fmt"
	"testing"

	"sluice/internal/invariants"
)

// TestSubStateTransitions compares the allowed transitions with the table in ARCHITECTURE.md.
func TestSubStateTransitions(t *testing.T) {
	next := map[subState][]subState{
		subLoading:  {subLoading, subReady, subDeleted, subFailed, subDisposed},
		subReady:    {subSent, subDeleted, subFailed, subDisposed},
		subSent:     {subLoading, subReady, subDeleted, subDisposed},
		subDeleted:  {subLoading, subDisposed},
		subFailed:   {subLoading, subDeleted, subDisposed},
		subDisposed: nil,
	}
	for from := subLoading; from <= subDisposed; from++ {
		want := map[subState]bool{}
		for _, st := range next[from] {
			want[st] = true
		}
		for to := subLoading; to <= subDisposed; to++ {
			if to.follows(from) != want[to] {
				t.Errorf("from %s to %s: allowed %v, want %v", from, to, !want[to], want[to])
			}
		}
	}
}

func TestSubStateAssertion(t *testing.T) {
	b := &Sub{named: named{"r"}, state: subDisposed}
	defer func() {
		want := any("invariant broken: r: subscription cannot go from disposed to sent")
		if !invariants.Enabled {
			want = nil
		}
		if got := recover(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("panic %v, want %v", got, want)
		}
	}()
	b.to(subSent)
}
