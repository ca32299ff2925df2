package fanout

import (
	"fmt"
	"testing"
	"time"

	"sluice/internal/overlap"
	"sluice/internal/state"
)

// TestSeamReasks: two rechecks of access are not taken for one, whose times would fit: the other
// process has told of one before, and of the one that came here it may not have.
func TestSeamReasks(t *testing.T) {
	for _, c := range []struct {
		at, taken time.Duration
		missed    int
	}{
		{at: 10 * time.Second, taken: 9 * time.Second, missed: 1},
		{at: 10 * time.Second, taken: 10*time.Second + overlap.Doubt, missed: 1},
		{at: 10 * time.Second, taken: 11*time.Second + overlap.Doubt, missed: 0},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			topic := &Topic{hub: &Hub{Now: func() time.Duration { return c.at }}, snap: state.NewModel(nil)}
			topic.remember(nil, Changed)
			s := Seam{Topic: topic, Theirs: []overlap.Mark{{Sum: ReaccessSum(Changed), At: 9 * time.Second}}, Taken: c.taken}
			missed, ahead := s.Compare()
			if len(missed) != c.missed || len(ahead) > 0 {
				t.Errorf("%d missed, %d ahead", len(missed), len(ahead))
			}
		})
	}
}
