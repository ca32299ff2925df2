package simulation

import "slices"

// shrink returns the shortest trace that it finds to fail as steps does. Steps but the first are
// left out, larger parts first, and then choices replaced by the first of those possible.
func shrink(steps []step, fails func([]step) bool) []step {
	for again := true; again; {
		again = false
		for part := (len(steps) - 1) / 2; part > 0; part /= 2 {
			for at := len(steps) - part; at > 0; at -= part {
				if less := slices.Delete(slices.Clone(steps), at, at+part); fails(less) {
					steps, again = less, true
					at = min(at, len(steps)-part+1)
				}
			}
		}
	}
	for i := range steps {
		for j := len(steps[i].picks) - 1; j >= 0; j-- {
			if steps[i].picks[j] == 0 {
				continue
			}
			less := slices.Clone(steps)
			less[i].picks = slices.Clone(less[i].picks)
			less[i].picks[j] = 0
			if fails(less) {
				steps = less
			}
		}
	}
	return steps
}
